//! A packet of a user whose push is pending: the same person's next try, or a rival's.
//!
//! Whoever's login started the push is protected. A packet that cannot be the same person's next try gets no answer while
//! the push is pending, and a Reject when its own time is over. Anybody can type `push` or nothing: of two packets with such
//! a text that come together, when one retry is due, either can be the rival's, and the one before them gets the answer.
//!
//! What no proxy can tell: a rival who is *first* has started the push, and whoever approves it then approves the rival's
//! login. And a rival's `push` from the same address, at the very moment of a retry that the client itself does not send
//! (it was lost, or its user has given up), is that retry.

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

/// Where a packet of a user belongs while a push of theirs is pending.
enum Place {
    /// To the login that started the push.
    Pending,
    /// To a rival that waits already.
    Rival(LoginId),
    /// To a rival that was not seen before.
    NewRival,
}

impl Engine {
    /// A login of the user that can start a push is pending. The packet joins it if it can be the same person's next try;
    /// anything else is a rival's, or somebody who knows the name could have the Accept.
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
            // Its client sends from there again, so the packet that came in between was not its.
            self.roll_back(now, pending, out);
        }
        let place = self.place(arrival, pending, attempt.key, sender, &UserName(user));
        match place {
            Place::Pending => self.join(arrival, pending, attempt, sender),
            Place::Rival(rival) => self.join(arrival, rival, attempt, sender),
            Place::NewRival => {
                self.counters.happened(Event::PushPending);
                if self.contends(now.monotonic, pending, sender) {
                    self.roll_back(now, pending, out);
                }
                self.wait_apart(now, attempt, sender.clone(), out);
            }
        }
        if !matches!(place, Place::Pending) {
            self.saw_rival(now, pending, sender, out);
        }
        self.settle_if_clear(now, pending, out);
    }

    /// A login with the text that the user was let in with last goes before a push that another text has started: that login
    /// waits apart from now on, and an approval of its push is used by nobody.
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

    /// Whether a login passes what other texts have caused, once in a cool-down.
    pub(super) fn passes(&mut self, now: Now, user: &UserName, sender: &Sender) -> bool {
        let cool_down = self.checked().config.policy.limits.push_cool_down;
        let passes = self.known_texts.pass(user, sender, cool_down, now.monotonic);
        self.count_if(passes, Event::KnownText);
        passes
    }

    /// A rival's next try, which stays with the rival also when the push is over. `None` when it was one.
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

    /// The packet waits in silence as a login of its own until its time is over.
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

    /// Another proxy has started a push of the user before either proxy could tell the other. The two logins can be two persons',
    /// and each is the other's rival.
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

    /// The login that they waited apart from has ended without a push: nothing needs their silence any more.
    pub(super) fn refuse_rivals(&mut self, now: Now, user: &UserName, out: &mut Outputs) {
        for rival in self.logins.rivals(user).to_vec() {
            if let Some(attempt) = self.leave(now, rival, out) {
                self.forget(now, &attempt, rival);
                self.refuse(now, attempt, RefusalReason::PushPending, out);
            }
        }
    }

    fn place(
        &self,
        arrival: &Arrival<'_>,
        pending: LoginId,
        key: Key,
        sender: &Sender,
        user: &UserName,
    ) -> Place {
        let now = arrival.now.monotonic;
        let joins = self
            .logins
            .get(pending)
            .and_then(|login| joins(login, arrival, key, sender, now));
        let rival = self.rival_of(arrival, user, key, sender);
        match (joins, rival) {
            (Some(off), Some((rival, other))) if other <= off && off > Duration::ZERO => Place::Rival(rival),
            (Some(_), _) => Place::Pending,
            (None, Some((rival, _))) => Place::Rival(rival),
            (None, None) => Place::NewRival,
        }
    }

    /// The rival whose next try the packet can be, and how far off its schedule it is.
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
            // The last packet may have been somebody else's that looked the same.
            let first = login.attempt.as_ref()?.started;
            let off = [login.last_packet, first]
                .into_iter()
                .filter_map(|packet| off_schedule(now.saturating_sub(packet), timeout))
                .min()?;
            (off <= tolerance(timeout)).then_some((*id, off))
        });
        fitting.min_by_key(|(_, off)| *off)
    }

    /// Whether the packet comes from the port and identifier of the one that was displaced.
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

    /// Whether the packet can be the retry for which the last one was taken.
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
            // Its first try was answered at the deadline; this is the next one, with a budget of its own.
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

    /// A rival of the pending login was seen: the other proxies are told.
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

/// How far off its client's schedule the packet joins the login; `None` when it cannot.
///
/// From the port and identifier of the packet that waits it joins whatever else was seen: its client has given that one up
/// for it (RFC 5080 section 2.2.2), and nobody else can send from there. No client does so sooner than after half its
/// timeout.
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
    /// Whether the packet is its client's next try, where no push is at stake.
    pub(super) fn is_retried_by(&self, arrival: &Arrival<'_>, key: Key, sender: &Sender) -> bool {
        let since = arrival.now.monotonic.saturating_sub(self.last_packet);
        self.sender.matches(sender)
            && (is_there(self, key) || since >= soonest(arrival.client.config.timeout))
    }
}

fn is_there(login: &Login, key: Key) -> bool {
    login.attempt.as_ref().is_some_and(|waiting| waiting.key == key)
}
