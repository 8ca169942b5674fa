//! What the program can fail at. Each text says what to do next, and none holds a secret.

use std::io;
use std::net::SocketAddr;

use proxy_config::{ParseError, Problems, Unread};

/// Everything that ends the program, or makes a reload keep the old configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}{}", read_advice(source))]
    ReadFile {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any of its kind should be.
    #[error("{path} is larger than {limit} bytes; is it the right file?")]
    FileTooLarge {
        /// Its path.
        path: String,
        /// The bound.
        limit: u64,
    },
    /// The configuration file is not TOML of the documented shape.
    #[error("{path}: {source}")]
    ParseConfig {
        /// Its path.
        path: String,
        /// Where and why.
        source: ParseError,
    },
    /// The configuration holds what it must not.
    #[error("{0}")]
    CheckConfig(Problems),
    /// A provider's key cannot be used.
    #[error("{field}: {problem}")]
    ProviderKey {
        /// Which, as the configuration names it.
        field: &'static str,
        /// Why, without the key.
        problem: String,
    },
    /// No certificate to check providers by.
    #[error("trusted certificates: {0}")]
    TrustCertificates(String),
    /// The HTTP proxy's address cannot be used.
    #[error("http_proxy: {0}")]
    HttpProxy(#[source] reqwest::Error),
    /// An HTTP client could not be made.
    #[error("the HTTP client could not be made: {0}")]
    HttpClient(#[source] reqwest::Error),
    /// No connection has room.
    #[error("no connection has room")]
    NoConnection,
    /// A socket could not be bound.
    #[error("{kind} {address}: {source}{}", bind_advice(source, *address))]
    Bind {
        /// `UDP` or `TCP`.
        kind: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A running program is to listen at another address.
    #[error(
        "server.listen, server.admin or server.health is another than the one that runs, and none can change while logins \
         come in: restart the program to have the whole configuration taken over"
    )]
    ListenElsewhere,
    /// A login record could not be opened for writing.
    #[error("records: {path}: {source}; the folder must exist and be writable by this user")]
    OpenRecords {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A thread, signal handler or runtime could not be had.
    #[error("{what}: {source}")]
    Start {
        /// What it was.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("the system's random source failed: {0}")]
    Random(getrandom::Error),
    /// Enrolment could not be done.
    #[error("{0}")]
    Enrol(String),
    /// What was checked does not work; it was told already.
    #[error("{0} problems")]
    Findings(usize),
    /// Standard output or a file could not be written.
    #[error("writing: {0}")]
    Write(#[source] io::Error),
}

impl Error {
    /// Why a file that the configuration names cannot be read.
    pub(crate) fn unread(&self) -> Unread {
        match self {
            Self::ReadFile { path, source } if source.kind() == io::ErrorKind::NotFound => Unread::Absent(
                format!("there is no {path} (a path is relative to the configuration file's folder)"),
            ),
            other => Unread::Failed(other.to_string()),
        }
    }
}

fn read_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is the path right? (--config FILE, or RADIUS_PROXY_CONFIG)",
        io::ErrorKind::PermissionDenied => "; this user may not read it",
        _ => "",
    }
}

fn bind_advice(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            ". Port {port} is held by another program: `ss -lnp 'sport = :{port}'` (as root) shows which. End it, or \
             choose another port"
        ),
        io::ErrorKind::PermissionDenied => {
            format!(". Ports below 1024 need the right CAP_NET_BIND_SERVICE; {port} may be such a one")
        }
        io::ErrorKind::AddrNotAvailable => ". This host does not have that address".to_owned(),
        _ => String::new(),
    }
}
