//! Undoes a join that turns out to be a rival's. If anybody could have typed the text, the last packet of a login can be a
//! rival's, and a later packet shows it: then the packet before it waits for the answer again. An approval is held until no
//! such packet can come.

use std::time::Duration;

use super::Engine;
use crate::Now;
use crate::duplicates::Key;
use crate::factor::{LoginId, Verdict};
use crate::outputs::Outputs;
use crate::sender::soonest;

impl Engine {
    /// Handles a retransmission of the waiting packet, or of one that a newer packet has replaced.
    pub(super) fn seen_again(&mut self, now: Now, id: LoginId, key: &Key, out: &mut Outputs) {
        let Some(login) = self.logins.get_mut(id) else {
            return;
        };
        let timeout = login
            .attempt
            .as_ref()
            .map_or(Duration::ZERO, |attempt| attempt.to.client.config.timeout);
        if now.monotonic.saturating_sub(login.last_packet) >= soonest(timeout) {
            login.tries = login.tries.saturating_add(1);
        }
        login.last_packet = now.monotonic;
        let push = login.push;
        if let Some(attempt) = &mut login.attempt {
            attempt.packets = attempt.packets.saturating_add(1);
        }
        let displaced = login
            .displaced
            .as_ref()
            .is_some_and(|old| old.attempt.key == *key);
        if let Some(push) = push {
            self.pushes.packet_seen(push, now.monotonic);
        }
        if displaced {
            self.roll_back(now, id, out);
            if let Some(login) = self.logins.get_mut(id) {
                login.last_packet = now.monotonic;
            }
            self.settle_if_clear(now, id, out);
        }
    }

    /// Another proxy has seen a rival of the push.
    pub(super) fn heard_of_rival(&mut self, now: Now, id: LoginId, out: &mut Outputs) {
        if let Some(login) = self.logins.get_mut(id) {
            login.sender.rival_seen = true;
            if !login.sender.own_text && now.monotonic <= login.settles {
                self.roll_back(now, id, out);
                self.settle_if_clear(now, id, out);
            }
        }
    }

    /// Whether the approval has to wait until the last packet can't turn out to be a rival's. If so, it is kept.
    pub(super) fn is_unsettled(&mut self, now: Now, id: LoginId, verdict: &Verdict) -> bool {
        let Verdict::Approved(approval) = verdict else {
            return false;
        };
        let Some(login) = self.logins.get_mut(id) else {
            return false;
        };
        let settles = login.settles;
        let waits = now.monotonic < settles && login.attempt.is_some();
        if waits {
            login.unsettled = Some(Box::new(approval.clone()));
            self.logins.wake_by(id, settles);
        }
        waits
    }

    /// Uses the approval that was kept, if there is one. Returns whether there was.
    pub(super) fn settle(&mut self, now: Now, id: LoginId, out: &mut Outputs) -> bool {
        let unsettled = self.logins.get_mut(id).and_then(|login| {
            login.settles = Duration::ZERO;
            login.unsettled.take()
        });
        let Some(approval) = unsettled else {
            return false;
        };
        self.logins.wake_at_deadline(id);
        self.take_verdict(now, id, Verdict::Approved(*approval), out);
        true
    }

    pub(super) fn settle_if_clear(&mut self, now: Now, id: LoginId, out: &mut Outputs) {
        if self
            .logins
            .get(id)
            .is_some_and(|login| login.settles == Duration::ZERO)
        {
            self.settle(now, id, out);
        }
    }

    /// The last packet may be a rival's: the packet before it waits again, if this proxy has it.
    pub(super) fn roll_back(&mut self, now: Now, id: LoginId, out: &mut Outputs) {
        let Some(login) = self.logins.get_mut(id) else {
            return;
        };
        login.sender.rival_seen = true;
        login.settles = Duration::ZERO;
        let displaced = login.displaced.take();
        let mut rival_sender = login.sender.clone();
        rival_sender.rival_seen = false;
        let rival = match (displaced, &mut login.attempt) {
            (Some(mut displaced), Some(waiting)) => {
                login.sender.source = displaced.source;
                login.sender.moved = displaced.moved;
                login.last_packet = displaced.last_packet;
                waiting.restore(&mut displaced.attempt);
                self.duplicates.wait(waiting.key, waiting.to.authenticator, id);
                displaced.attempt
            }
            // The packet before it waited at another proxy, so this proxy can answer none.
            (_, Some(_)) => {
                let (ends, was_approved) = (login.ends, login.unsettled.take().is_some());
                let Some(attempt) = self.logins.take_attempt(id, ends) else {
                    return;
                };
                self.forget(now, &attempt, id);
                if was_approved && let Some(login) = self.logins.remove(id) {
                    self.end_push(now, &login, out);
                }
                attempt
            }
            (_, None) => return,
        };
        self.duplicates.forget(&rival.key, id);
        self.wait_apart(now, rival, rival_sender, out);
    }
}
