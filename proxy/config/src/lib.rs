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
mod secret;

pub use check::{Contents, DEFAULT_PROVIDER_HOST_SUFFIXES};
pub use digest::{ConfigDigest, DigestKey};
pub use error::{ParseError, Problem, Problems};
pub use model::{
    ApiHost, CaseRule, Client, ClientName, CodeStore, Config, Duo, DuoFactor, Exempt, FailMode, Limits,
    MessageAuthenticatorPolicy, Okta, OktaCredentials, OktaFactor, PeerKey, Peers, Policy, Provider,
    RecordSink, Redis, SeedFile, SignatureVersion, StoreOutage, Totp, TypedText, Upstream, UpstreamServer,
    UsedCodes, UserNameRule,
};
pub use secret::{Secret, SharedSecret, SharedSecretError};
