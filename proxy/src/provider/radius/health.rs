//! Whether a server is up, from what was heard of it and what was not. The time is a parameter.
//!
//! The states are those of a home server of FreeRADIUS: alive, zombie, dead. A login that gets no answer may be a phone
//! that nobody picks up, so the silence of one login makes a zombie and nothing worse.

use std::time::{Duration, Instant};

use proxy_core::factor::UserName;

/// Answers to Status-Server in a row that bring a server back: one that comes and goes is not used meanwhile
/// (as RFC 3539 section 3.4.1 does).
const ANSWERS_TO_REVIVE: u32 = 3;
/// Number of users without an answer that makes a server dead, if no other user got an answer meanwhile.
const SILENT_USERS: usize = 3;

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
    /// Time without any answer after which one more unanswered login makes a zombie dead.
    pub(super) zombie: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(30),
            revive: Duration::from_secs(5),
            confirm: Duration::from_secs(1),
            trial: Duration::from_secs(30),
            zombie: Duration::from_secs(40),
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
    /// When the host last said that nothing listens there.
    refused: Option<Instant>,
    zombie: Option<Zombie>,
    down: Option<Down>,
}

/// Since the first login without an answer, nothing was heard.
#[derive(Debug)]
struct Zombie {
    since: Instant,
    /// Whose logins got none; fewer than [`SILENT_USERS`].
    users: Vec<UserName>,
}

#[derive(Debug)]
struct Down {
    answers: u32,
    last_trial: Instant,
}

/// The state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Alive,
    /// A login got no answer. The server is still used like one that is alive.
    Zombie,
    Dead,
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
    /// It has become a zombie.
    Suspected,
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

    pub(super) fn state(&self) -> State {
        match (&self.down, &self.zombie) {
            (Some(_), _) => State::Dead,
            (None, Some(_)) => State::Zombie,
            (None, None) => State::Alive,
        }
    }

    /// Whether the server answers Status-Server, so that silence shows that it is dead. Otherwise its users may only have
    /// ignored their phones.
    pub(super) fn knows_status(&self) -> bool {
        self.knows_status
    }

    /// Whether a login sent since `asked` can expect no answer: Status-Server or the host has shown that the server is
    /// dead.
    pub(super) fn is_lost(&self, asked: Instant) -> bool {
        self.down.is_some() && (self.knows_status || self.refused.is_some_and(|at| at >= asked))
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
        self.hear(now);
        if self.down.take().is_some() {
            self.knows_status = false;
            return Change::Revived;
        }
        Change::None
    }

    /// A Status-Server was answered.
    pub(super) fn status_answered(&mut self, now: Instant) -> Change {
        self.hear(now);
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

    /// A Status-Server was answered when nobody waited for it any more. That does not make it one that answers in time.
    pub(super) fn status_answered_late(&mut self, now: Instant) -> Change {
        if self.knows_status {
            self.hear(now);
            return Change::None;
        }
        self.answered(now)
    }

    /// Nothing listens there: the host said so (ICMP).
    pub(super) fn refused(&mut self, now: Instant) -> Change {
        self.refused = Some(now);
        self.die(now)
    }

    /// A login of `user` got no answer to anything it sent since `asked`.
    pub(super) fn silent(&mut self, user: &UserName, asked: Instant, now: Instant) -> Change {
        if self.down.is_some() || self.has_heard_since(asked) {
            return Change::None;
        }
        let Some(zombie) = &mut self.zombie else {
            self.zombie = Some(Zombie {
                since: now,
                users: vec![user.clone()],
            });
            return Change::Suspected;
        };
        if !zombie.users.contains(user) {
            zombie.users.push(user.clone());
        }
        let is_over = now.saturating_duration_since(zombie.since) >= self.intervals.zombie;
        if is_over || zombie.users.len() >= SILENT_USERS {
            self.die(now)
        } else {
            Change::None
        }
    }

    /// A Status-Server, and its retransmissions, got no answer since `asked`. That says nothing of a server that has
    /// never answered one.
    pub(super) fn status_silent(&mut self, asked: Instant, now: Instant) -> Change {
        if let Some(down) = &mut self.down {
            down.answers = 0;
        }
        if self.knows_status && !self.has_heard_since(asked) {
            self.die(now)
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

    fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.zombie = None;
    }

    fn has_heard_since(&self, asked: Instant) -> bool {
        self.heard.is_some_and(|heard| heard >= asked)
    }

    fn die(&mut self, now: Instant) -> Change {
        self.zombie = None;
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
mod tests;
