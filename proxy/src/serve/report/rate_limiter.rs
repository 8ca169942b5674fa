//! When observations of the directory are reported: notable ones soon, and all of them rarely enough that no flood
//! causes many writes.

use std::time::Duration;

use proxy_config::observed::Observed;
use tokio::time::Instant;

/// The least time between two reports of what was observed, unless it is notable.
const OBSERVED_EVERY: Duration = Duration::from_secs(60);
/// Reports of notable observations that may follow each other at once. Each comes back after [`OBSERVED_EVERY`], so
/// that forged packets between good ones make no more than a write a minute.
const NOTABLE_BURST: u32 = 6;

/// What was observed of the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) observed: Observed,
    /// How many notable changes led to it.
    pub(crate) notable: u64,
}

/// When an observation is due.
pub(super) struct RateLimiter {
    last: Observation,
    /// When one may be reported, notable or not.
    at: Instant,
    /// When a notable one may be.
    notable_at: Instant,
    /// When the full burst of notable ones is available again.
    full_at: Instant,
}

impl RateLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: Observation::default(),
            at: now,
            notable_at: now,
            full_at: now,
        }
    }

    /// When `observation` is to be reported; `None` when it was.
    pub(super) fn due(&self, observation: &Observation) -> Option<Instant> {
        let is_notable = observation.notable != self.last.notable;
        let at = if is_notable {
            self.at.min(self.notable_at)
        } else {
            self.at
        };
        (observation.observed != self.last.observed).then_some(at)
    }

    /// A report with `observation` was sent.
    pub(super) fn reported(&mut self, now: Instant, observation: Observation) {
        if observation.notable != self.last.notable {
            self.full_at = self.full_at.max(now) + OBSERVED_EVERY;
        }
        self.last = observation;
        self.at = now + OBSERVED_EVERY;
        let burst = OBSERVED_EVERY * (NOTABLE_BURST - 1);
        self.notable_at = self.full_at.checked_sub(burst).map_or(now, |at| at.max(now));
    }

    /// A report failed: what was observed waits for the next, too.
    pub(super) fn failed(&mut self, again: Instant) {
        self.at = again;
        self.notable_at = again;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;

    use proxy_config::observed::ObservedAddress;

    use super::*;

    pub(crate) fn observation(addresses: u8, notable: u64) -> Observation {
        let observed = Observed {
            addresses: (1..=addresses)
                .map(|i| (IpAddr::from([10, 0, 0, i]), ObservedAddress::default()))
                .collect(),
            ..Observed::default()
        };
        Observation { observed, notable }
    }

    #[test]
    fn an_ordinary_observation_waits_for_its_minute_and_a_notable_one_does_not() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut limiter = RateLimiter::new(start);
        assert_eq!(limiter.due(&Observation::default()), None);
        assert_eq!(limiter.due(&observation(1, 1)), Some(start));
        limiter.reported(start, observation(1, 1));
        assert_eq!(limiter.due(&observation(1, 1)), None);
        assert_eq!(limiter.due(&observation(2, 1)), Some(after(60)));
        assert!(limiter.due(&observation(2, 2)).unwrap() <= after(1));
        limiter.failed(after(10));
        assert_eq!(limiter.due(&observation(2, 2)), Some(after(10)));
    }

    #[test]
    fn a_flood_that_makes_every_second_notable_writes_once_a_minute() {
        let start = Instant::now();
        let (mut limiter, mut writes) = (RateLimiter::new(start), 0);
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            let seen = observation(u8::try_from(second % 200 + 1).unwrap(), second + 1);
            if limiter.due(&seen).is_some_and(|due| due <= now) {
                limiter.reported(now, seen);
                writes += 1;
            }
        }
        assert!((60..=66).contains(&writes), "{writes}");
    }
}
