//! What is remembered between codes: which were used, how far a user's clock is off, and who types wrong ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use super::seeds::Seed;
use super::used_steps::UsedSteps;
use crate::locks::lock;

/// How far a user's clock may be off beyond the accepted window, in steps, once that was learned (RFC 6238 section 6).
const MAX_DRIFT: i64 = 10;
/// How long it is remembered how far a clock is off, in seconds after the last login.
const DRIFT_KEPT: u64 = 90 * 86_400;
/// Parts of the map of used codes. A map that grows or is swept looks at each entry, and logins wait meanwhile: of
/// hundreds of thousands that takes milliseconds, of a part no time.
const PARTS: usize = 64;
/// A part is swept when it has doubled since the last sweep, and is at least so large.
const SWEEP_FROM: usize = 64;
/// Wrong codes without a wait.
const FREE_FAILURES: u32 = 5;
/// The longest wait between two wrong codes, in seconds. A guesser gets 2,880 guesses a day of each proxy, at 3 codes in
/// 1,000,000: 6 for a user whose clock is off.
const MAX_WAIT: u64 = 30;
/// When a user's wrong codes are forgotten, in seconds after the last one.
const FORGET_AFTER: u64 = 900;
/// Users whose wrong codes are remembered at once. Only users with a seed can be among them.
const MAX_FAILING: usize = 100_000;

/// Used codes: what [`UsedSteps`] decides about each seed.
///
/// Held in memory, for one process, across reloads. Users and seeds appear only as a keyed hash. Only users who have a
/// seed get in, so that it is bounded by their number.
pub struct UsedCodes {
    parts: [Mutex<Used>; PARTS],
    key: RandomState,
}

impl Default for UsedCodes {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            key: RandomState::new(),
        }
    }
}

/// A user's seed in [`UsedCodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UsedKey(u64);

#[derive(Default)]
struct Used {
    by_seed: HashMap<UsedKey, Remembered, BuildHasherDefault<AsItIs>>,
    sweep_at: usize,
}

/// The hasher of a key that is a keyed hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Clone, Copy)]
struct Remembered {
    steps: UsedSteps,
    /// In seconds since the epoch; then no code of those steps can be valid any more.
    forget_at: u64,
    drift: i8,
}

/// The last step that a clock which is right can show at `now`.
pub(super) fn ceiling(seed: &Seed, now: u64, skew: u32) -> u64 {
    (now / u64::from(seed.key.period.max(1))).saturating_add(u64::from(skew))
}

/// When no code of a step can be valid any more, in seconds since the epoch, however far the user's clock is off.
pub(super) fn forget_at(step: u64, seed: &Seed, skew: u32) -> u64 {
    let reach = u64::from(skew)
        .saturating_add(MAX_DRIFT.unsigned_abs())
        .saturating_add(2);
    step.saturating_add(reach)
        .saturating_mul(u64::from(seed.key.period.max(1)))
}

impl UsedCodes {
    /// What a user's seed is known by here.
    #[must_use]
    pub fn key(&self, user: &str, seed: &Seed) -> UsedKey {
        UsedKey(self.key.hash_one((user, seed.key.seed.expose())))
    }

    /// How many steps the user's clock was ahead (or behind, when negative) at the last login.
    #[must_use]
    pub fn drift(&self, key: UsedKey) -> i64 {
        self.part(key)
            .by_seed
            .get(&key)
            .map_or(0, |last| i64::from(last.drift))
    }

    /// Uses a step, as [`UsedSteps::take`] decides. `now` is in seconds since the epoch, `skew` the
    /// width of the accepted window in steps.
    pub fn take(&self, key: UsedKey, seed: &Seed, step: u64, now: u64, skew: u32) -> bool {
        let period = u64::from(seed.key.period.max(1));
        let drift = i64::try_from(step)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(now / period).unwrap_or(i64::MAX))
            .clamp(-MAX_DRIFT, MAX_DRIFT);
        let drift = i8::try_from(drift).unwrap_or(0);
        let ceiling = ceiling(seed, now, skew);
        let mut used = self.part(key);
        match used.by_seed.entry(key) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if !known.steps.take(step, ceiling) {
                    return false;
                }
                known.drift = drift;
                known.forget_at = forget_at(known.steps.last, seed, skew);
            }
            Entry::Vacant(place) => {
                place.insert(Remembered {
                    steps: UsedSteps::first(step, ceiling),
                    forget_at: forget_at(step, seed, skew),
                    drift,
                });
            }
        }
        used.sweep(now);
        true
    }

    /// How many steps are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).by_seed.len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, key: UsedKey) -> MutexGuard<'_, Used> {
        // Bits that neither choose a place in the part's own map nor tell keys apart there.
        let part = usize::try_from(key.0 >> 40).unwrap_or_default() % PARTS;
        lock(self.parts.get(part).unwrap_or(&self.parts[0]))
    }
}

impl Used {
    fn sweep(&mut self, now: u64) {
        if self.by_seed.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.by_seed
            .retain(|_, last| last.forget_at > now || (last.drift != 0 && last.forget_at + DRIFT_KEPT > now));
        self.sweep_at = self.by_seed.len().saturating_mul(2);
    }
}

/// Wrong codes: each after the fifth makes the next try wait, 1 to 30 seconds. Nobody is locked out: waiting is all it
/// takes, and a try that comes too early prolongs nothing. Requests that proved a shared secret and those that did not
/// are counted apart: whoever can only send packets slows down nobody who knows the secret.
#[derive(Default)]
pub struct Failures {
    inner: Mutex<Failing>,
}

#[derive(Default)]
struct Failing {
    by_user: HashMap<u64, Failure>,
    key: RandomState,
}

#[derive(Clone, Copy)]
struct Failure {
    count: u32,
    last: u64,
}

impl Failure {
    fn next_try(self) -> u64 {
        let beyond = self.count.saturating_sub(FREE_FAILURES);
        let wait = match beyond {
            0 => 0,
            n => 1_u64.checked_shl(n - 1).unwrap_or(MAX_WAIT).min(MAX_WAIT),
        };
        self.last.saturating_add(wait)
    }
}

impl Failures {
    /// How many seconds a user still has to wait before a code is looked at.
    #[must_use]
    pub fn wait(&self, user: &str, proved: bool, now: u64) -> u64 {
        let mut failing = lock(&self.inner);
        if failing.by_user.is_empty() {
            return 0;
        }
        let hash = failing.key.hash_one((user, proved));
        failing.by_user.get_mut(&hash).map_or(0, |failure| {
            // The wall clock was put back: the wait begins again now, instead of lasting until that time has come.
            failure.last = failure.last.min(now);
            failure.next_try().saturating_sub(now)
        })
    }

    /// A wrong code at `now`, in seconds since the epoch.
    pub fn wrong(&self, user: &str, proved: bool, now: u64) {
        let mut failing = lock(&self.inner);
        let hash = failing.key.hash_one((user, proved));
        if failing.by_user.len() >= MAX_FAILING && !failing.by_user.contains_key(&hash) {
            failing
                .by_user
                .retain(|_, f| f.last.saturating_add(FORGET_AFTER) > now);
            if failing.by_user.len() >= MAX_FAILING {
                return;
            }
        }
        let failure = failing
            .by_user
            .entry(hash)
            .or_insert(Failure { count: 0, last: now });
        if failure.last.saturating_add(FORGET_AFTER) <= now {
            failure.count = 0;
        }
        failure.count = failure.count.saturating_add(1);
        failure.last = now;
    }

    /// A right code.
    pub fn right(&self, user: &str, proved: bool) {
        let mut failing = lock(&self.inner);
        if !failing.by_user.is_empty() {
            let hash = failing.key.hash_one((user, proved));
            failing.by_user.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::{Algorithm, Digits};
    use super::*;
    use proxy_config::Secret;
    use proxy_config::seeds::TotpKey;

    fn seed(key: &[u8]) -> Seed {
        Seed {
            key: TotpKey {
                seed: Secret::new(key.to_vec()),
                algorithm: Algorithm::Sha1,
                digits: Digits::SIX,
                period: 30,
            },
            scratch: Vec::new(),
        }
    }

    #[test]
    fn a_step_is_used_once_and_none_before_it_is_used_after_it() {
        let used = UsedCodes::default();
        let (one, other) = (seed(b"1234567890"), seed(b"0987654321"));
        assert!(used.take(used.key("jane", &one), &one, 100, 3000, 1));
        assert!(!used.take(used.key("jane", &one), &one, 100, 3000, 1));
        assert!(!used.take(used.key("jane", &one), &one, 99, 3000, 1));
        assert!(used.take(used.key("jane", &one), &one, 101, 3000, 1));
        assert!(
            used.take(used.key("joe", &one), &one, 100, 3000, 1),
            "another user with the same seed"
        );
        assert!(
            used.take(used.key("jane", &other), &other, 100, 3000, 1),
            "a new seed of the user"
        );
    }

    #[test]
    fn of_several_threads_with_the_same_code_one_uses_it() {
        let used = UsedCodes::default();
        let one = seed(b"1234567890");
        for user in 0..1_000_u64 {
            let key = used.key(&user.to_string(), &one);
            let takes = || u8::from(used.take(key, &one, 100, 3000, 1));
            let taken: u8 = std::thread::scope(|scope| {
                let other = scope.spawn(takes);
                takes() + other.join().unwrap()
            });
            assert_eq!(taken, 1);
        }
    }

    #[test]
    fn what_can_no_longer_be_replayed_is_forgotten() {
        let used = UsedCodes::default();
        let one = seed(b"1234567890");
        for user in 0..50_000_u64 {
            assert!(used.take(used.key(&user.to_string(), &one), &one, user, user * 30, 1));
        }
        assert!(used.len() < PARTS * 2 * SWEEP_FROM, "{}", used.len());
    }

    #[test]
    fn a_clock_that_is_off_is_remembered_within_bounds() {
        let used = UsedCodes::default();
        let one = seed(b"1234567890");
        assert!(used.take(used.key("jane", &one), &one, 102, 3000, 2));
        assert_eq!(used.drift(used.key("jane", &one)), 2);
        assert!(used.take(used.key("jane", &one), &one, 150, 3000, 50));
        assert_eq!(used.drift(used.key("jane", &one)), MAX_DRIFT);
    }

    #[test]
    fn wrong_codes_slow_down_and_never_lock_out() {
        let failures = Failures::default();
        for _ in 0..5 {
            failures.wrong("jane", true, 1000);
        }
        assert_eq!(failures.wait("jane", true, 1000), 0);
        failures.wrong("jane", true, 1000);
        assert_eq!(failures.wait("jane", true, 1000), 1);
        for _ in 0..100 {
            failures.wrong("jane", true, 1000);
        }
        assert_eq!(failures.wait("jane", true, 1000), 30);
        assert_eq!(failures.wait("jane", true, 1030), 0);
        assert_eq!(failures.wait("joe", true, 1000), 0);
        failures.right("jane", true);
        assert_eq!(failures.wait("jane", true, 1000), 0);
    }

    #[test]
    fn a_wall_clock_that_goes_back_costs_one_wait_at_most() {
        let failures = Failures::default();
        for _ in 0..20 {
            failures.wrong("jane", true, 100_000);
        }
        assert_eq!(failures.wait("jane", true, 1000), 30);
        assert_eq!(failures.wait("jane", true, 1020), 10);
        assert_eq!(failures.wait("jane", true, 1030), 0);
    }

    #[test]
    fn wrong_codes_without_a_proof_slow_down_nobody_who_has_one() {
        let failures = Failures::default();
        for _ in 0..10 {
            failures.wrong("jane", false, 1000);
        }
        assert!(failures.wait("jane", false, 1000) > 0);
        assert_eq!(failures.wait("jane", true, 1000), 0);
        failures.right("jane", true);
        assert!(failures.wait("jane", false, 1000) > 0);
    }
}
