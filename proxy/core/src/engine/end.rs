//! The end of a login: one answer, one record.

use super::Engine;
use crate::Now;
use crate::counters::Event;
use crate::factor::{Approval, Basis, Factor, LoginId, Refusal, RefusalReason, UserName};
use crate::logins::Attempt;
use crate::outputs::Outputs;
use crate::record::{LoginRecord, LoginResult, Reason};
use crate::reply::Accept;
use crate::settings::ProviderKind;

/// How a login ends.
pub(super) enum End {
    /// By an approval, with a reason if there is more to say than its basis.
    Approved(Approval, Option<Reason>),
    Refused(Refusal),
    /// The directory's probe is rejected.
    Probe,
    /// The user goes on with what the message asks for.
    Challenged(UserName, Box<str>, Factor, Reason),
    /// Without an answer.
    Silent(Reason),
}

/// What a record says of an end.
pub(super) struct Outcome {
    result: LoginResult,
    factor: Factor,
    reason: Option<Reason>,
    basis: Option<Basis>,
}

impl End {
    pub(super) fn refused(reason: RefusalReason) -> Self {
        Self::Refused(Refusal {
            factor: None,
            reason,
            message: None,
        })
    }
}

impl Outcome {
    /// What is counted, for each record.
    fn event(&self) -> Event {
        match (self.result, self.reason) {
            (_, Some(Reason::Probe)) => Event::Probe,
            (LoginResult::Accept, _) => Event::Accepted,
            (LoginResult::Reject, _) => Event::Rejected,
            (LoginResult::Challenge, _) => Event::Challenged,
            (LoginResult::Silent, _) => Event::Silent,
        }
    }

    /// Whether the result shows that the provider knows the user, so that the login was no probe. An approval without a
    /// factor doesn't show it: Duo can let in unknown names, and with `failMode: safe` the provider wasn't asked.
    fn is_of_a_known_user(&self) -> bool {
        let has_factor = matches!(
            self.basis,
            Some(Basis::Factor | Basis::OncePerPod | Basis::ScratchCode)
        );
        has_factor
            || matches!(
                self.reason,
                Some(Reason::Refused(
                    RefusalReason::WrongPasscode | RefusalReason::PasscodeReplayed | RefusalReason::Fraud
                ))
            )
    }

    pub(super) fn silent(reason: Reason) -> Self {
        Self {
            result: LoginResult::Silent,
            factor: Factor::None,
            reason: Some(reason),
            basis: None,
        }
    }

    fn refused(factor: Option<Factor>, reason: RefusalReason) -> Self {
        Self {
            result: LoginResult::Reject,
            factor: factor.unwrap_or(Factor::None),
            reason: Some(Reason::Refused(reason)),
            basis: None,
        }
    }
}

impl Engine {
    /// Answers, remembers the answer for retransmissions, and records.
    pub(super) fn end(&mut self, now: Now, attempt: Box<Attempt>, end: End, out: &mut Outputs) {
        let (bytes, outcome) = self.answer(now, &attempt, end);
        if !bytes.is_empty() {
            out.send(attempt.to.from, attempt.to.socket, &bytes);
        }
        let (key, authenticator) = (attempt.key, attempt.to.authenticator);
        let evicted = self
            .duplicates
            .answered(key, authenticator, bytes.into_boxed_slice(), now.monotonic);
        self.count_if(evicted, Event::EvictedReply);
        self.record(now, attempt, &outcome, out);
    }

    /// Answers a retry of a login that has its record.
    pub(super) fn end_again(&mut self, now: Now, attempt: &Attempt, end: End, out: &mut Outputs) {
        let (bytes, _) = self.answer(now, attempt, end);
        out.send(attempt.to.from, attempt.to.socket, &bytes);
        let (key, authenticator) = (attempt.key, attempt.to.authenticator);
        let evicted = self
            .duplicates
            .answered(key, authenticator, bytes.into_boxed_slice(), now.monotonic);
        self.count_if(evicted, Event::EvictedReply);
    }

    pub(super) fn refuse(
        &mut self,
        now: Now,
        attempt: Box<Attempt>,
        reason: RefusalReason,
        out: &mut Outputs,
    ) {
        self.end(now, attempt, End::refused(reason), out);
    }

    /// Tells a user who typed the name of another product's factor what to type instead.
    pub(super) fn refuse_unknown_factor(&mut self, now: Now, attempt: Box<Attempt>, out: &mut Outputs) {
        let message = match self.checked().provider {
            ProviderKind::Local => {
                "There is no push, call or SMS here. Type the code that your authenticator app shows."
            }
            _ => {
                "That word is not known here. Type push, phone or sms, or the code that your app or token shows."
            }
        };
        let refusal = Refusal {
            factor: None,
            reason: RefusalReason::UnknownFactor,
            message: Some(message.to_owned()),
        };
        self.end(now, attempt, End::Refused(refusal), out);
    }

    /// Answers and records without remembering the answer.
    pub(super) fn end_unremembered(&mut self, now: Now, attempt: Box<Attempt>, end: End, out: &mut Outputs) {
        let (bytes, outcome) = self.answer(now, &attempt, end);
        out.send(attempt.to.from, attempt.to.socket, &bytes);
        self.record(now, attempt, &outcome, out);
    }

    /// Answers without remembering the answer and without a record.
    pub(super) fn end_unrecorded(&mut self, now: Now, attempt: &Attempt, end: End, out: &mut Outputs) {
        let (bytes, _) = self.answer(now, attempt, end);
        self.observer.answered(attempt.observed, &attempt.key);
        out.send(attempt.to.from, attempt.to.socket, &bytes);
    }

    /// The packets of a try wait no more. Those that newer ones have replaced stay silent.
    pub(super) fn forget(&mut self, now: Now, attempt: &Attempt, login: LoginId) {
        self.duplicates.forget(&attempt.key, login);
        for key in &attempt.older {
            let evicted = self.duplicates.silence(key, login, now.monotonic);
            self.count_if(evicted, Event::EvictedReply);
        }
    }

    pub(super) fn record(&mut self, now: Now, attempt: Box<Attempt>, outcome: &Outcome, out: &mut Outputs) {
        self.counters.happened(outcome.event());
        if outcome.result != LoginResult::Silent {
            self.observer.answered(attempt.observed, &attempt.key);
        }
        if outcome.is_of_a_known_user() && attempt.shown.message_authenticator {
            self.addresses.signs(attempt.to.from.ip().to_canonical());
        }
        match outcome.basis {
            Some(Basis::Exempt) => self.counters.happened(Event::Exempt),
            Some(Basis::ProviderBypass) => self.counters.happened(Event::ProviderBypass),
            Some(Basis::FailOpen) => self.counters.happened(Event::FailOpen),
            Some(Basis::OncePerPod) => self.counters.happened(Event::OncePerPod),
            Some(Basis::ScratchCode) => self.counters.happened(Event::ScratchCode),
            Some(Basis::Factor) | None => {}
        }
        out.records.push(LoginRecord {
            time: now.unix,
            user: attempt.shown.user,
            client: attempt.to.client.name.clone(),
            source: std::net::SocketAddr::new(attempt.to.from.ip().to_canonical(), attempt.to.from.port()),
            user_address: attempt.shown.user_address,
            method: attempt.carrier.method(),
            credential: attempt.shown.credential,
            factor: outcome.factor,
            provider: self.checked().config.provider.name(),
            result: outcome.result,
            reason: outcome.reason,
            basis: outcome.basis,
            duration: now.monotonic.saturating_sub(attempt.started),
            message_authenticator: attempt.shown.message_authenticator,
            packets: attempt.packets,
            followed: attempt.shown.followed,
        });
    }

    fn answer(&mut self, now: Now, attempt: &Attempt, end: End) -> (Vec<u8>, Outcome) {
        match end {
            End::Approved(approval, reason) => {
                let (factor, basis) = (approval.factor, approval.basis);
                match Accept::new(approval, &attempt.carrier, attempt.found.as_deref()) {
                    Ok(accept) => {
                        let outcome = Outcome {
                            result: LoginResult::Accept,
                            factor,
                            reason,
                            basis: Some(basis),
                        };
                        (attempt.to.accept(accept), outcome)
                    }
                    Err(_text_unknown) => {
                        let reason = RefusalReason::NothingMatched;
                        let bytes = self.reject(attempt, reason, None);
                        (bytes, Outcome::refused(Some(factor), reason))
                    }
                }
            }
            End::Refused(refusal) => {
                let bytes = self.reject(attempt, refusal.reason, refusal.message.as_deref());
                (bytes, Outcome::refused(refusal.factor, refusal.reason))
            }
            End::Probe => {
                let outcome = Outcome {
                    result: LoginResult::Reject,
                    factor: Factor::None,
                    reason: Some(Reason::Probe),
                    basis: None,
                };
                let error = attempt.carrier.error(&mut self.random);
                (attempt.to.reject(None, error), outcome)
            }
            End::Challenged(user, message, factor, reason) => {
                let source = attempt.to.from.ip().to_canonical();
                let mut evicted = false;
                let state = self
                    .challenges
                    .make(user, source, now.monotonic, &mut self.random, &mut evicted);
                self.count_if(evicted, Event::EvictedChallenge);
                let outcome = Outcome {
                    result: LoginResult::Challenge,
                    factor,
                    reason: Some(reason),
                    basis: None,
                };
                (attempt.to.challenge(&message, &state), outcome)
            }
            End::Silent(reason) => (Vec::new(), Outcome::silent(reason)),
        }
    }

    fn reject(&mut self, attempt: &Attempt, reason: RefusalReason, message: Option<&str>) -> Vec<u8> {
        let error = attempt.carrier.error(&mut self.random);
        attempt.to.reject(message.or_else(|| told(reason)), error)
    }
}

/// What the user is told when the provider says nothing. Nothing here tells whether a user exists.
fn told(reason: RefusalReason) -> Option<&'static str> {
    Some(match reason {
        RefusalReason::TimedOut => "Nobody answered in time. Please log in again.",
        RefusalReason::Throttled | RefusalReason::ProviderThrottled => {
            "Too many logins. Please wait a minute and log in again."
        }
        RefusalReason::PushPending => "Another login is waiting for your approval.",
        RefusalReason::ApprovalUsed => "Your approval was used by another login. Please log in again.",
        RefusalReason::CodesSent => "Codes were sent. Please log in again with one of them.",
        RefusalReason::StaleState => "The question is too old. Please log in again.",
        RefusalReason::ProviderUnreachable
        | RefusalReason::ProviderError
        | RefusalReason::ProviderMalformed
        | RefusalReason::ProviderCredentials
        | RefusalReason::PeersSilent
        | RefusalReason::StoreUnavailable => {
            "The second factor cannot be checked now. Please try again later."
        }
        _ => return None,
    })
}
