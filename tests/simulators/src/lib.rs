//! The outside systems of this project, on the wire: AWS Directory Service, its domain controllers, Duo and Okta; and a
//! name server.
//!
//! Tests start them in their own process with each module's `start`; people and pods with the binary (`simulators --help`).
//! README.md is the contract.

mod admin;
mod ask;
mod clock;
pub mod controller;
pub mod directory;
pub mod dns;
pub mod duo;
mod error;
mod fault;
mod jwt;
mod names;
pub mod okta;
pub mod radius;
mod reply;
mod secret;
mod serve;
mod sigv4;
mod tls;

pub use self::{
    error::Error,
    fault::{Fault, FaultKind},
    secret::{HIDDEN, Secret, keyed_digest},
    serve::Running,
    tls::{TlsFace, TlsSource},
};

/// Reads a config file (TOML); without one, the defaults.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has a field that nobody knows.
pub fn read_config<C: Default + serde::de::DeserializeOwned>(
    path: Option<&std::path::Path>,
) -> Result<C, Error> {
    let Some(path) = path else { return Ok(C::default()) };
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| Error::ParseConfig {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Writes what others wait for (a CA, a ready line) in one step.
///
/// # Errors
/// When the place cannot be written.
pub fn write_file(path: &std::path::Path, text: &str) -> Result<(), Error> {
    serve::write_whole(path, text)
}
