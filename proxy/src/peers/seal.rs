//! One datagram between proxies: encrypted, authenticated, of this half minute, and taken once.
//!
//! `version (1) ‖ run (8) ‖ counter (8) ‖ ChaCha20-Poly1305(sent (8) ‖ started (8) ‖ messages) ‖ tag (16)`, numbers in network
//! order, times in Unix milliseconds; what is before the ciphertext is authenticated too. Each run of a proxy has a key of
//! its own, made from the group's key, so that a counter serves as nonce (RFC 8439 section 2.8) and none is used twice.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proxy_config::PeerKey;
use proxy_core::peers::Instance;
use sha2::Sha256;

const VERSION: u8 = 1;
const HEADER: usize = 17;
const TIMES: usize = 16;
const TAG: usize = 16;
/// How far the sender's clock may be from ours, the time under way included.
const FRESH: Duration = Duration::from_secs(30);
/// Runs that are remembered; who was heard longest ago makes room.
const RUNS: usize = 64;
/// Counters behind the newest that are told apart.
const WINDOW: u64 = 1024;

/// Why a datagram is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Too short, or of another version.
    Malformed,
    /// Not sealed with the group's key.
    Unauthentic,
    /// Sent too long ago, or by a clock that is too far off.
    Stale,
    /// Taken before, or so old that this is not known any more.
    Replayed,
    /// Sealed properly, and not what this version says.
    Unreadable,
    /// More of them than can be wanted.
    TooMany,
}

impl Rejected {
    pub(crate) const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Unauthentic,
        Self::Stale,
        Self::Replayed,
        Self::Unreadable,
        Self::TooMany,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthentic => "unauthentic",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Unreadable => "unreadable",
            Self::TooMany => "too_many",
        }
    }
}

/// Seals what this run says.
pub(crate) struct Sealer {
    key: Option<LessSafeKey>,
    instance: Instance,
    started: u64,
    counter: u64,
}

impl Sealer {
    /// `started` in Unix milliseconds.
    pub(crate) fn new(group: &PeerKey, instance: Instance, started: u64) -> Self {
        Self {
            key: run_key(group, instance),
            instance,
            started,
            counter: 0,
        }
    }

    /// The same with another key. The counter goes on.
    pub(crate) fn rekey(&mut self, group: &PeerKey) {
        self.key = run_key(group, self.instance);
    }

    /// `None` only when the cipher cannot be had.
    pub(crate) fn seal(&mut self, now: u64, messages: &[u8]) -> Option<Vec<u8>> {
        self.counter += 1;
        let mut header = Vec::with_capacity(HEADER + TIMES + messages.len() + TAG);
        header.push(VERSION);
        header.extend(self.instance.0.to_be_bytes());
        header.extend(self.counter.to_be_bytes());
        let mut inside = [now.to_be_bytes(), self.started.to_be_bytes()].concat();
        inside.extend(messages);
        let key = self.key.as_ref()?;
        key.seal_in_place_append_tag(nonce(self.counter), Aad::from(&header), &mut inside)
            .ok()?;
        header.extend(inside);
        Some(header)
    }
}

/// What was in a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) from: Instance,
    /// When that run began, in Unix milliseconds by its own clock.
    pub(crate) started: u64,
    pub(crate) messages: &'a [u8],
}

/// Opens what others say.
pub(crate) struct Opener {
    group: PeerKey,
    runs: HashMap<Instance, Run>,
    heard: u64,
}

struct Run {
    key: LessSafeKey,
    window: Window,
    heard: u64,
}

impl Opener {
    pub(crate) fn new(group: PeerKey) -> Self {
        Self {
            group,
            runs: HashMap::new(),
            heard: 0,
        }
    }

    /// With another key; what was taken before is remembered by its counters.
    pub(crate) fn rekey(&mut self, group: PeerKey) {
        self.runs
            .retain(|instance, run| match run_key(&group, *instance) {
                Some(key) => {
                    run.key = key;
                    true
                }
                None => false,
            });
        self.group = group;
    }

    pub(crate) fn open<'a>(&mut self, now: u64, datagram: &'a mut [u8]) -> Result<Opened<'a>, Rejected> {
        let (header, inside) = datagram
            .split_at_mut_checked(HEADER)
            .filter(|(_, inside)| inside.len() >= TIMES + TAG)
            .ok_or(Rejected::Malformed)?;
        if header.first() != Some(&VERSION) {
            return Err(Rejected::Malformed);
        }
        let instance = Instance(number(header, 1).ok_or(Rejected::Malformed)?);
        let counter = number(header, 9).ok_or(Rejected::Malformed)?;
        let made;
        let key = match self.runs.get(&instance) {
            Some(run) => &run.key,
            None => {
                made = run_key(&self.group, instance).ok_or(Rejected::Unauthentic)?;
                &made
            }
        };
        let inside: &'a [u8] = key
            .open_in_place(nonce(counter), Aad::from(&header), inside)
            .map_err(|_| Rejected::Unauthentic)?;
        let (sent, started) = number(inside, 0)
            .zip(number(inside, 8))
            .ok_or(Rejected::Malformed)?;
        if Duration::from_millis(sent.abs_diff(now)) > FRESH {
            return Err(Rejected::Stale);
        }
        if !self.take(instance, counter) {
            return Err(Rejected::Replayed);
        }
        Ok(Opened {
            from: instance,
            started,
            messages: inside.get(TIMES..).unwrap_or_default(),
        })
    }

    fn take(&mut self, instance: Instance, counter: u64) -> bool {
        self.heard += 1;
        if !self.runs.contains_key(&instance) && self.runs.len() >= RUNS {
            let longest_ago = self.runs.iter().min_by_key(|(_, run)| run.heard);
            if let Some(old) = longest_ago.map(|(old, _)| *old) {
                self.runs.remove(&old);
            }
        }
        if !self.runs.contains_key(&instance) {
            let Some(key) = run_key(&self.group, instance) else {
                return false;
            };
            let run = Run {
                key,
                window: Window::default(),
                heard: 0,
            };
            self.runs.insert(instance, run);
        }
        let heard = self.heard;
        self.runs.get_mut(&instance).is_some_and(|run| {
            run.heard = heard;
            run.window.take(counter)
        })
    }
}

/// Which counters were taken (RFC 6479's idea).
#[derive(Default)]
struct Window {
    newest: u64,
    taken: [u64; 16],
}

impl Window {
    fn take(&mut self, counter: u64) -> bool {
        if counter.saturating_add(WINDOW) <= self.newest {
            return false;
        }
        if counter > self.newest {
            let skipped = (counter - self.newest).min(WINDOW);
            for old in 1..=skipped {
                let (word, bit) = place(self.newest.wrapping_add(old));
                if let Some(word) = self.taken.get_mut(word) {
                    *word &= !bit;
                }
            }
            self.newest = counter;
        }
        let (word, bit) = place(counter);
        let Some(word) = self.taken.get_mut(word) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    (usize::try_from(at / 64).unwrap_or_default(), 1 << (at % 64))
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(4).zip(counter.to_be_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(nonce)
}

fn run_key(group: &PeerKey, instance: Instance) -> Option<LessSafeKey> {
    let mut mac = Hmac::<Sha256>::new_from_slice(group.expose()).ok()?;
    mac.update(b"radius-proxy peers 1");
    mac.update(&instance.0.to_be_bytes());
    let bytes = zeroize::Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
    Some(LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, bytes.as_slice()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::peer_key;

    const NOW: u64 = 1_700_000_000_000;

    fn pair() -> (Sealer, Opener) {
        let key = peer_key("0123456789abcdef0123456789abcdef");
        (Sealer::new(&key, Instance(7), NOW - 5), Opener::new(key))
    }

    #[test]
    fn what_is_sealed_is_opened_once() {
        let (mut sealer, mut opener) = pair();
        let sealed = sealer.seal(NOW, b"[]").unwrap();
        let opened = opener
            .open(NOW + 3, &mut sealed.clone())
            .map(|opened| (opened.from, opened.started, opened.messages.to_vec()));
        assert_eq!(opened, Ok((Instance(7), NOW - 5, b"[]".to_vec())));
        assert_eq!(opener.open(NOW, &mut sealed.clone()), Err(Rejected::Replayed));
        let text = sealed.windows(2).any(|window| window == b"[]");
        assert!(!text, "it is encrypted");
    }

    #[test]
    fn what_was_changed_is_of_another_key_or_too_old_is_not_taken() {
        let (mut sealer, mut opener) = pair();
        let mut sealed = sealer.seal(NOW, b"[]").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let expected = if at == 0 {
                Rejected::Malformed
            } else {
                Rejected::Unauthentic
            };
            assert_eq!(opener.open(NOW, &mut changed), Err(expected), "{at}");
        }
        for length in 0..HEADER + TIMES + TAG {
            assert_eq!(
                opener.open(NOW, &mut sealed.clone()[..length]),
                Err(Rejected::Malformed)
            );
        }
        assert_eq!(
            opener.open(NOW + 30_001, &mut sealed.clone()),
            Err(Rejected::Stale)
        );
        assert_eq!(
            opener.open(NOW - 30_001, &mut sealed.clone()),
            Err(Rejected::Stale)
        );
        let mut stranger = Opener::new(peer_key("another key of 32 characters or so"));
        assert_eq!(
            stranger.open(NOW, &mut sealed.clone()),
            Err(Rejected::Unauthentic)
        );
        assert!(stranger.runs.is_empty(), "nothing is kept of what proves nothing");
        assert!(opener.open(NOW, &mut sealed).is_ok());
    }

    #[test]
    fn another_key_opens_no_old_datagram_a_second_time() {
        let (mut sealer, mut opener) = pair();
        let mut first = sealer.seal(NOW, b"[]").unwrap();
        assert!(opener.open(NOW, &mut first.clone()).is_ok());
        let next = peer_key("another key of 32 characters or so");
        sealer.rekey(&next);
        opener.rekey(next);
        assert!(opener.open(NOW, &mut sealer.seal(NOW, b"[]").unwrap()).is_ok());
        opener.rekey(peer_key("0123456789abcdef0123456789abcdef"));
        assert_eq!(opener.open(NOW, &mut first), Err(Rejected::Replayed));
    }

    #[test]
    fn runs_are_forgotten_beyond_a_bound() {
        let key = peer_key("0123456789abcdef0123456789abcdef");
        let mut opener = Opener::new(key.clone());
        for run in 0..RUNS as u64 * 2 {
            let sealed = Sealer::new(&key, Instance(run), NOW).seal(NOW, b"[]");
            assert!(opener.open(NOW, &mut sealed.unwrap()).is_ok());
        }
        assert_eq!(opener.runs.len(), RUNS);
    }

    #[test]
    fn each_counter_is_taken_once_in_any_order() {
        let mut window = Window::default();
        for counter in [1, 3, 2, 1024, 4, 1025, 5000] {
            assert!(window.take(counter), "{counter}");
            assert!(!window.take(counter), "{counter} again");
        }
        assert!(!window.take(5000 - WINDOW));
        assert!(window.take(5000 - WINDOW + 1));
        assert!(window.take(4500));
    }
}
