//! Load, side by side in one run: a UDP echo with the proxy's own sockets (the machine's limit), FreeRADIUS, the proxy
//! with TOTP, the proxy with Duo. `make bench` builds what it needs and runs it.
//!
//! Everything is on loopback and bounded in count and time.

mod echo;
mod freeradius;
mod load;
mod process;
mod request;
mod run;
mod seeds;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Answers every datagram with itself.
    Echo {
        /// A loopback address.
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
    /// Runs everything and writes the summary.
    Run(Run),
}

/// What to run, and how much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The proxy's program, a release build.
    #[arg(long)]
    pub(crate) proxy: PathBuf,
    /// The simulators' program, a release build.
    #[arg(long)]
    pub(crate) simulators: PathBuf,
    /// Where the summary goes: an object of numbers. What is there of other benches is kept.
    #[arg(long)]
    pub(crate) summary: PathBuf,
    /// Logins in each of the local runs.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) logins: usize,
    /// Logins of the Duo run.
    #[arg(long, default_value_t = 40_000)]
    pub(crate) duo_logins: usize,
    /// Logins that wait for a push at once.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) pending: usize,
    /// Which parts to run, with commas between them; all when it is left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
}

impl Run {
    /// Whether a part was asked for.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// What can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Echo, FreeRADIUS and the proxy with TOTP, which are compared.
    Local,
    /// Pushes that are approved at once.
    Duo,
    /// Pushes that all wait at once.
    Pending,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Echo { listen } => echo::run(listen),
        Task::Run(arguments) => run::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
