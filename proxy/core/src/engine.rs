//! The engine: every decision about a datagram, a verdict and the passing of time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Settings;
use crate::counters::Counters;
use crate::factor::{LoginId, Verdict};
use crate::outputs::{Outputs, SocketId};
use crate::time::Now;

/// A RADIUS authentication server, sans I/O.
pub struct Engine {
    settings: Settings,
    counters: Counters,
}

impl Engine {
    /// An engine that knows nothing yet. `seed` must be fresh from the system's random source: States, MS-CHAP
    /// challenges and the keys of digests in memory are made from it.
    #[must_use]
    pub fn new(settings: Settings, now: Now, seed: [u8; 32]) -> Self {
        let _ = (now, seed);
        Self {
            settings,
            counters: Counters::default(),
        }
    }

    /// Goes on with another configuration. Answers that may be asked for again, pending logins (with the secret that
    /// their request proved) and limits are kept.
    pub fn reconfigure(&mut self, settings: Settings, now: Now) {
        let _ = now;
        self.settings = settings;
    }

    /// Takes a datagram that came in by `socket`. An IPv4-mapped source counts as IPv4, and is answered as it came.
    pub fn receive(
        &mut self,
        now: Now,
        from: SocketAddr,
        socket: SocketId,
        datagram: &[u8],
        out: &mut Outputs,
    ) {
        let _ = (now, from, socket, datagram, out, &self.settings);
    }

    /// Takes a provider's end of a login. For a login that ended meanwhile it does nothing, unless it is the approval
    /// of a push, which is kept for one further try of the same user for a short time.
    pub fn verdict(&mut self, now: Now, login: LoginId, verdict: Verdict, out: &mut Outputs) {
        let _ = (now, login, verdict, out);
    }

    /// A provider has started a push, call or SMS for the login: counted against the user's limit.
    pub fn pushed(&mut self, now: Now, login: LoginId) {
        let _ = (now, login);
    }

    /// Answers what has come to its deadline, and forgets what is old.
    pub fn tick(&mut self, now: Now, out: &mut Outputs) {
        let _ = (now, out);
    }

    /// When [`Engine::tick`] has something to do, in the caller's monotonic time; `None` while nothing is waiting.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// From now on no push is started: such requests are left in silence to another pod. Passcodes are answered, and
    /// pending logins go on to their verdict or deadline.
    pub fn drain(&mut self) {}

    /// Logins that wait for their answer. A draining caller ends when it is 0, or at its own deadline.
    #[must_use]
    pub fn pending(&self) -> usize {
        0
    }

    /// What was counted since the engine was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
