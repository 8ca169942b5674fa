//! When a directory is asked about next, as a function of what is known and the time.

use std::time::{Duration, Instant};

/// A failed call is tried again after this, doubling up to the other.
const FIRST_DELAY: Duration = Duration::from_secs(5);
const LAST_DELAY: Duration = Duration::from_secs(120);
/// What is asked for often anyway is tried again at least this often.
const LAST_DELAY_WHEN_HOT: Duration = Duration::from_secs(30);
/// Something urgent still waits so long after the last call for the same directory.
const SPACING: Duration = Duration::from_millis(500);

/// The state of one directory's questions.
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
    /// Never asked.
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

    /// When to ask.
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

    /// Whether it is worth asking now, when a call for another directory is made anyway.
    pub(super) fn nearly_due(&self, now: Instant) -> bool {
        self.due(now) <= now + self.allowed / 4
    }

    /// Whether what is known may be used: it is neither too old nor overtaken, or it was tried and could not be had.
    pub(super) fn usable(&self, now: Instant) -> bool {
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
        FIRST_DELAY
            .saturating_mul(1 << self.failures.saturating_sub(1).min(8))
            .min(LAST_DELAY)
            .min(self.allowed.max(LAST_DELAY_WHEN_HOT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_directory_is_asked_about_at_once_and_then_as_often_as_allowed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(45 * S);
        assert_eq!((schedule.due(now), schedule.usable(now)), (now, false));
        schedule.answered(now, now, true);
        assert_eq!(schedule.due(now), now + 45 * S);
        assert!(schedule.usable(now + 45 * S));
        assert!(!schedule.usable(now + 100 * S));
        schedule.allow(2 * S);
        assert_eq!((schedule.due(now), schedule.is_hot()), (now + 2 * S, true));
    }

    #[test]
    fn after_a_refresh_only_a_later_call_counts() {
        let now = Instant::now();
        let mut schedule = Schedule::new(45 * S);
        schedule.answered(now, now, true);
        schedule.refresh(now + S);
        assert!(!schedule.usable(now + S));
        assert_eq!(schedule.due(now + S), now + SPACING);
        // A call that was under way when it was asked for does not do.
        schedule.answered(now + S / 2, now + S / 2, true);
        assert!(!schedule.usable(now + S));
        schedule.answered(now + S, now + S, true);
        assert!(schedule.usable(now + S));
        assert_eq!(schedule.due(now + S), now + 46 * S);
    }

    #[test]
    fn failures_are_tried_again_more_and_more_seldom_and_known_as_failures_meanwhile() {
        let now = Instant::now();
        let mut schedule = Schedule::new(600 * S);
        let mut delays = Vec::new();
        for _ in 0..8 {
            schedule.answered(now, now, false);
            delays.push(schedule.due(now) - now);
        }
        assert_eq!(delays[..3], [5 * S, 10 * S, 20 * S]);
        assert_eq!(delays[7], LAST_DELAY);
        assert!(schedule.usable(now + 3600 * S));
    }

    #[test]
    fn an_answer_that_took_long_is_usable_when_it_comes_and_the_next_one_asked_for_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(5 * S);
        schedule.answered(now, now + 20 * S, true);
        assert!(schedule.usable(now + 25 * S) && !schedule.usable(now + 26 * S));
        assert_eq!(schedule.due(now + 20 * S), now + 5 * S);
    }

    #[test]
    fn those_that_are_nearly_due_join_a_call() {
        let now = Instant::now();
        let mut schedule = Schedule::new(40 * S);
        schedule.answered(now, now, true);
        assert!(!schedule.nearly_due(now + 29 * S));
        assert!(schedule.nearly_due(now + 30 * S));
    }
}
