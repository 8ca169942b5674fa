//! States of Access-Challenges that an upstream server waits for the answer of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy_core::factor::UserName;

use super::server::Server;
use crate::locks::lock;

/// How long a user has to type a code: as long as the engine keeps its own challenges.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
const CHALLENGES: usize = 16_384;

/// The challenges of all upstream servers: one for each user and client address, used once.
#[derive(Default)]
pub(super) struct Challenges(Mutex<HashMap<(UserName, IpAddr), Challenge>>);

/// A challenge that was not answered yet.
pub(super) struct Challenge {
    /// Only the server that made it can go on from it.
    pub(super) server: Arc<Server>,
    /// Its State.
    pub(super) state: Vec<u8>,
    until: Instant,
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
        let mut kept = lock(&self.0);
        if kept.len() >= CHALLENGES {
            kept.retain(|_, challenge| now < challenge.until);
        }
        if kept.len() >= CHALLENGES
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, c)| c.until)
                .map(|(key, _)| key.clone())
        {
            kept.remove(&oldest);
        }
        let until = now + ANSWERED_WITHIN;
        kept.insert((user, source), Challenge { server, state, until });
    }

    /// Takes the challenge that a user's login from an address answers.
    pub(super) fn take(&self, user: &UserName, source: IpAddr, now: Instant) -> Option<Challenge> {
        let mut kept = lock(&self.0);
        if kept.is_empty() {
            return None;
        }
        kept.remove(&(user.clone(), source))
            .filter(|challenge| now < challenge.until)
    }
}
