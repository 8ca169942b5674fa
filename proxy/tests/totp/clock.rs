//! Users' clocks that run fast, and are put right.

use proxy_core::factor::{Basis, RefusalReason};

use crate::api_server::Fake;
use crate::kubernetes::{NAMES, pod};
use crate::pod::{Pod, START, code_at, config, told};

const DAY: u64 = 86_400;

/// What a code of a time is answered with at another.
async fn at(pod: &Pod, code: u64, now: u64) -> Result<Basis, RefusalReason> {
    told(&pod.login(0, code_at(code), now).await)
}

/// The codes of a phone that `first` follows for four days, and that is then put right and logs in at `second`.
async fn put_right(first: &Pod, second: &Pod) {
    for day in 1..=4 {
        let now = START + day * DAY;
        assert_eq!(
            at(first, now + day * 30, now).await,
            Ok(Basis::Factor),
            "day {day}"
        );
    }
    let replayed = Err(RefusalReason::PasscodeReplayed);
    let now = START + 4 * DAY;
    assert_eq!(
        at(first, now + 3 * 30, now).await,
        replayed,
        "a fast clock has no older code"
    );
    assert_eq!(at(second, now, now).await, Ok(Basis::Factor), "put right at once");
    for pod in [first, second] {
        for time in [now, now + 4 * 30] {
            assert_eq!(at(pod, time, time).await, replayed, "each code works once");
        }
    }
    for (day, pod) in [(5, first), (6, second)] {
        let now = START + day * DAY;
        assert_eq!(at(pod, now, now).await, Ok(Basis::Factor), "day {day}");
    }
}

#[tokio::test]
async fn a_clock_that_is_put_right_is_right_at_one_proxy() {
    let pod = Pod::new(&config(""));
    put_right(&pod, &pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_right_is_right_at_each_proxy_that_shares_a_store() {
    let fake = Fake::start(&NAMES).await;
    put_right(&pod(&fake, "deny"), &pod(&fake, "deny")).await;
}
