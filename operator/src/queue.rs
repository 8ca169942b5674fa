//! The work queue: each key once, one piece of work for a key at a time, later when told so.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::key::ProxyKey;

/// Several things happen at once when a pod comes or goes: they are worked on together.
const GATHERING: Duration = Duration::from_millis(100);

/// Delays after failures double from the first to the last of these.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LAST_DELAY: Duration = Duration::from_secs(60);
/// After a failure something new is looked at no sooner than the delay or this, whichever is shorter: a mended cause
/// is noticed soon, and work that fails after having changed something does not drive itself.
const LONGEST_DEAFNESS: Duration = Duration::from_secs(10);

/// Keys and when each is due. It holds one entry for each key that exists, and so is bounded by the resources there
/// are.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    entries: HashMap<K, Entry>,
    schedule: BTreeSet<(Instant, K)>,
}

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    running: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// What [`Queue::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<K> {
    /// Work on this key now; [`Queue::done`], [`Queue::failed`] or [`Queue::gone`] ends it.
    Start(K),
    /// Nothing before this time.
    At(Instant),
    /// Nothing at all.
    Empty,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            schedule: BTreeSet::new(),
        }
    }

    /// Has `key` worked on at `at` or earlier. While it is being worked on, this is remembered for afterwards, since
    /// the work may have looked before what happened now.
    pub(crate) fn add(&mut self, key: K, at: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        let at = entry.not_before.map_or(at, |limit| limit.max(at));
        if entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = entry.due.replace(at) {
            self.schedule.remove(&(due, key.clone()));
        }
        if !entry.running {
            self.schedule.insert((at, key));
        }
    }

    /// Takes the key that is due longest.
    pub(crate) fn next(&mut self, now: Instant) -> Next<K> {
        match self.schedule.first() {
            None => Next::Empty,
            Some((due, _)) if *due > now => Next::At(*due),
            Some(_) => {
                let Some((_, key)) = self.schedule.pop_first() else {
                    return Next::Empty;
                };
                let entry = self.entries.entry(key.clone()).or_default();
                entry.due = None;
                entry.running = true;
                Next::Start(key)
            }
        }
    }

    /// The work on `key` ended well; it is due again at `again`, or when [`Queue::add`] says so.
    pub(crate) fn done(&mut self, key: &K, again: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = 0;
            entry.not_before = None;
        }
        self.end(key, again);
    }

    /// The work on `key` failed; it is due again after a delay that doubles with each failure in a row. `jitter` from
    /// 0 to 1 spreads those that failed together.
    pub(crate) fn failed(&mut self, key: &K, now: Instant, jitter: f64) -> Duration {
        let failures = self.entries.get_mut(key).map_or(1, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            entry.failures
        });
        let delay = back_off(failures, jitter);
        if let Some(entry) = self.entries.get_mut(key) {
            let limit = now + delay.min(LONGEST_DEAFNESS);
            entry.not_before = Some(limit);
            entry.due = entry.due.map(|due| due.max(limit));
        }
        self.end(key, Some(now + delay));
        delay
    }

    /// The work found that the key exists no more. It is forgotten, unless something happened meanwhile.
    pub(crate) fn gone(&mut self, key: &K) {
        self.done(key, None);
        if self.entries.get(key).is_some_and(|entry| entry.due.is_none()) {
            self.entries.remove(key);
        }
    }

    /// Forgets what is not being worked on: this replica does not lead, and looks at everything when it does.
    pub(crate) fn stand_down(&mut self) {
        self.schedule.clear();
        self.entries.retain(|_, entry| {
            entry.due = None;
            entry.running
        });
    }

    /// Keys that are due and wait for a worker.
    pub(crate) fn waiting(&self, now: Instant) -> usize {
        self.schedule.iter().take_while(|(due, _)| *due <= now).count()
    }

    fn end(&mut self, key: &K, again: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.running = false;
        entry.due = match (entry.due, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(due) = entry.due {
            self.schedule.insert((due, key.clone()));
        }
    }
}

/// The delay after so many failures in a row: between half and all of 0.5 s, 1 s, 2 s … 1 min.
fn back_off(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let most = doubled.min(LAST_DELAY);
    most.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// The queue as its producers and its consumer share it. Clones are the same queue.
#[derive(Debug, Clone)]
pub(crate) struct WorkQueue {
    queue: Arc<Mutex<Queue<ProxyKey>>>,
    added: Arc<Notify>,
}

impl WorkQueue {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            queue: Arc::new(Mutex::new(Queue::new())),
            added: Arc::default(),
        }
    }

    /// Something happened to this RadiusProxy.
    pub(crate) fn touch(&self, key: ProxyKey) {
        self.lock().add(key, Instant::now() + GATHERING);
        self.added.notify_one();
    }

    /// The queue itself, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue<ProxyKey>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something was added.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_is_due_once_and_at_the_earliest_time() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now + 9 * S);
        queue.add("a", now + S);
        queue.add("a", now + 5 * S);
        assert_eq!(queue.next(now), Next::At(now + S));
        assert_eq!(queue.next(now + S), Next::Start("a"));
        assert_eq!(queue.next(now + 9 * S), Next::Empty);
    }

    #[test]
    fn what_happens_during_the_work_is_worked_on_afterwards_and_never_beside_it() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now);
        assert_eq!(queue.next(now), Next::Start("a"));
        queue.add("a", now);
        assert_eq!(queue.next(now), Next::Empty);
        queue.done(&"a", Some(now + 60 * S));
        assert_eq!(queue.next(now), Next::Start("a"));
        queue.done(&"a", Some(now + 60 * S));
        assert_eq!(queue.next(now), Next::At(now + 60 * S));
    }

    #[test]
    fn failures_wait_longer_each_time_and_a_success_forgets_them() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now);
        let mut delays = Vec::new();
        let mut at = now;
        for _ in 0..12 {
            assert_eq!(queue.next(at), Next::Start("a"));
            let delay = queue.failed(&"a", at, 1.0);
            assert_eq!(queue.next(at), Next::At(at + delay));
            at += delay;
            delays.push(delay);
        }
        assert_eq!(delays[..3], [FIRST_DELAY, S, 2 * S]);
        assert_eq!(delays[11], LAST_DELAY);
        assert_eq!(queue.next(at), Next::Start("a"));
        queue.done(&"a", None);
        queue.add("a", at);
        queue.next(at);
        assert_eq!(queue.failed(&"a", at, 0.0), FIRST_DELAY / 2);
    }

    #[test]
    fn what_happens_after_a_failure_is_looked_at_after_a_short_while() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now);
        let mut at = now;
        for _ in 0..9 {
            queue.next(at);
            at += queue.failed(&"a", at, 1.0);
        }
        queue.next(at);
        queue.add("a", at);
        queue.failed(&"a", at, 1.0);
        queue.add("a", at + S);
        assert_eq!(queue.next(at + S), Next::At(at + LONGEST_DEAFNESS));
    }

    #[test]
    fn a_key_that_is_gone_is_forgotten_unless_it_came_back_meanwhile() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now);
        queue.next(now);
        queue.add("a", now);
        queue.gone(&"a");
        assert_eq!(queue.next(now), Next::Start("a"));
        queue.gone(&"a");
        assert_eq!((queue.next(now), queue.entries.len()), (Next::Empty, 0));
    }

    #[test]
    fn a_replica_that_does_not_lead_collects_nothing() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a", now);
        queue.add("b", now + S);
        assert_eq!(queue.next(now), Next::Start("a"));
        queue.add("a", now);
        queue.stand_down();
        queue.done(&"a", None);
        assert_eq!((queue.next(now + S), queue.entries.len()), (Next::Empty, 1));
        queue.stand_down();
        assert_eq!(queue.entries.len(), 0);
    }
}
