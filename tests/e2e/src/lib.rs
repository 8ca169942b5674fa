//! The running thing on a real cluster: what the demo shows and what the end-to-end tests assert, through `kubectl` and
//! `helm` alone, so that every step can be typed by a person and works on any cluster.

#![allow(
    clippy::missing_errors_doc,
    reason = "every error here ends a test or the demo with its own text"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value answers null for what is not there"
)]

mod dns;
mod install;
mod kubectl;
mod logins;
mod scenario;
mod simulators;
mod totp;
mod vendors;
mod wait;

pub use dns::NameServer;
pub use install::{Images, Install, OPERATOR_NAMESPACE, RELEASE};
pub use kubectl::{Kubectl, Output};
pub use logins::{BackgroundLogins, FailOver, Login, LoginRequest, Packet, Report, ServerCount};
pub use scenario::{DuoProxy, NAMESPACE, TotpProxy};
pub use simulators::{
    CONNECTOR_DIRECTORY, Change, Changing, Controller, DirectorySimulator, MICROSOFT_DIRECTORY, SIMULATED,
    Simulators, Write,
};
pub use totp::{Seed, code_at, fresh_code};
pub use vendors::{DuoSimulator, OktaSimulator};
pub use wait::{Deadline, until};
