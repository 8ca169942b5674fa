//! The operator's decisions, without a client, a runtime or a clock.

pub mod api;
