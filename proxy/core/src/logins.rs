//! Logins that wait for a verdict.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use crate::duplicates::Key;
use crate::factor::{Approval, LoginId, UserName};
use crate::observed::ObservedLogin;
use crate::password::Carrier;
use crate::peers::PushId;
use crate::random::TextDigest;
use crate::record::CredentialKind;
use crate::reply::ReplyTo;

/// Packets of one login whose keys are remembered, so that their retransmissions stay silent.
const OLDER: usize = 16;

/// One try of a user: the packets it came in, and what its answer and record need.
pub(crate) struct Attempt {
    pub(crate) key: Key,
    pub(crate) to: ReplyTo,
    pub(crate) carrier: Carrier,
    /// The text, where the engine found it by trying keywords. Never what was typed otherwise.
    pub(crate) found: Option<Box<str>>,
    pub(crate) started: Duration,
    pub(crate) deadline: Duration,
    pub(crate) packets: u32,
    pub(crate) observed: Option<ObservedLogin>,
    /// Keys of the packets that newer ones have replaced.
    pub(crate) older: Vec<Key>,
    pub(crate) shown: Shown,
}

/// What only the record shows.
pub(crate) struct Shown {
    pub(crate) user: String,
    pub(crate) user_address: Option<IpAddr>,
    pub(crate) credential: CredentialKind,
    pub(crate) message_authenticator: bool,
    /// Its push was started by another proxy.
    pub(crate) followed: bool,
}

/// A provider was asked and has not answered yet.
pub(crate) struct Login {
    pub(crate) user: UserName,
    pub(crate) source: IpAddr,
    /// What was given; `None` where nobody may join.
    pub(crate) text: Option<TextDigest>,
    /// A packet of it has proved a secret: what proves none joins no more.
    pub(crate) proved: bool,
    /// It can start a push: the user has no other such login meanwhile.
    pub(crate) exclusive: bool,
    /// The provider has started a push.
    pub(crate) pushed: bool,
    /// The push that other proxies know of.
    pub(crate) push: Option<PushId>,
    /// An approval that waits for the other proxies' word.
    pub(crate) held: Option<Box<Approval>>,
    /// When a packet of it was seen last.
    pub(crate) last_packet: Duration,
    /// Who waits for it; nobody once the deadline has passed, while the push may still be approved.
    pub(crate) attempt: Option<Box<Attempt>>,
    /// When the engine does something about it by itself.
    pub(crate) wake: Duration,
}

/// The hasher of a [`LoginId`]: a number that the engine counts up itself, so that nobody can choose a bad one.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All of them. The caller bounds their number.
#[derive(Default)]
pub(crate) struct Logins {
    logins: HashMap<LoginId, Login, BuildHasherDefault<Spread>>,
    exclusive: HashMap<UserName, LoginId>,
    wakes: BTreeSet<(Duration, LoginId)>,
    attempts: usize,
    next: u64,
}

impl Attempt {
    /// Takes the place of the packet that waited, and remembers its key.
    pub(crate) fn replace(&mut self, newer: Self) -> Option<Key> {
        let old = std::mem::replace(&mut self.key, newer.key);
        self.to = newer.to;
        self.carrier = newer.carrier;
        self.found = newer.found;
        self.packets = self.packets.saturating_add(1);
        self.shown.message_authenticator = newer.shown.message_authenticator;
        if old == newer.key {
            return None;
        }
        self.older.retain(|key| *key != newer.key);
        self.older.push(old);
        (self.older.len() > OLDER).then(|| self.older.remove(0))
    }
}

impl Logins {
    pub(crate) fn len(&self) -> usize {
        self.logins.len()
    }

    /// Logins whose client waits.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    pub(crate) fn insert(&mut self, login: Login) -> LoginId {
        let id = LoginId(self.next);
        self.next += 1;
        if login.exclusive {
            self.exclusive.insert(login.user.clone(), id);
        }
        self.wakes.insert((login.wake, id));
        self.attempts += usize::from(login.attempt.is_some());
        self.logins.insert(id, login);
        id
    }

    pub(crate) fn get(&self, id: LoginId) -> Option<&Login> {
        self.logins.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: LoginId) -> Option<&mut Login> {
        self.logins.get_mut(&id)
    }

    /// The user's login that may have started a push.
    pub(crate) fn exclusive(&self, user: &UserName) -> Option<LoginId> {
        self.exclusive.get(user).copied()
    }

    pub(crate) fn remove(&mut self, id: LoginId) -> Option<Login> {
        let login = self.logins.remove(&id)?;
        self.wakes.remove(&(login.wake, id));
        if login.exclusive && self.exclusive.get(&login.user) == Some(&id) {
            self.exclusive.remove(&login.user);
        }
        self.attempts -= usize::from(login.attempt.is_some());
        Some(login)
    }

    /// Takes away who waits for the login; it wakes up at `wake` next.
    pub(crate) fn take_attempt(&mut self, id: LoginId, wake: Duration) -> Option<Box<Attempt>> {
        let login = self.logins.get_mut(&id)?;
        let attempt = login.attempt.take()?;
        self.attempts -= 1;
        self.reschedule(id, wake);
        Some(attempt)
    }

    /// Somebody waits for the login again, until `attempt`'s deadline.
    pub(crate) fn give_attempt(&mut self, id: LoginId, attempt: Box<Attempt>) {
        let deadline = attempt.deadline;
        if let Some(login) = self.logins.get_mut(&id) {
            self.attempts += usize::from(login.attempt.is_none());
            login.attempt = Some(attempt);
            self.reschedule(id, deadline);
        }
    }

    /// The login wakes up by then, if not sooner.
    pub(crate) fn wake_by(&mut self, id: LoginId, at: Duration) {
        if let Some(login) = self.logins.get(&id) {
            let wake = login.wake.min(at);
            self.reschedule(id, wake);
        }
    }

    fn reschedule(&mut self, id: LoginId, wake: Duration) {
        if let Some(login) = self.logins.get_mut(&id) {
            self.wakes.remove(&(login.wake, id));
            login.wake = wake;
            self.wakes.insert((wake, id));
        }
    }

    /// When the first login wakes up.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// A login that is to wake up by now.
    pub(crate) fn due(&self, now: Duration) -> Option<LoginId> {
        self.wakes
            .first()
            .filter(|(wake, _)| *wake <= now)
            .map(|(_, id)| *id)
    }
}
