//! Times as Kubernetes keeps them: whole seconds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The second that `now` is in.
pub(crate) fn floor(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The next whole second, or `now` when it is one. For times that something else must not come before: a description
/// of the directory that was asked for at `ceil` or later was asked for after `now`.
pub(crate) fn ceil(now: Timestamp) -> Time {
    let floored = floor(now);
    if floored.0 == now {
        return floored;
    }
    Time(Timestamp::from_second(now.as_second().saturating_add(1)).unwrap_or(now))
}

/// `time` plus `duration`.
pub(crate) fn after(time: &Time, duration: Duration) -> Timestamp {
    later(time.0, duration)
}

/// The same of a time that is not kept.
pub(crate) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// From `now` to `then`; zero when it has passed.
pub(crate) fn until(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}

/// `then` for people, such as 14:05:30 UTC.
pub(crate) fn clock(then: Timestamp) -> String {
    then.strftime("%H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_kept_does_not_change_when_it_is_read_again() {
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        for time in [floor(now), ceil(now)] {
            let text = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
        }
        assert!(ceil(now).0 > now && floor(now).0 < now);
        assert_eq!(ceil(floor(now).0), floor(now));
        assert_eq!(until(now, floor(now).0), Duration::ZERO);
    }
}
