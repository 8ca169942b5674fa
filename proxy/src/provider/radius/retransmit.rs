//! When a request is sent again (RFC 5080 section 2.2.1).

use std::time::Duration;

/// MRT, unless the first timeout is longer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(16);

/// The timeouts of one request at one server.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    initial: Duration,
    previous: Option<Duration>,
    left: u32,
}

impl Schedule {
    /// `initial` is IRT, `tries` MRC.
    pub(super) const fn new(initial: Duration, tries: u32) -> Self {
        Self {
            initial,
            previous: None,
            left: tries,
        }
    }

    /// How long an answer is waited for after the next sending; `None` when nothing more is sent. `random` is RAND's
    /// randomness, 0 to 255 for -0.1 to 0.1.
    pub(super) fn next(&mut self, random: u8) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let rand = (f64::from(random) / 127.5 - 1.0) * 0.1;
        let longest = LONGEST_TIMEOUT.max(self.initial);
        let timeout = match self.previous {
            None => self.initial.mul_f64(1.0 + rand),
            Some(previous) => previous.mul_f64(2.0 + rand),
        };
        let timeout = if timeout > longest {
            longest.mul_f64(1.0 + rand)
        } else {
            timeout
        };
        self.previous = Some(timeout);
        Some(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_double_up_to_sixteen_seconds() {
        let mut schedule = Schedule::new(Duration::from_secs(2), 6);
        let mut expected = 2.0;
        for _ in 0..6 {
            let got = schedule.next(127).unwrap().as_secs_f64();
            assert!((got - expected).abs() < expected * 0.02, "{got} {expected}");
            expected = (expected * 2.0).min(16.0);
        }
        assert_eq!(schedule.next(127), None);
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        for random in 0..=255 {
            let first = Schedule::new(Duration::from_secs(10), 1)
                .next(random)
                .unwrap()
                .as_secs_f64();
            assert!((9.0..=11.0).contains(&first), "{first}");
        }
    }

    #[test]
    fn a_first_timeout_above_the_longest_stays() {
        let mut schedule = Schedule::new(Duration::from_secs(60), 2);
        for _ in 0..2 {
            let timeout = schedule.next(255).unwrap();
            assert!(
                timeout >= Duration::from_secs(60) && timeout <= Duration::from_secs(66),
                "{timeout:?}"
            );
        }
    }
}
