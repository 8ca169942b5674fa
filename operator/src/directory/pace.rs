//! A limit on calls of our own, so that many resources together stay below AWS's limits, which are not published.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of calls: it fills at a steady rate up to five seconds' worth.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again. Each call moves it on by one interval.
    full_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many calls in a second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            burst: Duration::from_secs(5),
            full_at: Mutex::new(None),
        }
    }

    /// Takes a place and says how long to wait for it.
    fn take(&self, now: Instant) -> Duration {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = full_at.filter(|at| *at > now).unwrap_or(now) + self.interval;
        *full_at = Some(filled);
        filled.saturating_duration_since(now).saturating_sub(self.burst)
    }

    /// Returns when the next call may be made.
    pub(crate) async fn wait(&self) {
        let wait = self.take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_steady_rate() {
        let (pace, now) = (Pace::new(4), Instant::now());
        for _ in 0..20 {
            assert_eq!(pace.take(now), Duration::ZERO);
        }
        assert_eq!(pace.take(now), Duration::from_millis(250));
        assert_eq!(pace.take(now), Duration::from_millis(500));
        assert_eq!(pace.take(now + Duration::from_secs(60)), Duration::ZERO);
    }
}
