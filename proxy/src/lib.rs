//! The proxy program: sockets, providers, configuration files, the admin port and the command line around
//! [`proxy_core`], which decides.

pub mod error;
pub mod metrics;
pub mod provider;
pub mod serve;
#[cfg(test)]
mod testing;
