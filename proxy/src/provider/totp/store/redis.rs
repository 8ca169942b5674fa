//! Used codes in a server of Redis' protocol: one script for each claim, which the server runs as a whole or not at all.
//!
//! A server that is no longer the primary reports it in many ways or not at all, and its connection stays open. So
//! after any failure the connection is dropped, the name is resolved again, and the claim is retried once. Each claim
//! has a unique number, so that the server recognises it: a claim whose answer was lost is no replay, and another
//! proxy's claim is one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::HEXLOWER;
use proxy_config::{Redis, Secret};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::{Claim, LIMIT, NEVER, Outcome, Owner, Store};
use crate::provider::BoxFuture;
use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::{self, Resolver};
use crate::provider::totp::used_steps::KNOWN;

/// The beginning of every key.
const PREFIX: &str = "radius-mfa:used:";
const CLUSTER: &str = "the server is in cluster mode, in which each node takes a part of the keys only; use one server, or \
                       a primary and its replicas, with cluster mode switched off";
/// How long an answer is waited for: a second try should be possible within [`LIMIT`].
const ANSWER: Duration = Duration::from_millis(1000);
/// How long an address may take where the name has another one.
const ADDRESS: Duration = Duration::from_millis(500);

/// The decision of `UsedSteps::take`: KEYS has the owner; ARGV the step, the ceiling, the claim's number, and how many
/// seconds the key lasts, or nothing. The answer is OK for a code that is used now by this claim, and nil for one that
/// can't be used. The value has the last step, the last one of a right clock, the steps before as a string of 0 and 1 (the
/// one just before the last step first), and the claim's number. ARGV\[5\] is `KNOWN`.
const CLAIM: &str = "\
local step, ceiling, known = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5])
local last, right, before = step, 0, ''
local used = redis.call('GET', KEYS[1])
if used then
  local number
  last, right, before, number = string.match(used, '^(%d+) (%d+) ([01]*) (%x+)$')
  if not last then
    return redis.error_reply('ERR the key is not of a proxy')
  end
  if number == ARGV[3] then
    return redis.status_reply('OK')
  end
  last, right = tonumber(last), tonumber(right)
  local back = last - step
  local was_used = back == 0 or back > known or (back > 0 and string.sub(before, back, back) == '1')
  local is_free = step > last
  if step <= ceiling then
    is_free = not was_used and (step > right or last > ceiling)
  end
  if not is_free then
    return false
  end
  if back < 0 then
    before = string.rep('0', math.min(-back - 1, known)) .. '1' .. before
    last = step
  else
    before = before .. string.rep('0', known)
    before = string.sub(before, 1, back - 1) .. '1' .. string.sub(before, back + 1)
  end
  before = string.sub(before, 1, known)
end
if step <= ceiling then
  right = math.max(right, step)
end
local value = string.format('%d %d %s %s', last, right, before, ARGV[3])
if ARGV[4] == '' then
  return redis.call('SET', KEYS[1], value)
end
return redis.call('SET', KEYS[1], value, 'EX', ARGV[4])";

/// One connection, shared by all claims, opened when it is needed.
pub struct RedisServer {
    settings: Redis,
    resolver: Resolver,
    tls: OnceLock<TlsConnector>,
    connection: Mutex<Option<Connection>>,
    /// It was logged that the server is in cluster mode.
    cluster_told: AtomicBool,
}

/// A connection, and whether it must not be used again.
#[derive(Clone)]
struct Connection {
    inner: MultiplexedConnection,
    is_bad: Arc<AtomicBool>,
}

/// What a server says that it is; an old one, or one whose access control list forbids the question, says nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Kind {
    is_replica: bool,
    is_sentinel: bool,
    is_cluster: bool,
}

/// Marks its connection as bad when it is dropped, also when the caller has stopped waiting for the answer.
struct Doubt(Option<Arc<AtomicBool>>);

impl Drop for Doubt {
    fn drop(&mut self) {
        if let Some(is_bad) = &self.0 {
            is_bad.store(true, Ordering::Relaxed);
        }
    }
}

impl RedisServer {
    /// A server that is not spoken to yet.
    #[must_use]
    pub(crate) fn new(settings: Redis, resolver: Resolver) -> Self {
        Self {
            settings,
            resolver,
            tls: OnceLock::new(),
            connection: Mutex::new(None),
            cluster_told: AtomicBool::new(false),
        }
    }

    async fn connection(&self) -> Result<Connection, Fault> {
        let mut kept = self.connection.lock().await;
        if let Some(open) = kept.as_ref().filter(|open| !open.is_bad.load(Ordering::Relaxed)) {
            return Ok(open.clone());
        }
        *kept = None;
        let inner = tokio::time::timeout(LIMIT, self.open())
            .await
            .map_err(|_| Fault::before_sending(FaultClass::Timeout, "no connection in time"))??;
        let opened = Connection {
            inner,
            is_bad: Arc::default(),
        };
        *kept = Some(opened.clone());
        Ok(opened)
    }

    /// A connection to the first address that is not a replica's.
    async fn open(&self) -> Result<MultiplexedConnection, Fault> {
        let host = &self.settings.host;
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .addresses_now(host)
                .await
                .map_err(|error| Fault::before_sending(FaultClass::Dns, error.to_string()))?,
        };
        let mut last = Fault::before_sending(FaultClass::Dns, "the name has no address");
        let count = addresses.len();
        for (n, address) in (1..).zip(addresses) {
            let limit = if n < count { ADDRESS } else { LIMIT };
            let opened = tokio::time::timeout(limit, self.open_at(address))
                .await
                .unwrap_or_else(|_| {
                    Err(Fault::before_sending(
                        FaultClass::Timeout,
                        "no connection in time",
                    ))
                });
            match opened {
                Ok(connection) => return Ok(connection),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn open_at(&self, address: IpAddr) -> Result<MultiplexedConnection, Fault> {
        let stream = TcpStream::connect((address, self.settings.port))
            .await
            .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
        let mut connection = self.greet(stream).await?;
        let kind = kind(&mut connection).await;
        if kind.is_cluster && !self.cluster_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(host = self.settings.host, "used codes: {CLUSTER}");
        }
        let wrong = if kind.is_sentinel {
            "the server is a Sentinel, which stores nothing; use the address of the primary that it watches"
        } else if kind.is_replica {
            "the server is a replica, which takes no writes; use an address that leads to the primary"
        } else {
            return Ok(connection);
        };
        Err(Fault::before_sending(FaultClass::ServerError, wrong))
    }

    async fn greet(&self, stream: TcpStream) -> Result<MultiplexedConnection, Fault> {
        // A claim is one small packet; it must not wait for another.
        let _ = stream.set_nodelay(true);
        if !self.settings.tls {
            return self.log_in(stream).await;
        }
        let name = ServerName::try_from(self.settings.host.clone()).map_err(|_| {
            Fault::before_sending(
                FaultClass::Tls,
                "the host is no name that a certificate could have",
            )
        })?;
        let stream = self
            .connector()?
            .connect(name, stream)
            .await
            .map_err(|error| Fault::before_sending(FaultClass::Tls, http::describe_io(&error)))?;
        self.log_in(stream).await
    }

    fn connector(&self) -> Result<&TlsConnector, Fault> {
        if let Some(connector) = self.tls.get() {
            return Ok(connector);
        }
        let mut config = http::tls(self.settings.ca_bundle.as_deref())
            .map_err(|error| Fault::before_sending(FaultClass::Tls, error.to_string()))?;
        config.alpn_protocols.clear();
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }

    async fn log_in<S>(&self, stream: S) -> Result<MultiplexedConnection, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_db(i64::from(self.settings.database));
        if let Some(username) = &self.settings.username {
            info = info.set_username(username);
        }
        if let Some(password) = &self.settings.password {
            let password = password.expose_str().map_err(|_| {
                Fault::before_sending(FaultClass::Credentials, "the password is not UTF-8 text")
            })?;
            info = info.set_password(password);
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| classify(&error))?;
        tokio::spawn(driver);
        Ok(connection)
    }

    /// Sends a command, and once more on another connection when the first one failed.
    async fn command(&self, command: &redis::Cmd) -> Result<Value, Fault> {
        let mut connection = self.connection().await?;
        match send(&mut connection, command).await {
            Err(fault) => {
                tracing::debug!(%fault, "a claim is made again");
                let mut connection = self.connection().await?;
                send(&mut connection, command).await
            }
            answered => answered,
        }
    }
}

async fn send(connection: &mut Connection, command: &redis::Cmd) -> Result<Value, Fault> {
    let mut doubt = Doubt(Some(Arc::clone(&connection.is_bad)));
    let value = connection
        .inner
        .send_packed_command(command)
        .await
        .and_then(Value::extract_error)
        .map_err(|error| classify(&error))?;
    doubt.0 = None;
    Ok(value)
}

/// Asks the server what it is, by HELLO without a version, which changes nothing.
async fn kind(connection: &mut MultiplexedConnection) -> Kind {
    let mut kind = Kind::default();
    let Ok(Value::Array(said)) = connection.send_packed_command(&redis::cmd("HELLO")).await else {
        return kind;
    };
    for pair in said.chunks_exact(2) {
        let [name, value] = pair else { continue };
        match (text(name), text(value)) {
            (Some("role"), Some("replica" | "slave")) => kind.is_replica = true,
            (Some("mode"), Some("sentinel")) => kind.is_sentinel = true,
            (Some("mode"), Some("cluster")) => kind.is_cluster = true,
            _ => {}
        }
    }
    kind
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The script for one claim: one key for each owner, which the server forgets when no code can be valid any more that it
/// would refuse.
///
/// # Errors
/// There is no randomness for the claim's number.
fn script(claim: Claim, now: u64) -> Result<redis::Cmd, Fault> {
    let number = random()?;
    let seconds = if claim.until == NEVER {
        String::new()
    } else {
        claim.until.saturating_sub(now).max(1).to_string()
    };
    let mut command = redis::cmd("EVAL");
    command
        .arg(CLAIM)
        .arg(1)
        .arg(format!("{PREFIX}{}", claim.owner.to_text()))
        .arg(claim.step)
        .arg(claim.ceiling)
        .arg(HEXLOWER.encode(&number))
        .arg(seconds)
        .arg(KNOWN);
    Ok(command)
}

fn random() -> Result<[u8; 16], Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
    Ok(bytes)
}

impl Store for RedisServer {
    fn take(self: Arc<Self>, claim: Claim, now: u64) -> BoxFuture<Result<Outcome, Fault>> {
        Box::pin(async move {
            match self.command(&script(claim, now)?).await? {
                Value::Okay => Ok(Outcome::Taken),
                Value::Nil => Ok(Outcome::UsedBefore),
                _ => Err(Fault::after_sending(
                    FaultClass::Malformed,
                    "the answer to a claim is neither OK nor nil",
                )),
            }
        })
    }

    /// Makes a claim for no user that lasts a second: only a claim shows that the server accepts claims.
    fn reach(self: Arc<Self>) -> BoxFuture<Result<(), Fault>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            if kind(&mut connection.inner).await.is_cluster {
                return Err(Fault::before_sending(FaultClass::ServerError, CLUSTER));
            }
            let nobody = Claim {
                owner: Owner::of(&Secret::new(random()?.to_vec()), &[b"check"]),
                step: 0,
                ceiling: 0,
                until: 0,
            };
            self.take(nobody, 0).await.map(drop)
        })
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}

fn classify(error: &RedisError) -> Fault {
    if matches!(
        error.code(),
        Some("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN")
    ) {
        return Fault::after_sending(FaultClass::ServerError, format!("{error}: {CLUSTER}"));
    }
    let class = match error.kind() {
        ErrorKind::AuthenticationFailed => FaultClass::Credentials,
        _ if matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS")) => FaultClass::Credentials,
        _ if error.is_timeout() => FaultClass::Timeout,
        _ if error.is_io_error() || error.is_connection_dropped() => FaultClass::Connect,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => FaultClass::Malformed,
        _ => FaultClass::ServerError,
    };
    Fault::after_sending(class, error.to_string())
}
