//! The operator's decisions, without a client, a runtime or a clock.
//!
//! Two total functions decide. [`rollout::plan`] turns what was observed about a RadiusProxy and the time into a
//! [`rollout::RolloutPlan`]; [`registration::plan`] turns what was observed about a DirectoryRegistration into a
//! [`registration::RegistrationPlan`]. An error in a spec becomes a condition.
//!
//! A module uses only those above it in this list (`cargo xtask verify arrows`):
//! [`api`]; [`aws`], [`dns`], [`names`]; [`observed`]; [`secrets`], `config`, [`objects`]; [`registration`], [`rollout`].

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
mod labelled_enum;
pub mod names;
pub mod objects;
pub mod observed;
pub mod outcomes;
pub mod registration;
pub mod rollout;
mod rotation;
#[cfg(test)]
mod scenarios;
pub mod secrets;
mod time;
pub mod undecodable;
