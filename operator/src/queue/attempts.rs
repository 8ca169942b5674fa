//! How the attempts to reconcile objects ended, and when each is due again. Pure: the time is a parameter.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Delays after failures double from the first to the last of these.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LAST_DELAY: Duration = Duration::from_secs(60);
/// After a failure, an event starts the next attempt no sooner than the delay or this, whichever is shorter: a cause that
/// somebody removed is noticed soon, and a reconciliation that fails after it changed something doesn't trigger itself.
const MAX_ERROR_HOLDOFF: Duration = Duration::from_secs(10);

/// The attempts, one entry for each object that exists.
#[derive(Debug)]
pub(crate) struct Attempts<K> {
    entries: HashMap<K, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    error: Option<String>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// When to retry.
    pub(crate) delay: Duration,
    /// Whether the attempt before failed with the same error.
    pub(crate) repeated: bool,
}

impl<K: Eq + Hash> Attempts<K> {
    /// No attempts.
    pub(crate) fn new() -> Self {
        Self {
            entries: HashMap::new(),
        }
    }

    /// An event asks for an attempt.
    pub(crate) fn requested(&mut self, key: K, now: Instant) {
        let entry = self.entries.entry(key).or_default();
        let at = entry.not_before.map_or(now, |limit| limit.max(now));
        entry.due = Some(entry.due.map_or(at, |due| due.min(at)));
    }

    /// An attempt begins, unless the last failure was too recent: then it may begin after the returned time.
    pub(crate) fn begin(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Ok(());
        };
        match entry.not_before.filter(|limit| *limit > now) {
            Some(limit) => {
                entry.due = Some(limit);
                Err(limit.duration_since(now))
            }
            None => {
                entry.due = None;
                Ok(())
            }
        }
    }

    /// The attempt succeeded; the next is due at `again`.
    pub(crate) fn succeeded(&mut self, key: K, again: Instant) {
        let due = self.entries.remove(&key).and_then(|entry| entry.due);
        let entry = Entry {
            due: Some(due.map_or(again, |due| due.min(again))),
            ..Entry::default()
        };
        self.entries.insert(key, entry);
    }

    /// The attempt failed. The delay doubles with each failure in a row; `jitter` from 0 to 1 spreads objects that failed
    /// together.
    pub(crate) fn failed(&mut self, key: K, now: Instant, jitter: f64, error: &str) -> Failure {
        let entry = self.entries.entry(key).or_default();
        entry.failures = entry.failures.saturating_add(1);
        let delay = back_off(entry.failures, jitter);
        entry.not_before = Some(now + delay.min(MAX_ERROR_HOLDOFF));
        entry.due = Some(now + delay);
        let repeated = entry.error.as_deref() == Some(error);
        entry.error = Some(error.to_owned());
        Failure { delay, repeated }
    }

    /// The object is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// How many objects are due and wait for a worker.
    pub(crate) fn waiting(&self, now: Instant) -> usize {
        let due = |entry: &&Entry| entry.due.is_some_and(|due| due <= now);
        self.entries.values().filter(due).count()
    }

    /// How many objects are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The delay after so many failures in a row: between half and all of 0.5 s, 1 s, 2 s … 60 s.
fn back_off(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let most = doubled.min(LAST_DELAY);
    most.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn failures_wait_longer_each_time_and_a_success_forgets_them() {
        let (mut attempts, mut at) = (Attempts::new(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..12 {
            assert_eq!(attempts.begin(&"a", at), Ok(()));
            let failure = attempts.failed("a", at, 1.0, "refused");
            at += failure.delay;
            delays.push(failure.delay);
        }
        assert_eq!(delays[..3], [FIRST_DELAY, S, 2 * S]);
        assert_eq!(delays[11], LAST_DELAY);
        attempts.succeeded("a", at);
        assert_eq!(attempts.failed("a", at, 0.0, "refused").delay, FIRST_DELAY / 2);
    }

    #[test]
    fn an_event_after_a_failure_is_looked_at_after_a_short_while() {
        let (mut attempts, now) = (Attempts::new(), Instant::now());
        for _ in 0..9 {
            attempts.failed("a", now, 1.0, "refused");
        }
        attempts.requested("a", now + S);
        assert_eq!(attempts.waiting(now + S), 0);
        assert_eq!(attempts.begin(&"a", now + S), Err(MAX_ERROR_HOLDOFF - S));
        assert_eq!(attempts.waiting(now + MAX_ERROR_HOLDOFF), 1);
        assert_eq!(attempts.begin(&"a", now + MAX_ERROR_HOLDOFF), Ok(()));
    }

    #[test]
    fn the_same_error_again_is_a_repetition_until_an_attempt_succeeds() {
        let (mut attempts, now) = (Attempts::new(), Instant::now());
        assert!(!attempts.failed("a", now, 1.0, "refused").repeated);
        assert!(attempts.failed("a", now, 1.0, "refused").repeated);
        assert!(!attempts.failed("a", now, 1.0, "too slow").repeated);
        attempts.succeeded("a", now + S);
        assert!(!attempts.failed("a", now, 1.0, "too slow").repeated);
    }

    #[test]
    fn only_what_is_due_and_not_begun_waits() {
        let (mut attempts, now) = (Attempts::new(), Instant::now());
        attempts.requested("a", now);
        attempts.requested("b", now);
        assert_eq!(attempts.waiting(now), 2);
        assert_eq!(attempts.begin(&"a", now), Ok(()));
        assert_eq!(attempts.waiting(now), 1);
        attempts.succeeded("a", now + 60 * S);
        assert_eq!((attempts.waiting(now), attempts.waiting(now + 60 * S)), (1, 2));
        attempts.forget(&"b");
        assert_eq!((attempts.waiting(now), attempts.len()), (0, 1));
    }

    #[test]
    fn an_event_during_an_attempt_counts_as_waiting_afterwards() {
        let (mut attempts, now) = (Attempts::new(), Instant::now());
        assert_eq!(attempts.begin(&"a", now), Ok(()));
        attempts.requested("a", now);
        attempts.succeeded("a", now + 60 * S);
        assert_eq!(attempts.waiting(now), 1);
    }
}
