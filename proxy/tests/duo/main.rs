//! The Duo provider against a server that says what each test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

#[path = "../support/duo.rs"]
mod duo;
mod faults;
mod harness;
mod logins;
mod overload;
mod proxied;
#[path = "../support/request.rs"]
mod request;
mod served;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;
