//! The engine from outside: bytes in, bytes out.

mod budget;
mod group;
mod handover;
mod methods;
mod observed;
mod policy;
mod probe;
mod pushes;
mod reality;
mod rivals;
mod script;
mod vectors;
mod verification;
mod world;
