//! The proxy program: sockets, providers, configuration files, the admin port and the command line around
//! [`proxy_core`], which decides.

use std::process::ExitCode;

use clap::Parser as _;

pub mod check;
pub mod cli;
pub mod enrol;
pub mod error;
pub mod kubernetes;
pub mod load;
mod locks;
pub mod logging;
pub mod metrics;
mod peers;
pub mod provider;
pub mod serve;
#[cfg(test)]
mod testing;
pub mod udp;

use cli::{Cli, Command, TotpCommand};
use error::Error;

/// The program. Exit codes: 0 in order, 1 a failure that was told, 2 a wrong command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format);
    let result = match cli.command {
        Command::Serve(args) => serve::serve(args.config),
        Command::Check { config, offline } => check::check(config.config, offline),
        Command::Totp(TotpCommand::Enrol(args)) => enrol::enrol(&args),
    };
    logging::finish();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Findings(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("radius-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}
