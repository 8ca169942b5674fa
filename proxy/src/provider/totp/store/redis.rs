//! Used codes in a server of Redis' protocol: one `SET … NX` for each, which the server does as a whole or not at all.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proxy_config::Redis;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::{Claim, LIMIT, NEVER, Outcome, Store};
use crate::provider::BoxFuture;
use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::{self, Resolver};

/// The beginning of every key.
const PREFIX: &str = "radius-mfa:used:";

/// One connection, shared by all claims, opened when it is needed.
pub struct RedisServer {
    settings: Redis,
    resolver: Resolver,
    tls: OnceLock<TlsConnector>,
    connection: Mutex<Option<MultiplexedConnection>>,
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
        }
    }

    /// The connection, and whether it was there before.
    async fn connection(&self) -> Result<(MultiplexedConnection, bool), Fault> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref() {
            return Ok((open.clone(), true));
        }
        let opened = tokio::time::timeout(LIMIT, self.open())
            .await
            .map_err(|_| Fault::before_sending(FaultClass::Timeout, "no connection in time"))??;
        *connection = Some(opened.clone());
        Ok((opened, false))
    }

    async fn open(&self) -> Result<MultiplexedConnection, Fault> {
        let Redis { host, port, .. } = &self.settings;
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .addresses(host)
                .await
                .map_err(|error| Fault::before_sending(FaultClass::Dns, error.to_string()))?,
        };
        let mut last = Fault::before_sending(FaultClass::Dns, "the name has no address");
        for address in addresses {
            match TcpStream::connect((address, *port)).await {
                Ok(stream) => return self.greet(stream).await,
                Err(error) => last = Fault::before_sending(FaultClass::Connect, error.to_string()),
            }
        }
        Err(last)
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
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| classify(&error))?;
        tokio::spawn(driver);
        Ok(connection)
    }

    /// The next claim opens another one.
    async fn forget(&self) {
        *self.connection.lock().await = None;
    }

    /// Sends a command. A connection that the server has closed meanwhile is noticed only by using it, so that one
    /// which was there before gets a successor at once.
    async fn command(&self, command: &redis::Cmd) -> Result<redis::Value, Fault> {
        let mut again = true;
        loop {
            let (mut connection, was_open) = self.connection().await?;
            let error = match connection.send_packed_command(command).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() {
                self.forget().await;
            }
            if !(again && was_open && error.is_connection_dropped()) {
                return Err(classify(&error));
            }
            again = false;
        }
    }
}

/// `SET key 1 NX EX seconds`: one key for each code, which the server forgets when the code can no longer be valid.
fn set(claim: Claim, now: u64) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command
        .arg(format!("{PREFIX}{}:{}", claim.owner.to_text(), claim.step))
        .arg(1)
        .arg("NX");
    if claim.until != NEVER {
        command.arg("EX").arg(claim.until.saturating_sub(now).max(1));
    }
    command
}

impl Store for RedisServer {
    fn take(self: Arc<Self>, claim: Claim, now: u64) -> BoxFuture<Result<Outcome, Fault>> {
        Box::pin(async move {
            match self.command(&set(claim, now)).await? {
                redis::Value::Okay => Ok(Outcome::Taken),
                redis::Value::Nil => Ok(Outcome::UsedBefore),
                _ => Err(Fault::after_sending(
                    FaultClass::Malformed,
                    "the answer to SET is neither OK nor nil",
                )),
            }
        })
    }

    fn reach(self: Arc<Self>) -> BoxFuture<Result<(), Fault>> {
        Box::pin(async move {
            let reached =
                tokio::time::timeout(Duration::from_secs(10), self.command(&redis::cmd("PING"))).await;
            reached
                .unwrap_or_else(|_| Err(Fault::before_sending(FaultClass::Timeout, "no answer in time")))
                .map(drop)
        })
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}

fn classify(error: &RedisError) -> Fault {
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
