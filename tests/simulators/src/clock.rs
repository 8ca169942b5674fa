//! Wall-clock times as the wires want them.

use jiff::Timestamp;
use std::time::Duration;

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Epoch seconds with milliseconds, as AWS JSON has timestamps.
pub(crate) fn epoch_seconds(time: Timestamp) -> f64 {
    // Milliseconds since 1970 are far below 2^53, where f64 is exact.
    #[expect(clippy::cast_precision_loss)]
    let ms = time.as_millisecond() as f64;
    ms / 1000.0
}

/// Whole milliseconds, bounded by what fits.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds from one moment to a later one; zero if the clock was set back meanwhile.
pub(crate) fn ms_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}
