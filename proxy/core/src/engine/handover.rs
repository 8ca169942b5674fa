//! Logins over several proxies: a push that one has started, another goes on with.

use std::collections::BTreeSet;
use std::time::Duration;

use super::access::MARGIN;
use super::classify::Given;
use super::end::Outcome;
use super::{Arrival, Engine};
use crate::Now;
use crate::counters::Event;
use crate::factor::{Approval, Credential, FactorRequest, LoginId, RefusalReason, UserName};
use crate::logins::{Attempt, Login};
use crate::outputs::Outputs;
use crate::peers::{Body, Instance, PeerMessage, PushHandle, PushId};
use crate::record::Reason;
use crate::sender::{Sender, tolerance};
use crate::shared::{Started, Step, Use};

/// How much later than at the end of its tries a client's last try may come.
const LATE_TRY: Duration = Duration::from_secs(2);
/// How long an approval waits for the word of the others at most: a container that is started anew speaks up sooner.
const VOTES_WITHIN: Duration = Duration::from_secs(8);

impl Engine {
    /// By which name the other proxies know this engine.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.pushes.me()
    }

    /// A provider has started a push that others can follow by `handle`: they are told, if there are any.
    pub fn started(&mut self, now: Now, login: LoginId, handle: PushHandle, out: &mut Outputs) {
        if self.checked().config.peers.is_none() {
            return;
        }
        let Some(known) = self.logins.get_mut(login) else {
            return;
        };
        let Some(attempt) = &known.attempt else { return };
        if !known.exclusive || known.push.is_some() {
            return;
        }
        let client = &attempt.to.client.config;
        let tries = client.budget() + client.budget() / 20;
        let started = Started {
            login,
            user: known.user.clone(),
            sender: known.sender.clone(),
            handle,
            timeout: client.timeout,
            last_packet: known.last_packet,
            open_until: (attempt.started + tries + LATE_TRY).min(known.ends),
            ends: known.ends,
        };
        let mut evicted = false;
        let push = self.pushes.announce(now.monotonic, started, &mut evicted, out);
        known.push = Some(push);
        self.counters.happened(Event::Announced);
        self.count_if(evicted, Event::EvictedPush);
    }

    /// Takes what another proxy of the group says.
    pub fn peer(&mut self, now: Now, from: Instance, message: PeerMessage, out: &mut Outputs) {
        let mut evicted = false;
        if let Body::Announce(announced) = &message.body {
            self.heard_of_another_push(now, &announced.user, message.push, out);
        }
        let step = self.pushes.take(now.monotonic, from, message, &mut evicted, out);
        self.count_if(evicted, Event::EvictedPush);
        if let Some(step) = step {
            self.take_step(now, step, out);
        }
    }

    /// These other proxies have been heard lately: nobody else is waited for before a push can be followed.
    pub fn peers_here(&mut self, here: BTreeSet<Instance>) {
        self.pushes.here(here);
    }

    /// Another proxy's run is over for certain: another one has its address.
    pub fn peer_gone(&mut self, now: Now, instance: Instance, out: &mut Outputs) {
        for step in self.pushes.gone(now.monotonic, instance) {
            self.take_step(now, step, out);
        }
    }

    /// Whether the approval may be used here and now. It is kept when the other proxies must be asked first.
    pub(super) fn may_use(
        &mut self,
        now: Now,
        id: LoginId,
        approval: Approval,
        out: &mut Outputs,
    ) -> Option<Approval> {
        let Some(push) = self.logins.get(id).and_then(|login| login.push) else {
            return Some(approval);
        };
        match self.pushes.use_approval(now.monotonic, push, out) {
            Use::Granted => Some(approval),
            Use::Wait => {
                self.counters.happened(Event::Claimed);
                self.hold(now, id, approval);
                None
            }
            Use::Refused => {
                self.take_step(now, Step::Left(id), out);
                None
            }
        }
    }

    /// Keeps an approval until the others have said whose it is. They answer within milliseconds or are gone: who waits is
    /// not left waiting for the rest of the budget.
    fn hold(&mut self, now: Now, id: LoginId, approval: Approval) {
        let Some(login) = self.logins.get_mut(id) else {
            return;
        };
        login.held = Some(Box::new(approval));
        self.hurry_if_held(now.monotonic, id);
    }

    /// Somebody waits for an approval that is here, and for the word of the others.
    pub(super) fn hurry_if_held(&mut self, now: Duration, id: LoginId) {
        let waits = |login: &Login| login.held.is_some() && login.attempt.is_some();
        if self.logins.get(id).is_some_and(waits) {
            self.logins.wake_by(id, now + VOTES_WITHIN);
        }
    }

    /// The login's push is at its end, for the others too.
    pub(super) fn end_push(&mut self, now: Now, login: &Login, out: &mut Outputs) {
        if let Some(push) = login.push {
            self.pushes.end(now.monotonic, push, out);
        }
    }

    fn take_step(&mut self, now: Now, step: Step, out: &mut Outputs) {
        match step {
            Step::Won(id) => {
                let held = self.logins.get_mut(id).and_then(|login| login.held.take());
                if let Some(approval) = held {
                    self.take_verdict(now, id, crate::factor::Verdict::Approved(*approval), out);
                }
            }
            Step::Left(id) => {
                self.counters.happened(Event::HandedOver);
                if let Some(attempt) = self.release(now, id, out) {
                    // Nothing is remembered of it: the client may come back with the same packet.
                    self.record(now, attempt, &Outcome::silent(Reason::HandedOver), out);
                }
            }
            Step::Rival(id) => self.heard_of_rival(now, id, out),
            Step::Lost(id) => {
                self.counters.happened(Event::ApprovalUsed);
                if let Some(attempt) = self.release(now, id, out) {
                    self.refuse(now, attempt, RefusalReason::ApprovalUsed, out);
                }
            }
        }
    }

    /// Follows a login no more, without taking its push back.
    fn release(&mut self, now: Now, id: LoginId, out: &mut Outputs) -> Option<Box<Attempt>> {
        let login = self.logins.remove(id)?;
        if let Some(push) = login.push {
            self.pushes.leave(push);
        }
        out.released.push(id);
        let attempt = login.attempt?;
        self.forget(now, &attempt, id);
        Some(attempt)
    }

    /// The push of another proxy that the packet is about, if there is one: it goes on with it, or waits apart as a
    /// rival's.
    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    pub(super) fn go_on(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        user: &UserName,
        as_sent: &str,
        given: &Given,
        sender: &Sender,
        out: &mut Outputs,
    ) -> Option<Box<Attempt>> {
        let now = arrival.now;
        let Some((id, push)) = self.pushes.of_user(user, now.monotonic) else {
            return Some(attempt);
        };
        let is_same =
            push.sender.matches(sender) && push.sender.is_distinct() && push.is_next_try(now.monotonic);
        let handle = push.handle.clone();
        if !is_same {
            self.counters.happened(Event::PushPending);
            self.pushes.rivalled_by(now.monotonic, id, sender, out);
            self.wait_apart(now, attempt, sender.clone(), out);
            return None;
        }
        let full = self.logins.len() >= self.checked().config.policy.limits.pending;
        self.count_if(full, Event::ThrottledPending);
        if full || self.throttled(user, attempt.key.proved, now) {
            self.refuse(now, attempt, RefusalReason::Throttled, out);
            return None;
        }
        self.adopt(arrival, attempt, (id, handle), user, as_sent, given, sender, out);
        None
    }

    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    fn adopt(
        &mut self,
        arrival: &Arrival<'_>,
        mut attempt: Box<Attempt>,
        (id, handle): (PushId, PushHandle),
        user: &UserName,
        as_sent: &str,
        given: &Given,
        sender: &Sender,
        out: &mut Outputs,
    ) {
        let now = arrival.now.monotonic;
        self.counters.happened(Event::Adopted);
        attempt.shown.followed = true;
        let (key, user_address) = (attempt.key, attempt.shown.user_address);
        // Whoever has started the push tells when its login is over; its client's next try is not a login of its own.
        let ends = self.pushes.adopted_by(id, sender).unwrap_or(attempt.deadline);
        attempt.deadline = attempt.deadline.min(ends.saturating_sub(MARGIN).max(now));
        let answer_within = attempt.deadline.saturating_sub(now);
        let settles = if sender.own_text {
            Duration::ZERO
        } else {
            now + tolerance(arrival.client.config.timeout)
        };
        // A packet that proves nothing has come here only if the push's own has proved nothing.
        let sender = Sender {
            moved: self.pushes.has_moved(id),
            ..sender.clone()
        };
        let login = self.logins.insert(Login {
            exclusive: true,
            // Counted where it was started; a denial cools down here as there.
            pushed: true,
            push: Some(id),
            settles,
            ..Login::new(user.clone(), sender, attempt, ends, now)
        });
        self.duplicates
            .wait(key, arrival.request.packet().authenticator, login);
        out.asks.push(FactorRequest {
            login,
            user: user.clone(),
            user_as_sent: as_sent.to_owned(),
            credential: Credential::Follow(handle),
            client: arrival.client.config.name.clone(),
            source: arrival.source,
            user_address,
            answer_within,
            of_use: ends.saturating_sub(now),
            proved: key.proved,
            continues: given.continues,
            may_push: false,
            attributes: Vec::new(),
        });
        self.pushes.adopt(now, id, login, out);
    }

    /// The other proxies have not let go of an approval in time. It is used by nobody here any more, and its user can
    /// log in anew.
    pub(super) fn give_up_held(&mut self, now: Now, id: LoginId, out: &mut Outputs) {
        let Some(mut login) = self.logins.remove(id) else {
            return;
        };
        self.end_push(now, &login, out);
        if let Some(attempt) = login.attempt.take() {
            self.forget(now, &attempt, id);
            self.refuse(now, attempt, RefusalReason::PeersSilent, out);
        }
    }
}
