//! RFC 6238 codes, checked by the proxy itself against seeds from files.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use proxy_config::{Secret, UserNameRule};
use proxy_core::factor::{
    Approval, Basis, Credential, Factor, FactorRequest, RefusalReason, ResponseCheck, UserName, Verdict,
};

use super::{Answer, Asking, BoxFuture, Finding, Provider, Shared, refused};

mod code;
mod memory;
mod seeds;
mod uri;

pub use code::{Algorithm, Code, Digits};
pub use memory::{Failures, UsedCodes};
pub use seeds::{Seed, Seeds};
pub use uri::{KeyUri, UriProblem};

/// The provider of `[provider.totp]`.
pub struct Totp {
    seeds: Seeds,
    skew: u32,
    used: Arc<UsedCodes>,
    failures: Arc<Failures>,
    /// Checked for users who are not there, so that they take as long as those who are.
    nobody: Seed,
}

impl Totp {
    /// Reads the seeds. Lines that cannot be used are left out and complained about.
    #[must_use]
    pub fn new(config: &proxy_config::Totp, names: UserNameRule, shared: &Shared) -> Self {
        let normalise = |name: &str| Some(UserName::normalise(name, &names)?.as_str().to_owned());
        Self {
            seeds: Seeds::load(&config.seeds, normalise),
            skew: config.skew_steps,
            used: Arc::clone(&shared.used_codes),
            failures: Arc::clone(&shared.failures),
            nobody: Seed {
                key: Secret::new(vec![0; 20]),
                algorithm: Algorithm::Sha1,
                digits: Digits::SIX,
                period: 30,
            },
        }
    }

    /// The steps whose codes are valid at `now`, the likeliest first: the present one of the user's clock, then those
    /// around it.
    fn steps(&self, user: &str, seed: &Seed, now: u64) -> impl Iterator<Item = u64> + use<> {
        let present =
            (now / u64::from(seed.period.max(1))).saturating_add_signed(self.used.drift(user, seed));
        let skew = u64::from(self.skew);
        let around = (1..=skew).flat_map(move |away| [present.checked_sub(away), present.checked_add(away)]);
        std::iter::once(Some(present)).chain(around).flatten()
    }

    /// The first valid step whose code `is_typed` says yes to.
    fn find(
        &self,
        user: &str,
        seed: &Seed,
        now: u64,
        is_typed: impl Fn(&Code) -> bool,
    ) -> Option<(u64, Code)> {
        self.steps(user, seed, now)
            .map(|step| {
                (
                    step,
                    Code::at(seed.algorithm, seed.key.expose(), step, seed.digits),
                )
            })
            .find(|(_, code)| is_typed(code))
    }

    fn decide(&self, request: &FactorRequest, now: u64) -> Verdict {
        match &request.credential {
            Credential::Passcode(typed) => self.look(request, now, |code| code.equals(typed.expose()), None),
            Credential::Response(response) => {
                let response: &dyn ResponseCheck = response.as_ref();
                self.look(
                    request,
                    now,
                    |code| response.matches(code.as_bytes()),
                    Some(RefusalReason::NothingMatched),
                )
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
            Credential::Forward(_) => refused(
                None,
                RefusalReason::MethodCannotCarry,
                "This password method cannot carry a code.",
            ),
        }
    }

    /// `wrong` is the reason when nothing matches and it cannot be known whether a code was typed.
    fn look(
        &self,
        request: &FactorRequest,
        now: u64,
        is_typed: impl Fn(&Code) -> bool,
        wrong: Option<RefusalReason>,
    ) -> Verdict {
        let user = request.user.as_str();
        let seed = match self.seeds.of(user) {
            Some(Some(seed)) => seed,
            other => {
                // The same work as for a wrong code, so that the time does not tell who has a seed.
                let _ = self.find(user, &self.nobody, now, is_typed);
                let _ = self.failures.wait(user, now);
                return match other {
                    Some(_) => refuse(
                        RefusalReason::NotEnrolled,
                        "Two authenticators are set up for you. Ask your administrator.",
                    ),
                    None => refuse(RefusalReason::UnknownUser, "No authenticator is set up for you."),
                };
            }
        };
        let wait = self.failures.wait(user, now);
        if wait > 0 {
            return refuse(
                RefusalReason::Throttled,
                format!("Too many wrong codes. Try again in {wait} s."),
            );
        }
        match self.find(user, seed, now, is_typed) {
            Some((step, code)) if self.used.take(user, seed, step, now, self.skew) => {
                self.failures.right(user);
                approve(&code)
            }
            // A replay is no guess: it does not slow the user down.
            Some(_) => refuse(
                RefusalReason::PasscodeReplayed,
                "That code was used before. Wait for the next one.",
            ),
            None => {
                self.failures.wrong(user, now);
                refuse(
                    wrong.unwrap_or(RefusalReason::WrongPasscode),
                    "The code is wrong.",
                )
            }
        }
    }
}

fn approve(code: &Code) -> Verdict {
    Verdict::Approved(Approval {
        factor: Factor::Passcode,
        basis: Basis::Factor,
        message: None,
        found_text: Some(Secret::new(code.as_bytes().to_vec())),
        attributes: Vec::new(),
    })
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
        Answer::Now(self.decide(&request, now))
    }

    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>> {
        Box::pin(async move {
            let users = self.seeds.users();
            let (bad_lines, twice) = self.seeds.left_out();
            let mut findings = vec![if users == 0 {
                Finding::Problem(
                    "totp: no user can log in: the seed folders hold no usable otpauth:// URI. `radius-proxy totp enrol \
                     --user NAME` makes one"
                        .to_owned(),
                )
            } else {
                Finding::Good(format!("totp: {users} user(s) can log in"))
            }];
            findings.extend(self.seeds.complaints().iter().cloned().map(Finding::Problem));
            let untold = (bad_lines + twice).saturating_sub(self.seeds.complaints().len());
            if untold > 0 {
                findings.push(Finding::Problem(format!(
                    "totp: and {untold} more lines like these"
                )));
            }
            findings
        })
    }

    fn complaints(&self) -> &[String] {
        self.seeds.complaints()
    }
}

#[cfg(test)]
mod tests;
