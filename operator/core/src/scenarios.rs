//! Sentences about the whole, tried in a small world.

mod addresses;
mod claims;
mod disturbances;
mod drain;
mod failures;
mod lag;
mod life;
mod load_balancer;
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
mod upgrade;
mod witness;
mod world;
