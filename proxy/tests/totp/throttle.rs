//! What ends the wait after wrong codes, and what does not.

use proxy_core::factor::{Basis, RefusalReason};

use crate::api_server::Fake;
use crate::kubernetes::{NAMES, pod};
use crate::pod::{Pod, SCRATCH, START, code_at, told};

const THROTTLED: Result<Basis, RefusalReason> = Err(RefusalReason::Throttled);

async fn login(pod: &Pod, typed: &[u8], now: u64) -> Result<Basis, RefusalReason> {
    told(&pod.login(0, typed.to_vec(), now).await)
}

/// Types wrong codes until the next one has to wait, then one that was used before, then a wrong one.
async fn guess_with(pod: &Pod, used: &[u8], now: u64) {
    for _ in 0..6 {
        assert_eq!(
            login(pod, b"000000", now).await,
            Err(RefusalReason::WrongPasscode)
        );
    }
    assert_eq!(login(pod, used, now).await, THROTTLED);
    let replayed = Err(RefusalReason::PasscodeReplayed);
    assert_eq!(login(pod, used, now + 1).await, replayed);
    assert_eq!(
        login(pod, b"000000", now + 1).await,
        Err(RefusalReason::WrongPasscode)
    );
    assert_eq!(
        login(pod, &code_at(now + 2), now + 2).await,
        THROTTLED,
        "it ended no wait"
    );
    assert_eq!(login(pod, &code_at(now + 3), now + 3).await, Ok(Basis::Factor));
    assert_eq!(
        login(pod, b"000000", now + 3).await,
        Err(RefusalReason::WrongPasscode),
        "that one did"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_scratch_code_ends_no_wait() {
    let fake = Fake::start(&NAMES).await;
    let pod = pod(&fake, "deny");
    assert_eq!(login(&pod, SCRATCH, START).await, Ok(Basis::ScratchCode));
    guess_with(&pod, SCRATCH, START + 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_used_at_another_proxy_ends_no_wait() {
    let fake = Fake::start(&NAMES).await;
    let (first, second) = (pod(&fake, "deny"), pod(&fake, "deny"));
    let used = code_at(START);
    assert_eq!(login(&first, &used, START).await, Ok(Basis::Factor));
    // Still within the window of the step after it, whose code is the right one then.
    guess_with(&second, &used, START + 30).await;
}
