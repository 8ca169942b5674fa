//! Host names of load balancers, resolved in the background: no reconciliation waits for DNS, and no name for another.

mod system;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use operator_core::dns::{Answer, HostName, NoAddress};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::object_keys::RadiusProxyKey;
use crate::queue::WorkQueue;
pub(crate) use system::SystemNames;

/// Time limit of a lookup.
const DEADLINE: Duration = Duration::from_secs(10);
/// Names that are looked up at once; further ones wait.
const LOOKS_AT_ONCE: usize = 64;
/// Host names of one Service.
const MOST_NAMES: usize = 8;
/// The longest wait between two looks at what is due.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Asks for the addresses of a name.
pub(crate) trait Lookup: std::fmt::Debug + Send + Sync + 'static {
    /// Asks once. The caller limits the time.
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer>;
}

/// What the background needs.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    pub(crate) queue: WorkQueue,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// How often a name is looked up whose answer is confirmed.
    pub(crate) interval: Duration,
}

/// The names of all load balancers. It holds what RadiusProxy resources asked for last, and so is bounded by those.
#[derive(Debug)]
pub(crate) struct Names {
    lookup: Arc<dyn Lookup>,
    deps: Deps,
    watched: Mutex<BTreeMap<String, WatchedName>>,
    wake: Notify,
}

/// A name.
#[derive(Debug)]
struct WatchedName {
    host: HostName,
    subscribers: BTreeSet<RadiusProxyKey>,
    due: Instant,
    under_way: bool,
}

impl Names {
    /// Nothing is looked up yet.
    pub(crate) fn new(lookup: impl Lookup, deps: Deps) -> Self {
        Self {
            lookup: Arc::new(lookup),
            deps,
            watched: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, WatchedName>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of these names now, without waiting. From now on the RadiusProxy is enqueued when the answer for one of
    /// them changes, and for no other name.
    pub(crate) fn observe(&self, key: &RadiusProxyKey, names: &[String]) -> Vec<HostName> {
        let hosts = names.iter().map(|name| HostName::new(name));
        let by_name: BTreeMap<String, HostName> = hosts.map(|host| (host.name.clone(), host)).collect();
        let mut all = self.lock();
        all.retain(|name, watched| {
            if !by_name.contains_key(name) {
                watched.subscribers.remove(key);
            }
            !watched.subscribers.is_empty()
        });
        let mut known = Vec::new();
        for (name, host) in by_name.into_iter().take(MOST_NAMES) {
            let watched = all.entry(name).or_insert_with(|| {
                self.wake.notify_one();
                WatchedName {
                    host,
                    subscribers: BTreeSet::new(),
                    due: Instant::now(),
                    under_way: false,
                }
            });
            watched.subscribers.insert(key.clone());
            known.push(watched.host.clone());
        }
        known
    }

    /// Looks names up until the end of the term.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut looks: JoinSet<(String, Answer)> = JoinSet::new();
        loop {
            let now = Instant::now();
            self.begin(&mut looks, now);
            let due = self.next_due().filter(|_| looks.len() < LOOKS_AT_ONCE);
            let wait = due.map_or(MAX_WAIT, |due| due.saturating_duration_since(now).min(MAX_WAIT));
            tokio::select! {
                () = self.deps.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                Some(look) = looks.join_next() => {
                    if let Ok((name, answer)) = look {
                        self.take(&name, &answer, Timestamp::now());
                    }
                }
            }
        }
    }

    /// Begins the looks that are due, as far as there is room, those that wait for longest first.
    fn begin(&self, looks: &mut JoinSet<(String, Answer)>, now: Instant) {
        let room = LOOKS_AT_ONCE.saturating_sub(looks.len());
        if room == 0 {
            return;
        }
        let mut all = self.lock();
        let due = all
            .iter_mut()
            .filter(|(_, watched)| !watched.under_way && watched.due <= now);
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, watched)| watched.due);
        for (name, watched) in due.into_iter().take(room) {
            watched.under_way = true;
            let (lookup, name) = (Arc::clone(&self.lookup), name.clone());
            looks.spawn(async move {
                let look = tokio::time::timeout(DEADLINE, lookup.look_up(&name));
                let late = |_| Answer {
                    v4: Err(NoAddress::NoAnswer),
                    v6: Err(NoAddress::NoAnswer),
                };
                let answer = look.await.unwrap_or_else(late);
                (name, answer)
            });
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let all = self.lock();
        let waiting = all.values().filter(|watched| !watched.under_way);
        waiting.map(|watched| watched.due).min()
    }

    /// Takes an answer over, and enqueues those for whom it is news.
    fn take(&self, name: &str, answer: &Answer, now: Timestamp) {
        let result = answer.failure().map_or("ok", NoAddress::as_str);
        self.deps.metrics.name_looked_up(result);
        let mut all = self.lock();
        let Some(watched) = all.get_mut(name) else {
            return;
        };
        let before = watched.host.failure.map(|failure| failure.why);
        let news = watched.host.take(answer, now);
        watched.under_way = false;
        watched.due = Instant::now() + watched.host.look_again(self.deps.interval);
        match (before, watched.host.failure.map(|failure| failure.why)) {
            (None, Some(why)) => {
                tracing::warn!(name, why = why.as_str(), "a load balancer's name has no address");
            }
            (Some(_), None) => tracing::info!(name, "the load balancer's name has addresses again"),
            _ => {}
        }
        if news {
            tracing::debug!(name, host = ?watched.host, "another answer");
            for key in &watched.subscribers {
                self.deps.queue.enqueue(key.clone());
            }
        }
    }
}
