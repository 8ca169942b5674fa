//! For whom codes were sent, so that the next passcode is tried there first.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use proxy_core::factor::UserName;

use crate::locks::lock;
use crate::provider::recent::Recent;

/// Okta's codes are good for five minutes, and its policies allow more.
const REMEMBERED: Duration = Duration::from_secs(600);
const USERS: usize = 16_384;

/// Factors by user, which a reload keeps.
pub struct Sent(Mutex<Recent<UserName, String>>);

impl Default for Sent {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(REMEMBERED, USERS)))
    }
}

impl Sent {
    /// A code was sent for a factor.
    pub(super) fn remember(&self, user: UserName, factor: String, now: Instant) {
        lock(&self.0).keep(user, factor, now);
    }

    /// The factor that a code was sent for lately.
    pub(super) fn factor(&self, user: &UserName, now: Instant) -> Option<String> {
        lock(&self.0).get(user, now).cloned()
    }

    /// The user has logged in.
    pub(super) fn forget(&self, user: &UserName) {
        lock(&self.0).forget(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::testing::user;

    #[test]
    fn a_sent_code_is_remembered_for_ten_minutes_and_for_so_many_users() {
        let (sent, start) = (Sent::default(), Instant::now());
        sent.remember(user("jane"), "sms".into(), start);
        assert_eq!(
            sent.factor(&user("jane"), start + REMEMBERED / 2).as_deref(),
            Some("sms")
        );
        assert_eq!(sent.factor(&user("jane"), start + REMEMBERED), None);
        for n in 0..USERS {
            sent.remember(
                user(&format!("u{n}")),
                "sms".into(),
                start + Duration::from_secs(1),
            );
        }
        assert_eq!(sent.factor(&user("jane"), start), None);
        assert!(sent.factor(&user("u0"), start).is_some());
        sent.forget(&user("u0"));
        assert!(sent.factor(&user("u0"), start).is_none());
    }
}
