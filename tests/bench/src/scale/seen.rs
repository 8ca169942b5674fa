//! The RadiusProxy resources as the API server tells of them, with the time at which each was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use operator_core::api::RadiusProxy;
use tokio::sync::Notify;

/// How often a wait that goes on says how far it is.
const TELL: Duration = Duration::from_secs(10);

/// One RadiusProxy, as far as the figures need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The condition Registered.
    pub(crate) registered: bool,
    /// The condition Ready.
    pub(crate) ready: bool,
    /// How many conditions hold.
    pub(crate) holding: usize,
    /// What AWS has, as the status tells.
    pub(crate) addresses: BTreeSet<String>,
    /// Whether the last write repaired a foreign change.
    pub(crate) repaired: bool,
    /// The first condition that does not hold, in words.
    pub(crate) trouble: String,
}

/// All rows by namespace and name, each with the time since when it is as it is. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    rows: Arc<Mutex<Rows>>,
    changed: Arc<Notify>,
}

/// Rows by namespace and name.
pub(crate) type Rows = BTreeMap<(String, String), (Row, Instant)>;

impl Seen {
    /// Watches until it is dropped.
    pub(crate) async fn run(self, client: Client) {
        let api: Api<RadiusProxy> = Api::all(client);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            if let Ok(watcher::Event::Apply(proxy) | watcher::Event::InitApply(proxy)) = event {
                self.saw(&proxy);
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, proxy: &RadiusProxy) {
        let key = (
            proxy.metadata.namespace.clone().unwrap_or_default(),
            proxy.metadata.name.clone().unwrap_or_default(),
        );
        let row = row(proxy);
        let mut rows = self.lock();
        if rows.get(&key).is_none_or(|(before, _)| *before != row) {
            rows.insert(key, (row, Instant::now()));
            drop(rows);
            self.changed.notify_one();
        }
    }

    /// Waits until `done` gives something, telling every few seconds how far it is. Gives up when neither `progress` nor the
    /// number of conditions that hold gets any further for `patience`.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        progress: impl Fn(&Rows) -> usize,
        mut done: impl FnMut(&Rows) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let (mut best, mut best_at, mut told) = ((0, 0), begun, begun);
        loop {
            {
                let rows = self.lock();
                if let Some(found) = done(&rows) {
                    return Ok(found);
                }
                let now = progress(&rows);
                let holding = rows.values().map(|(row, _)| row.holding).sum();
                if (now, holding) > best {
                    (best, best_at) = ((now, holding), Instant::now());
                }
                if told.elapsed() > TELL {
                    told = Instant::now();
                    eprintln!("  {what}: {now} after {:.0} s", begun.elapsed().as_secs_f64());
                }
                if best_at.elapsed() > patience {
                    let stuck = rows.iter().find(|(_, (row, _))| !row.trouble.is_empty());
                    let stuck = stuck.map_or_else(String::new, |((namespace, name), (row, _))| {
                        format!("; for one, {namespace}/{name}: {}", row.trouble)
                    });
                    bail!("{what}: no progress for {} s at {now}{stuck}", patience.as_secs());
                }
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), self.changed.notified()).await;
        }
    }
}

fn row(proxy: &RadiusProxy) -> Row {
    let Some(status) = &proxy.status else {
        return Row {
            trouble: "it has no status".to_owned(),
            ..Row::default()
        };
    };
    let holds = |name: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == name && condition.status == "True")
    };
    let failing = status
        .conditions
        .iter()
        .find(|condition| condition.status != "True");
    Row {
        registered: holds("Registered"),
        ready: holds("Ready"),
        holding: status
            .conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .count(),
        addresses: status
            .registered_servers
            .iter()
            .map(|server| server.address.clone())
            .collect(),
        repaired: (status.last_write.as_ref())
            .is_some_and(|last| last.reason.starts_with("changed from outside")),
        trouble: failing.map_or_else(String::new, |condition| {
            format!("{} {}: {}", condition.type_, condition.reason, condition.message)
        }),
    }
}
