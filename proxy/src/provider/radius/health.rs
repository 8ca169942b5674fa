//! Whether a server is up, from what was heard of it and what was not. The time is a parameter.

use std::time::{Duration, Instant};

/// Answers to Status-Server in a row that bring a server back: one that comes and goes is not used meanwhile
/// (as RFC 3539 section 3.4.1 does).
const ANSWERS_TO_REVIVE: u32 = 3;

/// How often something is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    /// Status-Server to a server of which nothing was heard (Tw, RFC 3539 section 3.4.1),
    pub(super) watch: Duration,
    /// to one that is down,
    pub(super) revive: Duration,
    /// and to one that has begun to answer again; not more often because of logins that wait, either.
    pub(super) confirm: Duration,
    /// A login to a server that is down, as a trial.
    pub(super) trial: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(30),
            revive: Duration::from_secs(5),
            confirm: Duration::from_secs(1),
            trial: Duration::from_secs(30),
        }
    }
}

/// What is known of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    intervals: Intervals,
    /// It has answered a Status-Server: then silence on one means something.
    knows_status: bool,
    heard: Option<Instant>,
    status_asked: Option<Instant>,
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
    pub(super) fn new(intervals: Intervals) -> Self {
        Self {
            intervals,
            ..Self::default()
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Of a server that is down one login gets a trial now and then.
    pub(super) fn standing(&mut self, now: Instant) -> Standing {
        match &mut self.down {
            None => Standing::Up,
            Some(down) if now.saturating_duration_since(down.last_trial) >= self.intervals.trial => {
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
        if self.knows_status {
            self.silent(asked, now)
        } else {
            Change::None
        }
    }

    /// A Status-Server is sent.
    pub(super) fn status_asked(&mut self, now: Instant) {
        self.status_asked = Some(now);
    }

    /// How long until the next Status-Server; zero when it is due.
    pub(super) fn next_status(&self, now: Instant) -> Duration {
        let (last, every) = match &self.down {
            Some(Down { answers: 0, .. }) => (self.status_asked, self.intervals.revive),
            Some(_) => (self.status_asked, self.intervals.confirm),
            None => (self.status_asked.max(self.heard), self.intervals.watch),
        };
        last.map_or(Duration::ZERO, |last| {
            (last + every).saturating_duration_since(now)
        })
    }

    /// Whether a login's suspicion is worth a Status-Server: nothing was asked or heard just now.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        let last = self.status_asked.max(self.heard);
        self.down.is_none()
            && last.is_none_or(|last| now.saturating_duration_since(last) >= self.intervals.confirm)
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
        assert_eq!(
            health.silent(start + seconds(4), start + seconds(9)),
            Change::None
        );
        assert_eq!(
            health.silent(start + seconds(6), start + seconds(9)),
            Change::Died
        );
        assert_eq!(
            health.silent(start + seconds(6), start + seconds(9)),
            Change::None
        );
        assert!(!health.is_up());
    }

    #[test]
    fn silence_on_status_server_means_nothing_before_one_was_answered() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.status_silent(start, start + seconds(3)), Change::None);
        health.status_answered(start + seconds(4));
        assert_eq!(
            health.status_silent(start + seconds(5), start + seconds(8)),
            Change::Died
        );
    }

    #[test]
    fn three_answers_in_a_row_revive() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.refused(start), Change::Died);
        health.status_asked(start);
        assert_eq!(health.next_status(start + seconds(1)), seconds(4));
        assert_eq!(health.status_answered(start), Change::None);
        assert_eq!(health.next_status(start), seconds(1));
        assert_eq!(health.status_answered(start), Change::None);
        assert_eq!(
            health.status_silent(start + seconds(1), start + seconds(4)),
            Change::None
        );
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
        assert_eq!(health.next_status(start), Duration::ZERO);
        health.answered(start);
        assert_eq!(health.next_status(start + seconds(10)), seconds(20));
        assert_eq!(health.next_status(start + seconds(100)), Duration::ZERO);
        assert!(!health.is_doubtful(start));
        assert!(health.is_doubtful(start + seconds(1)));
        health.status_asked(start + seconds(1));
        assert!(!health.is_doubtful(start + seconds(1)));
    }
}
