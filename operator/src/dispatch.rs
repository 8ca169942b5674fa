//! Workers: they take what is due while this replica leads, some at once, and wait for what is under way at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::context::Context;
use crate::error::{Error, words};
use crate::health::{Health, Heartbeat};
use crate::key::ProxyKey;
use crate::memory::Memory;
use crate::metrics::ResultLabel;
use crate::queue::{Next as Due, WorkQueue};
use crate::reconcile::{self, Next};

/// How often the loop turns when nothing happens, and how long it may stand still.
const TICK: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(60);

/// Works until `stop`, then until what is under way has ended.
pub(crate) async fn run(
    ctx: Arc<Context>,
    queue: WorkQueue,
    concurrency: usize,
    health: Health,
    stop: CancellationToken,
) {
    let heartbeat: Heartbeat = health.expect_heartbeat("the work queue", SILENCE);
    let mut leadership = ctx.leadership.clone();
    let mut led = false;
    let mut workers: JoinSet<()> = JoinSet::new();
    while !stop.is_cancelled() {
        heartbeat.beat();
        let leads = leadership.leads() && health.unseen().is_empty();
        if leads && !led {
            // Another replica may have led: what this one remembers of applied objects and writes is overtaken.
            ctx.memories.clear();
            ctx.directories.begin_term(|key| ctx.cluster.proxy(key).is_some());
            ctx.rollouts.clear();
            ctx.cluster.touch_all();
        }
        if led && !leads {
            ctx.metrics.proxy.stand_down();
        }
        if !leads {
            queue.lock().stand_down();
        }
        led = leads;
        let free = workers.len() < concurrency;
        let due = if leads && free {
            queue.lock().next(Instant::now())
        } else {
            Due::Empty
        };
        let wait = match due {
            Due::Start(key) => {
                workers.spawn(work(Arc::clone(&ctx), queue.clone(), key));
                continue;
            }
            Due::At(time) => time.saturating_duration_since(Instant::now()).min(TICK),
            Due::Empty => TICK,
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = queue.added() => {}
            () = leadership.changed() => {}
            Some(_) = workers.join_next() => {}
        }
    }
    let under_way = workers.len();
    if under_way > 0 {
        tracing::info!(under_way, "stopping: waiting for what is under way");
    }
    while workers.join_next().await.is_some() {}
}

async fn work(ctx: Arc<Context>, queue: WorkQueue, key: ProxyKey) {
    let span = tracing::info_span!("reconcile", namespace = key.namespace, radiusproxy = key.name);
    async {
        let (mut memory, term) = ctx.memories.take(&key);
        let started = Instant::now();
        let result = reconcile::run(&ctx, &key, &mut memory).await;
        ctx.metrics
            .reconcile_seconds
            .observe(started.elapsed().as_secs_f64());
        let label = match result {
            Ok(Next::Gone) => {
                tracing::debug!("gone");
                queue.lock().gone(&key);
                "gone"
            }
            Ok(Next::After(delay)) => {
                memory.logged = None;
                ctx.memories.put(key.clone(), memory, term);
                queue.lock().done(&key, Some(Instant::now() + delay));
                "ok"
            }
            Err(error) => {
                let label = failed(&ctx, &queue, &key, &mut memory, &error);
                ctx.memories.put(key.clone(), memory, term);
                label
            }
        };
        ctx.metrics
            .reconciles
            .get_or_create(&ResultLabel { result: label })
            .inc();
    }
    .instrument(span)
    .await;
}

/// Notes a failure. The same one again and again is logged once.
fn failed(
    ctx: &Context,
    queue: &WorkQueue,
    key: &ProxyKey,
    memory: &mut Memory,
    error: &Error,
) -> &'static str {
    // Whatever was planned from may be old.
    memory.newest = None;
    let delay = queue.lock().failed(key, Instant::now(), jitter());
    let text = words(error);
    if error.is_conflict() {
        tracing::debug!(error = text, ?delay, "somebody else wrote; looking again");
        return "conflict";
    }
    ctx.metrics.proxy.failed(key, error.class());
    if memory.logged.as_ref() == Some(&text) {
        tracing::debug!(error = text, ?delay, "failed again");
    } else {
        tracing::warn!(error = text, ?delay, "failed; trying again");
        memory.logged = Some(text);
    }
    "error"
}

/// From 0 to 1; the middle when the system has no random bytes.
fn jitter() -> f64 {
    let mut byte = [128];
    if getrandom::fill(&mut byte).is_err() {
        return 0.5;
    }
    f64::from(byte[0]) / 255.0
}
