//! Answers to passcodes, for the rest of the client's budget: the answer may have been lost, and a code works once.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::duplicates::Key;
use crate::factor::{Approval, Basis, RefusalReason, Verdict};
use crate::random::TextDigest;
use crate::sender::{Sender, off_schedule, tolerance};

const ANSWERS: usize = 16_384;

/// By the digest of user and text.
pub(crate) struct AnsweredCodes(Bounded<TextDigest, AnsweredCode>);

pub(crate) struct AnsweredCode {
    pub(crate) sender: Sender,
    /// The packet that was answered.
    pub(crate) key: Key,
    pub(crate) verdict: Verdict,
    /// When a packet of its login was seen last.
    pub(crate) last_packet: Duration,
    /// How often its client may still send it.
    pub(crate) tries_left: u32,
    /// When its client gives up.
    pub(crate) until: Duration,
}

impl AnsweredCodes {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(ANSWERS))
    }

    /// Keeps an answer that the code itself has decided: another one may come out differently.
    pub(crate) fn keep(&mut self, answered: AnsweredCode) {
        let decided = match &answered.verdict {
            Verdict::Approved(Approval { basis, .. }) => {
                matches!(basis, Basis::Factor | Basis::ScratchCode | Basis::OncePerPod)
            }
            Verdict::Refused(refusal) => matches!(
                refusal.reason,
                RefusalReason::WrongPasscode | RefusalReason::PasscodeReplayed
            ),
        };
        if decided
            && answered.tries_left > 0
            && let Some(text) = answered.sender.text
        {
            self.0.insert(text, answered);
        }
    }

    /// The answer for the same person's retry: of the same text, from the same port and identifier, or from another port of
    /// the same address at the moment when its client tries again, and no more than it sends. Never for another address,
    /// and no more at all once a packet has come that is no such retry: somebody else has seen the code.
    pub(crate) fn repeat(
        &mut self,
        sender: &Sender,
        key: &Key,
        timeout: Duration,
        now: Duration,
    ) -> Option<Verdict> {
        let text = sender.text?;
        let answered = self.0.get(&text)?;
        if now >= answered.until {
            self.0.remove(&text);
            return None;
        }
        let since = now.saturating_sub(answered.last_packet);
        let on_schedule = off_schedule(since, timeout).is_some_and(|off| off <= tolerance(timeout));
        let is_retry = answered.sender.source == sender.source
            && answered.sender.matches(sender)
            && answered.tries_left > 0
            && (answered.key == *key || on_schedule);
        let answered = self.0.touch(&text)?;
        if !is_retry {
            if sender.proved || !answered.sender.proved {
                answered.tries_left = 0;
            }
            return None;
        }
        answered.key = *key;
        answered.last_packet = now;
        answered.tries_left -= 1;
        Some(answered.verdict.clone())
    }
}
