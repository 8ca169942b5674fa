//! States of Access-Challenges: unguessable, for one user and address, used once, for a while, and not too many.

use std::net::IpAddr;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::UserName;
use crate::random::Unguessable;

/// How long a user has to type a code.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
const CHALLENGES: usize = 16_384;

pub(crate) struct Challenges(Bounded<[u8; 16], Challenge>);

struct Challenge {
    user: UserName,
    source: IpAddr,
    until: Duration,
}

impl Challenges {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(CHALLENGES))
    }

    /// A new State. `evicted` is told when another had to be forgotten before its time.
    pub(crate) fn make(
        &mut self,
        user: UserName,
        source: IpAddr,
        now: Duration,
        random: &mut Unguessable,
        evicted: &mut bool,
    ) -> [u8; 16] {
        let state = random.next();
        let challenge = Challenge {
            user,
            source,
            until: now + ANSWERED_WITHIN,
        };
        *evicted = self
            .0
            .insert(state, challenge)
            .is_some_and(|(_, old)| now < old.until);
        state
    }

    /// Uses a State up. `false` when it is not one of this user and address, was used before, or is too old.
    pub(crate) fn take(&mut self, state: &[u8], user: &UserName, source: IpAddr, now: Duration) -> bool {
        let Ok(state) = <[u8; 16]>::try_from(state) else {
            return false;
        };
        let own = self
            .0
            .get(&state)
            .is_some_and(|challenge| challenge.user == *user && challenge.source == source);
        own && self
            .0
            .remove(&state)
            .is_some_and(|challenge| now < challenge.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_state_works_once_for_its_user_and_address_and_not_for_ever() {
        let mut challenges = Challenges::new();
        let mut random = Unguessable::new([1; 32]);
        let (jane, joe) = (UserName("jane".to_owned()), UserName("joe".to_owned()));
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut evicted = false;
        let mut make = || challenges.make(jane.clone(), here, at(0), &mut random, &mut evicted);
        let (first, second) = (make(), make());
        assert_ne!(first, second);
        assert!(!challenges.take(&first, &joe, here, at(1)));
        assert!(!challenges.take(&first, &jane, there, at(1)));
        assert!(!challenges.take(b"short", &jane, here, at(1)));
        assert!(challenges.take(&first, &jane, here, at(1)));
        assert!(!challenges.take(&first, &jane, here, at(1)));
        assert!(!challenges.take(&second, &jane, here, at(120)));
    }
}
