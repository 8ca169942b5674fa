//! Duo's Auth API: preauth, then a push, call or passcode, followed to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use proxy_config::{DuoFactor, FailMode};
use proxy_core::factor::{Approval, Basis, Credential, Factor, FactorRequest, RefusalReason, Verdict};
use proxy_core::record::is_unsafe_to_show;
use zeroize::Zeroizing;

use super::fault::{Fault, FaultClass, Step};
use super::http::Deadline;
use super::unknown::UnknownUsers;
use super::warnings::Warnings;
use super::{Answer, Asking, BoxFuture, Finding, Provider, Shared, TheirClock, clock_finding, refused};
use crate::error::Error;

mod answer;
mod api;
mod choose;
mod follow;
mod sign;

use answer::{Outcome, Preauth};
use api::Api;
use choose::{Choice, choose};
use follow::{followed, handle};
use sign::{Parameter, Parameters};

/// How long the first call may take at most: with `failMode: safe` the login must still be answered after it.
const PREAUTH_TIMEOUT: Duration = Duration::from_secs(8);
/// Duo takes less than 20,000 bytes.
const PUSHINFO_VALUE: usize = 200;

const DUO_CLOCK: TheirClock = TheirClock {
    provider: "duo",
    whose: "Duo's",
    refuses: "Duo refuses more than 300 s",
};

/// The provider of `[provider.duo]`.
pub struct Duo {
    api: Api,
    factors: Vec<DuoFactor>,
    fail_mode: FailMode,
    application: Option<String>,
    unknown: UnknownUsers,
    warnings: Arc<Warnings>,
}

/// A login as it was asked. It is boxed: whatever is moved into a future keeps its room in it to the end.
struct Asked {
    request: FactorRequest,
    asking: Asking,
}

/// How far a login has come without waiting for its user.
enum Started {
    /// To its end.
    Ended(Verdict),
    /// A push or call is under way.
    Waiting {
        /// Which it is.
        factor: Factor,
        /// Duo's name for it.
        txid: String,
    },
}

impl Duo {
    /// Makes the provider; nothing is called yet.
    ///
    /// # Errors
    /// Trusted certificates or a proxy address that cannot be used.
    pub fn new(
        config: &proxy_config::Duo,
        application: Option<String>,
        shared: &Shared,
    ) -> Result<Self, Error> {
        let transport = shared
            .transports
            .obtain(config.http_proxy.as_ref(), config.ca_bundle.as_deref())?;
        Ok(Self {
            api: Api {
                host: config.api_host.clone(),
                integration_key: config.integration_key.clone(),
                secret_key: config.secret_key.clone(),
                version: config.signature_version,
                transport,
                last_success: shared.transports.last_success(&config.api_host.origin()),
                metrics: shared.metrics.clone(),
                clock_offset: AtomicI64::new(0),
            },
            factors: config.factors.clone(),
            fail_mode: config.fail_mode,
            application,
            unknown: UnknownUsers::default(),
            warnings: Arc::clone(&shared.warnings),
        })
    }

    /// What a push needs while it waits for its owner is little; everything before it is boxed, and gone by then.
    async fn login(self: Arc<Self>, asked: Box<Asked>) -> Verdict {
        let deadline = Instant::now() + asked.request.of_use;
        let started = if let Credential::Follow(handle) = &asked.request.credential {
            let started = followed(handle.as_str());
            drop(asked);
            started
        } else {
            Box::pin(self.start(asked, deadline)).await
        };
        match started {
            Started::Ended(verdict) => verdict,
            Started::Waiting { factor, txid } => self.follow(factor, &txid, deadline).await,
        }
    }

    async fn start(&self, asked: Box<Asked>, deadline: Instant) -> Started {
        let Asked { request, asking } = &*asked;
        if let Some(refusal) = self.unknown.refusal(&request.user, Instant::now()) {
            return Started::Ended(refusal);
        }
        let user = request.user.as_str();
        let address = request.user_address.map(|address| address.to_string());
        let mut parameters = vec![("username", user)];
        if let Some(address) = &address {
            parameters.push(("ipaddr", address));
        }
        let available = request.answer_within.min(request.of_use);
        let first = Deadline::of_first_call(Instant::now(), available, PREAUTH_TIMEOUT);
        let verdict = match self.api.preauth(&parameters, first).await {
            Ok(Preauth::Auth(devices)) => {
                match choose(&request.credential, &devices, &self.factors, request.may_push) {
                    Ok(choice) => {
                        return self
                            .authenticate(request, &choice, parameters, asking, deadline)
                            .await;
                    }
                    Err(refusal) => refusal,
                }
            }
            Ok(Preauth::Allow(message)) => approved(Factor::None, Basis::ProviderBypass, &message),
            Ok(Preauth::Deny(message)) => self.not_let_in(request, RefusalReason::LockedOut, &message),
            Ok(Preauth::Enroll(message)) => self.not_let_in(request, RefusalReason::NotEnrolled, &message),
            Err(fault) => self.failed(Step::Preauth, &fault),
        };
        Started::Ended(verdict)
    }

    async fn authenticate<'a>(
        &self,
        request: &'a FactorRequest,
        choice: &'a Choice,
        mut parameters: Vec<Parameter<'a>>,
        asking: &Asking,
        deadline: Instant,
    ) -> Started {
        let factor = choice.factor();
        let pushinfo = self.pushinfo(request);
        let shown_user = shown(&request.user_as_sent);
        parameters.push(("factor", factor.name()));
        let is_followed = match choice {
            Choice::Passcode(typed) => {
                parameters.push(("passcode", typed.expose_str().unwrap_or_default()));
                false
            }
            Choice::Sms { device } => {
                parameters.push(("device", device));
                false
            }
            Choice::Phone { device } => {
                parameters.extend([("device", device.as_str()), ("async", "1")]);
                true
            }
            Choice::Push { device } | Choice::Auto { device } => {
                parameters.extend([("device", device.as_str()), ("async", "1")]);
                parameters.extend([("pushinfo", pushinfo.as_str()), ("display_username", &shown_user)]);
                true
            }
        };
        // Counted before it is sent: when the answer is lost, the phone may ring all the same.
        if !matches!(choice, Choice::Passcode(_)) {
            asking.pushed();
        }
        let fault = if is_followed {
            match self.api.auth_async(&parameters, Deadline::at(deadline)).await {
                Ok(txid) => {
                    asking.announce(handle(factor, &txid));
                    return Started::Waiting { factor, txid };
                }
                Err(fault) => fault,
            }
        } else {
            match self.api.auth(&parameters, Deadline::at(deadline)).await {
                Ok(outcome) => return Started::Ended(self.end(factor, &outcome)),
                Err(fault) => fault,
            }
        };
        Started::Ended(self.failed(Step::Auth, &fault))
    }

    /// Duo says so of a user whom it does not know, too: that depends on its New User policy.
    fn not_let_in(&self, request: &FactorRequest, reason: RefusalReason, message: &str) -> Verdict {
        let verdict = refused(None, reason, shown(message));
        self.unknown.remember(&request.user, &verdict, Instant::now());
        verdict
    }

    fn end(&self, factor: Factor, outcome: &Outcome) -> Verdict {
        match outcome.result.as_str() {
            "allow" => {
                let bypass = outcome.status == "bypass";
                let basis = if bypass {
                    Basis::ProviderBypass
                } else {
                    Basis::Factor
                };
                approved(factor, basis, &outcome.status_msg)
            }
            "deny" => {
                let reason = match outcome.status.as_str() {
                    "fraud" => RefusalReason::Fraud,
                    "timeout" => RefusalReason::TimedOut,
                    "locked_out" => RefusalReason::LockedOut,
                    "sent" => RefusalReason::CodesSent,
                    _ if factor == Factor::Passcode => RefusalReason::WrongPasscode,
                    _ => RefusalReason::Denied,
                };
                refused(Some(factor), reason, shown(&outcome.status_msg))
            }
            _ => self.failed(
                Step::Auth,
                &Fault::after_sending(FaultClass::Malformed, "auth has an unknown result"),
            ),
        }
    }

    fn failed(&self, step: Step, fault: &Fault) -> Verdict {
        self.warnings.failed("duo", step, fault);
        let last_success = &self.api.last_success;
        last_success.verdict(&self.warnings, "duo", step, fault.class, self.fail_mode)
    }

    /// What the phone shows beside the user's name, form-encoded.
    fn pushinfo(&self, request: &FactorRequest) -> Zeroizing<String> {
        let address = request.user_address.unwrap_or(request.source).to_string();
        let application = self.application.as_deref().map(shown);
        let client = shown(request.client.as_str());
        let mut lines = Parameters::from([("Client", client.as_str()), ("Address", address.as_str())]);
        if let Some(application) = &application {
            lines.insert("Login to", application);
        }
        sign::encode(&lines)
    }
}

/// A text as a phone or a login window may show it: nothing that changes how the rest is read, and not too long.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !is_unsafe_to_show(*c))
        .take(PUSHINFO_VALUE)
        .collect()
}

fn approved(factor: Factor, basis: Basis, message: &str) -> Verdict {
    Verdict::Approved(Approval {
        factor,
        basis,
        message: (!message.is_empty()).then(|| shown(message)),
        found_text: None,
        attributes: Vec::new(),
    })
}

impl Provider for Duo {
    fn ask(self: Arc<Self>, request: FactorRequest, asking: Asking) -> Answer {
        Answer::Later(Box::pin(self.login(Box::new(Asked { request, asking }))))
    }

    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>> {
        Box::pin(async move {
            let deadline = Deadline::from(Duration::from_secs(15));
            let mut findings = Vec::new();
            match self.api.clock_difference(deadline).await {
                Ok(difference) => {
                    findings.push(Finding::Good(format!(
                        "duo: {} is reached",
                        self.api.host.origin()
                    )));
                    findings.push(clock_finding(DUO_CLOCK, difference));
                    self.api.clock_offset.store(difference, Ordering::Relaxed);
                }
                Err(fault) => {
                    findings.push(Finding::Problem(problem(&self.api.host.origin(), &fault)));
                    return findings;
                }
            }
            findings.push(match self.api.check(deadline).await {
                Ok(()) => Finding::Good("duo: integration key and secret key are right".to_owned()),
                Err(fault) => Finding::Problem(problem(&self.api.host.origin(), &fault)),
            });
            findings
        })
    }
}

fn problem(origin: &str, fault: &Fault) -> String {
    let advice = match fault.class {
        FaultClass::Dns => "check provider.duo.api_host and this host's name servers",
        FaultClass::Connect => {
            "check that outgoing TCP to that host and port is allowed, or set provider.duo.http_proxy"
        }
        FaultClass::Tls => {
            "check the clock, and whether a proxy in between has its own certificate (provider.duo.ca_bundle)"
        }
        FaultClass::Timeout => "check that outgoing TCP to that host and port is allowed",
        FaultClass::ProxyPassword => "ask whoever runs provider.duo.http_proxy",
        FaultClass::Busy => "this host is too busy; try again",
        FaultClass::ServerError => "see status.duo.com",
        FaultClass::Throttled => "wait a minute and try again",
        FaultClass::Credentials => {
            "copy integration key, secret key and API hostname once more from the application \"Auth API\" in Duo's \
             admin panel; all three belong together"
        }
        FaultClass::ClientError | FaultClass::Malformed => {
            "check that provider.duo.api_host is Duo's API hostname"
        }
    };
    format!("duo: {origin}: {fault}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_shows_cannot_be_bent() {
        assert_eq!(shown("ja\u{202e}ne\r\n<b>"), "jane<b>");
        assert_eq!(shown(&"x".repeat(5000)).len(), PUSHINFO_VALUE);
    }
}
