//! Messages from the other proxies about a push.

use std::time::Duration;

use super::push::What;
use super::{KNOWN_LONGER, MEMBERS, Push, Pushes, REMEMBERED, Step, UNASKED, tell};
use crate::outputs::Outputs;
use crate::peers::{Announcement, Body, Instance, PeerMessage, PushId, Vote};

impl Pushes {
    /// Takes what another proxy says.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        from: Instance,
        message: PeerMessage,
        evicted: &mut bool,
        out: &mut Outputs,
    ) -> Option<Step> {
        let (id, me) = (message.push, self.me);
        match message.body {
            Body::Announce(announcement) => {
                self.take_announcement(now, from, id, *announcement, evicted, out);
                None
            }
            Body::Seen if id.origin == me => {
                self.take_seen(now, from, id, out);
                None
            }
            Body::Arm(members) => {
                if from == id.origin && self.take_list(id, members) {
                    tell(out, Some(from), id, Body::Armed);
                }
                None
            }
            Body::Armed => {
                self.change(id, |push| push.answered(What::Arm, from));
                None
            }
            Body::Claim {
                adopts,
                round,
                members,
            } => {
                // The list may have been lost, or come later.
                self.take_list(id, members);
                self.take_claim(now, from, id, adopts, round, out)
            }
            Body::Vote { round, vote } => {
                if round == UNASKED {
                    tell(out, Some(from), id, Body::Seen);
                }
                self.take_vote(from, id, round, vote)
            }
            Body::Ended => {
                tell(out, Some(from), id, Body::Forgotten);
                self.take_end(now, id)
            }
            Body::Rival => {
                let login = self.change(id, |push| {
                    push.sender.rival_seen = true;
                    push.login
                });
                login.flatten().map(Step::Rival)
            }
            Body::Forgotten => {
                self.change(id, |push| push.answered(What::End, from));
                None
            }
            Body::Seen => {
                self.change(id, |push| push.answered(What::Vote, from));
                None
            }
        }
    }

    /// The list of members has come, by itself or in a claim. `false` when it means nothing here.
    fn take_list(&mut self, id: PushId, members: Vec<Instance>) -> bool {
        let is_list = members.first() == Some(&id.origin) && members.len() <= MEMBERS;
        if id.origin == self.me || !is_list || !members.contains(&self.me) {
            return false;
        }
        self.change(id, |push| push.right.arm(members)).is_some()
    }

    fn take_announcement(
        &mut self,
        now: Duration,
        from: Instance,
        id: PushId,
        announced: Announcement,
        evicted: &mut bool,
        out: &mut Outputs,
    ) {
        let named = (1..=512).contains(&announced.user.len());
        if from != id.origin || from == self.me || self.leaving || !named {
            return;
        }
        tell(out, Some(from), id, Body::Seen);
        if self.all.get(&id).is_some() || self.early_ends.get(&id).is_some() {
            return;
        }
        let push = Push::announced(id, now, announced);
        let user = push.user.clone();
        self.insert(id, push, evicted);
        self.users.insert(user, id);
    }

    fn take_seen(&mut self, now: Duration, from: Instance, id: PushId, out: &mut Outputs) {
        let (me, here) = (self.me, std::mem::take(&mut self.here));
        self.change(id, |push| {
            if push.says(What::Announce) && push.right.members() < MEMBERS {
                push.right.seen_by(from);
                // A push that dies with its proxy before the list is out can be followed by nobody.
                if push.right.is_seen_by(&here) {
                    push.arm(now, id, me, out);
                }
            }
        });
        self.here = here;
    }

    fn take_claim(
        &mut self,
        now: Duration,
        from: Instance,
        id: PushId,
        adopts: bool,
        round: u32,
        out: &mut Outputs,
    ) -> Option<Step> {
        let me = self.me;
        let taken = self.change(id, |push| {
            if push.ended {
                return None;
            }
            let again = push.heard == Some((from, round));
            if adopts && !again && push.contends(now) {
                push.sender.rival_seen = true;
                return Some((Vote::No, push.login.map(Step::Rival), None));
            }
            let vote = push.right.asked(me, from, adopts, round);
            let mut left = None;
            // Repeated, it is answered again and means nothing more: the client may be back by now.
            let again = push.heard.replace((from, round)) == Some((from, round));
            if vote != Vote::No && adopts && !again {
                push.last_packet = now;
                push.until = push.until.max(now + KNOWN_LONGER);
                left = push.login.map(Step::Left);
                push.repeat = None;
            }
            // A claim without a new packet is about an approval at hand: as good as used.
            let closed = (vote == Vote::Yes && !adopts).then(|| push.user.clone());
            Some((vote, left, closed))
        });
        let Some((vote, left, closed)) = taken.unwrap_or(Some((Vote::No, None, None))) else {
            // What was told when it ended has not arrived.
            tell(out, Some(from), id, Body::Ended);
            return None;
        };
        if matches!(left, Some(Step::Rival(_))) {
            tell(out, None, id, Body::Rival);
        }
        tell(out, Some(from), id, Body::Vote { round, vote });
        self.close(closed.as_ref(), id);
        left
    }

    fn take_vote(&mut self, from: Instance, id: PushId, round: u32, vote: Vote) -> Option<Step> {
        let me = self.me;
        self.change(id, |push| {
            if push.ended {
                return None;
            }
            // A vote counts whenever it comes; a right that is handed over only for the claim that asks for it now.
            let current = push.claims() && push.right.round() == round;
            match vote {
                Vote::Yes => push.right.voted(from),
                Vote::Yield if current => push.right.handed(me),
                Vote::Yield | Vote::No => {}
            }
            if current {
                push.answered_claim(from);
            }
            push.won(me).or_else(|| push.lost())
        })
        .flatten()
    }

    fn take_end(&mut self, now: Duration, id: PushId) -> Option<Step> {
        let me = self.me;
        if self.all.get(&id).is_none() {
            self.early_ends.insert(id, ());
        }
        let ended = self.change(id, |push| {
            // Who has the right knows better: another can only have given up.
            if push.login.is_some() && push.right.is(me) {
                return None;
            }
            push.ended = true;
            push.until = now + REMEMBERED;
            push.repeat = None;
            Some((push.user.clone(), push.login.take()))
        });
        let (user, login) = ended.flatten()?;
        self.close(Some(&user), id);
        login.map(Step::Lost)
    }
}
