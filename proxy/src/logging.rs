//! Logs to standard error, for people or as JSON. A separate thread writes them, so that a stuck terminal or pipe stops no
//! login. Lines that don't fit into the queue are dropped and counted.

use std::io::IsTerminal as _;
use std::sync::{Mutex, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::locks::lock;

/// Lines that wait to be written.
const MAX_WAITING: usize = 16_384;

/// The thread that writes the lines, until the program ends.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` says what is logged (`debug`, `info,radius_proxy=debug`); `info` when it says nothing.
pub fn start(format: LogFormat) {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    LOST.get_or_init(|| lines.error_counter());
    lock(&WRITER).get_or_insert(writer);
    let lines = tracing_subscriber::fmt::layer().with_writer(lines);
    // It fails only when logging was started before.
    let _ = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry
                .with(lines.with_ansi(colour).with_target(false))
                .try_init()
        }
    };
}

/// Writes the waiting lines, without waiting for an output that is stuck. Nothing can be logged afterwards.
pub(crate) fn finish() {
    drop(lock(&WRITER).take());
}

/// Lines that were dropped because the queue was full.
pub(crate) fn lost_lines() -> u64 {
    let lost = LOST.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(lost).unwrap_or(u64::MAX)
}
