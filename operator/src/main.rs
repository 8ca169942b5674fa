//! The operator's program.

mod apply;
mod client;
mod context;
mod controller;
mod directory;
mod error;
mod events;
#[cfg(test)]
mod fake_api;
mod gather;
mod grants;
mod health;
mod lead;
mod leader;
mod metrics;
mod object_keys;
mod queue;
mod reconcile_state;
mod reconcilers;
mod registration;
mod resolve;
mod rollout;
mod rollout_limit;
mod run;
mod second_operator;
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
