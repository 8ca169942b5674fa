//! Whether a server is up, from what was heard of it and what was not. The time is a parameter.

use std::time::{Duration, Instant};

/// Answers to Status-Server in a row that bring a server back: one that comes and goes is not used meanwhile
/// (as RFC 3539 section 3.4.1 does).
const ANSWERS_TO_REVIVE: u32 = 3;
/// A server that is down and does not answer Status-Server is tried by one login each time.
const TRIAL_EVERY: Duration = Duration::from_secs(30);
/// An idle server is asked so often (Tw, RFC 3539 section 3.4.1),
const WATCH_EVERY: Duration = Duration::from_secs(30);
/// one that is down so often,
const REVIVE_EVERY: Duration = Duration::from_secs(5);
/// and one that has begun to answer again so often.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);

/// What is known of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// It has answered a Status-Server: then silence on one means something.
    knows_status: bool,
    heard: Option<Instant>,
    down: Option<Down>,
}

#[derive(Debug)]
struct Down {
    answers: u32,
    last_trial: Instant,
}

/// What may be done with a server now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Ask it.
    Up,
    /// It is down; this login may see whether it still is.
    Trial,
    /// It is down: only when there is no other.
    Down,
}

/// What an observation has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Died,
    Revived,
}

impl Health {
    pub(super) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Of a server that is down one login gets a trial now and then.
    pub(super) fn standing(&mut self, now: Instant) -> Standing {
        match &mut self.down {
            None => Standing::Up,
            Some(down) if now.saturating_duration_since(down.last_trial) >= TRIAL_EVERY => {
                down.last_trial = now;
                Standing::Trial
            }
            Some(_) => Standing::Down,
        }
    }

    /// An Access-Request was answered. A server that does so while it is held for dead does not answer Status-Server
    /// (any more).
    pub(super) fn answered(&mut self, now: Instant) -> Change {
        self.heard = Some(now);
        if self.down.take().is_some() {
            self.knows_status = false;
            return Change::Revived;
        }
        Change::None
    }

    /// A Status-Server was answered.
    pub(super) fn status_answered(&mut self, now: Instant) -> Change {
        self.heard = Some(now);
        self.knows_status = true;
        if let Some(down) = &mut self.down {
            down.answers += 1;
            if down.answers >= ANSWERS_TO_REVIVE {
                self.down = None;
                return Change::Revived;
            }
        }
        Change::None
    }

    /// Nothing listens there: the host said so (ICMP).
    pub(super) fn refused(&mut self, now: Instant) -> Change {
        self.die(now)
    }

    /// A login got no answer to anything it sent since `asked`.
    pub(super) fn silent(&mut self, asked: Instant, now: Instant) -> Change {
        if self.heard.is_some_and(|heard| heard >= asked) {
            return Change::None;
        }
        self.die(now)
    }

    /// A Status-Server, and its retransmissions, got no answer since `asked`. That says nothing of a server that has
    /// never answered one.
    pub(super) fn status_silent(&mut self, asked: Instant, now: Instant) -> Change {
        if let Some(down) = &mut self.down {
            down.answers = 0;
        }
        if self.knows_status { self.silent(asked, now) } else { Change::None }
    }

    /// How long until the next Status-Server.
    pub(super) fn next_status(&self, now: Instant) -> Duration {
        match &self.down {
            Some(Down { answers: 0, .. }) => REVIVE_EVERY,
            Some(_) => CONFIRM_EVERY,
            None => self.heard.map_or(WATCH_EVERY, |heard| {
                (heard + WATCH_EVERY).saturating_duration_since(now).max(CONFIRM_EVERY)
            }),
        }
    }

    fn die(&mut self, now: Instant) -> Change {
        if self.down.is_some() {
            return Change::None;
        }
        self.down = Some(Down {
            answers: 0,
            last_trial: now,
        });
        Change::Died
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn silence_kills_only_when_nothing_was_heard_since_the_question() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.answered(start + seconds(5)), Change::None);
        assert_eq!(health.silent(start + seconds(4), start + seconds(9)), Change::None);
        assert_eq!(health.silent(start + seconds(6), start + seconds(9)), Change::Died);
        assert_eq!(health.silent(start + seconds(6), start + seconds(9)), Change::None);
        assert!(!health.is_up());
    }

    #[test]
    fn silence_on_status_server_means_nothing_before_one_was_answered() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.status_silent(start, start + seconds(3)), Change::None);
        health.status_answered(start + seconds(4));
        assert_eq!(health.status_silent(start + seconds(5), start + seconds(8)), Change::Died);
    }

    #[test]
    fn three_answers_in_a_row_revive() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.refused(start), Change::Died);
        assert_eq!(health.next_status(start), REVIVE_EVERY);
        assert_eq!(health.status_answered(start), Change::None);
        assert_eq!(health.next_status(start), CONFIRM_EVERY);
        assert_eq!(health.status_answered(start), Change::None);
        assert_eq!(health.status_silent(start + seconds(1), start + seconds(4)), Change::None);
        for expected in [Change::None, Change::None, Change::Revived] {
            assert_eq!(health.status_answered(start + seconds(9)), expected);
        }
        assert!(health.is_up());
    }

    #[test]
    fn a_dead_server_gets_one_login_as_a_trial_each_half_minute() {
        let start = Instant::now();
        let mut health = Health::default();
        health.refused(start);
        assert_eq!(health.standing(start + seconds(29)), Standing::Down);
        assert_eq!(health.standing(start + seconds(30)), Standing::Trial);
        assert_eq!(health.standing(start + seconds(31)), Standing::Down);
        assert_eq!(health.answered(start + seconds(32)), Change::Revived);
        assert_eq!(health.standing(start + seconds(32)), Standing::Up);
    }

    #[test]
    fn a_server_that_is_heard_is_not_asked_for_its_health() {
        let start = Instant::now();
        let mut health = Health::default();
        health.answered(start);
        assert_eq!(health.next_status(start + seconds(10)), seconds(20));
        assert_eq!(health.next_status(start + seconds(100)), CONFIRM_EVERY);
    }
}
