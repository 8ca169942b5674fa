//! Answers to passcodes, kept for the client's retries: the answer may have been lost, and a code works once.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::duplicates::Key;
use crate::factor::{Approval, Basis, RefusalReason, Verdict};
use crate::random::TextDigest;
use crate::sender::{Sender, off_schedule, soonest, tolerance};

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
    /// How many retries the client has left.
    pub(crate) tries_left: u32,
    /// When its client gives up.
    pub(crate) until: Duration,
}

impl AnsweredCodes {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(ANSWERS))
    }

    /// Forgets the answers whose clients have given up.
    pub(crate) fn expire(&mut self, now: Duration) {
        while self.0.oldest().is_some_and(|(_, answered)| answered.until <= now) {
            self.0.pop_oldest();
        }
    }

    /// Keeps an answer if the code itself decided it. Other answers (a provider that was away) can differ at the retry.
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

    /// The answer for a retry: a packet with the same text from the same address, when the client's retry is due (or later
    /// with the same port and identifier), as often as the client retries. Another address never gets it. Once a packet
    /// with the code has arrived that is no retry, nobody gets it: somebody else may have seen the code.
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
            && (on_schedule || answered.key == *key && since >= soonest(timeout));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factor::UserName;
    use crate::outputs::SocketId;
    use crate::random::Unguessable;
    use crate::testing::{approval, refusal};

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(port: u16) -> Key {
        Key {
            from: (std::net::Ipv4Addr::new(192, 0, 2, 1), port).into(),
            socket: SocketId(0),
            identifier: 1,
            proved: true,
        }
    }

    fn sender() -> Sender {
        let user = UserName("jane".to_owned());
        Sender {
            source: key(1).from.ip(),
            directory: None,
            moved: false,
            user_address: None,
            text: Some(Unguessable::new([1; 32]).digest(None, &user, b"123456")),
            own_text: false,
            proved: true,
            rival_seen: false,
        }
    }

    fn answered(verdict: Verdict, tries_left: u32) -> AnsweredCodes {
        let mut codes = AnsweredCodes::new();
        codes.keep(AnsweredCode {
            sender: sender(),
            key: key(1),
            verdict,
            last_packet: at(0),
            tries_left,
            until: at(60),
        });
        codes
    }

    fn approved() -> Verdict {
        Verdict::Approved(approval(crate::factor::Factor::Passcode))
    }

    #[test]
    fn an_answer_is_repeated_as_often_as_its_client_tries_and_within_its_budget() {
        let mut codes = answered(approved(), 1);
        assert!(codes.repeat(&sender(), &key(2), TIMEOUT, at(20)).is_some());
        assert!(codes.repeat(&sender(), &key(3), TIMEOUT, at(40)).is_none());
        let mut codes = answered(approved(), 5);
        assert!(codes.repeat(&sender(), &key(2), TIMEOUT, at(60)).is_none());
        assert_eq!(codes.0.len(), 0);
    }

    #[test]
    fn a_packet_that_is_no_retry_ends_it() {
        let elsewhere = Sender {
            source: "192.0.2.2".parse().unwrap(),
            ..sender()
        };
        for (other, port, when) in [
            (sender(), 2, 5),
            (sender(), 2, 30),
            (elsewhere, 2, 20),
            (sender(), 1, 5),
        ] {
            let mut codes = answered(approved(), 5);
            assert!(codes.repeat(&other, &key(port), TIMEOUT, at(when)).is_none());
            assert!(codes.repeat(&sender(), &key(1), TIMEOUT, at(20)).is_none());
        }
    }

    #[test]
    fn only_what_the_code_itself_has_decided_is_repeated() {
        let mut fail_open = approval(crate::factor::Factor::None);
        fail_open.basis = Basis::FailOpen;
        for (verdict, repeated) in [
            (Verdict::Approved(fail_open), false),
            (
                Verdict::Refused(refusal(RefusalReason::ProviderUnreachable)),
                false,
            ),
            (Verdict::Refused(refusal(RefusalReason::WrongPasscode)), true),
        ] {
            let mut codes = answered(verdict, 1);
            let again = codes.repeat(&sender(), &key(2), TIMEOUT, at(20));
            assert_eq!(again.is_some(), repeated);
        }
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut codes = answered(approved(), 1);
        codes.expire(at(59));
        assert_eq!(codes.0.len(), 1);
        codes.expire(at(60));
        assert_eq!(codes.0.len(), 0);
    }
}
