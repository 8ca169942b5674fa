//! Retransmissions (RFC 5080 section 2.2.2): the same source, identifier and authenticator get the same bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::LoginId;
use crate::outputs::SocketId;

/// How long an answer is remembered; RFC 5080 wants 5 to 30 seconds.
pub(crate) const KEPT: Duration = Duration::from_secs(30);
/// How much later than that the memory is freed at the latest, so that it takes no timer for each.
const SLACK: Duration = Duration::from_secs(5);
/// Answers remembered at once. At the default limit of 10,000 requests a second they live for more than six seconds
/// at full load; what is older makes room.
const ANSWERS: usize = 65_536;
/// The same for requests that proved no secret.
const UNPROVED_ANSWERS: usize = 4_096;

/// Bytes of answers remembered at once: 65,536 of the usual length fit, and so do 4,096 of the longest.
const BYTES: usize = 16 << 20;
/// The same for requests that proved no secret.
const UNPROVED_BYTES: usize = 1 << 20;

/// Where a request came from, and its identifier: one at a time can wait there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) from: SocketAddr,
    pub(crate) socket: SocketId,
    pub(crate) identifier: u8,
    /// Whether the request proved a secret. The others live in a room of their own, so that whoever can only write a
    /// source address changes nothing for those who know the secret.
    pub(crate) proved: bool,
}

/// In two words: the derived one feeds the hasher nine times for each of the look-ups that a login takes.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.from.ip() {
            IpAddr::V4(ip) => state.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => state.write_u128(ip.to_bits()),
        }
        let small = [u8::from(self.proved), self.identifier];
        let words = u64::from(u16::from_ne_bytes(small)) << 16 | u64::from(self.from.port());
        state.write_u64(words << 32 | u64::from(self.socket.0));
    }
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Nothing: it is a new one.
    New,
    /// It is new, and its client has given up the one that this login was waiting with.
    Replaces(LoginId),
    /// It waits.
    Waiting(LoginId),
    /// It waited, until a newer one of the same login came.
    Superseded(LoginId),
    /// It got no answer, and gets none.
    Silent,
    /// It was answered with these bytes.
    Answered(&'a [u8]),
}

/// Requests that wait, and answers that were given.
pub(crate) struct Duplicates {
    /// As many as logins wait, times the packets one login can have: bounded by the logins.
    waiting: HashMap<Key, Waiting>,
    proved: Answers,
    unproved: Answers,
}

/// Answers that were given, bounded by their number and by their bytes.
struct Answers {
    answers: Bounded<Key, Answered>,
    bytes: usize,
    longest: usize,
}

struct Waiting {
    authenticator: [u8; 16],
    login: LoginId,
    superseded: bool,
}

struct Answered {
    authenticator: [u8; 16],
    bytes: Box<[u8]>,
    at: Duration,
}

impl Duplicates {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            proved: Answers::new(ANSWERS, BYTES),
            unproved: Answers::new(UNPROVED_ANSWERS, UNPROVED_BYTES),
        }
    }

    pub(crate) fn find(&self, key: &Key, authenticator: &[u8; 16], now: Duration) -> Found<'_> {
        if let Some(waiting) = self.waiting.get(key) {
            match (waiting.authenticator == *authenticator, waiting.superseded) {
                (true, false) => return Found::Waiting(waiting.login),
                (true, true) => return Found::Superseded(waiting.login),
                (false, false) => return Found::Replaces(waiting.login),
                // The client uses the key for another request by now, which may have its answer.
                (false, true) => {}
            }
        }
        match self.answers(key.proved).answers.get(key) {
            Some(answered) if answered.authenticator == *authenticator && now < answered.at + KEPT => {
                match &*answered.bytes {
                    [] => Found::Silent,
                    bytes => Found::Answered(bytes),
                }
            }
            _ => Found::New,
        }
    }

    /// The request waits for a login's end.
    pub(crate) fn wait(&mut self, key: Key, authenticator: [u8; 16], login: LoginId) {
        self.waiting.insert(
            key,
            Waiting {
                authenticator,
                login,
                superseded: false,
            },
        );
    }

    /// A newer request of the same login waits instead.
    pub(crate) fn supersede(&mut self, key: &Key) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.superseded = true;
        }
    }

    /// The request waits no more, unless another one has taken its place.
    pub(crate) fn forget(&mut self, key: &Key, login: LoginId) {
        if let Entry::Occupied(waiting) = self.waiting.entry(*key)
            && waiting.get().login == login
        {
            waiting.remove();
        }
    }

    /// The request waits no more and gets no answer. Its retransmissions must not look like a new one, or a client
    /// that sends both would set off a second push.
    pub(crate) fn silence(&mut self, key: &Key, login: LoginId, now: Duration) -> bool {
        if self.waiting.get(key).is_none_or(|waiting| waiting.login != login) {
            return false;
        }
        self.waiting
            .remove(key)
            .is_some_and(|waiting| self.answered(*key, waiting.authenticator, Box::default(), now))
    }

    /// Remembers an answer, an empty one for silence. `true` when another had to be forgotten before its time.
    pub(crate) fn answered(
        &mut self,
        key: Key,
        authenticator: [u8; 16],
        bytes: Box<[u8]>,
        now: Duration,
    ) -> bool {
        // The key is another request's now: what waited under it has no client any more.
        if let Entry::Occupied(waiting) = self.waiting.entry(key)
            && waiting.get().superseded
        {
            waiting.remove();
        }
        // Two old ones go for each that comes, so that a steady load needs no timer.
        for _ in 0..2 {
            self.expire_one(key.proved, now);
        }
        let answered = Answered {
            authenticator,
            bytes,
            at: now,
        };
        self.answers_mut(key.proved).insert(key, answered)
    }

    /// Forgets every answer that is too old.
    pub(crate) fn expire(&mut self, now: Duration) {
        while self.expire_one(true, now) || self.expire_one(false, now) {}
    }

    /// When [`Duplicates::expire`] has something to do at the latest.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        let oldest = [&self.proved, &self.unproved]
            .into_iter()
            .filter_map(|answers| answers.answers.oldest())
            .map(|(_, answered)| answered.at)
            .min()?;
        Some(oldest + KEPT + SLACK)
    }

    fn expire_one(&mut self, proved: bool, now: Duration) -> bool {
        let answers = self.answers_mut(proved);
        let oldest = answers.answers.oldest();
        let old = oldest.is_some_and(|(_, answered)| answered.at + KEPT <= now);
        old && answers.pop_oldest()
    }

    fn answers(&self, proved: bool) -> &Answers {
        if proved { &self.proved } else { &self.unproved }
    }

    fn answers_mut(&mut self, proved: bool) -> &mut Answers {
        if proved {
            &mut self.proved
        } else {
            &mut self.unproved
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> (usize, usize) {
        let of = |answers: &Answers| {
            let held = answers.answers.iter().map(|(_, answer)| answer.bytes.len());
            assert_eq!(answers.bytes, held.sum::<usize>());
            answers.bytes
        };
        (of(&self.proved), of(&self.unproved))
    }

    /// How much is held: waiting requests and answers.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        let answers = self.proved.answers.len() + self.unproved.answers.len();
        (self.waiting.len(), answers)
    }
}

impl Answers {
    fn new(count: usize, longest: usize) -> Self {
        Self {
            answers: Bounded::new(count),
            bytes: 0,
            longest,
        }
    }

    /// `true` when another had to be forgotten to make room.
    fn insert(&mut self, key: Key, answered: Answered) -> bool {
        if let Some(old) = self.answers.remove(&key) {
            self.bytes -= old.bytes.len();
        }
        let mut evicted = false;
        while self.bytes + answered.bytes.len() > self.longest && self.pop_oldest() {
            evicted = true;
        }
        self.bytes += answered.bytes.len();
        if let Some((_, old)) = self.answers.insert(key, answered) {
            self.bytes -= old.bytes.len();
            evicted = true;
        }
        evicted
    }

    fn pop_oldest(&mut self) -> bool {
        let oldest = self.answers.pop_oldest();
        self.bytes -= oldest.as_ref().map_or(0, |(_, old)| old.bytes.len());
        oldest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(identifier: u8, proved: bool) -> Key {
        Key {
            from: "192.0.2.1:1024".parse().unwrap(),
            socket: SocketId(0),
            identifier,
            proved,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_request_waits_then_is_answered_and_then_forgotten() {
        let mut duplicates = Duplicates::new();
        let (a, b) = ([1; 16], [2; 16]);
        assert_eq!(duplicates.find(&key(1, true), &a, at(0)), Found::New);
        duplicates.wait(key(1, true), a, LoginId(7));
        assert_eq!(
            duplicates.find(&key(1, true), &a, at(1)),
            Found::Waiting(LoginId(7))
        );
        assert_eq!(
            duplicates.find(&key(1, true), &b, at(1)),
            Found::Replaces(LoginId(7))
        );
        duplicates.forget(&key(1, true), LoginId(7));
        duplicates.answered(key(1, true), a, (*b"answer").into(), at(2));
        assert_eq!(
            duplicates.find(&key(1, true), &a, at(31)),
            Found::Answered(b"answer")
        );
        assert_eq!(duplicates.find(&key(1, true), &b, at(31)), Found::New);
        assert_eq!(duplicates.find(&key(1, true), &a, at(32)), Found::New);
        assert_eq!(duplicates.next_expiry(), Some(at(37)));
        duplicates.expire(at(37));
        assert_eq!(duplicates.held(), (0, 0));
    }

    #[test]
    fn the_answer_to_the_successor_of_a_superseded_request_is_found() {
        let mut duplicates = Duplicates::new();
        let (old, new) = ([1; 16], [2; 16]);
        duplicates.wait(key(1, true), old, LoginId(7));
        duplicates.supersede(&key(1, true));
        duplicates.answered(key(1, true), new, (*b"answer").into(), at(1));
        assert_eq!(
            duplicates.find(&key(1, true), &new, at(2)),
            Found::Answered(b"answer")
        );
        // The end of the old one's login leaves it as it is.
        assert!(!duplicates.silence(&key(1, true), LoginId(7), at(3)));
        assert_eq!(
            duplicates.find(&key(1, true), &new, at(4)),
            Found::Answered(b"answer")
        );
    }

    #[test]
    fn what_proves_nothing_touches_nothing_that_is_proved() {
        let mut duplicates = Duplicates::new();
        duplicates.wait(key(1, true), [1; 16], LoginId(7));
        assert_eq!(duplicates.find(&key(1, false), &[2; 16], at(0)), Found::New);
        duplicates.answered(key(2, true), [1; 16], (*b"answer").into(), at(0));
        for i in 0..=255 {
            for port in 0..100 {
                let mut forged = key(i, false);
                forged.from.set_port(port);
                duplicates.answered(forged, [3; 16], Box::default(), at(1));
            }
        }
        assert_eq!(
            duplicates.find(&key(2, true), &[1; 16], at(1)),
            Found::Answered(b"answer")
        );
        assert_eq!(duplicates.held(), (1, 1 + UNPROVED_ANSWERS));
    }

    #[test]
    fn long_answers_take_no_more_memory_than_their_bound_and_the_newest_are_kept() {
        let mut duplicates = Duplicates::new();
        for port in 0..8_192 {
            for proved in [true, false] {
                let mut long = key(7, proved);
                long.from.set_port(port);
                let evicted = duplicates.answered(long, [1; 16], vec![0; 4_096].into(), at(1));
                assert_eq!(
                    evicted,
                    usize::from(port) >= if proved { BYTES } else { UNPROVED_BYTES } / 4_096
                );
            }
        }
        assert_eq!(duplicates.bytes(), (BYTES, UNPROVED_BYTES));
        let mut newest = key(7, true);
        newest.from.set_port(8_191);
        assert!(matches!(
            duplicates.find(&newest, &[1; 16], at(1)),
            Found::Answered(_)
        ));
        // What replaces an answer, or is forgotten, counts no more.
        for _ in 0..10 {
            duplicates.answered(newest, [1; 16], vec![0; 4_096].into(), at(2));
        }
        assert_eq!(duplicates.bytes(), (BYTES, UNPROVED_BYTES));
        duplicates.expire(at(60));
        duplicates.answered(newest, [1; 16], vec![0; 4_096].into(), at(61));
        assert_eq!(duplicates.bytes(), (4_096, 0));
        assert!(!duplicates.answered(key(8, true), [1; 16], vec![0; 4_096].into(), at(61)));
    }
}
