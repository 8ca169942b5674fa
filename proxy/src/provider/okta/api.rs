//! Okta's Users and Factors API, as much of it as a login needs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use proxy_config::Secret;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::choose::Enrolled;
use super::meaning::{Meaning, meaning};
use super::rate::{self, Limit};
use super::token::{Credentials, Token, unix_now};
use super::{Link, unusable};
use crate::locks::lock;
use crate::provider::back_off::BackOff;
use crate::provider::fault::{Fault, FaultClass, Step};
use crate::provider::http::{Answer, Deadline, wiped};

/// A login name that no organisation has (RFC 2606).
const NOBODY: &str = "radius-proxy-check@example.invalid";
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// One organisation at Okta.
pub(super) struct Api {
    pub(super) link: Link,
    pub(super) credentials: Credentials,
    /// Okta's clock minus ours in seconds, when a check was answered last.
    pub(super) clock: Mutex<Option<i64>>,
}

/// Why a call gave nothing.
#[derive(Debug, Clone)]
pub(super) enum Problem {
    /// It failed.
    Fault(Fault),
    /// Okta refuses it for a reason that is about the user.
    Said(Meaning, String),
}

/// A user, as much as a login needs.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) profile: Profile,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Profile {
    #[serde(default)]
    pub(super) login: String,
}

/// How a verification stands.
#[derive(Debug, Deserialize)]
pub(super) struct Transaction {
    #[serde(rename = "factorResult", default)]
    pub(super) result: String,
    #[serde(rename = "_links", default)]
    links: Links,
    #[serde(rename = "_embedded", default)]
    embedded: Embedded,
}

#[derive(Debug, Default, Deserialize)]
struct Links {
    poll: Option<Href>,
    cancel: Option<Href>,
}

#[derive(Debug, Deserialize)]
struct Href {
    href: String,
}

#[derive(Debug, Default, Deserialize)]
struct Embedded {
    challenge: Option<Challenge>,
}

#[derive(Debug, Deserialize)]
struct Challenge {
    #[serde(rename = "correctAnswer")]
    correct_answer: Option<IgnoredAny>,
}

/// One call.
struct Call {
    step: Step,
    method: Method,
    url: Url,
    body: Option<Zeroizing<Vec<u8>>>,
    /// Whether a lost answer may be asked for again: false for what starts a push or counts a wrong code.
    repeatable: bool,
}

impl Transaction {
    /// The user has to compare a number, which nobody can show over RADIUS.
    pub(super) fn is_number_challenge(&self) -> bool {
        let challenge = self.embedded.challenge.as_ref();
        challenge.is_some_and(|challenge| challenge.correct_answer.is_some())
    }
}

impl Api {
    /// The user with a login name.
    pub(super) async fn user(&self, login: &str, deadline: Deadline) -> Result<User, Problem> {
        let call = self.get(Step::Preauth, &["users", login])?;
        Ok(self.call(&call, deadline).await?.0)
    }

    /// The user's factors.
    pub(super) async fn factors(&self, user: &str, deadline: Deadline) -> Result<Vec<Enrolled>, Problem> {
        let call = self.get(Step::Preauth, &["users", user, "factors"])?;
        Ok(self.call(&call, deadline).await?.0)
    }

    /// Proves that Okta is reached and the credentials are right, by a user whom nobody has. Gives Okta's clock minus
    /// ours, in seconds, where the answer tells it.
    pub(super) async fn check(&self, deadline: Deadline) -> Result<Option<i64>, Problem> {
        let call = self.get(Step::Check, &["users", NOBODY])?;
        let found: Result<(IgnoredAny, Limit), Problem> = self.call(&call, deadline).await;
        match found {
            Ok(_) | Err(Problem::Said(Meaning::NotFound, _)) => Ok(*lock(&self.clock)),
            Err(problem) => Err(problem),
        }
    }

    /// Verifies a factor: with a code, or by starting its push, SMS or call.
    pub(super) async fn verify(
        &self,
        user: &str,
        factor: &str,
        code: Option<&Secret>,
        deadline: Deadline,
    ) -> Result<(Transaction, Limit), Problem> {
        let body = match code {
            // Digits, or a YubiKey's letters: what the engine calls a passcode needs no escaping in JSON.
            Some(code) => [br#"{"passCode":""#, code.expose(), br#""}"#].concat(),
            None => Vec::new(),
        };
        let call = Call {
            method: Method::POST,
            body: Some(Zeroizing::new(body)),
            repeatable: false,
            ..self.get(Step::Auth, &["users", user, "factors", factor, "verify"])?
        };
        self.call(&call, deadline).await
    }

    /// Asks what became of a verification.
    pub(super) async fn poll(&self, url: &Url, deadline: Deadline) -> Result<(Transaction, Limit), Problem> {
        let call = Call {
            step: Step::Status,
            method: Method::GET,
            url: url.clone(),
            body: None,
            repeatable: true,
        };
        self.call(&call, deadline).await
    }

    /// Takes a push back, whatever becomes of that.
    pub(super) async fn cancel(&self, url: Url) {
        let call = Call {
            step: Step::Check,
            method: Method::DELETE,
            url,
            body: None,
            repeatable: true,
        };
        let result: Result<(IgnoredAny, Limit), Problem> = self.call(&call, CANCEL_TIMEOUT.into()).await;
        if let Err(problem) = result {
            tracing::debug!(?problem, "a push could not be taken back");
        }
    }

    /// The link to ask by, which must be of the organisation's own origin: it is called with its token.
    pub(super) fn poll_link(&self, transaction: &Transaction) -> Option<Url> {
        self.own(transaction.links.poll.as_ref())
    }

    /// The link to take a push back by.
    pub(super) fn cancel_link(&self, transaction: &Transaction) -> Option<Url> {
        self.own(transaction.links.cancel.as_ref())
    }

    fn own(&self, link: Option<&Href>) -> Option<Url> {
        self.own_link(&link?.href)
    }

    /// A link as it was given out for a push here or at another proxy: only of the organisation's own origin.
    pub(super) fn own_link(&self, link: &str) -> Option<Url> {
        let url = Url::parse(link).ok()?;
        let own = Url::parse(&self.link.host.origin()).ok()?;
        let bare = url.username().is_empty() && url.password().is_none();
        (url.origin() == own.origin() && bare).then_some(url)
    }

    fn get(&self, step: Step, path: &[&str]) -> Result<Call, Problem> {
        let mut url = Url::parse(&self.link.host.origin()).map_err(|_| Problem::Fault(unusable("host")))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each is escaped, so that a user's name stays one segment.
            segments.clear().extend(["api", "v1"]).extend(path);
        }
        Ok(Call {
            step,
            method: Method::GET,
            url,
            body: None,
            repeatable: true,
        })
    }

    /// A call with what can be put right: a rate limit, an access token that was withdrawn, a connection that was not
    /// made or (where that starts nothing twice) an answer that was lost.
    async fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        deadline: Deadline,
    ) -> Result<(T, Limit), Problem> {
        let (mut renewed, mut repeated, mut back_off) = (false, false, BackOff::new());
        loop {
            let (problem, token) = match self.once(call, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Problem::Fault(fault) = &problem else {
                return Err(problem);
            };
            match fault.class {
                FaultClass::Throttled => {
                    if !back_off.wait(fault, deadline.send_by()).await {
                        return Err(problem);
                    }
                }
                FaultClass::Credentials if !renewed && self.credentials.forget(token.as_ref()) => {
                    renewed = true;
                }
                FaultClass::Connect if !repeated && (call.repeatable || !fault.may_have_arrived) => {
                    repeated = true;
                }
                _ => return Err(problem),
            }
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        call: &Call,
        deadline: Deadline,
    ) -> Result<(T, Limit), (Problem, Option<std::sync::Arc<Token>>)> {
        let failed = |fault| Problem::Fault(fault);
        let (request, token) = self
            .request(call, deadline)
            .await
            .map_err(|fault| (failed(fault), None))?;
        let begun = Instant::now();
        let result = self.link.transport.call(request, deadline).await;
        if let (Step::Check, Ok(answer)) = (call.step, &result) {
            let difference = rate::date(&answer.headers).map(|date| date.saturating_sub(unix_now()));
            *lock(&self.clock) = difference;
        }
        let result = result
            .map_err(failed)
            .and_then(|answer| understand(&answer, unix_now()));
        let class = match &result {
            Err(Problem::Fault(fault)) => Some(fault.class),
            // Okta has answered: the call is in order.
            Ok(_) | Err(Problem::Said(..)) => None,
        };
        if class.is_none() {
            self.link.last_success.record();
        }
        self.link
            .metrics
            .called("okta", call.step, class, begun.elapsed());
        result.map_err(|problem| (problem, token))
    }

    async fn request(
        &self,
        call: &Call,
        deadline: Deadline,
    ) -> Result<(Request, Option<std::sync::Arc<Token>>), Fault> {
        let mut request = Request::new(call.method.clone(), call.url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = &call.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(wiped(body.clone()));
        }
        let token = self.credentials.sign(&self.link, &mut request, deadline).await?;
        Ok((request, token))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: String,
    #[serde(default)]
    error_summary: String,
}

/// Reads an answer, or says what its error means.
fn understand<T: DeserializeOwned>(answer: &Answer, now: i64) -> Result<(T, Limit), Problem> {
    let limit = Limit::read(&answer.headers, now);
    if (200..=299).contains(&answer.status) {
        let body = if answer.body.is_empty() {
            b"null"
        } else {
            answer.body.as_slice()
        };
        let malformed =
            |_| Fault::after_sending(FaultClass::Malformed, "an answer of another shape than Okta's");
        let value = serde_json::from_slice(body)
            .map_err(malformed)
            .map_err(Problem::Fault)?;
        return Ok((value, limit));
    }
    let error: Option<ErrorBody> = serde_json::from_slice(&answer.body).ok();
    let detail = match &error {
        Some(error) => {
            let text = format!("{} {}", error.error_code, error.error_summary);
            text.chars().filter(|c| !c.is_control()).take(120).collect()
        }
        None => format!("HTTP status {} and no answer of Okta's API", answer.status),
    };
    match meaning(
        answer.status,
        error.as_ref().map(|error| error.error_code.as_str()),
    ) {
        Meaning::Failure(class) => Err(Problem::Fault(Fault {
            retry_after: limit.wait(),
            ..Fault::after_sending(class, detail)
        })),
        said => Err(Problem::Said(said, detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;

    #[test]
    fn no_fuzz_of_an_answer_makes_it_panic() {
        let whole = r#"{"factorResult":"WAITING","_links":{"poll":{"href":"https://x.okta.com/a"}},"_embedded":{"challenge":{"correctAnswer":7}}}"#;
        bolero::check!()
            .with_type::<(u16, Vec<u8>, u16, u8)>()
            .for_each(|(status, body, at, with)| {
                let mut changed = whole.as_bytes().to_vec();
                let at = usize::from(*at) % changed.len();
                changed[at] ^= with;
                for body in [body, &changed] {
                    let answer = Answer {
                        status: 200 + status % 400,
                        headers: HeaderMap::new(),
                        body: body.clone(),
                    };
                    if let Ok((transaction, limit)) = understand::<Transaction>(&answer, 7) {
                        let _ = (transaction.is_number_challenge(), limit.wait());
                    }
                    let _ = understand::<Vec<Enrolled>>(&answer, 7);
                    if let Err(Problem::Fault(fault)) = understand::<User>(&answer, 7) {
                        assert!(!fault.detail.chars().any(char::is_control), "{}", fault.detail);
                    }
                }
            });
    }
}
