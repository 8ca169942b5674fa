//! Okta's Factors API: the user, the factors, then a push, call, SMS or passcode, followed to its end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy_config::{ApiHost, FailMode, OktaCredentials, OktaFactor, Secret};
use proxy_core::factor::{
    Approval, Basis, Credential, Factor, FactorRequest, RefusalReason, UserName, Verdict,
};

use self::api::{Api, Problem};
use self::choose::{Choice, choose};
use self::jwt::AppKey;
use self::meaning::Meaning;
use self::push::Ends;
pub use self::sent::Sent;
use self::token::{App, Credentials};
use super::fault::{Fault, FaultClass, Step};
use super::http::{Deadline, Transport};
use super::last_success::LastSuccess;
use super::unknown::UnknownUsers;
use super::warnings::Warnings;
use super::{Answer, Asking, BoxFuture, Finding, Provider, Shared, TheirClock, clock_finding, refused};
use crate::error::Error;
use crate::metrics::ProviderMetrics;

mod api;
mod choose;
mod jwt;
mod meaning;
mod push;
mod rate;
mod sent;
mod token;

/// How long the first step may take at most: with `failMode: safe` the login must still be answered after it.
const PREAUTH_TIMEOUT: Duration = Duration::from_secs(8);
/// What the user is told whose name or passcode is wrong, who is locked, or who has no factor for what was typed: not
/// which, or names could be tried. The record has the reason.
const WRONG: &str = "The name or the passcode is wrong, or Okta has no second factor for it. Ask your administrator if \
                     this goes on.";
const OKTA_CLOCK: TheirClock = TheirClock {
    provider: "okta",
    whose: "Okta's",
    refuses: "Okta refuses a service app whose clock is minutes off",
};

/// What every call goes through.
struct Link {
    host: ApiHost,
    transport: Arc<Transport>,
    last_success: Arc<LastSuccess>,
    metrics: ProviderMetrics,
}

/// The provider of `[provider.okta]`.
pub struct Okta {
    api: Arc<Api>,
    factors: Vec<OktaFactor>,
    login_suffix: Option<String>,
    fail_mode: FailMode,
    sent: Arc<Sent>,
    unknown: UnknownUsers,
    warnings: Arc<Warnings>,
}

impl Okta {
    /// Makes the provider; nothing is called yet.
    ///
    /// # Errors
    /// A private key, trusted certificates or a proxy address that cannot be used.
    pub fn new(config: &proxy_config::Okta, shared: &Shared) -> Result<Self, Error> {
        let transport = shared
            .transports
            .obtain(config.http_proxy.as_ref(), config.ca_bundle.as_deref())?;
        let credentials = match &config.credentials {
            OktaCredentials::Token(token) => Credentials::Token(token.trim_end()),
            OktaCredentials::Oauth {
                client_id,
                private_key,
                key_id,
            } => {
                let key = AppKey::new(private_key, key_id.clone()).map_err(|error| Error::ProviderKey {
                    field: "provider.okta.credentials.oauth.private_key_file",
                    problem: error.to_string(),
                })?;
                Credentials::App(Box::new(App::new(client_id.clone(), key)))
            }
        };
        Ok(Self {
            api: Arc::new(Api {
                link: Link {
                    host: config.org.clone(),
                    transport,
                    last_success: shared.transports.last_success(&config.org.origin()),
                    metrics: shared.metrics.clone(),
                },
                credentials,
                clock: Mutex::default(),
            }),
            factors: config.factors.clone(),
            login_suffix: config.login_suffix.clone(),
            fail_mode: config.fail_mode,
            sent: Arc::clone(&shared.sent_codes),
            unknown: UnknownUsers::default(),
            warnings: Arc::clone(&shared.warnings),
        })
    }

    async fn login(&self, request: FactorRequest, asking: Asking) -> Verdict {
        let begun = Instant::now();
        let of_use = begun + request.of_use;
        let deadline = Deadline::at(of_use);
        let ends = Ends {
            answer: begun + request.answer_within,
            of_use,
        };
        if let Credential::Follow(handle) = &request.credential {
            return self.follow_handle(handle.as_str(), &asking, ends).await;
        }
        let available = request.answer_within.min(request.of_use);
        let first = Deadline::of_first_call(begun, available, PREAUTH_TIMEOUT);
        let (id, enrolled) = match self.look_up(&request.user, first).await {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let sent = self.sent.factor(&request.user, Instant::now());
        let choice = choose(
            &request.credential,
            &enrolled,
            &self.factors,
            request.may_push,
            sent.as_deref(),
        );
        let choice = match choice {
            Ok(choice) => choice,
            Err(refusal) => return refusal,
        };
        let factor = choice.factor();
        match choice {
            Choice::Code(code, factors) => {
                self.check_code(&request.user, &id, &code, &factors, deadline)
                    .await
            }
            Choice::Push(push) => {
                // Counted before it is sent: when the answer is lost, the phone may show it all the same.
                asking.pushed();
                self.push(&id, &push, &asking, ends).await
            }
            Choice::Sms(one) | Choice::Call(one) => {
                asking.pushed();
                self.send_code(request.user, &id, one, factor, deadline).await
            }
        }
    }

    /// The first step: the user's id and factors.
    async fn look_up(
        &self,
        user: &UserName,
        deadline: Deadline,
    ) -> Result<(String, Vec<choose::Enrolled>), Verdict> {
        let Some(login) = login_name(user.as_str(), self.login_suffix.as_deref()) else {
            return Err(unknown());
        };
        if let Some(refusal) = self.unknown.refusal(user, Instant::now()) {
            return Err(refusal);
        }
        let found = match self.api.user(&login, deadline).await {
            Ok(found) => found,
            Err(problem) => {
                let is_unknown = matches!(problem, Problem::Said(Meaning::NotFound, _));
                let verdict = self.failed(Step::Preauth, None, problem);
                if is_unknown {
                    self.unknown.remember(user, &verdict, Instant::now());
                }
                return Err(verdict);
            }
        };
        if !is_same_login(&found.profile.login, &login) {
            self.warnings
                .odd("okta", "Okta has answered with a user of another login name");
            return Err(unknown());
        }
        if matches!(
            found.status.as_str(),
            "SUSPENDED" | "DEPROVISIONED" | "LOCKED_OUT"
        ) {
            return Err(refused(None, RefusalReason::LockedOut, WRONG));
        }
        let factors = self.api.factors(&found.id, deadline).await;
        let factors = factors.map_err(|problem| self.failed(Step::Preauth, None, problem))?;
        Ok((found.id, factors))
    }

    /// Tries a code at one factor after the other. One that was right once ends it.
    async fn check_code(
        &self,
        user: &UserName,
        id: &str,
        code: &Secret,
        factors: &[String],
        deadline: Deadline,
    ) -> Verdict {
        let factor = Factor::Passcode;
        let mut wrong = false;
        for one in factors {
            match self.api.verify(id, one, Some(code), deadline).await {
                Ok((transaction, _)) if transaction.result == "SUCCESS" => {
                    self.sent.forget(user);
                    return approved(factor);
                }
                Ok((transaction, _)) if transaction.result == "PASSCODE_REPLAYED" => return replayed(),
                Ok((transaction, _)) if !is_wrong(&transaction.result) => {
                    let fault = Fault::after_sending(
                        FaultClass::Malformed,
                        "a code was checked with an unknown result",
                    );
                    return self.failed(Step::Auth, Some(factor), Problem::Fault(fault));
                }
                Ok(_) | Err(Problem::Said(Meaning::WrongCode, _)) => wrong = true,
                // The factor was removed a moment ago, or waits for something else.
                Err(Problem::Said(Meaning::NotFound | Meaning::NotPossible, _)) => {}
                Err(problem) => return self.failed(Step::Auth, Some(factor), problem),
            }
        }
        if wrong {
            refused(Some(factor), RefusalReason::WrongPasscode, WRONG)
        } else {
            refused(Some(factor), RefusalReason::FactorUnavailable, WRONG)
        }
    }

    async fn send_code(
        &self,
        user: UserName,
        id: &str,
        one: String,
        factor: Factor,
        deadline: Deadline,
    ) -> Verdict {
        match self.api.verify(id, &one, None, deadline).await {
            // Okta says CHALLENGE.
            Ok(_) => {
                self.sent.remember(user, one, Instant::now());
                refused(
                    Some(factor),
                    RefusalReason::CodesSent,
                    "A code was sent. Log in again with it.",
                )
            }
            Err(problem) => {
                if matches!(problem, Problem::Said(Meaning::SentJustNow, _)) {
                    self.sent.remember(user, one, Instant::now());
                }
                self.failed(Step::Auth, Some(factor), problem)
            }
        }
    }

    fn failed(&self, step: Step, factor: Option<Factor>, problem: Problem) -> Verdict {
        let verdict = |class| {
            let last_success = &self.api.link.last_success;
            last_success.verdict(&self.warnings, "okta", step, class, self.fail_mode)
        };
        let (said, detail) = match problem {
            Problem::Fault(fault) => {
                self.warnings.failed("okta", step, &fault);
                return verdict(fault.class);
            }
            Problem::Said(said, detail) => (said, detail),
        };
        tracing::debug!(provider = "okta", step = step.name(), %detail, "Okta refuses a login");
        match said {
            Meaning::NotFound if step == Step::Preauth => unknown(),
            Meaning::LockedOut => refused(factor, RefusalReason::LockedOut, WRONG),
            Meaning::WrongCode => refused(factor, RefusalReason::WrongPasscode, WRONG),
            Meaning::UsedCode => replayed(),
            Meaning::Denied => refused(factor, RefusalReason::Denied, "The login was denied."),
            Meaning::SentJustNow => {
                let message = "A code was sent a moment ago. Log in with it, or try again in half a minute.";
                refused(factor, RefusalReason::ProviderThrottled, message)
            }
            Meaning::NotFound | Meaning::NotPossible => {
                let message = "The factor cannot be used now. Try again in a minute, or type a passcode.";
                refused(factor, RefusalReason::FactorUnavailable, message)
            }
            Meaning::Failure(class) => verdict(class),
        }
    }
}

/// Whether a code that was checked is a wrong one.
fn is_wrong(result: &str) -> bool {
    matches!(
        result,
        "FAILED" | "REJECTED" | "EXPIRED" | "TIMEOUT" | "TIME_WINDOW_EXCEEDED"
    )
}

fn approved(factor: Factor) -> Verdict {
    Verdict::Approved(Approval {
        factor,
        basis: Basis::Factor,
        message: None,
        found_text: None,
        attributes: Vec::new(),
    })
}

fn replayed() -> Verdict {
    let message = "The passcode was used before. Wait for the next one.";
    refused(Some(Factor::Passcode), RefusalReason::PasscodeReplayed, message)
}

fn unknown() -> Verdict {
    refused(None, RefusalReason::UnknownUser, WRONG)
}

/// A user's login name at Okta; `None` for what Okta's API takes for something else: `me` is whoever owns the token,
/// and a dot is no segment of a path.
fn login_name(user: &str, suffix: Option<&str>) -> Option<String> {
    let name = match suffix {
        Some(suffix) if !user.contains('@') => format!("{user}{suffix}"),
        _ => user.to_owned(),
    };
    (!matches!(name.to_ascii_lowercase().as_str(), "" | "me" | "." | "..")).then_some(name)
}

/// Whether the user that Okta found is the one who was asked for. Okta also takes the part before the @ where that is
/// unambiguous, and ids, which are no names that a directory has.
fn is_same_login(found: &str, asked: &str) -> bool {
    let (found, asked) = (found.to_lowercase(), asked.to_lowercase());
    let short = found.split_once('@').map(|(short, _)| short);
    found == asked || short == Some(asked.as_str())
}

/// A request that cannot even be made.
fn unusable(what: &str) -> Fault {
    Fault::before_sending(
        FaultClass::ClientError,
        format!("the request cannot be made: {what}"),
    )
}

impl Provider for Okta {
    fn ask(self: Arc<Self>, request: FactorRequest, asking: Asking) -> Answer {
        Answer::Later(Box::pin(async move { self.login(request, asking).await }))
    }

    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>> {
        Box::pin(async move {
            let origin = self.api.link.host.origin();
            let deadline = Deadline::from(Duration::from_secs(15));
            match self.api.check(deadline).await {
                Ok(difference) => {
                    let reached = format!("okta: {origin} is reached, and the credentials are right");
                    // An API token holds whatever the time is.
                    let signs = matches!(self.api.credentials, Credentials::App(..));
                    let difference = difference.filter(|_| signs);
                    let clock = difference.map(|difference| clock_finding(OKTA_CLOCK, difference));
                    std::iter::once(Finding::Good(reached)).chain(clock).collect()
                }
                Err(Problem::Fault(fault)) => vec![Finding::Problem(problem(&origin, &fault))],
                Err(Problem::Said(_, detail)) => vec![Finding::Problem(format!("okta: {origin}: {detail}"))],
            }
        })
    }
}

fn problem(origin: &str, fault: &Fault) -> String {
    let advice = match fault.class {
        FaultClass::Dns => "check provider.okta.org_url and this host's name servers",
        FaultClass::Connect | FaultClass::Timeout => {
            "check that outgoing TCP to that host and port is allowed, or set provider.okta.http_proxy"
        }
        FaultClass::Tls => {
            "check the clock, and whether a proxy in between has its own certificate (provider.okta.ca_bundle)"
        }
        FaultClass::ProxyPassword => "ask whoever runs provider.okta.http_proxy",
        FaultClass::Busy => "this host is too busy; try again",
        FaultClass::ServerError => "see status.okta.com",
        FaultClass::Throttled => "wait a minute and try again",
        FaultClass::Credentials => {
            "check client id, private key and key id of the service app, that its scopes okta.users.read and \
             okta.users.manage are granted and an administrator role is assigned to it; or that the API token is valid \
             and its owner may manage users"
        }
        FaultClass::ClientError | FaultClass::Malformed => {
            "check that provider.okta.org_url is the organisation's own URL (not its -admin one)"
        }
    };
    format!("okta: {origin}: {fault}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_domain_gets_the_suffix_and_aliases_of_the_api_are_no_names() {
        assert_eq!(login_name("jane", Some("@x.com")).as_deref(), Some("jane@x.com"));
        assert_eq!(
            login_name("jane@y.com", Some("@x.com")).as_deref(),
            Some("jane@y.com")
        );
        assert_eq!(login_name("jane", None).as_deref(), Some("jane"));
        for name in ["me", "ME", ".", "..", ""] {
            assert_eq!(login_name(name, None), None, "{name}");
        }
        assert_eq!(login_name("me", Some("@x.com")).as_deref(), Some("me@x.com"));
    }

    #[test]
    fn only_the_user_who_was_asked_for_is_taken() {
        assert!(is_same_login("Jane@X.com", "jane@x.com"));
        assert!(is_same_login("jane@x.com", "jane"));
        assert!(!is_same_login("admin@x.com", "jane"));
        assert!(!is_same_login("", "jane"));
    }
}
