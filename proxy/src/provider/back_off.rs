//! How long a call that a provider refuses for its rate waits before it is made again.

use std::time::{Duration, Instant};

use super::fault::Fault;

/// The first wait, unless the provider says more; it doubles.
const FIRST: Duration = Duration::from_secs(1);

/// The waits of one call.
#[derive(Debug)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits as long as the provider says, and no less than the next wait of our own; false when the call has not so long.
    pub(super) async fn wait(&mut self, fault: &Fault, deadline: Instant) -> bool {
        let mut byte = [128_u8];
        // Without randomness the wait is simply not jittered.
        let _ = getrandom::fill(&mut byte);
        let [byte] = byte;
        let wait = self.step(fault.retry_after, byte);
        if wait >= deadline.saturating_duration_since(Instant::now()) {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    fn step(&mut self, retry_after: Option<Duration>, random: u8) -> Duration {
        // 0.5 to 1.5 of a wait, so that many logins do not come back at once. A Retry-After of 0 is no leave to ask without
        // a pause.
        let own = self.next.mul_f32(0.5 + f32::from(random) / 255.0);
        self.next = self.next.saturating_mul(2);
        retry_after.unwrap_or_default().max(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_around_a_jitter_and_are_never_shorter_than_the_provider_says() {
        let seconds = Duration::from_secs;
        let mut back_off = BackOff::new();
        assert_eq!(back_off.step(None, 0), Duration::from_millis(500));
        assert_eq!(back_off.step(Some(seconds(0)), 255), seconds(3));
        assert_eq!(back_off.step(Some(seconds(7)), 255), seconds(7));
        assert_eq!(back_off.step(None, 0), seconds(4));
    }
}
