//! What can keep a simulator from starting or running.

use std::{io, net::SocketAddr, path::PathBuf};

/// Each variant is what could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is in use or not ours.
    #[error("listen on {address}")]
    Listen {
        /// The address of the flag.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The config, state or certificate file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state, CA or ready file cannot be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The config file is not TOML or has a field that nobody knows.
    #[error("parse {path}")]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The state file is not what this program wrote.
    #[error("parse state {path}")]
    ParseState {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A value of the config file is out of its bounds.
    #[error("check configuration: {what}")]
    CheckConfig {
        /// Field, value and bound.
        what: String,
    },
    /// The certificate cannot be made.
    #[error("make certificate")]
    MakeCertificate(#[from] rcgen::Error),
    /// TLS cannot be set up with the certificate and key.
    #[error("set up TLS")]
    SetUpTls(#[from] rustls::Error),
    /// The PEM file holds no certificate or no key.
    #[error("read PEM {path}")]
    ReadPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Another simulator's API did not answer, or not with what was expected.
    #[error("ask {url}: {what}")]
    Ask {
        /// The address asked.
        url: String,
        /// What came instead.
        what: String,
    },
    /// The source address is not one of this host's.
    #[error("use {address} as source")]
    UseSource {
        /// The address.
        address: std::net::IpAddr,
        /// What the system said.
        source: io::Error,
    },
}
