//! Sentences about the whole, tried in a small world.

mod addresses;
mod anything;
mod balancer;
mod drain;
mod lag;
mod life;
mod ownership;
mod rotation;
mod seeds;
mod slow;
mod stage;
mod trouble;
mod upgrade;
mod world;
