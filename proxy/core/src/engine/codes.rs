//! Retries of passcodes. A code works once, so a retry must not be checked again.

use super::end::End;
use super::{Arrival, Engine};
use crate::Now;
use crate::answered_codes::AnsweredCode;
use crate::counters::Event;
use crate::factor::Verdict;
use crate::logins::{Attempt, Login};
use crate::outputs::Outputs;
use crate::sender::Sender;

impl Engine {
    /// Joins a retry of a passcode to the waiting login, or repeats the answer, which may have been lost. All retries
    /// are one login with one record, whatever the client changes between them. Returns `None` if the packet was a
    /// retry.
    pub(super) fn retry_of_code(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        sender: &Sender,
        out: &mut Outputs,
    ) -> Option<Box<Attempt>> {
        let now = arrival.now;
        let waiting = sender.text.and_then(|text| self.logins.of_code(text));
        if let Some(id) = waiting
            && self
                .logins
                .get(id)
                .is_some_and(|login| login.is_retried_by(arrival, attempt.key, sender))
        {
            self.join(arrival, id, attempt, sender);
            return None;
        }
        let timeout = arrival.client.config.timeout;
        let Some(verdict) = self.codes.repeat(sender, &attempt.key, timeout, now.monotonic) else {
            return Some(attempt);
        };
        let end = match verdict {
            Verdict::Approved(approval) => End::Approved(approval, None),
            Verdict::Refused(refusal) => End::Refused(refusal),
        };
        self.counters.happened(Event::AnsweredAgain);
        self.end_again(now, &attempt, end, out);
        None
    }

    /// Keeps the answer to a passcode for the client's retries.
    pub(super) fn keep_code_answer(&mut self, now: Now, login: &Login, attempt: &Attempt, verdict: &Verdict) {
        let client = &attempt.to.client.config;
        let budget = client.budget().min(self.checked().config.policy.login);
        if login.exclusive {
            return;
        }
        self.codes.keep(AnsweredCode {
            sender: login.sender.clone(),
            key: attempt.key,
            verdict: verdict.clone(),
            last_packet: login.last_packet.min(now.monotonic),
            tries_left: (client.retries + 1).saturating_sub(login.tries),
            until: attempt.started + budget,
        });
    }
}
