//! A limit on the operator's own calls, so that many resources together stay below AWS's limits, which aren't published.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket: it fills at a steady rate, up to the calls of five seconds.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again. Each call moves it on by one interval.
    full_at: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// Allows this many calls a second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            burst: Duration::from_secs(5),
            full_at: Mutex::new(None),
        }
    }

    /// Takes a token and returns when the call may be sent.
    pub(crate) fn reserve(&self, now: Instant) -> Instant {
        self.try_reserve(now, Duration::MAX).unwrap_or(now)
    }

    /// Takes a token only if the call may be sent within this time.
    pub(crate) fn try_reserve(&self, now: Instant, limit: Duration) -> Option<Instant> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = full_at.filter(|at| *at > now).unwrap_or(now) + self.interval;
        let at = filled.checked_sub(self.burst).map_or(now, |at| at.max(now));
        let is_soon = at.duration_since(now) <= limit;
        if is_soon {
            *full_at = Some(filled);
        }
        is_soon.then_some(at)
    }

    /// Returns when the next call may be sent.
    pub(crate) async fn wait(&self) {
        let now = Instant::now();
        let at = self.reserve(now);
        if at > now {
            tokio::time::sleep_until(at.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_steady_rate() {
        let (limiter, now) = (RateLimiter::new(4), Instant::now());
        for _ in 0..20 {
            assert_eq!(limiter.reserve(now), now);
        }
        assert_eq!(limiter.reserve(now), now + Duration::from_millis(250));
        assert_eq!(limiter.reserve(now), now + Duration::from_millis(500));
        let later = now + Duration::from_secs(60);
        assert_eq!(limiter.reserve(later), later);
    }

    #[test]
    fn calls_that_are_given_up_before_their_turn_take_no_token() {
        let (limiter, now) = (RateLimiter::new(4), Instant::now());
        let limit = Duration::from_millis(250);
        while limiter.try_reserve(now, Duration::ZERO).is_some() {}
        assert_eq!(limiter.try_reserve(now, limit), Some(now + limit));
        for _ in 0..100 {
            assert_eq!(limiter.try_reserve(now, limit), None);
        }
        assert_eq!(limiter.reserve(now), now + 2 * limit);
    }
}
