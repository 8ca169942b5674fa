//! One HTTPS client for every provider: connections are kept and shared, answers bounded, failures classed.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use proxy_config::{HttpProxy, Secret};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Body, Request, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout_at;
use tower::Service;
use zeroize::Zeroizing;

use super::fault::{Fault, FaultClass};
use super::last_success::LastSuccess;
use super::resolver::DnsFailure;
pub(crate) use super::resolver::Resolver;
use crate::error::Error;
use crate::locks::lock;

pub(crate) use certificate::describe_io;
use connection::{IDLE, NotSent, Pool, Sent, busy};
use lag::Lag;

mod certificate;
mod connection;
mod lag;

/// No answer of a provider is longer.
const MAX_BODY: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a call may take. The type is small, since every pending push holds several.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When the call must be over.
    end: Instant,
    /// Milliseconds before the end by which the call must be sent; otherwise it fails as busy. Until then only this program
    /// delays it.
    send_before: u32,
    /// Milliseconds for the answer, from when the connection is being made or the request sent.
    answer_within: u32,
}

impl Deadline {
    /// Everything is over at `end`.
    #[must_use]
    pub const fn at(end: Instant) -> Self {
        Self {
            end,
            send_before: 0,
            answer_within: u32::MAX,
        }
    }

    /// The deadline of a login's first call, if the login has the time `available` from `begun`. Half of it may pass
    /// before the call is sent. The answer may take the other half, but at most `most`.
    #[must_use]
    pub fn of_first_call(begun: Instant, available: Duration, most: Duration) -> Self {
        let half = available / 2;
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            end: begun + available,
            send_before: millis(half),
            answer_within: millis(half.min(most)),
        }
    }

    /// The moment by which a call has to be sent.
    #[must_use]
    pub fn send_by(&self) -> Instant {
        let before = Duration::from_millis(self.send_before.into());
        self.end.checked_sub(before).unwrap_or(self.end)
    }

    fn answer_after(&self, since: Instant) -> Instant {
        let until = since + Duration::from_millis(self.answer_within.into());
        until.min(self.end)
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Self::at(Instant::now() + duration)
    }
}

/// The transports in use, by what makes them differ.
#[derive(Default)]
pub struct Transports {
    known: Mutex<Vec<(TransportKey, Weak<Transport>)>>,
    providers: Mutex<Vec<(String, Weak<LastSuccess>)>>,
    resolver: Resolver,
}

#[derive(Clone, PartialEq, Eq)]
struct TransportKey {
    http_proxy: Option<HttpProxy>,
    ca_bundle: Option<String>,
}

impl Transports {
    /// The transport for an HTTP proxy and a set of trusted certificates (PEM; the system's when there is none): the
    /// one in use, with its connections, or a new one.
    ///
    /// # Errors
    /// The certificates cannot be read, or there are none; the proxy's address cannot be used.
    pub fn obtain(
        &self,
        http_proxy: Option<&HttpProxy>,
        ca_bundle: Option<&str>,
    ) -> Result<Arc<Transport>, Error> {
        let key = TransportKey {
            http_proxy: http_proxy.cloned(),
            ca_bundle: ca_bundle.map(str::to_owned),
        };
        let mut known = lock(&self.known);
        known.retain(|(_, transport)| transport.strong_count() > 0);
        if let Some(transport) = known
            .iter()
            .find(|(k, _)| *k == key)
            .and_then(|(_, t)| t.upgrade())
        {
            return Ok(transport);
        }
        let transport = Arc::new(Transport {
            tls: tls(ca_bundle)?,
            proxy: key.http_proxy.clone(),
            resolver: self.resolver.clone(),
            calls: Pool::default(),
            polls: Pool::default(),
            lag: Lag::new(),
        });
        // A proxy that cannot be used is found now and not by the first login.
        transport.client()?;
        known.push((key, Arc::downgrade(&transport)));
        Ok(transport)
    }

    /// When a call to the provider at `origin` last succeeded; it outlives a configuration.
    pub(crate) fn last_success(&self, origin: &str) -> Arc<LastSuccess> {
        let mut providers = lock(&self.providers);
        providers.retain(|(_, last)| last.strong_count() > 0);
        let known = providers.iter().find(|(known, _)| known == origin);
        if let Some(last) = known.and_then(|(_, last)| last.upgrade()) {
            return last;
        }
        let last = Arc::default();
        providers.push((origin.to_owned(), Arc::downgrade(&last)));
        last
    }

    /// Names are resolved for other protocols in the same way.
    pub(crate) fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }
}

/// How TLS is spoken: certificates of `ca_bundle` (PEM), else of the system.
pub(crate) fn tls(ca_bundle: Option<&str>) -> Result<rustls::ClientConfig, Error> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_bundle {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate =
                    certificate.map_err(|_| Error::TrustCertificates("ca_bundle is not valid PEM".into()))?;
                roots
                    .add(certificate)
                    .map_err(|error| Error::TrustCertificates(format!("ca_bundle: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::TrustCertificates(
            "none found. Install /etc/ssl/certs/ca-certificates.crt, point SSL_CERT_FILE at such a file, or set \
             ca_bundle"
                .into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::TrustCertificates(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// HTTPS connections to providers, directly or through a proxy. All calls share them, except for long polls, which have
/// connections of their own so that no other call waits behind them.
pub struct Transport {
    tls: rustls::ClientConfig,
    proxy: Option<HttpProxy>,
    resolver: Resolver,
    calls: Pool,
    polls: Pool,
    lag: Arc<Lag>,
}

async fn answer(pool: &Pool, mut sent: Sent) -> Result<Answer, Fault> {
    let until = sent.until;
    let received = timeout_at(until.into(), async {
        match sent.response().await {
            Ok(response) => Box::pin(read(response)).await,
            Err((fault, others)) => {
                if let Some(others) = others {
                    pool.allows(others);
                }
                Err(fault)
            }
        }
    });
    let late = || Fault::after_sending(FaultClass::Timeout, "no answer in time");
    received.await.unwrap_or_else(|_| Err(late()))
}

async fn read(mut response: Response) -> Result<Answer, Fault> {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| classify(&e))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Fault::after_sending(
                FaultClass::Malformed,
                "the answer is longer than 256 KiB",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// A request's body that is overwritten when nobody needs it any more: it may hold a passcode.
pub(crate) fn wiped(body: Zeroizing<Vec<u8>>) -> Body {
    Bytes::from_owner(body).into()
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, complete.
    pub body: Vec<u8>,
}

impl Transport {
    /// Makes one call and reads its answer to the end, by the deadline.
    ///
    /// # Errors
    /// No connection, no complete answer in time, or a longer one than 256 KiB. An HTTP status is no error here.
    pub fn call(
        &self,
        request: impl Into<Box<Request>>,
        deadline: impl Into<Deadline>,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send {
        self.exchange(&self.calls, request.into(), deadline.into())
    }

    /// Makes a long poll: a call that the server answers only when something happens.
    ///
    /// # Errors
    /// As [`Transport::call`].
    pub fn poll(
        &self,
        request: impl Into<Box<Request>>,
        deadline: impl Into<Deadline>,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send {
        self.exchange(&self.polls, request.into(), deadline.into())
    }

    /// Ten thousand pushes wait here, so everything that is needed only for sending is boxed and freed once it is sent.
    fn exchange<'a>(
        &'a self,
        pool: &'a Pool,
        request: Box<Request>,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send + 'a {
        let sending = Box::pin(self.send(pool, request, deadline));
        async move {
            let mark = self.lag.mark();
            let result = match sending.await {
                Ok(sent) => answer(pool, sent).await,
                Err(fault) => Err(fault),
            };
            result.map_err(|fault| {
                // Whoever is too slow loses connections and answers of name servers, too.
                let may_be_ours = matches!(
                    fault.class,
                    FaultClass::Timeout | FaultClass::Connect | FaultClass::Dns
                );
                if may_be_ours && self.lag.was_late_since(mark) {
                    let class = FaultClass::Busy;
                    let detail = format!("{}, and this program was late itself", fault.detail);
                    return Fault {
                        class,
                        detail,
                        ..fault
                    };
                }
                fault
            })
        }
    }

    async fn send(&self, pool: &Pool, request: Box<Request>, deadline: Deadline) -> Result<Sent, Fault> {
        while Instant::now() < deadline.send_by() {
            let mark = self.lag.mark();
            let permit = pool
                .permit(|| self.client())
                .map_err(|error| busy(error.to_string()))?;
            let copy = request
                .try_clone()
                .ok_or_else(|| busy("the request cannot be copied"))?;
            match permit.send(copy, deadline).await {
                Ok(sent) => return Ok(sent),
                Err(NotSent::Fault(fault)) => return Err(fault),
                // If this program itself was late, the connection may have had room.
                Err(NotSent::Full(_)) if self.lag.was_late_since(mark) => {}
                Err(NotSent::Full(others)) => pool.allows(others),
            }
        }
        Err(busy("no time was left for the call"))
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(self.resolver.clone()))
            .user_agent(concat!("radius-proxy/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        if let Some(HttpProxy { url, login }) = &self.proxy {
            let mut proxy = reqwest::Proxy::https(url).map_err(Error::HttpProxy)?;
            if let Some(header) = login
                .as_ref()
                .and_then(|login| basic(&login.username, &login.password))
            {
                proxy = proxy.custom_http_auth(header);
            }
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(Error::HttpClient)
    }
}

/// The credentials for an HTTP proxy (RFC 7617), octet for octet: [`reqwest::Proxy::basic_auth`] takes them through a URL,
/// in which `%41` is a letter. `None` never happens: base64 is visible ASCII.
fn basic(name: &Secret, password: &Secret) -> Option<HeaderValue> {
    let plain = Zeroizing::new([name.expose(), b":", password.expose()].concat());
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(&*plain)));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The class of a failed call, from the types of its causes and never from their texts.
fn classify(error: &reqwest::Error) -> Fault {
    let mut found = None;
    let mut detail = String::new();
    for cause in causes(error) {
        found = found.or_else(|| class_of(cause));
        // Each layer repeats the text of the one below; the last is the plainest.
        detail = cause.to_string();
    }
    let (class, advice) = found.unwrap_or(if error.is_timeout() {
        (FaultClass::Timeout, None)
    } else {
        (FaultClass::Connect, None)
    });
    let detail = match advice {
        Some(advice) => advice,
        None if detail.is_empty() => "the call failed".to_owned(),
        None => detail,
    };
    Fault {
        may_have_arrived: !error.is_connect() && !is_unprocessed(error),
        ..Fault::after_sending(class, detail)
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| {
        (*cause).source()
    })
}

fn h2_cause(error: &reqwest::Error) -> Option<&h2::Error> {
    causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>())
}

/// Whether the server refused the call because the connection has too many, without processing it.
fn is_refused_stream(error: &reqwest::Error) -> bool {
    h2_cause(error)
        .is_some_and(|cause| cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether the server says that it didn't process the call (RFC 9113, section 8.7).
fn is_unprocessed(error: &reqwest::Error) -> bool {
    let is_closing = |cause: &h2::Error| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    };
    is_refused_stream(error) || h2_cause(error).is_some_and(is_closing)
}

/// What a proxy answered to CONNECT: its type has no name of its own outside its crate.
type TunnelError = <Tunnel<HttpConnector> as Service<hyper::Uri>>::Error;

/// The class of a cause, and what to say where its own text would not do.
fn class_of(error: &(dyn StdError + 'static)) -> Option<(FaultClass, Option<String>)> {
    if error.is::<DnsFailure>() {
        return Some((FaultClass::Dns, None));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some((FaultClass::Tls, Some(certificate::describe(error))));
    }
    if let Some(TunnelError::ProxyAuthRequired) = error.downcast_ref::<TunnelError>() {
        let advice = "the HTTP proxy asks for another user name and password (407): set http_proxy_username_file and \
                      http_proxy_password_file (in Kubernetes httpProxySecretRef, a Secret with username and password)";
        return Some((FaultClass::ProxyPassword, Some(advice.to_owned())));
    }
    let io = error.downcast_ref::<io::Error>()?;
    if io.kind() == io::ErrorKind::TimedOut {
        return Some((FaultClass::Timeout, None));
    }
    // An io::Error's source() is the source of what it wraps: the wrapped error itself would be passed over.
    io.get_ref().and_then(|inner| class_of(inner))
}
