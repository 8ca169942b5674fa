//! Okta's rate limits (developer.okta.com/docs/reference/rl-best-practices): how long to wait, and how fast to ask.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Between two questions about a push: fast while it is new, since most people answer within seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LATER_PAUSE: Duration = Duration::from_secs(2);
const NEW: Duration = Duration::from_secs(10);
/// A limit's window is a minute: nothing asks for more patience.
const LONGEST: Duration = Duration::from_secs(120);

/// What the headers of an answer say about the limit of its endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    remaining: Option<u64>,
    limit: Option<u64>,
    /// From the answer's own time to the end of the window.
    reset: Option<Duration>,
    retry_after: Option<Duration>,
}

impl Limit {
    /// Reads the headers; `now` is the time in Unix seconds where the answer does not tell its own.
    pub(super) fn read(headers: &HeaderMap, now: i64) -> Self {
        let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let then = date(headers).unwrap_or(now);
        let reset = number("x-rate-limit-reset")
            .and_then(|reset| i64::try_from(reset).ok())
            .map(|reset| Duration::from_secs(u64::try_from(reset.saturating_sub(then)).unwrap_or(0)));
        Self {
            remaining: number("x-rate-limit-remaining"),
            limit: number("x-rate-limit-limit"),
            reset: reset.map(|reset| reset.min(LONGEST)),
            retry_after: number(RETRY_AFTER.as_str()).map(Duration::from_secs),
        }
    }

    /// How long a call that was refused for its rate has to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        // A second more: Reset is a whole second, and windows begin with it.
        self.retry_after
            .or_else(|| Some(self.reset? + Duration::from_secs(1)))
    }

    /// How long to wait before the next question about a push that is `age` old. The less is left of the limit, which
    /// every login of the organisation shares, the slower.
    pub(super) fn pause(&self, age: Duration) -> Duration {
        let pause = if age < NEW { FIRST_PAUSE } else { LATER_PAUSE };
        let (Some(remaining), Some(limit)) = (self.remaining, self.limit) else {
            return pause;
        };
        match (remaining.saturating_mul(20), limit) {
            (left, limit) if left < limit => self.wait().unwrap_or(pause * 8).max(pause),
            (left, limit) if left < limit.saturating_mul(5) => pause * 4,
            (left, limit) if left < limit.saturating_mul(10) => pause * 2,
            _ => pause,
        }
    }
}

/// The answer's own time in Unix seconds.
pub(super) fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn limit(headers: &[(&'static str, &'static str)]) -> Limit {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Limit::read(&headers.collect(), 1_700_000_000)
    }

    #[test]
    fn the_wait_is_from_the_answers_own_time_to_the_reset() {
        let told = [
            ("date", "Tue, 14 Nov 2023 22:13:30 GMT"),
            ("x-rate-limit-reset", "1700000020"),
        ];
        assert_eq!(limit(&told).wait(), Some(Duration::from_secs(11)));
        // Without Date our own clock counts.
        assert_eq!(limit(&told[1..]).wait(), Some(Duration::from_secs(21)));
        assert_eq!(
            limit(&[("retry-after", "7"), told[1]]).wait(),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            limit(&[("x-rate-limit-reset", "1")]).wait(),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            limit(&[("x-rate-limit-reset", "9999999999")]).wait(),
            Some(Duration::from_secs(121))
        );
        assert_eq!(limit(&[]).wait(), None);
    }

    #[test]
    fn questions_slow_down_as_the_limit_runs_out() {
        let new = Duration::ZERO;
        let pause = |remaining| {
            limit(&[
                ("x-rate-limit-limit", "600"),
                ("x-rate-limit-remaining", remaining),
            ])
            .pause(new)
        };
        assert_eq!(pause("600"), Duration::from_secs(1));
        assert_eq!(pause("299"), Duration::from_secs(2));
        assert_eq!(pause("149"), Duration::from_secs(4));
        assert_eq!(pause("29"), Duration::from_secs(8));
        assert_eq!(limit(&[]).pause(Duration::from_secs(30)), Duration::from_secs(2));
        let spent = limit(&[
            ("x-rate-limit-limit", "600"),
            ("x-rate-limit-remaining", "0"),
            ("x-rate-limit-reset", "1700000040"),
        ]);
        assert_eq!(spent.pause(new), Duration::from_secs(41));
    }

    #[test]
    fn no_number_in_a_header_makes_it_panic() {
        let most = "18446744073709551615";
        for name in [
            "x-rate-limit-limit",
            "x-rate-limit-remaining",
            "x-rate-limit-reset",
            "retry-after",
        ] {
            let told = limit(&[
                ("x-rate-limit-limit", most),
                ("x-rate-limit-remaining", "18446744073709551614"),
                (name, most),
            ]);
            assert!(told.pause(Duration::ZERO) >= FIRST_PAUSE);
        }
    }
}
