//! One login, one push: who may ask a provider, who joins, who is refused.

use super::classify::Given;
use super::end::{End, Outcome};
use super::{Arrival, Engine};
use crate::Now;
use crate::counters::{DropReason, Event};
use crate::duplicates::Key;
use crate::factor::{FactorRequest, LoginId, RefusalReason, UserName};
use crate::late::LATE;
use crate::limits::PushStop;
use crate::logins::{Attempt, Login};
use crate::outputs::Outputs;
use crate::record::Reason;
use crate::sender::{self, Sender};
use crate::settings::ProviderKind;

impl Engine {
    /// The last steps before a provider is asked. A credential that can start a push passes all of them, a passcode
    /// only the user's and the global limit.
    pub(super) fn ask_provider(
        &mut self,
        arrival: &Arrival<'_>,
        mut attempt: Box<Attempt>,
        user: UserName,
        as_sent: &str,
        given: Given,
        out: &mut Outputs,
    ) -> Result<(), DropReason> {
        let now = arrival.now;
        let proved = attempt.key.proved;
        let may_push = proved || arrival.client.config.unauthenticated_push;
        let stop = self.users.push_stop(&user, now.monotonic);
        let sender = Sender {
            source: arrival.source,
            directory: sender::directory(&arrival.client),
            moved: false,
            user_address: attempt.shown.user_address,
            text: given.text,
            own_text: given.own_text,
            proved,
            rival_seen: false,
        };
        // A text that passes once passes for this whole login.
        let mut passed = false;
        if given.exclusive {
            // An upstream server may start a push too, and the packet would be its user's one login meanwhile.
            if self.checked().provider != ProviderKind::Local && !may_push {
                self.refuse(now, attempt, RefusalReason::Unproven, out);
                return Ok(());
            }
            passed = stop.is_none() && self.passes_push(now, &user, &sender, out);
            match self.use_known_push(arrival, attempt, &user, as_sent, &given, &sender, out)? {
                Some(unused) => attempt = unused,
                None => return Ok(()),
            }
            if self.checked().provider == ProviderKind::Pushing
                && let Some(stop) = stop
            {
                self.counters.happened(match stop {
                    PushStop::CoolDown => Event::CoolDown,
                    PushStop::TooMany => Event::ThrottledPush,
                });
                self.refuse(now, attempt, RefusalReason::Throttled, out);
                return Ok(());
            }
        } else {
            match self.retry_of_code(arrival, attempt, &sender, out) {
                Some(not_a_retry) => attempt = not_a_retry,
                None => return Ok(()),
            }
        }
        if given.stale {
            self.refuse(now, attempt, RefusalReason::StaleState, out);
            return Ok(());
        }
        if !self.take_login(&user, proved, now) && !passed && !self.passes(now, &user, &sender) {
            self.counters.happened(Event::ThrottledUser);
            self.refuse(now, attempt, RefusalReason::Throttled, out);
            return Ok(());
        }
        if self.logins.len() >= self.checked().config.policy.limits.pending {
            self.counters.happened(Event::ThrottledPending);
            self.refuse(now, attempt, RefusalReason::Throttled, out);
            return Ok(());
        }
        self.ask(
            arrival,
            attempt,
            user,
            as_sent,
            given,
            sender,
            may_push && stop.is_none(),
            out,
        );
        Ok(())
    }

    /// Uses the packet for what is known already: a push that is pending here or at another proxy, a waiting rival, or
    /// a late approval. Returns the packet if there is none of these.
    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    fn use_known_push(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        user: &UserName,
        as_sent: &str,
        given: &Given,
        sender: &Sender,
        out: &mut Outputs,
    ) -> Result<Option<Box<Attempt>>, DropReason> {
        let now = arrival.now;
        if let Some(pending) = self.logins.exclusive(user) {
            self.join_or_wait_apart(arrival, pending, attempt, sender, out);
            return Ok(None);
        }
        let Some(attempt) = self.join_rival(arrival, user, attempt, sender) else {
            return Ok(None);
        };
        if let Some(approval) = self.late.take(user, sender, now.monotonic) {
            self.counters.happened(Event::LateApprovalServed);
            self.know_text(&attempt, user, sender);
            let end = End::Approved(approval, Some(Reason::LateApproval));
            self.end(now, attempt, end, out);
            return Ok(None);
        }
        if self.draining {
            let end = End::Silent(Reason::Refused(RefusalReason::Draining));
            self.end(now, attempt, end, out);
            return Err(DropReason::Draining);
        }
        Ok(self.go_on(arrival, attempt, user, as_sent, given, sender, out))
    }

    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    fn ask(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        user: UserName,
        as_sent: &str,
        given: Given,
        sender: Sender,
        may_push: bool,
        out: &mut Outputs,
    ) {
        let now = arrival.now.monotonic;
        let (key, user_address) = (attempt.key, attempt.shown.user_address);
        // A push is of use a while longer than its client waits: its approval serves a further try.
        let longest = attempt.started + self.checked().config.policy.login;
        let ends = if given.exclusive {
            longest.min(attempt.deadline + LATE)
        } else {
            attempt.deadline
        };
        let answer_within = attempt.deadline.saturating_sub(now);
        let login = self.logins.insert(Login {
            exclusive: given.exclusive,
            ..Login::new(user.clone(), sender, attempt, ends, now)
        });
        self.duplicates
            .wait(key, arrival.request.packet().authenticator, login);
        self.counters.happened(Event::Asked);
        out.asks.push(FactorRequest {
            login,
            user,
            user_as_sent: as_sent.to_owned(),
            credential: given.credential,
            client: arrival.client.config.name.clone(),
            source: arrival.source,
            user_address,
            answer_within,
            of_use: ends.saturating_sub(now),
            proved: key.proved,
            continues: given.continues,
            may_push,
            attributes: self.forwarded(arrival),
        });
    }

    /// The client has used the port and identifier of the packet that waits for something else: nobody waits for the
    /// login any more (RFC 5080 section 2.2.2).
    pub(super) fn lose_client(
        &mut self,
        now: Now,
        login: LoginId,
        key: &Key,
        authenticator: &[u8; 16],
        out: &mut Outputs,
    ) {
        let lost = self.logins.get(login).is_some_and(|login| {
            login
                .attempt
                .as_ref()
                .is_some_and(|waiting| waiting.key == *key && waiting.to.authenticator != *authenticator)
        });
        if lost && let Some(attempt) = self.leave(now, login, out) {
            self.forget(now, &attempt, login);
            self.record(now, attempt, &Outcome::silent(Reason::Superseded), out);
        }
    }

    fn forwarded(&self, arrival: &Arrival<'_>) -> Vec<(u8, Vec<u8>)> {
        let wanted = &self.checked().forwarded;
        if wanted.is_empty() {
            return Vec::new();
        }
        arrival
            .request
            .packet()
            .attributes()
            .filter(|raw| wanted.iter().any(|attribute| attribute.is(raw.typ, raw.value)))
            .map(|raw| (raw.typ, raw.value.to_vec()))
            .collect()
    }
}
