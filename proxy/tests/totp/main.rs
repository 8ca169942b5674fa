//! One code, one Accept, over several proxies: the TOTP provider against its shared stores.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

mod api_server;
mod clock;
mod failover;
mod kubernetes;
mod pod;
#[path = "../support/ports.rs"]
mod ports;
mod redis;
#[path = "../support/request.rs"]
mod request;
mod throttle;
#[path = "../support/tls.rs"]
mod tls;
