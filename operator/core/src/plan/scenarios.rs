//! Sentences about the whole, tried in a small world.

mod addresses;
mod anything;
mod balancer;
mod drain;
mod lag;
mod life;
mod observed;
mod ownership;
mod refusals;
mod rotation;
mod secret_mismatch;
mod seeds;
mod slow;
mod stage;
mod trouble;
mod upgrade;
mod world;
