//! Throttles: they answer with a Reject for a while and never lock anybody out.

use std::time::Duration;

use proxy_config::Limits;

use crate::bounded::Bounded;
use crate::factor::UserName;

/// Users that proved clients asked about.
const USERS: usize = 65_536;
/// Users that requests without proof asked about: their own room, so that they cannot push the others out.
const UNPROVED_USERS: usize = 4_096;

/// So many in a period, and all of them at once if the period before was quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) period: Duration,
}

/// A token bucket in eight bytes (the generic cell rate algorithm): when it will be full again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Whether a token is left.
    pub(crate) fn has(&self, now: Duration, rate: Rate) -> bool {
        self.after(now, rate).is_some()
    }

    /// Takes a token, if one is left.
    pub(crate) fn take(&mut self, now: Duration, rate: Rate) -> bool {
        match self.after(now, rate) {
            Some(full_at) => {
                self.full_at = full_at;
                true
            }
            None => false,
        }
    }

    /// When the bucket is full again, once one more token is taken; `None` when none is left.
    fn after(&self, now: Duration, rate: Rate) -> Option<Duration> {
        let each = rate.period / rate.count.max(1);
        let full_at = self.full_at.max(now).saturating_add(each);
        (full_at <= now.saturating_add(rate.period)).then_some(full_at)
    }
}

/// What is counted for one user.
#[derive(Debug, Clone, Copy, Default)]
struct User {
    logins: Bucket,
    pushes: Bucket,
    cool_until: Duration,
}

/// Why no push may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushStop {
    /// One was denied a moment ago.
    CoolDown,
    /// There were too many.
    TooMany,
}

/// The users' limits.
pub(crate) struct UserLimits {
    proved: Bounded<UserName, User>,
    unproved: Bounded<UserName, User>,
    limits: Limits,
}

impl UserLimits {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            proved: Bounded::new(USERS),
            unproved: Bounded::new(UNPROVED_USERS),
            limits,
        }
    }

    pub(crate) fn reconfigure(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one login of the user. `evicted` is told when another user had to be forgotten.
    pub(crate) fn login(&mut self, user: &UserName, proved: bool, now: Duration, evicted: &mut bool) -> bool {
        let rate = Self::per_minute(self.limits.logins_per_user_per_minute);
        self.user(user, proved, evicted, |user| user.logins.take(now, rate))
    }

    /// Why no push may be started for the user now; `None` when one may.
    pub(crate) fn push_stop(&self, user: &UserName, now: Duration) -> Option<PushStop> {
        let rate = Self::per_minute(self.limits.pushes_per_user_per_minute);
        let known = self.proved.get(user)?;
        if now < known.cool_until {
            Some(PushStop::CoolDown)
        } else if !known.pushes.has(now, rate) {
            Some(PushStop::TooMany)
        } else {
            None
        }
    }

    /// Counts a push that a provider has started, whatever the limit says by now.
    pub(crate) fn pushed(&mut self, user: &UserName, now: Duration, evicted: &mut bool) {
        let rate = Self::per_minute(self.limits.pushes_per_user_per_minute);
        self.user(user, true, evicted, |user| user.pushes.take(now, rate));
    }

    /// A push was denied: none for a while. Passcodes are not touched by it.
    pub(crate) fn cool_down(&mut self, user: &UserName, now: Duration, evicted: &mut bool) {
        let until = now.saturating_add(self.limits.push_cool_down);
        self.user(user, true, evicted, |user| user.cool_until = until);
    }

    fn user<T>(
        &mut self,
        name: &UserName,
        proved: bool,
        evicted: &mut bool,
        change: impl FnOnce(&mut User) -> T,
    ) -> T {
        let users = if proved {
            &mut self.proved
        } else {
            &mut self.unproved
        };
        if let Some(user) = users.touch(name) {
            return change(user);
        }
        let mut user = User::default();
        let result = change(&mut user);
        *evicted |= users.insert(name.clone(), user).is_some();
        result
    }

    fn per_minute(count: u32) -> Rate {
        Rate {
            count,
            period: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        count: 3,
        period: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let granted: Vec<bool> = [100, 100, 100, 100, 119, 120, 120, 140, 400, 400, 400, 400]
            .into_iter()
            .map(|second| bucket.take(at(second), RATE))
            .collect();
        assert_eq!(
            granted,
            [
                true, true, true, false, false, true, false, true, true, true, true, false
            ]
        );
    }

    #[test]
    fn no_fuzz_makes_a_bucket_panic_or_give_more_than_its_rate() {
        bolero::check!()
            .with_type::<(u8, Vec<u16>)>()
            .for_each(|(count, steps)| {
                let rate = Rate {
                    count: u32::from(*count).max(1),
                    period: Duration::from_secs(60),
                };
                let (mut bucket, mut now, mut granted) = (Bucket::default(), Duration::ZERO, 0u64);
                for step in steps {
                    now += Duration::from_millis(u64::from(*step));
                    granted += u64::from(bucket.take(now, rate));
                }
                let each = rate.period / rate.count;
                let most = u64::from(rate.count) + u64::try_from(now.as_nanos() / each.as_nanos()).unwrap();
                assert!(granted <= most);
            });
    }

    #[test]
    fn a_cool_down_stops_pushes_and_ends() {
        let limits = testing_limits();
        let mut users = UserLimits::new(limits);
        let (jane, mut evicted) = (UserName("jane".to_owned()), false);
        assert_eq!(users.push_stop(&jane, at(100)), None);
        users.cool_down(&jane, at(100), &mut evicted);
        assert_eq!(users.push_stop(&jane, at(109)), Some(PushStop::CoolDown));
        assert!(users.login(&jane, true, at(109), &mut evicted));
        assert_eq!(users.push_stop(&jane, at(110)), None);
        for _ in 0..limits.pushes_per_user_per_minute {
            users.pushed(&jane, at(110), &mut evicted);
        }
        assert_eq!(users.push_stop(&jane, at(110)), Some(PushStop::TooMany));
    }

    #[test]
    fn requests_without_proof_push_no_proved_user_out() {
        let mut users = UserLimits::new(testing_limits());
        let (jane, mut evicted) = (UserName("jane".to_owned()), false);
        users.cool_down(&jane, at(100), &mut evicted);
        for i in 0..=USERS {
            users.login(&UserName(i.to_string()), false, at(101), &mut evicted);
        }
        assert!(evicted);
        assert_eq!(users.push_stop(&jane, at(102)), Some(PushStop::CoolDown));
        assert!(users.unproved.len() <= UNPROVED_USERS);
    }

    fn testing_limits() -> Limits {
        Limits {
            pushes_per_user_per_minute: 6,
            logins_per_user_per_minute: 30,
            requests_per_client_per_second: 10,
            pending: 10,
            push_cool_down: Duration::from_secs(10),
        }
    }
}
