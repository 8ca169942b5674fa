//! The proxy's configuration: the one thing that operator and proxy share.
//!
//! [`file`] holds the types of the configuration file as it is written (TOML, serde), [`Config`] what the proxy works
//! with. The one bridge between them is [`Config::check`], which takes the file and the contents of every other file
//! that it names, and reports every problem at once. This crate reads no file itself: [`file::ConfigFile::named_files`]
//! says what to read, the program reads it.

mod check;
mod digest;
mod error;
pub mod file;
mod model;
pub mod observed;
mod secret;
pub mod seeds;

pub use check::{Contents, DEFAULT_PROVIDER_HOST_SUFFIXES, Unread, Unreadable, parse_network};
pub use digest::{ConfigDigest, DigestKey};
pub use error::{ParseError, Problem, Problems};
pub use model::{
    ApiHost, CaseRule, Client, ClientName, CodeStore, Config, Duo, DuoFactor, Exempt, FailMode, HttpProxy,
    Limits, MessageAuthenticatorPolicy, Okta, OktaCredentials, OktaFactor, PeerKey, Peers, Policy, Provider,
    ProxyLogin, RecordSink, Redis, SeedFile, SignatureVersion, StoreOutage, Totp, TypedText, Upstream,
    UpstreamServer, UsedCodes, UserNameRule,
};
pub use secret::{Secret, SharedSecret, SharedSecretError};

/// Whether an address is link-local (RFC 3927, RFC 4291 section 2.5.6), also as an IPv4-mapped one. Nothing that is asked
/// for a second factor is there; the metadata services of clouds are.
#[must_use]
pub fn is_link_local(address: std::net::IpAddr) -> bool {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
