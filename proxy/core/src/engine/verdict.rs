//! Verdicts and deadlines.

use super::Engine;
use super::end::End;
use crate::Now;
use crate::counters::Event;
use crate::factor::{Approval, Basis, LoginId, Refusal, RefusalReason, UserName, Verdict};
use crate::logins::{Attempt, Login};
use crate::outputs::Outputs;
use crate::password::Carrier;
use crate::record::Reason;
use crate::sender::Sender;

impl Engine {
    pub(super) fn take_verdict(&mut self, now: Now, id: LoginId, verdict: Verdict, out: &mut Outputs) {
        if self.is_unsettled(now, id, &verdict) {
            return;
        }
        let verdict = match verdict {
            Verdict::Approved(approval) => match self.may_use(now, id, approval, out) {
                Some(approval) => Verdict::Approved(approval),
                None => return,
            },
            refused => refused,
        };
        let Some(mut login) = self.logins.remove(id) else {
            self.counters.happened(Event::StaleVerdict);
            return;
        };
        self.end_push(now, &login, out);
        if let Some(attempt) = &login.attempt {
            self.forget(now, attempt, id);
        }
        if login.exclusive && !login.pushed && starts_none(&verdict) {
            self.refuse_rivals(now, &login.user, out);
        }
        let attempt = login.attempt.take();
        if let Some(attempt) = &attempt {
            self.keep_code_answer(now, &login, attempt, &verdict);
        }
        match (verdict, attempt) {
            (Verdict::Approved(approval), Some(attempt)) => {
                if login.exclusive && approval.basis == Basis::Factor {
                    self.know_text(&attempt, &login.user, &login.sender);
                }
                self.end(now, attempt, End::Approved(approval, None), out);
            }
            (Verdict::Approved(approval), None) => self.keep_late(now, login, approval),
            (Verdict::Refused(refusal), attempt) => self.take_refusal(now, &login, attempt, refusal, out),
        }
    }

    fn take_refusal(
        &mut self,
        now: Now,
        login: &Login,
        attempt: Option<Box<Attempt>>,
        refusal: Refusal,
        out: &mut Outputs,
    ) {
        let denied = matches!(refusal.reason, RefusalReason::Denied | RefusalReason::Fraud);
        if login.pushed && denied {
            let mut evicted = false;
            self.users.cool_down(&login.user, now.monotonic, &mut evicted);
            self.count_if(evicted, Event::EvictedUser);
        }
        let Some(attempt) = attempt else {
            self.counters.happened(Event::StaleVerdict);
            return;
        };
        let challenge = refusal.reason == RefusalReason::CodesSent
            && attempt.to.client.config.challenge
            && matches!(attempt.carrier, Carrier::Pap);
        let end = if challenge {
            let message = refusal
                .message
                .as_deref()
                .unwrap_or("Enter the code that was sent to you.");
            let factor = refusal.factor.unwrap_or(crate::factor::Factor::Sms);
            End::Challenged(
                login.user.clone(),
                message.into(),
                factor,
                Reason::Refused(refusal.reason),
            )
        } else {
            End::Refused(refusal)
        };
        self.end(now, attempt, end, out);
    }

    /// Remembers the text with which the user got in. A response is never repeated, so it doesn't replace the text.
    pub(super) fn know_text(&mut self, attempt: &Attempt, user: &UserName, sender: &Sender) {
        if matches!(attempt.carrier, Carrier::Pap) {
            self.known_texts.approved(user, sender);
        }
    }

    /// Nobody waits any more. Only what a person has approved is kept: a bypass is found out anew, a fail-open is not
    /// something to go on.
    fn keep_late(&mut self, now: Now, login: Login, approval: Approval) {
        if !login.exclusive || !login.sender.is_distinct() || approval.basis != Basis::Factor {
            self.counters.happened(Event::StaleVerdict);
            return;
        }
        self.counters.happened(Event::LateApprovalKept);
        let evicted = self.late.keep(login, approval, now.monotonic);
        self.count_if(evicted, Event::EvictedLateApproval);
    }

    /// A login has come to its deadline: its client is answered, and a push lives on without one for a while.
    pub(super) fn wake(&mut self, now: Now, id: LoginId, out: &mut Outputs) {
        if self.settle(now, id, out) {
            return;
        }
        let login = self.logins.get(id);
        if login.is_some_and(|login| login.held.is_some() && login.attempt.is_some()) {
            self.give_up_held(now, id, out);
            return;
        }
        if login.is_none_or(|login| login.attempt.is_none()) {
            if let Some(login) = self.logins.remove(id) {
                self.end_push(now, &login, out);
            }
            out.cancels.push(id);
            return;
        }
        let rival = login.is_some_and(|login| login.rival);
        if let Some(attempt) = self.leave(now, id, out) {
            self.forget(now, &attempt, id);
            let reason = if rival {
                RefusalReason::PushPending
            } else {
                RefusalReason::TimedOut
            };
            self.refuse(now, attempt, reason, out);
        }
    }

    /// Takes away who waits for a login. One that can start a push stays, since its approval may still come and no
    /// second push may be started meanwhile; another is of no use to anybody.
    pub(super) fn leave(&mut self, now: Now, id: LoginId, out: &mut Outputs) -> Option<Box<Attempt>> {
        let login = self.logins.get(id)?;
        if login.exclusive {
            let wake = match login.unsettled {
                Some(_) => login.settles,
                None => login.ends,
            };
            return self.logins.take_attempt(id, wake.max(now.monotonic));
        }
        if !login.rival {
            out.cancels.push(id);
        }
        self.logins.remove(id)?.attempt
    }
}

/// Whether the provider refused without starting a push.
fn starts_none(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Approved(_) => false,
        Verdict::Refused(refusal) => !matches!(
            refusal.reason,
            RefusalReason::Denied | RefusalReason::Fraud | RefusalReason::TimedOut
        ),
    }
}
