//! Sentences about the whole, tried in a small world.

mod addresses;
mod anything;
mod balancer;
mod claims;
mod drain;
mod lag;
mod life;
mod observed;
mod ownership;
mod pod_template;
mod refusals;
mod refused;
mod restart;
mod rotation;
mod secret_keys;
mod secret_mismatch;
mod seeds;
mod service_account;
mod slow;
mod stage;
mod trouble;
mod upgrade;
mod witness;
mod world;
