//! How calls prove themselves: an API token, or an access token of an OAuth service app, which is fetched once for
//! all logins that wait for it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_config::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;
use url::form_urlencoded;

use super::jwt::{AppKey, ProofKey};
use super::rate::{self, Limit};
use super::{Link, unusable};
use crate::locks::lock;
use crate::provider::fault::{Fault, FaultClass, Step};
use crate::provider::http::{Answer, Deadline};

const SCOPES: &str = "okta.users.read okta.users.manage";
const PROOF: HeaderName = HeaderName::from_static("dpop");
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// A token is renewed so long before its end, or after nine tenths of its life if that is later.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// A proof of possession is asked for, then its nonce, then a right clock; each once.
const ROUNDS: u32 = 4;
/// A difference of clocks that can make an assertion invalid.
const CLOCK_OFF: i64 = 30;

/// What calls prove themselves by.
pub(super) enum Credentials {
    /// `Authorization: SSWS …`
    Token(Secret),
    /// An access token.
    App(Box<App>),
}

/// An OAuth service app with `private_key_jwt`.
pub(super) struct App {
    client_id: String,
    key: AppKey,
    current: Mutex<Option<Arc<Token>>>,
    fetching: tokio::sync::Mutex<Fetching>,
}

/// What is learned while tokens are fetched.
#[derive(Default)]
struct Fetching {
    failure: Option<(Instant, Fault)>,
    proof: Option<Arc<ProofKey>>,
    nonce: Option<String>,
    /// Seconds to add to the own clock to have Okta's.
    clock_offset: i64,
}

/// An access token.
pub(super) struct Token {
    value: Secret,
    /// The key that it is bound to, when it is.
    proof: Option<Arc<ProofKey>>,
    clock_offset: i64,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

#[derive(Default, Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Credentials {
    /// Signs a request; gives the token that was used.
    pub(super) async fn sign(
        &self,
        link: &Link,
        request: &mut Request,
        deadline: Deadline,
    ) -> Result<Option<Arc<Token>>, Fault> {
        match self {
            Self::Token(token) => {
                request
                    .headers_mut()
                    .insert(AUTHORIZATION, authorization("SSWS", token)?);
                Ok(None)
            }
            Self::App(app) => {
                let token = app.token(link, deadline).await?;
                token.sign(request)?;
                Ok(Some(token))
            }
        }
    }

    /// A token was refused: the next call fetches another. `false` when there is nothing to fetch.
    pub(super) fn forget(&self, refused: Option<&Arc<Token>>) -> bool {
        match (self, refused) {
            (Self::App(app), Some(refused)) => {
                app.current().take_if(|current| Arc::ptr_eq(current, refused));
                true
            }
            _ => false,
        }
    }
}

impl Token {
    fn sign(&self, request: &mut Request) -> Result<(), Fault> {
        let Some(key) = &self.proof else {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization("Bearer", &self.value)?);
            return Ok(());
        };
        let now = unix_now().saturating_add(self.clock_offset);
        let url = without_query(request.url());
        let proof = key
            .proof(request.method().as_str(), &url, None, Some(&self.value), now)
            .ok_or_else(|| unusable("proof of possession"))?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization("DPoP", &self.value)?);
        headers.insert(
            PROOF,
            HeaderValue::from_str(&proof).map_err(|_| unusable("proof of possession"))?,
        );
        Ok(())
    }
}

impl App {
    pub(super) fn new(client_id: String, key: AppKey) -> Self {
        Self {
            client_id,
            key,
            current: Mutex::new(None),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The token of now. Of many logins that need a new one, one fetches it; the others wait, and take its failure too:
    /// or each would wait in turn for the same one.
    pub(super) async fn token(&self, link: &Link, deadline: Deadline) -> Result<Arc<Token>, Fault> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let asked = Instant::now();
        let mut fetching = tokio::time::timeout_at(deadline.send_by().into(), self.fetching.lock())
            .await
            .map_err(|_| Fault::before_sending(FaultClass::Busy, "no access token in time"))?;
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        if let Some((_, fault)) = fetching.failure.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(fault.clone());
        }
        match self.fetch(link, &mut fetching, deadline).await {
            Ok(token) => {
                let token = Arc::new(token);
                *self.current() = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(fault) => {
                fetching.failure = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    fn fresh(&self) -> Option<Arc<Token>> {
        self.current()
            .as_ref()
            .filter(|token| Instant::now() < token.renew_at)
            .map(Arc::clone)
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        lock(&self.current)
    }

    async fn fetch(&self, link: &Link, fetching: &mut Fetching, deadline: Deadline) -> Result<Token, Fault> {
        let mut last = None;
        for _ in 0..ROUNDS {
            let request = self.request(link, fetching)?;
            let begun = Instant::now();
            let result = link.transport.call(request, deadline).await;
            let result = result.and_then(|answer| understand(&answer, fetching));
            let class = result.as_ref().err().map(|fault| fault.class);
            link.metrics.called("okta", Step::Check, class, begun.elapsed());
            match result {
                Ok(Round::Granted(token)) => {
                    link.last_success.record();
                    return Ok(token);
                }
                Ok(Round::Again(fault)) => last = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        Err(last.unwrap_or_else(|| unusable("token")))
    }

    fn request(&self, link: &Link, fetching: &Fetching) -> Result<Request, Fault> {
        let text = format!("{}/oauth2/v1/token", link.host.origin());
        let url = Url::parse(&text).map_err(|_| unusable("host"))?;
        let now = unix_now().saturating_add(fetching.clock_offset);
        let assertion = self
            .key
            .assertion(&self.client_id, &text, now)
            .ok_or_else(|| unusable("client assertion"))?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", SCOPES)
            .append_pair(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            )
            .append_pair("client_assertion", &assertion)
            .finish();
        let mut request = Request::new(Method::POST, url);
        request.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        if let Some(key) = &fetching.proof {
            let proof = key
                .proof("POST", &text, fetching.nonce.as_deref(), None, now)
                .ok_or_else(|| unusable("proof of possession"))?;
            let value = HeaderValue::from_str(&proof).map_err(|_| unusable("proof of possession"))?;
            request.headers_mut().insert(PROOF, value);
        }
        *request.body_mut() = Some(body.into());
        Ok(request)
    }
}

/// What the token endpoint has said.
enum Round {
    Granted(Token),
    /// Something that the next round puts right; the failure when there is none.
    Again(Fault),
}

fn understand(answer: &Answer, fetching: &mut Fetching) -> Result<Round, Fault> {
    if answer.status == 200 {
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| {
            Fault::after_sending(FaultClass::Malformed, "the token endpoint's answer is no token")
        })?;
        // A day is longer than any token of Okta's lives, and nothing overflows by it.
        let life = Duration::from_secs(granted.expires_in.min(86_400));
        return Ok(Round::Granted(Token {
            value: Secret::new(granted.access_token.into_bytes()),
            proof: fetching.proof.clone(),
            clock_offset: fetching.clock_offset,
            renew_at: Instant::now() + life.saturating_sub(RENEW_BEFORE).max(life * 9 / 10),
        }));
    }
    let refused: Option<Refused> = serde_json::from_slice(&answer.body).ok();
    let class = match (answer.status, &refused) {
        (429, _) => FaultClass::Throttled,
        (400..=499, Some(_)) => FaultClass::Credentials,
        (400..=499, None) => FaultClass::ClientError,
        (500.., _) => FaultClass::ServerError,
        _ => FaultClass::Malformed,
    };
    let Refused {
        error,
        error_description,
    } = refused.unwrap_or_default();
    let text = format!("{} {error} {error_description}", answer.status);
    let fault = Fault {
        retry_after: Limit::read(&answer.headers, unix_now()).wait(),
        ..Fault::after_sending(
            class,
            text.chars()
                .filter(|c| !c.is_control())
                .take(160)
                .collect::<String>(),
        )
    };
    if learned(&error, answer, fetching) {
        Ok(Round::Again(fault))
    } else {
        Err(fault)
    }
}

/// Whether the next round has a better chance.
fn learned(error: &str, answer: &Answer, fetching: &mut Fetching) -> bool {
    match error {
        // New service apps demand proofs of possession; one without says so only here.
        "invalid_dpop_proof" | "use_dpop_nonce" => {
            let nonce = answer.headers.get(NONCE).and_then(|nonce| nonce.to_str().ok());
            let is_new = nonce.is_some_and(|nonce| fetching.nonce.as_deref() != Some(nonce));
            if let Some(nonce) = nonce {
                fetching.nonce = Some(nonce.to_owned());
            }
            let first = fetching.proof.is_none();
            if first {
                fetching.proof = ProofKey::generate().map(Arc::new);
            }
            is_new || (first && fetching.proof.is_some())
        }
        "invalid_client" => {
            let Some(date) = rate::date(&answer.headers) else {
                return false;
            };
            let offset = date.saturating_sub(unix_now());
            let is_off = offset.saturating_sub(fetching.clock_offset).saturating_abs() > CLOCK_OFF;
            if is_off {
                tracing::warn!(
                    seconds = offset,
                    "this host's clock differs from Okta's; correcting for it"
                );
                fetching.clock_offset = offset;
            }
            is_off
        }
        _ => false,
    }
}

fn authorization(scheme: &str, token: &Secret) -> Result<HeaderValue, Fault> {
    let text = Secret::new([scheme.as_bytes(), b" ", token.expose()].concat());
    let mut value = HeaderValue::from_bytes(text.expose()).map_err(|_| unusable("token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `htu` (RFC 9449 section 4.2).
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

pub(super) fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
