//! Measures how late this program runs. If it is late itself, a timeout says nothing about the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(250);
/// A timeout is ignored if this program's own lateness was at least one part in so many of the wait. A call takes some ten
/// turns of the runtime: with less lateness than half of the wait its answer would have been read in time.
const SHARE: u32 = 2;

/// How late tasks of the runtime are woken, measured four times a second.
#[derive(Debug)]
pub(super) struct Lag {
    started: Instant,
    is_measured: AtomicBool,
    /// In microseconds, all that was measured.
    late: AtomicU64,
    /// Microseconds from `started` to when the next tick is due.
    due: AtomicU64,
}

/// The start of a wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: Instant,
    late: Duration,
}

impl Lag {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            is_measured: AtomicBool::new(false),
            late: AtomicU64::new(0),
            due: AtomicU64::new(0),
        })
    }

    /// Starts a wait. The first wait starts the measurement on its runtime.
    pub(super) fn mark(self: &Arc<Self>) -> Mark {
        if !self.is_measured.swap(true, Ordering::Relaxed) {
            self.set_due(Instant::now() + TICK);
            tokio::spawn(measure(Arc::downgrade(self)));
        }
        let at = Instant::now();
        Mark {
            at,
            late: self.late(at),
        }
    }

    /// Whether this program was so late since `mark` that the wait proves nothing.
    pub(super) fn was_late_since(&self, mark: Mark) -> bool {
        let now = Instant::now();
        let late = self.late(now).saturating_sub(mark.late);
        is_too_late(now.saturating_duration_since(mark.at), late)
    }

    /// The measured lateness, plus the time by which the next tick is overdue.
    fn late(&self, now: Instant) -> Duration {
        let due = self.started + Duration::from_micros(self.due.load(Ordering::Relaxed));
        let overdue = now.saturating_duration_since(due);
        Duration::from_micros(self.late.load(Ordering::Relaxed)) + overdue
    }

    fn set_due(&self, due: Instant) {
        let micros = micros(due.saturating_duration_since(self.started));
        self.due.store(micros, Ordering::Relaxed);
    }

    /// Counts how late the tick is that was due, and says when the next one is.
    fn tick(&self) -> Instant {
        let now = Instant::now();
        self.late.store(micros(self.late(now)), Ordering::Relaxed);
        let due = now + TICK;
        self.set_due(due);
        due
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Of a short wait the lateness cannot be told.
fn is_too_late(waited: Duration, late: Duration) -> bool {
    late >= TICK && late >= waited / SHARE
}

async fn measure(lag: Weak<Lag>) {
    while let Some(due) = lag.upgrade().map(|lag| lag.tick()) {
        tokio::time::sleep_until(due.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lateness_counts_from_the_first_wait_on_once() {
        let lag = Lag::new();
        let mark = lag.mark();
        // Nothing else of this runtime runs meanwhile.
        std::thread::sleep(TICK * 5);
        assert!(lag.was_late_since(mark));
        let late = lag.late(Instant::now());
        tokio::task::yield_now().await;
        let after = lag.late(Instant::now());
        assert!(after >= late && after < late + TICK, "{late:?} {after:?}");
    }

    #[test]
    fn a_wait_proves_nothing_of_which_half_was_our_own_lateness() {
        let seconds = Duration::from_secs;
        assert!(!is_too_late(seconds(8), seconds(3)));
        assert!(is_too_late(seconds(8), seconds(4)));
        assert!(!is_too_late(Duration::ZERO, Duration::from_millis(2)));
    }
}
