//! Approvals that came when nobody waited any more: each serves one further try, once, for a short time.

use std::net::IpAddr;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::{Approval, UserName};
use crate::logins::Login;
use crate::random::TextDigest;

/// How long an approval is kept, and how long after the deadline it may still come.
pub(crate) const LATE: Duration = Duration::from_secs(30);
const APPROVALS: usize = 4_096;

pub(crate) struct LateApprovals(Bounded<UserName, Late>);

struct Late {
    approval: Approval,
    source: IpAddr,
    text: Option<TextDigest>,
    proved: bool,
    until: Duration,
}

impl LateApprovals {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(APPROVALS))
    }

    /// Keeps the approval of a login. `true` when another user's had to be forgotten before its time.
    pub(crate) fn keep(&mut self, login: Login, approval: Approval, now: Duration) -> bool {
        let late = Late {
            approval,
            source: login.source,
            text: login.text,
            proved: login.proved,
            until: now + LATE,
        };
        self.0
            .insert(login.user, late)
            .is_some_and(|(_, evicted)| now < evicted.until)
    }

    /// The approval for a further try of the user, if it comes from the same address with the same text, and proves a
    /// secret if the login did. Somebody else's try leaves it where it is.
    pub(crate) fn take(
        &mut self,
        user: &UserName,
        source: IpAddr,
        text: Option<TextDigest>,
        proved: bool,
        now: Duration,
    ) -> Option<Approval> {
        let late = self.0.get(user)?;
        if now >= late.until {
            self.0.remove(user);
            return None;
        }
        if late.source != source || !TextDigest::same(late.text, text) || (late.proved && !proved) {
            return None;
        }
        self.0.remove(user).map(|late| late.approval)
    }
}
