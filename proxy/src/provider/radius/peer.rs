//! What a server's lanes and its logins share: its secret, its health, and what an administrator is told of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proxy_core::factor::UserName;
use tokio::sync::watch;

use super::answer::{Answer, Flaw};
use super::health::{Change, Health, Intervals, Standing, State};
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
    state: watch::Sender<State>,
    /// Signals that the server was found dead.
    lost: watch::Sender<()>,
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
            state: watch::Sender::new(State::Alive),
            lost: watch::Sender::new(()),
            told: Mutex::new(None),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Tells when the server's state changes.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn is_up(&self) -> bool {
        *self.state.borrow() != State::Dead
    }

    /// Tells when it was proved that the server is dead; see [`Peer::is_lost`].
    pub(super) fn lost(&self) -> watch::Receiver<()> {
        self.lost.subscribe()
    }

    /// Whether a login sent since `asked` can expect no answer.
    pub(super) fn is_lost(&self, asked: Instant) -> bool {
        self.health().is_lost(asked)
    }

    /// Whether the server answers Status-Server.
    pub(super) fn knows_status(&self) -> bool {
        self.health().knows_status()
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

    /// A valid answer that came too late for its request: the server is alive.
    pub(super) fn heard_late(&self, kind: Kind) {
        let now = Instant::now();
        self.change(|health| match kind {
            Kind::Access => health.answered(now),
            Kind::Status => health.status_answered_late(now),
        });
    }

    pub(super) fn refused(&self) {
        let now = Instant::now();
        self.change(|health| health.refused(now));
        self.lost.send_replace(());
    }

    pub(super) fn silent(&self, user: &UserName, asked: Instant) {
        let now = Instant::now();
        self.change(|health| health.silent(user, asked, now));
    }

    pub(super) fn status_silent(&self, asked: Instant) {
        let now = Instant::now();
        if self.change(|health| health.status_silent(asked, now)) == Change::Died {
            self.lost.send_replace(());
        }
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

    fn change(&self, observe: impl FnOnce(&mut Health) -> Change) -> Change {
        let mut health = self.health();
        let change = observe(&mut health);
        match change {
            Change::None => {}
            Change::Suspected => tracing::info!(
                server = self.name,
                "a login got no answer from an upstream server; it is held for dead when others get none either"
            ),
            Change::Died => tracing::warn!(server = self.name, "an upstream server does not answer"),
            Change::Revived => tracing::info!(server = self.name, "an upstream server answers again"),
        }
        // Under the lock, so that the last change is the last one told. An answer ends a zombie without a word.
        let state = health.state();
        self.state
            .send_if_modified(|told| std::mem::replace(told, state) != state);
        change
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
