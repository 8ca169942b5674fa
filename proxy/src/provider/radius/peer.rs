//! What a server's lanes and its logins share: its secret, its health, and what an administrator is told of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::answer::{Answer, Flaw};
use super::health::{Change, Health, Intervals, Standing};
use super::lane::Kind;
use super::packet::Key;
use crate::locks::lock;

/// A wrong answer is logged so often at most: there is one for each login.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// One upstream server, without its sockets.
pub(super) struct Peer {
    name: String,
    key: Key,
    demand: bool,
    /// It has sent a Message-Authenticator: an answer without one is then no answer of it.
    signs: AtomicBool,
    health: Mutex<Health>,
    up: watch::Sender<bool>,
    told: Mutex<Option<Instant>>,
}

impl Peer {
    pub(super) fn new(name: String, key: Key, demand: bool, intervals: Intervals) -> Self {
        Self {
            name,
            key,
            demand,
            signs: AtomicBool::new(false),
            health: Mutex::new(Health::new(intervals)),
            up: watch::Sender::new(true),
            told: Mutex::new(None),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Tells when the server goes down or comes up.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Message-Authenticator is not demanded in answers to Status-Server: nobody is let in by one.
    pub(super) fn verify(
        &self,
        datagram: &[u8],
        authenticator: &[u8; 16],
        kind: Kind,
    ) -> Result<Answer, Flaw> {
        let demand = kind == Kind::Access && (self.demand || self.signs.load(Ordering::Relaxed));
        self.key.verify(datagram, authenticator, demand)
    }

    /// An answer to something that waits.
    pub(super) fn heard(&self, what: &Result<Answer, Flaw>, kind: Kind) {
        let now = Instant::now();
        match what {
            Ok(answer) => {
                if answer.signed && kind == Kind::Access {
                    self.signs.store(true, Ordering::Relaxed);
                }
                self.change(|health| match kind {
                    Kind::Access => health.answered(now),
                    Kind::Status => health.status_answered(now),
                });
            }
            Err(flaw) => self.tell(*flaw, now),
        }
    }

    pub(super) fn refused(&self) {
        let now = Instant::now();
        self.change(|health| health.refused(now));
    }

    pub(super) fn silent(&self, asked: Instant) {
        let now = Instant::now();
        self.change(|health| health.silent(asked, now));
    }

    pub(super) fn status_silent(&self, asked: Instant) {
        let now = Instant::now();
        self.change(|health| health.status_silent(asked, now));
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        self.health().standing(now)
    }

    pub(super) fn next_status(&self, now: Instant) -> Duration {
        self.health().next_status(now)
    }

    pub(super) fn status_asked(&self, now: Instant) {
        self.health().status_asked(now);
    }

    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        self.health().is_doubtful(now)
    }

    fn change(&self, observe: impl FnOnce(&mut Health) -> Change) {
        let mut health = self.health();
        match observe(&mut health) {
            Change::None => return,
            Change::Died => tracing::warn!(server = self.name, "an upstream server does not answer"),
            Change::Revived => tracing::info!(server = self.name, "an upstream server answers again"),
        }
        // Under the lock, so that the last change is the last one told.
        self.up.send_replace(health.is_up());
    }

    fn tell(&self, flaw: Flaw, now: Instant) {
        let mut told = lock(&self.told);
        if told.is_none_or(|last| now.saturating_duration_since(last) >= TELL_EVERY) {
            *told = Some(now);
            tracing::warn!(
                server = self.name,
                problem = flaw.describe(),
                "an upstream server's answer is discarded"
            );
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }
}
