//! Whether the operator's loops turn, and whether it has seen the cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What `/healthz` and `/readyz` look at. Clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    start: Instant,
    loops: Arc<Mutex<Vec<Loop>>>,
    seen: Arc<Mutex<Vec<(String, Seen)>>>,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    allowed: Duration,
    last: Arc<AtomicU64>,
}

/// A loop's sign of life.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.last.store(millis(self.start.elapsed()), Ordering::Relaxed);
    }
}

/// Whether a watch has delivered its first list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<AtomicBool>);

impl Seen {
    /// The first list is there.
    pub(crate) fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Health {
    /// Nothing to look at yet.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            loops: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// A loop that turns at least every `allowed`.
    pub(crate) fn expect_heartbeat(&self, name: &'static str, allowed: Duration) -> Heartbeat {
        let last = Arc::new(AtomicU64::new(millis(self.start.elapsed())));
        self.loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Loop {
                name,
                allowed,
                last: Arc::clone(&last),
            });
        Heartbeat {
            start: self.start,
            last,
        }
    }

    /// A watch whose first list readiness waits for.
    pub(crate) fn expect_list(&self, name: String) -> Seen {
        let seen = Seen::default();
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, seen.clone()));
        seen
    }

    /// Loops that do not turn, in words; empty when all is well. A restart mends these and nothing else, so an API
    /// server or an AWS that is away is none of them.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<String> {
        let at = millis(now.saturating_duration_since(self.start));
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .iter()
            .filter_map(|each| {
                let silent = at.saturating_sub(each.last.load(Ordering::Relaxed));
                (silent > millis(each.allowed))
                    .then(|| format!("{} has not turned for {} s", each.name, silent / 1000))
            })
            .collect()
    }

    /// Watches without a first list, in words; empty when the operator is ready.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|(_, seen)| !seen.get())
            .map(|(name, _)| format!("{name} have not been listed yet"))
            .collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let start = Instant::now();
        let health = Health::new(start);
        let _beat = health.expect_heartbeat("the queue", Duration::from_secs(60));
        assert!(health.stuck(start + Duration::from_secs(60)).is_empty());
        let stuck = health.stuck(start + Duration::from_secs(3600));
        assert_eq!(stuck.len(), 1);
        assert!(
            stuck[0].starts_with("the queue has not turned for 3"),
            "{stuck:?}"
        );
    }

    #[test]
    fn the_operator_is_ready_when_every_watch_has_its_list() {
        let health = Health::new(Instant::now());
        let (pods, nodes) = (
            health.expect_list("pods".into()),
            health.expect_list("nodes".into()),
        );
        pods.done();
        assert_eq!(health.unseen(), ["nodes have not been listed yet"]);
        nodes.done();
        assert!(health.unseen().is_empty());
    }
}
