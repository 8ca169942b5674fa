//! One HTTPS client for every provider: connections are kept and shared, answers bounded, failures classed.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http_body_util::Empty;
use hyper::body::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Body, Request, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::MutexGuard;
use zeroize::Zeroizing;

use proxy_config::is_link_local;

use super::fault::{Fault, FaultClass};
use crate::locks::lock;

use crate::error::Error;

/// No answer of a provider is longer.
const MAX_BODY: usize = 256 * 1024;
/// Calls on one connection at once; servers commonly allow 100 streams of HTTP/2.
const CALLS_PER_LANE: usize = 96;
/// Connections at once, for HTTP/2.
const MAX_LANES: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection without a call is closed after so long.
const IDLE: Duration = Duration::from_secs(60);

/// The transports in use, by what makes them differ.
#[derive(Default)]
pub struct Transports {
    known: Mutex<Vec<(TransportKey, Weak<Transport>)>>,
    resolver: Resolver,
}

#[derive(Clone, PartialEq, Eq)]
struct TransportKey {
    http_proxy: Option<String>,
    ca_bundle: Option<String>,
}

impl Transports {
    /// The transport for an HTTP proxy and a set of trusted certificates (PEM; the system's when there is none): the
    /// one in use, with its connections, or a new one.
    ///
    /// # Errors
    /// The certificates cannot be read, or there are none; the proxy's address cannot be used.
    pub fn obtain(&self, http_proxy: Option<&str>, ca_bundle: Option<&str>) -> Result<Arc<Transport>, Error> {
        let key = TransportKey {
            http_proxy: http_proxy.map(str::to_owned),
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
            lanes: Mutex::new(Vec::new()),
        });
        // A proxy that cannot be used is found now and not by the first login.
        transport.client()?;
        known.push((key, Arc::downgrade(&transport)));
        Ok(transport)
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

/// HTTPS connections to providers, through a proxy or not. They are shared by all calls: many at once on each where
/// the server speaks HTTP/2, and as many connections as it takes.
pub struct Transport {
    tls: rustls::ClientConfig,
    proxy: Option<String>,
    resolver: Resolver,
    lanes: Mutex<Vec<Arc<Lane>>>,
}

struct Lane {
    client: reqwest::Client,
    calls: AtomicUsize,
    /// Held by the call that opens the connection.
    opening: tokio::sync::Mutex<()>,
    /// When a call was last answered, if the one after it was.
    answered: Mutex<Option<Instant>>,
}

impl Lane {
    fn is_open(&self) -> bool {
        let answered = lock(&self.answered);
        answered.is_some_and(|at| at.elapsed() < IDLE / 2)
    }

    fn set_open(&self, is_open: bool) {
        let mut answered = lock(&self.answered);
        *answered = is_open.then(Instant::now);
    }

    /// Lets one call open the connection while the others wait for it. Without it a hundred calls at once would shake
    /// a hundred hands before the first could tell that one connection is enough for all (HTTP/2), and more of them
    /// the busier both sides are. When it fails, the next one tries; nobody waits longer than the call may take.
    async fn open_alone(&self) -> Option<MutexGuard<'_, ()>> {
        if self.is_open() {
            return None;
        }
        let turn = self.opening.lock().await;
        (!self.is_open()).then_some(turn)
    }

    /// Makes one call and reads its answer to the end.
    async fn exchange(
        &self,
        request: Box<Request>,
        opener: Option<impl FnOnce() -> Result<Box<Request>, Fault>>,
    ) -> Result<Answer, Fault> {
        let mut opening = self.open_alone().await;
        if opening.is_some()
            && let Some(opener) = opener
        {
            self.execute(opener()?).await?;
            opening = None;
        }
        let answer = Box::pin(read(self.execute(request).await?));
        drop(opening);
        answer.await
    }

    /// Not an `async fn`: that would keep room for the request as long as the answer is awaited, and so would each
    /// function above it. Ten thousand pushes wait here.
    fn execute(
        &self,
        request: Box<Request>,
    ) -> impl Future<Output = Result<Response, Fault>> + Send + use<'_> {
        let pending = self.client.execute(*request);
        async {
            let result = pending.await;
            self.set_open(result.is_ok());
            result.map_err(|error| classify(&error))
        }
    }
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

/// A call's place on a connection.
struct Place(Arc<Lane>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
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
    /// Makes one call and reads its answer to the end, within `timeout`.
    ///
    /// # Errors
    /// No connection, no complete answer in time, or a longer one than 256 KiB. An HTTP status is no error here.
    pub fn call(
        &self,
        request: impl Into<Box<Request>>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send {
        self.exchange(
            request.into(),
            None::<fn() -> Result<Box<Request>, Fault>>,
            timeout,
        )
    }

    /// The same for a call without a body that the server answers only when something happens, so that no other can
    /// wait for it. `opener` makes a cheap call that is made before it where a connection has to be opened.
    ///
    /// # Errors
    /// As [`Transport::call`].
    pub fn poll(
        &self,
        request: impl Into<Box<Request>>,
        opener: impl FnOnce() -> Result<Box<Request>, Fault> + Send,
        timeout: Duration,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send {
        let mut request = request.into();
        // What cannot be cloned is not: reqwest would keep a second request beside each that waits, to make it again where
        // the server closes the connection. Who asks does that.
        *request.body_mut() = Some(Body::wrap(Empty::<Bytes>::new()));
        self.exchange(request, Some(opener), timeout)
    }

    async fn exchange(
        &self,
        request: Box<Request>,
        opener: Option<impl FnOnce() -> Result<Box<Request>, Fault> + Send>,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let place = self
            .place()
            .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
        match tokio::time::timeout(timeout, place.0.exchange(request, opener)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::after_sending(
                FaultClass::Timeout,
                format!("no answer within {:.1} s", timeout.as_secs_f32()),
            )),
        }
    }

    /// The first connection with room, so that few calls use one connection and the others close when idle.
    fn place(&self) -> Result<Place, Error> {
        let mut lanes = lock(&self.lanes);
        let free = lanes
            .iter()
            .find(|lane| lane.calls.load(Ordering::Relaxed) < CALLS_PER_LANE)
            .cloned();
        let lane = match free {
            Some(lane) => lane,
            None if lanes.len() < MAX_LANES => {
                let lane = Arc::new(Lane {
                    client: self.client()?,
                    calls: AtomicUsize::new(0),
                    opening: tokio::sync::Mutex::new(()),
                    answered: Mutex::new(None),
                });
                lanes.push(Arc::clone(&lane));
                lane
            }
            // All full: the one with the fewest, where the call waits for its turn.
            None => lanes
                .iter()
                .min_by_key(|lane| lane.calls.load(Ordering::Relaxed))
                .cloned()
                .ok_or(Error::NoConnection)?,
        };
        lane.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Place(lane))
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
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::https(proxy).map_err(Error::HttpProxy)?);
        }
        builder.build().map_err(Error::HttpClient)
    }
}

/// The class of a failed call, from the types of its causes and never from their texts.
fn classify(error: &reqwest::Error) -> Fault {
    let mut class = None;
    let mut detail = String::new();
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        class = class.or_else(|| class_of(inner));
        // Each layer repeats the text of the one below; the last is the plainest.
        detail = inner.to_string();
        cause = inner.source();
    }
    let class = class.unwrap_or(if error.is_timeout() {
        FaultClass::Timeout
    } else {
        FaultClass::Connect
    });
    if detail.is_empty() {
        "the call failed".clone_into(&mut detail);
    }
    Fault {
        may_have_arrived: !error.is_connect(),
        ..Fault::after_sending(class, detail)
    }
}

fn class_of(error: &(dyn StdError + 'static)) -> Option<FaultClass> {
    if error.is::<DnsFailure>() {
        return Some(FaultClass::Dns);
    }
    if error.is::<rustls::Error>() {
        return Some(FaultClass::Tls);
    }
    let io = error.downcast_ref::<io::Error>()?;
    if io.kind() == io::ErrorKind::TimedOut {
        return Some(FaultClass::Timeout);
    }
    // An io::Error's source() is the source of what it wraps: the wrapped error itself would be passed over.
    io.get_ref().and_then(|inner| class_of(inner))
}

/// Name resolution by the system's resolv.conf and hosts file. There is no public server to fall back to: names of
/// users' organisations go nowhere that the administrator did not write down.
#[derive(Clone, Default)]
pub(crate) struct Resolver {
    inner: Arc<OnceLock<Option<TokioResolver>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} has no address: {1}")]
pub(crate) struct DnsFailure(String, String);

impl Resolver {
    fn system() -> Option<TokioResolver> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "resolv.conf cannot be used; only names of the hosts file have addresses");
            let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default())
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build().ok()
    }

    /// The addresses of a name as they are now: what is remembered may be where it was before a fail-over.
    pub(crate) async fn addresses_now(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        if let Some(Some(resolver)) = self.inner.get() {
            resolver.clear_cache();
        }
        self.addresses(name).await
    }

    /// The addresses of a name, without link-local ones.
    ///
    /// # Errors
    /// There are none, or they could not be asked for.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let Some(resolver) = self.inner.get_or_init(Self::system) else {
            return Err(DnsFailure(name.to_owned(), "there is no resolver".into()));
        };
        match resolver.lookup_ip(name).await {
            Ok(found) => usable(name, found.iter()),
            Err(error) => Err(DnsFailure(name.to_owned(), error.to_string())),
        }
    }
}

/// Whoever answers for a name must not make this host talk to its cloud's metadata service.
fn usable(name: &str, found: impl Iterator<Item = IpAddr>) -> Result<Vec<IpAddr>, DnsFailure> {
    let usable: Vec<IpAddr> = found.filter(|address| !is_link_local(*address)).collect();
    if usable.is_empty() {
        return Err(DnsFailure(name.to_owned(), "none but link-local ones".into()));
    }
    Ok(usable)
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_to_link_local_addresses_leads_nowhere() {
        let addresses = |texts: &[&str]| usable("host", texts.iter().map(|text| text.parse().unwrap()));
        assert!(addresses(&["169.254.169.254", "fe80::1", "::ffff:169.254.1.1"]).is_err());
        assert_eq!(
            addresses(&["169.254.169.254", "192.0.2.1", "2001:db8::1"]).unwrap(),
            ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap())
        );
    }
}
