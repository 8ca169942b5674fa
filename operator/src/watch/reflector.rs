//! One watch: its errors, its signs of life, and the state of its list.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::error::message;
use crate::health::{Heartbeat, List};
use crate::metrics::{KindLabel, Metrics};

/// How often a watch without events shows that it is alive, and how long it may be silent.
const TICK: Duration = Duration::from_secs(15);
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(180);

/// A watch of one kind in one scope.
pub(super) struct Watch {
    pub(super) kind: &'static str,
    pub(super) list: List,
    pub(super) heartbeat: Heartbeat,
    pub(super) metrics: Metrics,
    pub(super) cluster: Arc<Cluster>,
    pub(super) stop: CancellationToken,
}

impl Watch {
    /// Watches until `stop`; `apply` takes the events over.
    pub(super) async fn run<K>(
        self,
        api: Api<K>,
        config: Config,
        mut apply: impl FnMut(&Cluster, Event<K>) + Send,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            self.heartbeat.beat();
            let event = tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => continue,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    let step = Step::of(&event);
                    apply(&self.cluster, event);
                    self.heard(step);
                }
                Some(Err(error)) => self.broke(&error),
                // The stream of a watcher doesn't end.
                None => return,
            }
        }
    }

    fn heard(&self, step: Step) {
        if step != Step::Begin && self.list.works() {
            tracing::info!(kind = self.kind, "watching again");
        }
        if step == Step::Complete && self.list.complete() {
            // What waited for this list can be worked on.
            self.cluster.enqueue_all();
        }
    }

    /// Logs the first break only, as an API server that is away breaks every watch again and again.
    fn broke(&self, error: &Error) {
        self.metrics
            .watch_errors
            .get_or_create(&KindLabel { kind: self.kind })
            .inc();
        let error = message(error);
        if self.list.broke(&error) {
            tracing::warn!(kind = self.kind, error, "the watch broke; retrying");
        } else {
            tracing::debug!(kind = self.kind, error, "the watch is still broken");
        }
    }
}

/// What an event says of the watch itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A list begins. The API server has not answered yet.
    Begin,
    Answer,
    Complete,
}

impl Step {
    const fn of<K>(event: &Event<K>) -> Self {
        match event {
            Event::Init => Self::Begin,
            Event::InitDone => Self::Complete,
            _ => Self::Answer,
        }
    }
}
