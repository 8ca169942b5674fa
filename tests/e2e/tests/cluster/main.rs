//! The end-to-end tests: the shipped images on a real cluster, installed with the chart, against the simulators.
//!
//! `cargo xtask e2e` brings the cluster up and says where it is (the `E2E_*` variables). The tests share one
//! installation and run one after another; each says what it needs of it and waits for that.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod addresses;
mod admission;
mod bad_input;
mod chart;
mod claims;
mod definitions;
mod failures;
mod figures;
mod freeradius;
mod handover;
mod logins;
mod lost_objects;
mod namespaces;
mod observed;
mod ownership;
mod policies;
mod reality;
mod refusals;
mod refused;
mod registration;
mod releases;
mod restart;
mod restore;
mod rotation;
mod secrecy;
mod settling;
mod shown;
mod site;
mod store;
mod told;
mod traffic;
mod undecodable;
mod upgrades;
mod without_operator;
mod world;
