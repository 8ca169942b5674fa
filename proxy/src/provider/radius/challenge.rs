//! States of Access-Challenges that an upstream server waits for the answer of.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy_core::factor::UserName;

use super::server::Server;
use crate::locks::lock;
use crate::provider::recent::Recent;

/// How long a user has to type a code: as long as the engine keeps its own challenges.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
const CHALLENGES: usize = 16_384;

/// The challenges of all upstream servers: one for each user and client address, used once.
pub(super) struct Challenges(Mutex<Recent<(UserName, IpAddr), Challenge>>);

/// A challenge that was not answered yet.
pub(super) struct Challenge {
    /// Only the server that made it can go on from it.
    pub(super) server: Arc<Server>,
    /// Its State.
    pub(super) state: Vec<u8>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(ANSWERED_WITHIN, CHALLENGES)))
    }
}

impl Challenges {
    /// Keeps a challenge; an older one of the same user and address is forgotten.
    pub(super) fn keep(
        &self,
        user: UserName,
        source: IpAddr,
        server: Arc<Server>,
        state: Vec<u8>,
        now: Instant,
    ) {
        lock(&self.0).keep((user, source), Challenge { server, state }, now);
    }

    /// Takes the challenge that a user's login from an address answers.
    pub(super) fn take(&self, user: &UserName, source: IpAddr, now: Instant) -> Option<Challenge> {
        lock(&self.0).take(&(user.clone(), source), now)
    }
}
