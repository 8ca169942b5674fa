//! Packets that arrive for a user whose push is pending: a retry of the same login, or a rival login.
//!
//! The login that started the push is protected. A packet that can't be its retry gets no answer while the push is pending,
//! and a Reject when its own time is over. Anybody can type `push` or nothing. If two packets with such a text arrive when
//! one retry is due, either can be the rival's, and the answer goes to the packet before them.
//!
//! The proxy can't detect two cases. If the rival is *first*, the push is the rival's, and the user who approves it
//! approves the rival's login. And a rival's `push` from the same address counts as a retry if it arrives at the moment
//! when the client's own retry is due and the client sends none.

use std::time::Duration;

use super::access::MARGIN;
use super::end::End;
use super::{Arrival, Engine};
use crate::Now;
use crate::counters::Event;
use crate::duplicates::Key;
use crate::factor::{LoginId, RefusalReason, UserName};
use crate::logins::{Attempt, Displaced, Login};
use crate::outputs::Outputs;
use crate::peers::PushId;
use crate::record::Reason;
use crate::sender::{Sender, off_schedule, soonest, tolerance};

/// The login that a packet belongs to while a push of its user is pending.
enum Target {
    /// The login that started the push.
    Pending,
    /// A rival that is waiting already.
    Rival(LoginId),
    /// A rival that the engine hasn't seen before.
    NewRival,
}

impl Engine {
    /// Handles a packet of a user whose push is pending. The packet joins the login if it can be its retry. Any other
    /// packet is a rival's; otherwise anyone who knows the name could receive the Accept.
    pub(super) fn join_or_wait_apart(
        &mut self,
        arrival: &Arrival<'_>,
        pending: LoginId,
        attempt: Box<Attempt>,
        sender: &Sender,
        out: &mut Outputs,
    ) {
        let (now, user) = (arrival.now, attempt.shown.user.clone());
        if self.still_waits_there(pending, attempt.key, sender) {
            // The client sends from that port again, so the packet in between was somebody else's.
            self.roll_back(now, pending, out);
        }
        let target = self.target(arrival, pending, attempt.key, sender, &UserName(user));
        match target {
            Target::Pending => self.join(arrival, pending, attempt, sender),
            Target::Rival(rival) => self.join(arrival, rival, attempt, sender),
            Target::NewRival => {
                self.counters.happened(Event::PushPending);
                if self.contends(now.monotonic, pending, sender) {
                    self.roll_back(now, pending, out);
                }
                self.wait_apart(now, attempt, sender.clone(), out);
            }
        }
        if !matches!(target, Target::Pending) {
            self.saw_rival(now, pending, sender, out);
        }
        self.settle_if_clear(now, pending, out);
    }

    /// Lets a login pass a pending push that another text has started, if its text is the last one that was approved
    /// for the user. The other login becomes a rival, and an approval of its push isn't used.
    pub(super) fn passes_push(
        &mut self,
        now: Now,
        user: &UserName,
        sender: &Sender,
        out: &mut Outputs,
    ) -> bool {
        let Some(pending) = self.logins.exclusive(user).filter(|_| !self.draining) else {
            return false;
        };
        let other_text = self
            .logins
            .get(pending)
            .is_some_and(|login| login.sender.text != sender.text);
        if !other_text || !self.passes(now, user, sender) {
            return false;
        }
        let Some(mut login) = self.logins.remove(pending) else {
            return false;
        };
        self.end_push(now, &login, out);
        out.cancels.push(pending);
        if let Some(attempt) = login.attempt.take() {
            self.forget(now, &attempt, pending);
            self.wait_apart(now, attempt, login.sender, out);
        }
        true
    }

    /// Whether a login may pass pushes and limits that other texts have caused. It may once per cool-down.
    pub(super) fn passes(&mut self, now: Now, user: &UserName, sender: &Sender) -> bool {
        let cool_down = self.checked().config.policy.limits.push_cool_down;
        let passes = self.known_texts.pass(user, sender, cool_down, now.monotonic);
        self.count_if(passes, Event::KnownText);
        passes
    }

    /// Joins the packet to a rival if it can be the rival's retry, even when the push is over. Returns `None` if it joined.
    pub(super) fn join_rival(
        &mut self,
        arrival: &Arrival<'_>,
        user: &UserName,
        attempt: Box<Attempt>,
        sender: &Sender,
    ) -> Option<Box<Attempt>> {
        let Some((rival, _)) = self.rival_of(arrival, user, attempt.key, sender) else {
            return Some(attempt);
        };
        self.join(arrival, rival, attempt, sender);
        None
    }

    /// Makes the packet a rival login, which gets no answer until its own time is over.
    pub(super) fn wait_apart(&mut self, now: Now, attempt: Box<Attempt>, sender: Sender, out: &mut Outputs) {
        let user = UserName(attempt.shown.user.clone());
        let pending = self.checked().config.policy.limits.pending;
        if !self.logins.has_room_for_rival(&user, pending) {
            let reason = Reason::Refused(RefusalReason::PushPending);
            self.end(now, attempt, End::Silent(reason), out);
            return;
        }
        let (key, authenticator) = (attempt.key, attempt.to.authenticator);
        let ends = attempt.deadline;
        let login = self.logins.insert(Login {
            rival: true,
            ..Login::new(user, sender, attempt, ends, now.monotonic)
        });
        self.duplicates.wait(key, authenticator, login);
    }

    /// Another proxy has started a push for the user before either proxy could tell the other. The logins can belong to two
    /// people, so each is the other's rival.
    pub(super) fn heard_of_another_push(&mut self, now: Now, user: &str, push: PushId, out: &mut Outputs) {
        let Some(pending) = self.logins.exclusive(&UserName(user.to_owned())) else {
            return;
        };
        let own = self.logins.get(pending).and_then(|login| login.push);
        if own == Some(push) {
            return;
        }
        self.heard_of_rival(now, pending, out);
        if let Some(own) = own {
            self.pushes.tell_of_rival(now.monotonic, own, out);
        }
    }

    /// Rejects the user's rivals: the login that they waited for has ended without a push.
    pub(super) fn refuse_rivals(&mut self, now: Now, user: &UserName, out: &mut Outputs) {
        for rival in self.logins.rivals(user).to_vec() {
            if let Some(attempt) = self.leave(now, rival, out) {
                self.forget(now, &attempt, rival);
                self.refuse(now, attempt, RefusalReason::PushPending, out);
            }
        }
    }

    fn target(
        &self,
        arrival: &Arrival<'_>,
        pending: LoginId,
        key: Key,
        sender: &Sender,
        user: &UserName,
    ) -> Target {
        let now = arrival.now.monotonic;
        let joins = self
            .logins
            .get(pending)
            .and_then(|login| joins(login, arrival, key, sender, now));
        let rival = self.rival_of(arrival, user, key, sender);
        match (joins, rival) {
            (Some(off), Some((rival, other))) if other <= off && off > Duration::ZERO => Target::Rival(rival),
            (Some(_), _) => Target::Pending,
            (None, Some((rival, _))) => Target::Rival(rival),
            (None, None) => Target::NewRival,
        }
    }

    /// The rival that the packet can be a retry of, and how far the packet is off the rival's schedule.
    fn rival_of(
        &self,
        arrival: &Arrival<'_>,
        user: &UserName,
        key: Key,
        sender: &Sender,
    ) -> Option<(LoginId, Duration)> {
        let (now, timeout) = (arrival.now.monotonic, arrival.client.config.timeout);
        let rivals = self.logins.rivals(user).iter();
        let fitting = rivals.filter_map(|id| {
            let login = self
                .logins
                .get(*id)
                .filter(|login| login.sender.resembles(sender))?;
            if is_there(login, key) {
                return Some((*id, Duration::ZERO));
            }
            // The last packet may be another person's with the same text.
            let first = login.attempt.as_ref()?.started;
            let off = [login.last_packet, first]
                .into_iter()
                .filter_map(|packet| off_schedule(now.saturating_sub(packet), timeout))
                .min()?;
            (off <= tolerance(timeout)).then_some((*id, off))
        });
        fitting.min_by_key(|(_, off)| *off)
    }

    /// Whether the packet has the port and identifier of the displaced packet.
    fn still_waits_there(&self, pending: LoginId, key: Key, sender: &Sender) -> bool {
        self.logins.get(pending).is_some_and(|login| {
            login.displaced.as_ref().is_some_and(|old| {
                let before = Sender {
                    source: old.source,
                    moved: old.moved,
                    ..login.sender.clone()
                };
                old.attempt.key == key && before.matches(sender)
            })
        })
    }

    /// Whether this packet, and not the last one, can be the retry that was due.
    fn contends(&self, now: Duration, pending: LoginId, sender: &Sender) -> bool {
        self.logins.get(pending).is_some_and(|login| {
            !login.sender.own_text && login.sender.text == sender.text && now <= login.settles
        })
    }

    pub(super) fn join(
        &mut self,
        arrival: &Arrival<'_>,
        id: LoginId,
        mut attempt: Box<Attempt>,
        sender: &Sender,
    ) {
        let now = arrival.now.monotonic;
        let (key, authenticator) = (attempt.key, attempt.to.authenticator);
        let Some(login) = self.logins.get_mut(id) else {
            return;
        };
        if !login.rival {
            self.counters.happened(Event::Joined);
        }
        let last_packet = std::mem::replace(&mut login.last_packet, now);
        login.tries = login.tries.saturating_add(1);
        let (source, moved) = (login.sender.source, login.sender.moved);
        login.sender.joined_by(sender);
        let push = login.push;
        match &mut login.attempt {
            Some(waiting) => {
                let forgotten = waiting.replace(&mut attempt);
                if attempt.key != key {
                    self.duplicates.supersede(&attempt.key);
                    if !login.sender.own_text && login.exclusive {
                        login.settles = now + tolerance(arrival.client.config.timeout);
                        login.displaced = Some(Displaced {
                            attempt,
                            source,
                            moved,
                            last_packet,
                        });
                    }
                }
                if let Some(forgotten) = forgotten {
                    self.duplicates.silence(&forgotten, id, now);
                }
            }
            // The first try was answered at its deadline. This one has a budget of its own.
            None => {
                let latest = login.ends.saturating_sub(MARGIN).max(now);
                attempt.deadline = attempt.deadline.min(latest);
                self.logins.give_attempt(id, attempt);
                self.hurry_if_held(now, id);
            }
        }
        self.duplicates.wait(key, authenticator, id);
        if let Some(push) = push {
            self.pushes.packet_seen(push, now);
        }
    }

    /// Notes a rival of the pending login, and tells the other proxies.
    fn saw_rival(&mut self, now: Now, pending: LoginId, sender: &Sender, out: &mut Outputs) {
        let Some(login) = self.logins.get_mut(pending) else {
            return;
        };
        login.sender.rivalled_by(sender);
        if login.sender.rival_seen
            && let Some(push) = login.push
        {
            self.pushes.tell_of_rival(now.monotonic, push, out);
        }
    }
}

/// How far a packet that joins the login is off the client's schedule. `None` if it can't join.
///
/// A packet with the port and identifier of the waiting packet joins even after a rival was seen: the client has given
/// up the earlier packet (RFC 5080 section 2.2.2), and only the client can send from that port. No client does that
/// before half its timeout has passed.
fn joins(login: &Login, arrival: &Arrival<'_>, key: Key, sender: &Sender, now: Duration) -> Option<Duration> {
    if !login.sender.matches(sender) {
        return None;
    }
    let client = &arrival.client.config;
    let since = now.saturating_sub(login.last_packet);
    if is_there(login, key) && since >= soonest(client.timeout / 2) {
        return Some(Duration::ZERO);
    }
    let tries_left = login.attempt.is_none() || login.tries <= client.retries;
    if !login.sender.is_distinct() || !(sender.own_text || tries_left) {
        return None;
    }
    off_schedule(since, client.timeout)
}

impl Login {
    /// Whether the packet is a retry of this login, which can start no push.
    pub(super) fn is_retried_by(&self, arrival: &Arrival<'_>, key: Key, sender: &Sender) -> bool {
        let since = arrival.now.monotonic.saturating_sub(self.last_packet);
        self.sender.matches(sender)
            && (is_there(self, key) || since >= soonest(arrival.client.config.timeout))
    }
}

fn is_there(login: &Login, key: Key) -> bool {
    login.attempt.as_ref().is_some_and(|waiting| waiting.key == key)
}
