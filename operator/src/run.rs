//! Puts everything together, and takes it apart in the right order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Client;
use operator_core::input::Settings as PlanSettings;
use operator_core::names::ClusterName;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::context::Context;
use crate::directory::{Directories, Surroundings};
use crate::dispatch;
use crate::events::Recorder;
use crate::health::Health;
use crate::leader::{Candidate, Leadership};
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::queue::WorkQueue;
use crate::server::{self, Pages};
use crate::settings::Settings;
use crate::watch::{self, Cluster};

/// How long work that is under way may take at the end. A write to AWS is given less than this.
const LAST_WORK: Duration = Duration::from_secs(20);

/// Runs the operator until it is told to stop.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let started = Instant::now();
    let listener = TcpListener::bind(settings.metrics_address)
        .await
        .with_context(|| format!("listening on {}", settings.metrics_address))?;
    let metrics = Metrics::new();
    let (client, namespace) = client::connect(&settings, &metrics).await?;
    let health = Health::new(started);
    let queue = WorkQueue::new();
    let cluster = Arc::new(Cluster::new(queue.clone()));
    let stop = CancellationToken::new();
    let after_work = CancellationToken::new();
    let identity = settings.identity();
    let (election, leadership) = elect(&settings, &client, &namespace, &identity, &health, &after_work);
    let watches = watch::start(&client, &cluster, &settings.scopes(), &health, &metrics, &stop);
    let pages = Pages {
        health: health.clone(),
        metrics: metrics.clone(),
        leadership: leadership.clone(),
        queue: queue.clone(),
        cluster: Arc::clone(&cluster),
    };
    let server = tokio::spawn(server::serve(listener, pages));
    let ctx = Arc::new(context(
        &settings,
        client,
        cluster,
        &queue,
        leadership,
        &metrics,
        identity,
        &after_work,
    )?);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = settings.cluster_name,
        namespace,
        "started"
    );

    let concurrency = usize::try_from(settings.concurrency).unwrap_or(1);
    let work = tokio::spawn(dispatch::run(ctx, queue, concurrency, health, stop.clone()));
    told_to_stop().await?;
    tracing::info!("stopping");
    // The watches go on while what is under way ends; the lease is given up last, for it guards the writes.
    stop.cancel();
    if tokio::time::timeout(LAST_WORK, work).await.is_err() {
        tracing::warn!("gave up waiting for what was under way");
    }
    drop(watches);
    after_work.cancel();
    election.await.context("the election ended by itself")?;
    server.abort();
    tracing::info!("stopped");
    Ok(())
}

/// Starts the election, or leads without one.
fn elect(
    settings: &Settings,
    client: &Client,
    namespace: &str,
    identity: &str,
    health: &Health,
    stop: &CancellationToken,
) -> (tokio::task::JoinHandle<()>, Leadership) {
    let stop = stop.clone();
    if !settings.leader_election {
        let (leadership, keeper) = Leadership::without_election();
        let task = tokio::spawn(async move {
            stop.cancelled().await;
            drop(keeper);
        });
        return (task, leadership);
    }
    let duration = Duration::from_secs(settings.lease_seconds.into());
    let (candidate, leadership) = Candidate::new(
        client.clone(),
        namespace,
        settings.lease_name.clone(),
        identity.to_owned(),
        duration,
    );
    let beat = health.expect_beat("the leader election", duration * 4);
    let task = tokio::spawn(async move { candidate.run(beat, stop.cancelled()).await });
    (task, leadership)
}

#[expect(
    clippy::too_many_arguments,
    reason = "everything that exists, put into one place, once"
)]
fn context(
    settings: &Settings,
    client: Client,
    cluster: Arc<Cluster>,
    queue: &WorkQueue,
    leadership: Leadership,
    metrics: &Metrics,
    identity: String,
    stop: &CancellationToken,
) -> anyhow::Result<Context> {
    let around = Surroundings {
        queue: queue.clone(),
        leadership: leadership.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
        detail_interval: Duration::from_secs(settings.detail_interval.into()),
    };
    Ok(Context {
        events: Recorder::new(client.clone(), identity),
        client,
        cluster,
        directories: Arc::new(Directories::new(settings.aws_calls_per_second, around)),
        leadership,
        memories: Arc::new(Memories::default()),
        metrics: metrics.clone(),
        settings: plan_settings(settings)?,
        describe_interval: Duration::from_secs(settings.describe_interval.into()),
    })
}

fn plan_settings(settings: &Settings) -> anyhow::Result<PlanSettings> {
    let cluster = ClusterName::parse(&settings.cluster_name)?;
    Ok(PlanSettings {
        image_pull_policy: settings.proxy_image_pull_policy.clone(),
        provider_host_suffixes: settings.host_suffixes(),
        pod_dns_policy: settings.pod_dns_policy.clone(),
        settle: settings.settle(),
        ..PlanSettings::new(cluster, settings.proxy_image.clone())
    })
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
