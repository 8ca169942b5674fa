//! The shipped binary before a stub of Duo.

use std::time::{Duration, Instant};

use crate::duo::{Duo, ok};
use crate::harness::{ALLOWED, well};
use crate::overload::served;
use crate::support::{self, Answer};

/// A directory may ask two proxies at once. Duo takes a code once, so one of them is told that it is wrong: its Reject must
/// not be there before the Accept of the other.
#[test]
fn a_refused_code_is_rejected_later_than_a_right_one_is_accepted() {
    let runtime = support::runtime();
    let duo = runtime.block_on(Duo::start(|endpoint, before, parameters| match endpoint {
        "auth" if before > 0 => ok(r#"{"result":"deny","status":"deny","status_msg":"Incorrect passcode."}"#),
        "auth" => ok(ALLOWED),
        _ => well(endpoint, before, parameters),
    }));
    let (_first, first) = served(&duo, "");
    let (_second, second) = served(&duo, "");
    assert_eq!(first.login("jane", "123456"), Answer::Accept);
    let begun = Instant::now();
    assert!(matches!(second.login("jane", "123456"), Answer::Reject(_)));
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
