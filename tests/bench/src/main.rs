//! Load, side by side in one run: a UDP echo with the proxy's own sockets (the machine's limit), FreeRADIUS, the proxy
//! with TOTP, the proxy with Duo. Then the operator at [`scale`]. `make bench` builds what it needs and runs it.
//!
//! Everything is on this machine and bounded in count and time.

mod echo;
mod freeradius;
mod http;
mod load;
mod process;
mod request;
mod run;
mod scale;
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
    /// Runs everything, or one part of it, and writes the summary.
    Run(Box<Run>),
    /// Becomes a program that ends with the process that started this one.
    #[command(hide = true)]
    Leash {
        /// That process's id.
        #[arg(long)]
        parent: i32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// What to run, and how much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The proxy's program, a release build.
    #[arg(long)]
    pub(crate) proxy: PathBuf,
    /// The operator's program, a release build.
    #[arg(long)]
    pub(crate) operator: PathBuf,
    /// The folder of the CustomResourceDefinitions.
    #[arg(long)]
    pub(crate) crds: PathBuf,
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
    #[command(flatten)]
    pub(crate) scale: scale::Scale,
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
    /// The operator with a thousand RadiusProxy resources.
    Scale,
}

/// The proxy's figures are written before the operator's begin, which take longer.
fn run(arguments: &Run) -> anyhow::Result<()> {
    if [Part::Local, Part::Duo, Part::Pending]
        .into_iter()
        .any(|part| arguments.wants(part))
    {
        summary::write(&arguments.summary, &run::run(arguments)?)?;
    }
    if arguments.wants(Part::Scale) {
        let programs = scale::Programs {
            operator: &arguments.operator,
            simulators: &arguments.simulators,
            crds: &arguments.crds,
        };
        let logs = arguments.summary.with_file_name("scale");
        let figures = scale::run(&arguments.scale, &programs, &logs)?;
        summary::write(&arguments.summary, &figures)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Echo { listen } => echo::run(listen),
        Task::Run(arguments) => run(&arguments),
        Task::Leash { parent, command } => process::become_leashed(parent, &command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
