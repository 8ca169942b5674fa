//! Puts everything together, and takes it apart in the right order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use operator_core::api::{DirectoryGrant, DirectoryRegistration};
use operator_core::names::ClusterName;
use operator_core::observed::Settings as PlanSettings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::context::Context;
use crate::controller::{Controller, Reconciler};
use crate::directory::{Deps, Directories};
use crate::events::Events;
use crate::grants;
use crate::health::Health;
use crate::lead;
use crate::leader::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::queue::{Queue, WorkQueue};
use crate::reconcile_state::ReconcileStates;
use crate::reconcile_state::RegistrationStates;
use crate::reconcilers::{DirectoryGrants, DirectoryRegistrations, RadiusProxies};
use crate::resolve::{self, Names, SystemNames};
use crate::rollout_limit::RolloutLimit;
use crate::server::{self, Pages};
use crate::settings::Settings;
use crate::watch::{self, Cluster};

/// How long work that is under way may take at the end. A write to AWS is given less than this.
const LAST_WORK: Duration = Duration::from_secs(20);

/// What everything shares.
#[derive(Clone)]
struct Shared {
    settings: Settings,
    client: Client,
    /// The operator's own namespace.
    namespace: String,
    /// This replica's name.
    identity: String,
    health: Health,
    queue: WorkQueue,
    grant_queue: Queue<DirectoryGrant>,
    registration_queue: Queue<DirectoryRegistration>,
    cluster: Arc<Cluster>,
    metrics: Metrics,
    /// No new work is begun.
    stop: CancellationToken,
    /// All work has ended.
    ended: CancellationToken,
}

/// Runs the operator until it gets a signal to stop.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let listener = server::listen(settings.metrics_address)
        .await
        .with_context(|| format!("listening on {}", settings.metrics_address))?;
    let metrics = Metrics::new();
    let (client, namespace) = client::connect(&settings, &metrics).await?;
    let (queue, grant_queue, registration_queue) = (WorkQueue::new(), Queue::new(), Queue::new());
    let shared = Shared {
        identity: settings.identity(),
        health: Health::new(Instant::now()),
        cluster: Arc::new(Cluster::new(
            queue.clone(),
            grant_queue.clone(),
            registration_queue.clone(),
        )),
        queue,
        grant_queue,
        registration_queue,
        stop: CancellationToken::new(),
        ended: CancellationToken::new(),
        settings,
        client,
        namespace,
        metrics,
    };
    let plan_settings = plan_settings(&shared.settings, &shared.namespace)?;
    let (election, leadership) = shared.elect();
    let watches = watch::start(
        &shared.client,
        &shared.cluster,
        &shared.settings.scopes(),
        &shared.health,
        &shared.metrics,
        &shared.stop,
    );
    let server = tokio::spawn(server::serve(listener, shared.pages(&leadership)));
    let work = tokio::spawn(shared.clone().lead(leadership, plan_settings));
    shared.greet();
    stop_signal().await?;
    shared.end(work, watches, election).await?;
    server.abort();
    Ok(())
}

impl Shared {
    fn greet(&self) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            cluster = self.settings.cluster_name,
            namespace = self.namespace,
            identity = self.identity,
            "started"
        );
    }

    /// Ends in the order that leaves nothing half done. The lease is given up last, since it guards the writes.
    async fn end(
        &self,
        work: JoinHandle<()>,
        watches: JoinSet<()>,
        election: JoinHandle<()>,
    ) -> anyhow::Result<()> {
        tracing::info!("stopping");
        self.stop.cancel();
        if tokio::time::timeout(LAST_WORK, work).await.is_err() {
            tracing::warn!("gave up waiting for what was under way");
        }
        drop(watches);
        self.ended.cancel();
        election.await.context("the election ended by itself")?;
        tracing::info!("stopped");
        Ok(())
    }

    fn pages(&self, leadership: &Leadership) -> Pages {
        Pages {
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            leadership: leadership.clone(),
            queue: self.queue.clone(),
            cluster: Arc::clone(&self.cluster),
        }
    }

    /// Starts the election, or leads without one.
    fn elect(&self) -> (JoinHandle<()>, Leadership) {
        let ended = self.ended.clone();
        if !self.settings.leader_election {
            let (leadership, keeper) = Leadership::without_election();
            let task = tokio::spawn(async move {
                ended.cancelled().await;
                drop(keeper);
            });
            return (task, leadership);
        }
        let duration = Duration::from_secs(self.settings.lease_seconds.into());
        let (candidate, leadership) = Candidate::new(
            self.client.clone(),
            &self.namespace,
            self.settings.lease_name.clone(),
            self.identity.clone(),
            duration,
        );
        let heartbeat = self.health.expect_heartbeat("the leader election", duration * 4);
        let task = tokio::spawn(async move { candidate.run(heartbeat, ended.cancelled()).await });
        (task, leadership)
    }

    /// Runs the controllers whenever this replica leads.
    async fn lead(self, leadership: Leadership, plan_settings: PlanSettings) {
        let controllers = |over: CancellationToken| {
            let context = self.context(leadership.clone(), plan_settings.clone(), over);
            let names = Arc::clone(&context.names);
            let context = Arc::new(context);
            let proxies = RadiusProxies {
                context: Arc::clone(&context),
                health: self.health.clone(),
            };
            let proxies = self.controller(proxies, self.cluster.proxy_store().clone(), self.queue.clone());
            let grants = self.controller(
                DirectoryGrants,
                self.cluster.grant_store().clone(),
                self.grant_queue.clone(),
            );
            let registrations = DirectoryRegistrations {
                context: Arc::clone(&context),
                health: self.health.clone(),
            };
            let registrations = self.controller(
                registrations,
                self.cluster.registration_store().clone(),
                self.registration_queue.clone(),
            );
            tokio::spawn(names.run());
            let (stop, health) = (self.stop.clone(), self.health.clone());
            let watched = self.settings.scopes().into_iter().collect();
            async move {
                tokio::join!(
                    proxies.run(stop.clone()),
                    registrations.run(stop.clone()),
                    grants.run(stop.clone()),
                    grants::run(&context, watched, health, stop)
                );
            }
        };
        let deposed = || self.metrics.proxy.stand_down();
        lead::run(
            leadership.clone(),
            self.health.clone(),
            self.stop.clone(),
            controllers,
            deposed,
        )
        .await;
    }

    fn controller<R: Reconciler>(
        &self,
        reconciler: R,
        store: Store<DeserializeGuard<R::Root>>,
        queue: Queue<R::Root>,
    ) -> Controller<R> {
        Controller {
            reconciler,
            store,
            queue,
            concurrency: u16::try_from(self.settings.concurrency).unwrap_or(1),
            client: self.client.clone(),
            events: Events::new(self.client.clone(), &self.identity),
            metrics: self.metrics.clone(),
        }
    }

    /// What the work of one term needs: what this process remembers of an earlier one is outdated, as another replica may
    /// have led since.
    fn context(
        &self,
        leadership: Leadership,
        plan_settings: PlanSettings,
        over: CancellationToken,
    ) -> Context {
        let settings = &self.settings;
        let deps = Deps {
            queue: self.registration_queue.clone(),
            metrics: self.metrics.clone(),
            stop: over.clone(),
            detail_interval: Duration::from_secs(settings.detail_interval.into()),
        };
        let names = resolve::Deps {
            queue: self.queue.clone(),
            metrics: self.metrics.clone(),
            stop: over,
            interval: Duration::from_secs(settings.resolve_interval.into()),
        };
        Context {
            client: self.client.clone(),
            cluster: Arc::clone(&self.cluster),
            directories: Arc::new(Directories::new(settings.aws_calls_per_second, deps)),
            names: Arc::new(Names::new(SystemNames::new(), names)),
            leadership,
            states: Arc::new(ReconcileStates::default()),
            registration_states: Arc::new(RegistrationStates::default()),
            replica: self.identity.clone(),
            rollout_limit: Arc::new(RolloutLimit::new(
                usize::try_from(settings.max_rollouts).unwrap_or(1),
            )),
            metrics: self.metrics.clone(),
            events: Events::new(self.client.clone(), &self.identity),
            settings: plan_settings,
            cluster_uid: Arc::default(),
            scopes: settings.scopes(),
            describe_interval: Duration::from_secs(settings.describe_interval.into()),
        }
    }
}

fn plan_settings(settings: &Settings, namespace: &str) -> anyhow::Result<PlanSettings> {
    let cluster = ClusterName::parse(&settings.cluster_name)?;
    // Without an election there is no Lease whose absence would say that the operator is gone.
    let election = if settings.leader_election {
        ""
    } else {
        "/no-election"
    };
    Ok(PlanSettings {
        operator: format!("{namespace}/{}{election}", settings.lease_name),
        image_pull_policy: settings.proxy_image_pull_policy.clone(),
        provider_host_suffixes: settings.host_suffixes(),
        pod_dns_policy: settings.pod_dns_policy.clone(),
        node_selector: settings.pod_node_selector.iter().cloned().collect(),
        fixed_ids: settings.pod_fixed_ids,
        settle: settings.settle(),
        ..PlanSettings::new(cluster, settings.proxy_image.clone())
    })
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
