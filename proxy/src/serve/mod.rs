//! `radius-proxy serve`.

mod mailbox;
mod udp;
