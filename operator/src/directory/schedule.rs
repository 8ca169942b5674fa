//! When a directory is described next: a function of earlier answers and the time.

use std::time::{Duration, Instant};

/// The delay after the first failure. It doubles with each further one, up to [`MAX_BACK_OFF`].
const MIN_BACK_OFF: Duration = Duration::from_secs(5);
const MAX_BACK_OFF: Duration = Duration::from_secs(120);
/// The longest delay while a recent answer is needed.
const MAX_BACK_OFF_WHEN_HOT: Duration = Duration::from_secs(30);
/// The least time between two calls for the same directory.
const SPACING: Duration = Duration::from_millis(500);

/// When one directory was described, and when it has to be described again.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// How old an answer may be.
    allowed: Duration,
    /// When the last call was sent.
    sent: Option<Instant>,
    /// When it ended.
    ended: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// An answer must be of a call sent at this time or later.
    fresher_than: Option<Instant>,
}

impl Schedule {
    /// Never described.
    pub(super) const fn new(allowed: Duration) -> Self {
        Self {
            allowed,
            sent: None,
            ended: None,
            failures: 0,
            fresher_than: None,
        }
    }

    /// How old an answer may be from now on.
    pub(super) const fn allow(&mut self, allowed: Duration) {
        self.allowed = allowed;
    }

    /// Whether answers have to be recent, because something is changing.
    pub(super) fn is_hot(&self) -> bool {
        self.allowed <= Duration::from_secs(10)
    }

    /// Only an answer to a call that is sent from now on counts.
    pub(super) const fn refresh(&mut self, now: Instant) {
        self.fresher_than = Some(now);
    }

    /// A call was sent, and has ended.
    pub(super) const fn answered(&mut self, sent: Instant, ended: Instant, well: bool) {
        self.sent = Some(sent);
        self.ended = Some(ended);
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
    }

    /// When to describe the directory next.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let Some(sent) = self.sent else {
            return now;
        };
        let regular = sent
            + if self.failures == 0 {
                self.allowed
            } else {
                self.back_off()
            };
        if self.fresher_than.is_some_and(|limit| sent < limit) {
            regular.min(sent + SPACING)
        } else {
            regular
        }
    }

    /// Whether to include the directory in a call that is sent for another one.
    pub(super) fn nearly_due(&self, now: Instant) -> bool {
        self.due(now) <= now + self.allowed / 4
    }

    /// Whether the last answer can be used: it is neither too old nor outdated, or it is a failure.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let (Some(sent), Some(ended)) = (self.sent, self.ended) else {
            return false;
        };
        if self.fresher_than.is_some_and(|limit| sent < limit) {
            return false;
        }
        // An answer is used while the next call is on its way, and for a while after it came, however long it took.
        let expected = sent + self.allowed + self.allowed / 2 + Duration::from_secs(5);
        self.failures > 0 || now <= expected.max(ended + self.allowed)
    }

    fn back_off(&self) -> Duration {
        MIN_BACK_OFF
            .saturating_mul(1 << self.failures.saturating_sub(1).min(8))
            .min(MAX_BACK_OFF)
            .min(self.allowed.max(MAX_BACK_OFF_WHEN_HOT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_directory_is_described_at_once_and_then_as_often_as_allowed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(45 * S);
        assert_eq!((schedule.due(now), schedule.is_usable(now)), (now, false));
        schedule.answered(now, now, true);
        assert_eq!(schedule.due(now), now + 45 * S);
        assert!(schedule.is_usable(now + 45 * S));
        assert!(!schedule.is_usable(now + 100 * S));
        schedule.allow(2 * S);
        assert_eq!((schedule.due(now), schedule.is_hot()), (now + 2 * S, true));
    }

    #[test]
    fn after_a_refresh_only_a_later_call_counts() {
        let now = Instant::now();
        let mut schedule = Schedule::new(45 * S);
        schedule.answered(now, now, true);
        schedule.refresh(now + S);
        assert!(!schedule.is_usable(now + S));
        assert_eq!(schedule.due(now + S), now + SPACING);
        // A call that was already under way doesn't count.
        schedule.answered(now + S / 2, now + S / 2, true);
        assert!(!schedule.is_usable(now + S));
        schedule.answered(now + S, now + S, true);
        assert!(schedule.is_usable(now + S));
        assert_eq!(schedule.due(now + S), now + 46 * S);
    }

    #[test]
    fn failures_are_retried_less_and_less_often_and_stay_usable_meanwhile() {
        let now = Instant::now();
        let mut schedule = Schedule::new(600 * S);
        let mut delays = Vec::new();
        for _ in 0..8 {
            schedule.answered(now, now, false);
            delays.push(schedule.due(now) - now);
        }
        assert_eq!(delays[..3], [5 * S, 10 * S, 20 * S]);
        assert_eq!(delays[7], MAX_BACK_OFF);
        assert!(schedule.is_usable(now + 3600 * S));
    }

    #[test]
    fn a_slow_answer_is_usable_when_it_arrives_and_the_next_call_is_due_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(5 * S);
        schedule.answered(now, now + 20 * S, true);
        assert!(schedule.is_usable(now + 25 * S) && !schedule.is_usable(now + 26 * S));
        assert_eq!(schedule.due(now + 20 * S), now + 5 * S);
    }

    #[test]
    fn a_directory_that_is_nearly_due_joins_a_call() {
        let now = Instant::now();
        let mut schedule = Schedule::new(40 * S);
        schedule.answered(now, now, true);
        assert!(!schedule.nearly_due(now + 29 * S));
        assert!(schedule.nearly_due(now + 30 * S));
    }
}
