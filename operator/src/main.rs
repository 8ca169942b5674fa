//! The operator's program.

mod apply;
mod client;
mod context;
mod directory;
mod dispatch;
mod error;
mod events;
mod gather;
mod grants;
mod health;
mod key;
mod leader;
mod memory;
mod metrics;
mod queue;
mod reconcile;
mod resolve;
mod rollouts;
mod run;
mod server;
mod settings;
mod telemetry;
mod watch;

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = settings::Settings::parse();
    telemetry::start(settings.log_format);
    run::run(settings).await
}
