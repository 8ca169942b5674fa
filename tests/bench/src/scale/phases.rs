//! What is done to the operator, in order, and how long it takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::PostParams;
use operator_core::api::RadiusProxy;
use serde_json::Value;

use super::Scale;
use super::kubelets::{self, Kubelets, PodKey};
use super::sample::{Sample, Spent};
use super::seen::{Row, Rows, Seen};
use super::stage::Stage;
use super::world::{REGION, World};
use crate::http;
use crate::summary::mib;

/// RadiusProxy resources that are made at once.
const MADE_AT_ONCE: usize = 16;
/// When nothing moves for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a change costs is counted over this, from its begin.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two phases, so that one does not end in the other.
const PAUSE: Duration = Duration::from_secs(20);
/// Directories that somebody changes by hand, each in another account.
const DRIFTING: u32 = 5;

/// The phases, and the figures so far.
pub(crate) struct Phases<'a> {
    stage: &'a mut Stage,
    world: World,
    kubelets: &'a Kubelets,
    seen: &'a Seen,
    begun: Instant,
    registering: Duration,
    figures: BTreeMap<String, f64>,
}

impl<'a> Phases<'a> {
    pub(crate) fn new(stage: &'a mut Stage, world: World, kubelets: &'a Kubelets, seen: &'a Seen) -> Self {
        Self {
            stage,
            world,
            kubelets,
            seen,
            begun: Instant::now(),
            registering: Duration::ZERO,
            figures: BTreeMap::new(),
        }
    }

    /// The figures, each with the number of RadiusProxy resources in its name.
    pub(crate) fn figures(self) -> BTreeMap<String, f64> {
        self.figures
    }

    fn figure(&mut self, name: &str, value: f64) {
        self.figures
            .insert(format!("{name}_{}", self.world.proxies), value);
    }

    /// From nothing to all registered.
    pub(crate) async fn register(&mut self) -> Result<()> {
        let before = self.stage.sample()?;
        self.begun = Instant::now();
        let world = self.world;
        let client = self.stage.client.clone();
        stream::iter(0..world.proxies)
            .map(|n| {
                let client = client.clone();
                async move {
                    let proxy: RadiusProxy = serde_json::from_value(world.proxy(n))?;
                    let api: Api<RadiusProxy> = Api::namespaced(client, &world.namespace(n));
                    let made = api.create(&PostParams::default(), &proxy).await;
                    made.with_context(|| format!("making RadiusProxy {}", world.name(n)))
                }
            })
            .buffer_unordered(MADE_AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let made = self.begun.elapsed();
        let all = usize::try_from(world.proxies)?;
        let ready = |rows: &Rows| rows.values().filter(|(row, _)| row.ready).count();
        self.seen
            .until("registered", PATIENCE, ready, |rows| {
                (ready(rows) == all).then_some(())
            })
            .await?;
        self.registering = self.begun.elapsed();
        let after = self.stage.sample()?;
        let spent = after.since(&before);
        spent.print(
            &format!("{all} made in {:.0} s, all registered", made.as_secs_f64()),
            after.usage,
        );
        self.figure("all_registered_s", self.registering.as_secs_f64());
        self.figure("operator_rss_peak_mib", mib(after.usage.peak));
        tokio::time::sleep(PAUSE).await;
        self.stage.check()
    }

    /// One pod each of one in a hundred RadiusProxy resources is deleted.
    pub(crate) async fn change(&mut self) -> Result<()> {
        let world = self.world;
        let count = (world.proxies / 100).max(1);
        let pods: Vec<(PodKey, PodKey)> = (0..count)
            .map(|n| {
                // One step further each time, or all would be in one account.
                let n = (n * (world.proxies / count + 1)) % world.proxies;
                let (namespace, proxy) = (world.namespace(n), world.name(n));
                let pod = format!("{proxy}-{}", n % world.replicas);
                ((namespace.clone(), proxy), (namespace, pod))
            })
            .collect();
        let old: Vec<String> = pods
            .iter()
            .map(|(_, pod)| self.kubelets.serving(pod).map(|serving| serving.uid))
            .collect::<Option<_>>()
            .context("a pod that is to be deleted does not serve")?;
        let before = self.stage.sample()?;
        for (_, pod) in &pods {
            kubelets::delete(&self.stage.client, pod).await?;
        }
        let kubelets = self.kubelets;
        let took = |rows: &Rows, which: usize| {
            let (proxy, pod) = pods.get(which)?;
            let serving = kubelets.serving(pod)?;
            let (row, since) = rows.get(proxy)?;
            let done = old.get(which) != Some(&serving.uid) && is_registered(row, &serving.address);
            done.then(|| since.saturating_duration_since(serving.since))
        };
        let done = |rows: &Rows| (0..pods.len()).filter_map(|which| took(rows, which)).count();
        let times: Vec<Duration> = self
            .seen
            .until("changed pods registered", PATIENCE, done, |rows| {
                (0..pods.len()).map(|which| took(rows, which)).collect()
            })
            .await?;
        let (median, worst) = median_and_worst(times);
        self.finish_window("one pod deleted of each of 1 %", &before, "change")
            .await?;
        println!(
            "{:<44} registered after it serves: {median:.1} s in the middle, {worst:.1} s at the worst of {count}",
            ""
        );
        self.figure("one_change_registered_s", worst);
        self.stage.check()
    }

    /// Somebody changes the settings of some directories by hand.
    pub(crate) async fn drift(&mut self) -> Result<()> {
        let world = self.world;
        let drifting: Vec<u32> = (1..=DRIFTING.min(world.accounts)).collect();
        let before = self.stage.sample()?;
        let admin = self.stage.aws_admin();
        let changed = Instant::now();
        for n in &drifting {
            let path = format!("/directories/{}/radius", world.directory(*n));
            let known = http::get(admin, &format!("{path}?region={REGION}&plain=true"))?;
            http::put(admin, &path, &by_hand(&serde_json::from_str(&known)?).to_string())?;
        }
        let row = |rows: &Rows, n: u32| rows.get(&(world.namespace(n), world.name(n))).cloned();
        let mut noticed: BTreeMap<u32, Duration> = BTreeMap::new();
        let repaired: Vec<Duration> = self
            .seen
            .until(
                "drifted directories repaired",
                PATIENCE,
                |_| 0,
                |rows| {
                    for n in &drifting {
                        if let Some((row, since)) = row(rows, *n)
                            && row.repaired
                        {
                            noticed.entry(*n).or_insert(since.duration_since(changed));
                        }
                    }
                    drifting
                        .iter()
                        .map(|n| {
                            let (row, since) = row(rows, *n)?;
                            (noticed.contains_key(n) && row.registered).then(|| since.duration_since(changed))
                        })
                        .collect()
                },
            )
            .await?;
        let (noticed_median, noticed_worst) = median_and_worst(noticed.into_values().collect());
        let (_, repaired_worst) = median_and_worst(repaired);
        self.finish_window(
            &format!("{DRIFTING} directories changed by hand"),
            &before,
            "drift",
        )
        .await?;
        println!(
            "{:<44} noticed after {noticed_median:.1} s in the middle, {noticed_worst:.1} s at the worst; all repaired after \
             {repaired_worst:.1} s",
            ""
        );
        self.figure("drift_noticed_s", noticed_worst);
        self.figure("drift_repaired_s", repaired_worst);
        self.stage.check()
    }

    /// Nothing happens.
    pub(crate) async fn rest(&mut self, scale: &Scale) -> Result<()> {
        let begin = Duration::from_secs(scale.rest_after);
        wait(
            "at rest, the window begins",
            begin.saturating_sub(self.begun.elapsed()),
        )
        .await;
        let window = match scale.rest_seconds {
            0 => self.registering.max(Duration::from_secs(120)),
            seconds => Duration::from_secs(seconds),
        };
        let before = self.stage.sample()?;
        wait("at rest, the window ends", window).await;
        let after = self.stage.sample()?;
        let spent = after.since(&before);
        spent.print("at rest", after.usage);
        self.figure("operator_rss_mib", mib(after.usage.resident));
        self.figure("operator_cores_idle", spent.cores());
        self.per_minute("rest", &spent);
        self.stage.check()
    }

    async fn finish_window(&mut self, name: &str, before: &Sample, phase: &str) -> Result<()> {
        let so_far = self.stage.sample()?.since(before).took;
        tokio::time::sleep(WINDOW.saturating_sub(so_far)).await;
        let after = self.stage.sample()?;
        let spent = after.since(before);
        spent.print(name, after.usage);
        self.per_minute(phase, &spent);
        Ok(())
    }

    fn per_minute(&mut self, phase: &str, spent: &Spent) {
        self.figure(
            &format!("api_calls_per_minute_{phase}"),
            spent.kubernetes_per_minute(),
        );
        self.figure(&format!("aws_calls_per_minute_{phase}"), spent.aws_per_minute());
    }
}

fn is_registered(row: &Row, address: &str) -> bool {
    row.registered && row.addresses.contains(address)
}

/// What was registered, with another time-out: complete, since AWS replaces everything.
fn by_hand(known: &Value) -> Value {
    let mut settings = known.get("settings").cloned().unwrap_or_default();
    if let Some(timeout) = settings.get_mut("radius_timeout") {
        *timeout = 7.into();
    }
    serde_json::json!({"region": REGION, "settings": settings})
}

fn median_and_worst(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let seconds = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64);
    (seconds(times.get(times.len() / 2)), seconds(times.last()))
}

async fn wait(what: &str, time: Duration) {
    const TELL: Duration = Duration::from_secs(15);
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        eprintln!("  {what} in {:.0} s", left.as_secs_f64());
        tokio::time::sleep(left.min(TELL)).await;
    }
}
