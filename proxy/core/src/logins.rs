//! Logins that wait for a verdict.

use std::collections::hash_map::Entry;
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
use crate::sender::Sender;

/// Packets of one login whose keys are remembered, so that their retransmissions stay silent.
const OLDER: usize = 16;
/// Rivals of one user that wait for their Reject. Further rivals get no answer.
const RIVALS_OF_USER: usize = 4;
/// The same for all users.
const RIVALS: usize = 1_024;

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
    pub(crate) sender: Sender,
    /// A push of the user was pending, and this packet can't be its retry. No provider is asked, and the login is rejected
    /// when its time is over.
    pub(crate) rival: bool,
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
    /// How many packets the client has sent within its budget, retransmissions included.
    pub(crate) tries: u32,
    /// The packet that waited before the last one joined. Kept if anybody could have typed the text, since the last packet
    /// may turn out to be a rival's.
    pub(crate) displaced: Option<Displaced>,
    /// Until this time another packet can show that the last one was a rival's, and no approval is used.
    pub(crate) settles: Duration,
    /// An approval that is held until `settles`.
    pub(crate) unsettled: Option<Box<Approval>>,
    /// When the login is over, even if a packet waits.
    pub(crate) ends: Duration,
    /// Who waits for it; nobody once the deadline has passed, while the push may still be approved.
    pub(crate) attempt: Option<Box<Attempt>>,
    /// When the engine does something about it by itself.
    pub(crate) wake: Duration,
}

/// A packet that a newer one has replaced.
pub(crate) struct Displaced {
    /// The packet, with the times of the one that replaced it.
    pub(crate) attempt: Box<Attempt>,
    pub(crate) source: IpAddr,
    pub(crate) moved: bool,
    /// When the last packet before the newer one arrived.
    pub(crate) last_packet: Duration,
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
    rivals: HashMap<UserName, Vec<LoginId>>,
    /// Passcodes that wait, by the digest of user and text.
    codes: HashMap<TextDigest, LoginId>,
    rival_count: usize,
    wakes: BTreeSet<(Duration, LoginId)>,
    attempts: usize,
    next: u64,
}

impl Attempt {
    /// Replaces the waiting packet by `newer` and remembers its key. Afterwards `newer` holds the replaced packet.
    pub(crate) fn replace(&mut self, newer: &mut Self) -> Option<Key> {
        self.swap_packet(newer);
        self.packets = self.packets.saturating_add(1);
        if self.key == newer.key {
            return None;
        }
        self.older.retain(|key| *key != self.key);
        self.older.push(newer.key);
        (self.older.len() > OLDER).then(|| self.older.remove(0))
    }

    /// Makes the displaced packet wait again. Afterwards `displaced` holds the packet that had replaced it.
    pub(crate) fn restore(&mut self, displaced: &mut Self) {
        self.swap_packet(displaced);
        self.packets = self.packets.saturating_sub(1).max(1);
        self.older.retain(|key| *key != self.key);
    }

    fn swap_packet(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.key, &mut other.key);
        std::mem::swap(&mut self.to, &mut other.to);
        std::mem::swap(&mut self.carrier, &mut other.carrier);
        std::mem::swap(&mut self.found, &mut other.found);
        std::mem::swap(
            &mut self.shown.message_authenticator,
            &mut other.shown.message_authenticator,
        );
    }
}

impl Login {
    /// A login of which `attempt` is the first packet, until `ends` at the latest. It can start no push.
    pub(crate) fn new(
        user: UserName,
        sender: Sender,
        attempt: Box<Attempt>,
        ends: Duration,
        now: Duration,
    ) -> Self {
        Self {
            user,
            sender,
            rival: false,
            exclusive: false,
            pushed: false,
            push: None,
            held: None,
            last_packet: now,
            tries: 1,
            displaced: None,
            settles: Duration::ZERO,
            unsettled: None,
            ends,
            wake: attempt.deadline,
            attempt: Some(attempt),
        }
    }

    /// Digest of the typed code, if the login is one by passcode.
    fn code(&self) -> Option<TextDigest> {
        self.sender.text.filter(|_| !self.exclusive && !self.rival)
    }
}

impl Logins {
    pub(crate) fn len(&self) -> usize {
        self.logins.len()
    }

    /// Entries of every index: none without a login.
    #[cfg(test)]
    pub(crate) fn indexed(&self) -> usize {
        self.exclusive.len() + self.rivals.len() + self.rival_count + self.codes.len() + self.wakes.len()
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
        if let Some(text) = login.code() {
            self.codes.insert(text, id);
        }
        if login.rival {
            self.rivals.entry(login.user.clone()).or_default().push(id);
            self.rival_count += 1;
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
        if let Some(text) = login.code()
            && self.codes.get(&text) == Some(&id)
        {
            self.codes.remove(&text);
        }
        if login.rival {
            self.rival_count -= 1;
            if let Entry::Occupied(mut rivals) = self.rivals.entry(login.user.clone()) {
                rivals.get_mut().retain(|rival| *rival != id);
                if rivals.get().is_empty() {
                    rivals.remove();
                }
            }
        }
        self.attempts -= usize::from(login.attempt.is_some());
        Some(login)
    }

    /// The login that waits with a passcode.
    pub(crate) fn of_code(&self, text: TextDigest) -> Option<LoginId> {
        self.codes.get(&text).copied()
    }

    /// The rivals of the user's login that wait for their Reject.
    pub(crate) fn rivals(&self, user: &UserName) -> &[LoginId] {
        self.rivals.get(user).map_or(&[], Vec::as_slice)
    }

    /// Whether one more rival may wait, if `pending` logins may wait in all.
    pub(crate) fn has_room_for_rival(&self, user: &UserName, pending: usize) -> bool {
        self.rivals(user).len() < RIVALS_OF_USER
            && self.rival_count < RIVALS.min(pending / 2)
            && self.len() < pending
    }

    /// Takes away who waits for the login; it wakes up at `wake` next.
    pub(crate) fn take_attempt(&mut self, id: LoginId, wake: Duration) -> Option<Box<Attempt>> {
        let login = self.logins.get_mut(&id)?;
        let attempt = login.attempt.take()?;
        self.attempts -= 1;
        self.reschedule(id, wake);
        Some(attempt)
    }

    /// The login wakes up when whoever waits must be answered, or when it is over.
    pub(crate) fn wake_at_deadline(&mut self, id: LoginId) {
        if let Some(login) = self.logins.get(&id) {
            let deadline = login.attempt.as_ref().map(|attempt| attempt.deadline);
            let wake = deadline.unwrap_or(login.ends);
            self.reschedule(id, wake);
        }
    }

    /// Somebody waits for the login again, until `attempt`'s deadline.
    pub(crate) fn give_attempt(&mut self, id: LoginId, attempt: Box<Attempt>) {
        if let Some(login) = self.logins.get_mut(&id) {
            self.attempts += usize::from(login.attempt.is_none());
            login.tries = 1;
            login.displaced = None;
            login.attempt = Some(attempt);
            self.wake_at_deadline(id);
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
