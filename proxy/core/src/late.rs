//! Approvals that came when nobody waited any more: each serves one further try, once, for a short time.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::{Approval, UserName};
use crate::logins::Login;
use crate::sender::Sender;

/// How long an approval is kept, and how long after the deadline it may still come.
pub(crate) const LATE: Duration = Duration::from_secs(30);
const APPROVALS: usize = 4_096;

pub(crate) struct LateApprovals(Bounded<UserName, Late>);

struct Late {
    approval: Approval,
    sender: Sender,
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
            sender: login.sender,
            until: now + LATE,
        };
        self.0
            .insert(login.user, late)
            .is_some_and(|(_, evicted)| now < evicted.until)
    }

    /// The approval for a further try of the user, if it can be the same person's: from the same address, or with a text of
    /// the user's own from another of the same directory. Somebody else's try leaves it where it is.
    pub(crate) fn take(&mut self, user: &UserName, sender: &Sender, now: Duration) -> Option<Approval> {
        let late = self.0.get(user)?;
        if now >= late.until {
            self.0.remove(user);
            return None;
        }
        let here = late.sender.source == sender.source || late.sender.own_text;
        if !here || !late.sender.matches(sender) {
            return None;
        }
        self.0.remove(user).map(|late| late.approval)
    }
}
