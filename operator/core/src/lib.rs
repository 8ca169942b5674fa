//! The operator's decisions, without a client, a runtime or a clock.
//!
//! [`plan`](plan::plan) turns everything observed ([`observed::RolloutInput`]) and the time into everything to do ([`plan::Plan`]). It is
//! total: what is wrong with a spec becomes a condition, not an error.

// Printer columns are attributes of one name; the lint looks for leave at the crate only.
#![allow(
    clippy::duplicated_attributes,
    reason = "several printer columns are several attributes of one name"
)]

pub mod access;
pub mod api;
pub mod aws;
pub mod conditions;
mod config;
pub mod directory_client;
pub mod dns;
pub mod events;
pub mod names;
pub mod objects;
pub mod observed;
pub mod outcomes;
pub mod plan;
pub mod registration;
mod rotation;
pub mod secrets;
mod time;
pub mod undecodable;
