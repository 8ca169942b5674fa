//! Sentences about the whole, tried in a small world.

mod anything;
mod life;
mod rotation;
mod seeds;
mod trouble;
mod upgrade;
mod world;
