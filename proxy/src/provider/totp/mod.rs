//! RFC 6238 codes, checked by the proxy itself against seeds from files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use proxy_config::seeds::TotpKey;
use proxy_config::{Secret, StoreOutage, UserNameRule};
use proxy_core::factor::{
    Approval, Basis, Credential, Factor, FactorRequest, RefusalReason, ResponseCheck, UserName, Verdict,
};

use self::store::{Claim, NEVER, Outcome, Owner, Store};
use subtle::ConstantTimeEq as _;

use super::fault::{Fault, FaultClass, Step};
use super::{Answer, Asking, BoxFuture, Finding, Provider, Shared, refused};
use crate::metrics::ProviderMetrics;

mod code;
mod memory;
mod seeds;
pub mod store;
mod used_steps;

pub use code::{Algorithm, Code, Digits};
pub use memory::{Failures, UsedCodes, UsedKey};
pub use seeds::{Seed, Seeds};
pub use used_steps::UsedSteps;

/// What the user is told whose name has no seed, or two, whose code is wrong, or who typed too many wrong ones: not which,
/// or names could be tried. The record has the reason.
const WRONG: &str = "The name or the code is wrong. After several tries, wait half a minute.";

/// The provider of `[provider.totp]`.
pub struct Totp {
    seeds: Seeds,
    skew: u32,
    used: Arc<UsedCodes>,
    failures: Arc<Failures>,
    /// What all proxies remember together; `None` for one that serves alone.
    store: Option<Arc<dyn Store>>,
    /// What makes owners in the store unreadable.
    store_key: Secret,
    when_unavailable: StoreOutage,
    /// How the last call to the store went.
    store_is_well: AtomicBool,
    metrics: ProviderMetrics,
    /// Checked for users who are not there, so that they take as long as those who are.
    nobody: Seed,
}

/// What looking at a credential led to.
enum Looked {
    /// It is decided.
    Decided(Verdict),
    /// A right code that this process has not seen before.
    Right(Right),
}

/// A right code, to be used up.
struct Right {
    text: Secret,
    /// What is to be claimed of the store, where there is one.
    claim: Option<(Arc<dyn Store>, Claim)>,
    basis: Basis,
}

/// A user whose wrong codes are counted together; those of requests that prove no secret are counted apart.
struct FailureKey {
    user: UserName,
    proved: bool,
}

impl Totp {
    /// Reads the seeds. Lines that cannot be used are left out and complained about.
    #[must_use]
    pub fn new(
        config: &proxy_config::Totp,
        names: UserNameRule,
        digest_key: Option<&proxy_config::DigestKey>,
        shared: &Shared,
    ) -> Self {
        let store = shared
            .code_stores
            .obtain(&config.used_codes.store, &shared.transports);
        Self {
            seeds: Seeds::load(&config.seeds, store.is_some(), |name| names.normalise(name)),
            skew: config.skew_steps,
            used: Arc::clone(&shared.used_codes),
            failures: Arc::clone(&shared.failures),
            store,
            store_key: digest_key.map_or_else(
                || Secret::new(Vec::new()),
                |key| key.derive("radius-mfa used codes"),
            ),
            when_unavailable: config.used_codes.when_unavailable,
            store_is_well: AtomicBool::new(true),
            metrics: shared.metrics.clone(),
            nobody: Seed {
                key: TotpKey {
                    seed: Secret::new(vec![0; 20]),
                    algorithm: Algorithm::Sha1,
                    digits: Digits::SIX,
                    period: 30,
                },
                scratch: Vec::new(),
            },
        }
    }

    /// The steps whose codes are valid at `now`, the likeliest first: those of the user's clock and those of the right
    /// time, so that a clock that was corrected works at once.
    fn steps(&self, key: UsedKey, seed: &Seed, now: u64) -> impl Iterator<Item = u64> + use<> {
        let (right, skew) = (now / u64::from(seed.key.period.max(1)), u64::from(self.skew));
        let users = right.saturating_add_signed(self.used.drift(key));
        around(users, skew).chain(around(right, skew).filter(move |step| step.abs_diff(users) > skew))
    }

    /// The first valid step of which `typed_as` knows how its code was typed, and that text.
    fn find(
        &self,
        key: UsedKey,
        seed: &Seed,
        now: u64,
        typed_as: impl Fn(&[u8]) -> Option<Secret>,
    ) -> Option<(u64, Secret)> {
        self.steps(key, seed, now).find_map(|step| {
            let code = Code::at(seed.key.algorithm, seed.key.seed.expose(), step, seed.key.digits);
            Some((step, typed_as(code.as_bytes())?))
        })
    }

    fn decide(&self, request: &FactorRequest, now: u64) -> Looked {
        let verdict = match &request.credential {
            Credential::Passcode(typed) => {
                let typed = typed.expose();
                let typed_as =
                    |code: &[u8]| bool::from(code.ct_eq(typed)).then(|| Secret::new(code.to_vec()));
                return self.look(request, now, typed_as, None);
            }
            Credential::Response(response) => {
                let response: &dyn ResponseCheck = response.as_ref();
                return self.look(
                    request,
                    now,
                    |code| code::as_typed(code).find(|text| response.matches(text.expose())),
                    Some(RefusalReason::NothingMatched),
                );
            }
            Credential::Default => refused(
                None,
                RefusalReason::NothingMatched,
                "Type the code that your authenticator app shows.",
            ),
            Credential::Keyword(_) => refused(
                None,
                RefusalReason::FactorUnavailable,
                "There is no push, call or SMS here. Type the code that your authenticator app shows.",
            ),
            Credential::Forward(_) | Credential::Follow(_) => refused(
                None,
                RefusalReason::MethodCannotCarry,
                "This password method cannot carry a code.",
            ),
        };
        Looked::Decided(verdict)
    }

    /// `wrong` is the reason when nothing matches and it cannot be known whether a code was typed.
    fn look(
        &self,
        request: &FactorRequest,
        now: u64,
        typed_as: impl Fn(&[u8]) -> Option<Secret>,
        wrong: Option<RefusalReason>,
    ) -> Looked {
        let user = request.user.as_str();
        let seed = match self.seeds.of(user) {
            Some(Some(seed)) => seed,
            other => {
                // The same work as for a wrong code, so that the time does not tell who has a seed.
                let key = self.used.key(user, &self.nobody);
                let _ = self.find(key, &self.nobody, now, &typed_as);
                let _ = self.failures.wait(user, request.proved, now);
                // The user is told no more than that it was wrong; the record has the reason.
                let reason = match other {
                    Some(_) => RefusalReason::NotEnrolled,
                    None => RefusalReason::UnknownUser,
                };
                return Looked::Decided(refuse(reason, WRONG));
            }
        };
        if self.failures.wait(user, request.proved, now) > 0 {
            return Looked::Decided(refuse(RefusalReason::Throttled, WRONG));
        }
        let key = self.used.key(user, seed);
        match self.find(key, seed, now, &typed_as) {
            Some((step, text)) if self.used.take(key, seed, step, now, self.skew) => {
                return Looked::Right(Right {
                    text,
                    claim: self.claim_of(|key| Claim {
                        owner: Owner::of(key, &[b"step", user.as_bytes(), seed.key.seed.expose()]),
                        step,
                        ceiling: memory::ceiling(seed, now, self.skew),
                        until: memory::forget_at(step, seed, self.skew),
                    }),
                    basis: Basis::Factor,
                });
            }
            // A replay is no guess: it does not slow the user down.
            Some(_) => return Looked::Decided(replayed()),
            None => {}
        }
        let scratch = seed
            .scratch
            .iter()
            .find_map(|code| Some((code, typed_as(code.expose())?)));
        match scratch {
            Some((code, text)) => Looked::Right(Right {
                text,
                // Of the code alone: it stays used when the seed or the list changes.
                claim: self.claim_of(|key| Claim {
                    owner: Owner::of(key, &[b"scratch", user.as_bytes(), code.expose()]),
                    step: 0,
                    ceiling: 0,
                    until: NEVER,
                }),
                basis: Basis::ScratchCode,
            }),
            None => {
                self.failures.wrong(user, request.proved, now);
                Looked::Decided(refuse(wrong.unwrap_or(RefusalReason::WrongPasscode), WRONG))
            }
        }
    }

    /// A claim costs as much as the code did: without a store none is made.
    fn claim_of(&self, make: impl FnOnce(&Secret) -> Claim) -> Option<(Arc<dyn Store>, Claim)> {
        let store = Arc::clone(self.store.as_ref()?);
        Some((store, make(&self.store_key)))
    }

    /// Approves a right code once it is used up. Only then does the wait after wrong codes end.
    fn taken(&self, failure_key: &FailureKey, text: Secret, basis: Basis) -> Verdict {
        self.failures.right(failure_key.user.as_str(), failure_key.proved);
        approve(text, basis)
    }

    /// Has a code that is right, and new to this process, used up for all of them.
    async fn claim(
        &self,
        (store, claim): (Arc<dyn Store>, Claim),
        failure_key: &FailureKey,
        text: Secret,
        basis: Basis,
        now: u64,
        limit: Duration,
    ) -> Verdict {
        let (begun, store_name) = (Instant::now(), store.name());
        let outcome = tokio::time::timeout(limit, store.take(claim, now))
            .await
            .unwrap_or_else(|_| {
                let detail = format!("no answer within {:.1} s", limit.as_secs_f32());
                Err(Fault::after_sending(FaultClass::Timeout, detail))
            });
        let outcome = match outcome {
            Ok(Outcome::NoRoom) => Err(Fault::after_sending(FaultClass::Throttled, "the store is full")),
            other => other,
        };
        let class = outcome.as_ref().err().map(|fault| fault.class);
        self.metrics.called("totp", Step::Store, class, begun.elapsed());
        let was_well = self.store_is_well.swap(class.is_none(), Ordering::Relaxed);
        let fault = match outcome {
            Ok(Outcome::Taken) => return self.taken(failure_key, text, basis),
            Ok(_) => return replayed(),
            Err(fault) => fault,
        };
        // The metrics count each; one line says that it began.
        if was_well {
            tracing::error!(
                store = store_name,
                %fault,
                when_unavailable = ?self.when_unavailable,
                "used codes cannot be remembered by all proxies together"
            );
        }
        match self.when_unavailable {
            // A scratch code would be valid for ever in every pod that comes after this one.
            StoreOutage::AcceptOncePerPod if basis == Basis::Factor => approve(text, Basis::OncePerPod),
            StoreOutage::AcceptOncePerPod | StoreOutage::Deny => refuse(
                RefusalReason::StoreUnavailable,
                "Codes cannot be checked now. Try again later.",
            ),
        }
    }
}

/// A step, and those around it, the nearest first.
fn around(step: u64, skew: u64) -> impl Iterator<Item = u64> {
    let others = (1..=skew).flat_map(move |away| [step.checked_sub(away), step.checked_add(away)]);
    std::iter::once(Some(step)).chain(others).flatten()
}

fn approve(code: Secret, basis: Basis) -> Verdict {
    Verdict::Approved(Approval {
        factor: Factor::Passcode,
        basis,
        message: None,
        found_text: Some(code),
        attributes: Vec::new(),
    })
}

fn replayed() -> Verdict {
    refuse(
        RefusalReason::PasscodeReplayed,
        "That code was used before. Wait for the next one.",
    )
}

fn refuse(reason: RefusalReason, message: impl Into<String>) -> Verdict {
    refused(Some(Factor::Passcode), reason, message)
}

impl Provider for Totp {
    fn ask(self: Arc<Self>, request: FactorRequest, asking: Asking) -> Answer {
        let now = asking
            .now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let Right { text, claim, basis } = match self.decide(&request, now) {
            Looked::Decided(verdict) => return Answer::Now(verdict),
            Looked::Right(right) => right,
        };
        let failure_key = FailureKey {
            user: request.user,
            proved: request.proved,
        };
        let Some(claim) = claim else {
            return Answer::Now(self.taken(&failure_key, text, basis));
        };
        let limit = store::LIMIT.min(request.answer_within / 2);
        Answer::Later(Box::pin(async move {
            self.claim(claim, &failure_key, text, basis, now, limit).await
        }))
    }

    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>> {
        Box::pin(async move {
            let users = self.seeds.users();
            let mut findings = vec![if users == 0 {
                Finding::Problem(
                    "totp: no user can log in: the seed folders hold no usable otpauth:// URI. `radius-proxy totp enrol \
                     --user NAME` makes one"
                        .to_owned(),
                )
            } else {
                Finding::Good(format!("totp: {users} user(s) can log in"))
            }];
            if let Some(store) = &self.store {
                let name = store.name();
                findings.push(match Arc::clone(store).reach().await {
                    Ok(()) => Finding::Good(format!("totp: used codes are remembered in {name}")),
                    Err(fault) => Finding::Problem(format!(
                        "totp: used codes cannot be remembered in {name}: {fault}"
                    )),
                });
            }
            findings.extend(self.seeds.complaints().iter().cloned().map(Finding::Problem));
            findings
        })
    }

    fn complaints(&self) -> &[String] {
        self.seeds.complaints()
    }
}

#[cfg(test)]
mod tests;
