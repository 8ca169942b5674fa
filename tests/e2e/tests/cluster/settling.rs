//! How many writes are right when several pods come: one, as long as they come close together.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// `settleSeconds` of the operator: from the first pod on, a write waits so long for the others.
const SETTLE: Duration = Duration::from_secs(30);
/// What the kubelet's whole seconds, and the way of its news to the operator, may take from that.
const BLUR: Duration = Duration::from_secs(3);

/// Since when a pod's containers are ready.
pub fn serves_since(pod: &Value) -> Option<Timestamp> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions
        .iter()
        .find(|c| c["type"] == "ContainersReady" && c["status"] == "True")?;
    ready["lastTransitionTime"].as_str()?.parse().ok()
}

/// How many writes are right for pods that are all awaited at once, and began to serve at these times. On a slow machine
/// one may come so late that the others were registered without it.
pub fn right_writes(mut served: Vec<Timestamp>) -> RangeInclusive<usize> {
    let settles = SignedDuration::try_from(SETTLE - BLUR).unwrap();
    served.sort();
    let (mut writes, mut first) = (0, None);
    for time in served {
        if first.is_none_or(|first: Timestamp| time.duration_since(first) >= settles) {
            writes += 1;
            first = Some(time);
        }
    }
    1..=writes
}

#[test]
fn pods_that_come_close_together_are_one_write_and_one_that_comes_late_may_be_another() {
    let times = |seconds: &[i64]| {
        let times = seconds
            .iter()
            .map(|second| Timestamp::from_second(*second).unwrap());
        right_writes(times.collect())
    };
    assert_eq!(times(&[100, 110]), 1..=1);
    assert_eq!(times(&[140, 100]), 1..=2);
    assert_eq!(times(&[100, 120, 140]), 1..=2);
}
