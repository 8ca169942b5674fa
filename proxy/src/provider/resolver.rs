//! Resolves the names of everything that the proxy connects to, with the system's resolv.conf and hosts file.

use std::fs;
use std::future::Future;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use proxy_config::is_link_local;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

use crate::locks::lock;

/// How long the addresses of one family wait for those of the other (RFC 8305, section 3): some name servers never answer
/// one of the two questions.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Between two looks at the system's files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Name resolution with the system's resolv.conf and hosts file, which are read again when they change. There is no public
/// fallback server: the names of users' organisations go only to servers that the administrator configured.
#[derive(Clone)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    resolv_conf: PathBuf,
    /// Another port than the usual one of name servers, for tests.
    port: Option<u16>,
    current: Mutex<Option<Current>>,
}

/// What was read last, and from which files.
struct Current {
    looked: Instant,
    files: [Option<Stamp>; 2],
    /// `None` if nothing could be read. The next look retries.
    servers: Option<Arc<Servers>>,
}

type Stamp = (Option<SystemTime>, u64);

/// One resolver for each family, since each is asked and waited for by itself.
struct Servers {
    v4: TokioResolver,
    v6: TokioResolver,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} has no address: {1}")]
pub(crate) struct DnsFailure(String, String);

impl Default for Resolver {
    fn default() -> Self {
        Self::new(RESOLV_CONF.into(), None)
    }
}

impl Resolver {
    fn new(resolv_conf: PathBuf, port: Option<u16>) -> Self {
        Self {
            shared: Arc::new(Shared {
                resolv_conf,
                port,
                current: Mutex::default(),
            }),
        }
    }

    /// The current addresses of a name, without the cache: cached ones may be from before a fail-over.
    ///
    /// # Errors
    /// As [`Resolver::addresses`].
    pub(crate) async fn addresses_now(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        if let Some(servers) = self.shared.servers() {
            servers.v4.clear_cache();
            servers.v6.clear_cache();
        }
        self.addresses(name).await
    }

    /// The addresses of a name, without link-local ones; those of IPv4 first.
    ///
    /// # Errors
    /// There are none, or they could not be asked for.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        if let Ok(address) = name.parse() {
            return usable(name, std::iter::once(address));
        }
        let Some(servers) = self.shared.servers() else {
            return Err(DnsFailure(name.to_owned(), "resolv.conf cannot be used".into()));
        };
        let look_up = async |resolver: &TokioResolver| match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect::<Vec<_>>()),
            Err(error) => Err(error.to_string()),
        };
        match both(look_up(&servers.v4), look_up(&servers.v6)).await {
            Ok(found) => usable(name, found.into_iter()),
            Err(error) => Err(DnsFailure(name.to_owned(), error)),
        }
    }
}

impl Shared {
    fn servers(&self) -> Option<Arc<Servers>> {
        let mut current = lock(&self.current);
        if let Some(known) = &*current
            && known.looked.elapsed() < LOOK_EVERY
        {
            return known.servers.clone();
        }
        let files = [stamp(&self.resolv_conf), stamp(Path::new(HOSTS))];
        let unchanged = current
            .take()
            .filter(|known| known.files == files)
            .and_then(|known| known.servers);
        let servers = unchanged.or_else(|| self.read());
        *current = Some(Current {
            looked: Instant::now(),
            files,
            servers: servers.clone(),
        });
        servers
    }

    fn read(&self) -> Option<Arc<Servers>> {
        let read = fs::read(&self.resolv_conf)
            .map_err(|error| error.to_string())
            .and_then(|text| parse_resolv_conf(text).map_err(|error| error.to_string()));
        let (config, options) = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "resolv.conf cannot be used; only names of the hosts file have addresses");
            let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            (nowhere, ResolverOpts::default())
        });
        let config = self.with_port(config);
        let family = |strategy| {
            let runtime = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config.clone(), runtime);
            *builder.options_mut() = options.clone();
            builder.options_mut().ip_strategy = strategy;
            builder.build().ok()
        };
        Some(Arc::new(Servers {
            v4: family(LookupIpStrategy::Ipv4Only)?,
            v6: family(LookupIpStrategy::Ipv6Only)?,
        }))
    }

    fn with_port(&self, config: ResolverConfig) -> ResolverConfig {
        let Some(port) = self.port else { return config };
        let (domain, search, mut servers) = config.into_parts();
        for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = port;
        }
        ResolverConfig::from_parts(domain, search, servers)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

type Found = Result<Vec<IpAddr>, String>;

/// The answers to both questions. Once one has addresses, the other has [`RESOLUTION_DELAY`] left.
async fn both(v4: impl Future<Output = Found>, v6: impl Future<Output = Found>) -> Found {
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    let (first, second) = tokio::select! {
        found = &mut v4 => {
            let other = match &found {
                Ok(_) => timeout(RESOLUTION_DELAY, v6).await.ok(),
                Err(_) => Some(v6.await),
            };
            (Some(found), other)
        }
        found = &mut v6 => {
            let other = match &found {
                Ok(_) => timeout(RESOLUTION_DELAY, v4).await.ok(),
                Err(_) => Some(v4.await),
            };
            (other, Some(found))
        }
    };
    match (first, second) {
        (Some(Ok(mut v4)), Some(Ok(v6))) => {
            v4.extend(v6);
            Ok(v4)
        }
        (Some(Ok(found)), _) | (_, Some(Ok(found))) => Ok(found),
        (Some(Err(error)), _) | (None, Some(Err(error))) => Err(error),
        (None, None) => Err("nobody was asked".to_owned()),
    }
}

/// Removes link-local addresses: a name server must not make this host call its cloud's metadata service.
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
    use std::net::Ipv4Addr;
    use tokio::net::UdpSocket;

    const A: u16 = 1;
    const AAAA: u16 = 28;

    /// A name server on loopback that answers the questions of one type and drops the others.
    async fn name_server(answers: u16, address: Ipv4Addr) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = &buffer[..length];
                let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
                let kind = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
                if kind != answers {
                    continue;
                }
                let data: Vec<u8> = if kind == A {
                    address.octets().to_vec()
                } else {
                    address.to_ipv6_mapped().octets().to_vec()
                };
                // The header's identifier; an answer; one question, one record.
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
                answer.extend(&query[12..name_end + 4]);
                answer.extend([0xc0, 12]);
                answer.extend(kind.to_be_bytes());
                answer.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
                answer.extend(data);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        port
    }

    fn resolver(folder: &tempfile::TempDir, port: u16) -> Resolver {
        let path = folder.path().join("resolv.conf");
        fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        Resolver::new(path, Some(port))
    }

    #[tokio::test]
    async fn a_server_that_drops_one_of_the_two_questions_delays_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let address = Ipv4Addr::new(192, 0, 2, 1);
        for answers in [A, AAAA] {
            let resolver = resolver(&folder, name_server(answers, address).await);
            let begun = Instant::now();
            let found = resolver.addresses("api-1.duosecurity.com").await.unwrap();
            let took = begun.elapsed();
            assert_eq!(
                found.iter().map(IpAddr::to_canonical).collect::<Vec<_>>(),
                [address]
            );
            assert!(took < Duration::from_secs(2), "{answers}: {took:?}");
        }
    }

    #[tokio::test]
    async fn another_resolv_conf_is_seen_and_a_failure_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(&folder, name_server(A, Ipv4Addr::new(192, 0, 2, 7)).await);
        let path = folder.path().join("resolv.conf");
        fs::remove_file(&path).unwrap();
        assert!(resolver.addresses("duo.test.").await.is_err());
        fs::write(&path, "# another one\nnameserver 127.0.0.1\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while resolver.addresses("duo.test.").await.is_err() {
            assert!(Instant::now() < deadline, "the new file is not read");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

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
