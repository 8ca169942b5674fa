//! One login, one push: who may ask a provider, who joins, who is refused.

use std::time::Duration;

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
use crate::random::TextDigest;
use crate::record::Reason;
use crate::settings::ProviderKind;
use crate::shared::soonest;

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
        if given.exclusive {
            let pushing = self.checked().provider == ProviderKind::Pushing;
            // An upstream server may start a push too, and the packet would be its user's one login meanwhile.
            if self.checked().provider != ProviderKind::Local && !may_push {
                self.refuse(now, attempt, RefusalReason::Unproven, out);
                return Ok(());
            }
            if let Some(pending) = self.logins.exclusive(&user) {
                self.join_or_refuse(arrival, pending, attempt, &given, out);
                return Ok(());
            }
            if let Some(approval) = self
                .late
                .take(&user, arrival.source, given.text, proved, now.monotonic)
            {
                self.counters.happened(Event::LateApprovalServed);
                self.end(
                    now,
                    attempt,
                    End::Approved(approval, Some(Reason::LateApproval)),
                    out,
                );
                return Ok(());
            }
            if self.draining {
                self.end(
                    now,
                    attempt,
                    End::Silent(Reason::Refused(RefusalReason::Draining)),
                    out,
                );
                return Err(DropReason::Draining);
            }
            match self.go_on(arrival, attempt, &user, as_sent, &given, out) {
                Some(unused) => attempt = unused,
                None => return Ok(()),
            }
            if pushing && let Some(stop) = stop {
                self.counters.happened(match stop {
                    PushStop::CoolDown => Event::CoolDown,
                    PushStop::TooMany => Event::ThrottledPush,
                });
                self.refuse(now, attempt, RefusalReason::Throttled, out);
                return Ok(());
            }
        }
        if self.throttled(&user, proved, now) {
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
            may_push && stop.is_none(),
            out,
        );
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    fn ask(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        user: UserName,
        as_sent: &str,
        given: Given,
        may_push: bool,
        out: &mut Outputs,
    ) {
        let now = arrival.now.monotonic;
        let (key, user_address) = (attempt.key, attempt.shown.user_address);
        // A push is of use a while longer than its client waits: its approval serves a further try.
        let extra = if given.exclusive { LATE } else { Duration::ZERO };
        let answer_within = attempt.deadline.saturating_sub(now);
        let login = self.logins.insert(Login {
            user: user.clone(),
            source: arrival.source,
            text: given.text,
            proved: key.proved,
            exclusive: given.exclusive,
            pushed: false,
            push: None,
            held: None,
            last_packet: now,
            wake: attempt.deadline,
            attempt: Some(attempt),
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
            of_use: answer_within + extra,
            proved: key.proved,
            continues: given.continues,
            may_push,
            attributes: self.forwarded(arrival),
        });
    }

    /// A login of the user that can start a push is pending. The packet joins it if it can be the same person's next
    /// try: from the same address, of the same text (of the same response where it cannot be read), with a proof if the
    /// login has had one, and no sooner than the client's timeout after the last packet. Anything else is refused, or somebody who knows the name could have the Accept.
    fn join_or_refuse(
        &mut self,
        arrival: &Arrival<'_>,
        pending: LoginId,
        attempt: Box<Attempt>,
        given: &Given,
        out: &mut Outputs,
    ) {
        let now = arrival.now.monotonic;
        let timeout = arrival.client.config.timeout;
        let soonest = soonest(timeout);
        let joins = self.logins.get(pending).is_some_and(|login| {
            login.source == arrival.source
                && TextDigest::same(login.text, given.text)
                && (attempt.key.proved || !login.proved)
                && now.saturating_sub(login.last_packet) >= soonest
        });
        if !joins {
            self.counters.happened(Event::PushPending);
            self.refuse(arrival.now, attempt, RefusalReason::PushPending, out);
            return;
        }
        self.counters.happened(Event::Joined);
        let key = attempt.key;
        let authenticator = arrival.request.packet().authenticator;
        let Some(login) = self.logins.get_mut(pending) else {
            return;
        };
        login.last_packet = now;
        login.proved |= key.proved;
        match &mut login.attempt {
            Some(waiting) => {
                let old = waiting.key;
                let forgotten = waiting.replace(*attempt);
                if old != key {
                    self.duplicates.supersede(&old);
                }
                if let Some(forgotten) = forgotten {
                    self.duplicates.silence(&forgotten, pending, now);
                }
            }
            // Its first try was answered at the deadline; this is the next one, with a budget of its own.
            None => {
                self.logins.give_attempt(pending, attempt);
                self.hurry_if_held(now, pending);
            }
        }
        self.duplicates.wait(key, authenticator, pending);
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
