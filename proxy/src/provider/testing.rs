//! What the unit tests of several providers need.

use proxy_config::{CaseRule, UserNameRule};
use proxy_core::factor::UserName;

/// A normalised name.
pub(super) fn user(name: &str) -> UserName {
    let rule = UserNameRule {
        strip_domain: true,
        case: CaseRule::Lower,
        max_bytes: 64,
    };
    UserName::normalise(name, &rule).unwrap()
}
