//! Remembers the users whom a provider refuses outright, so that a monitor or a stranger who retries costs the provider one
//! call a minute.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use proxy_core::factor::{Refusal, UserName, Verdict};
use sha2::Sha256;

use super::recent::Recent;
use crate::locks::lock;

/// How long an answer holds, and so how long it takes at most until somebody who has just enrolled gets in.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Names at once; the oldest makes room.
const NAMES: usize = 4096;

/// A keyed digest of a user name. Only this process has the key, so the memory doesn't reveal who tried to log in.
type Digest = [u8; 32];

/// The refusals of one provider.
pub(super) struct UnknownUsers {
    /// `None` where the system has no randomness: then nothing is remembered.
    key: Option<[u8; 32]>,
    refusals: Mutex<Recent<Digest, Refusal>>,
}

impl Default for UnknownUsers {
    fn default() -> Self {
        let mut key = [0; 32];
        let key = getrandom::fill(&mut key).is_ok().then_some(key);
        Self {
            key,
            refusals: Mutex::new(Recent::new(REMEMBERED, NAMES)),
        }
    }
}

impl UnknownUsers {
    /// The provider's last refusal of the user, if it still holds.
    pub(super) fn refusal(&self, user: &UserName, now: Instant) -> Option<Verdict> {
        let digest = self.digest(user)?;
        let refusals = lock(&self.refusals);
        refusals.get(&digest, now).cloned().map(Verdict::Refused)
    }

    /// The provider does not let the user in, whatever is typed.
    pub(super) fn remember(&self, user: &UserName, verdict: &Verdict, now: Instant) {
        if let (Some(digest), Verdict::Refused(refusal)) = (self.digest(user), verdict) {
            lock(&self.refusals).keep(digest, refusal.clone(), now);
        }
    }

    fn digest(&self, user: &UserName) -> Option<Digest> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key?).ok()?;
        mac.update(user.as_str().as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use proxy_core::factor::RefusalReason;

    use super::super::refused;
    use super::*;
    use crate::provider::testing::user;

    #[test]
    fn an_answer_holds_for_a_minute_and_for_so_many_names() {
        let (unknown, begin) = (UnknownUsers::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let verdict = refused(None, RefusalReason::NotEnrolled, "Enrol first.");
        unknown.remember(&user("jane"), &verdict, begin);
        let said = unknown.refusal(&user("jane"), after(59));
        assert!(
            matches!(said, Some(Verdict::Refused(refusal)) if refusal.reason == RefusalReason::NotEnrolled)
        );
        assert!(unknown.refusal(&user("john"), after(59)).is_none());
        assert!(unknown.refusal(&user("jane"), after(60)).is_none());
        unknown.remember(&user("jane"), &verdict, after(60));
        for n in 0..NAMES {
            unknown.remember(&user(&format!("u{n}")), &verdict, after(61));
        }
        assert!(unknown.refusal(&user("jane"), after(62)).is_none());
        assert!(unknown.refusal(&user("u1"), after(62)).is_some());
    }
}
