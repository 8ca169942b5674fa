//! Pushes over all proxies: who may follow one, and who may use its approval.
//!
//! Each member gives each push one vote, for good, and an approval is used only by who has more than half of them (or
//! got the whole right from who had). Any two such halves share a member, so there are never two: whatever is lost, late
//! or dead.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::{LoginId, UserName};
use crate::outputs::Outputs;
use crate::peers::{Body, Instance, PeerMessage, PushId, ToPeer};
use crate::sender::{Sender, soonest};

mod messages;
mod push;
mod right;

use push::{LONGEST_REPEAT, What};
pub(crate) use push::{Push, Started};

/// Pushes known at once, own and others'. What is pushed out is neither followed nor voted for any more.
const PUSHES: usize = 65_536;
/// Ends remembered that came before their push's announcement.
const EARLY_ENDS: usize = 4_096;
/// Members of one push, its origin among them.
const MEMBERS: usize = 16;
/// The round of a vote that nobody has asked for.
const UNASKED: u32 = 0;
/// How long a push is remembered beyond the last try of its client: votes are given once.
const KNOWN_LONGER: Duration = Duration::from_secs(65);
/// How long an ended one is: no datagram is taken so late that it could bring the push back.
const REMEMBERED: Duration = Duration::from_secs(40);

/// What a message means for a login here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has the right to its push's approval.
    Won(LoginId),
    /// The client has gone on with another proxy.
    Left(LoginId),
    /// Another proxy has the approval.
    Lost(LoginId),
    /// A rival of it was seen, here or by another proxy.
    Rival(LoginId),
}

/// What came of wanting to use an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is used, by this.
    Granted,
    /// The others are asked.
    Wait,
    /// It is another's.
    Refused,
}

/// All of them.
pub(crate) struct Pushes {
    me: Instance,
    all: Bounded<PushId, Push>,
    /// Pushes that had ended before they were heard of.
    early_ends: Bounded<PushId, ()>,
    /// Those that a login of the user can go on with.
    users: HashMap<UserName, PushId>,
    wakes: BTreeSet<(Duration, PushId)>,
    /// The other proxies that are there.
    here: BTreeSet<Instance>,
    leaving: bool,
}

impl Pushes {
    pub(crate) fn new(me: Instance) -> Self {
        Self {
            me,
            all: Bounded::new(PUSHES),
            early_ends: Bounded::new(EARLY_ENDS),
            users: HashMap::new(),
            wakes: BTreeSet::new(),
            here: BTreeSet::new(),
            leaving: false,
        }
    }

    pub(crate) fn me(&self) -> Instance {
        self.me
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn next_wake(&self) -> Option<Duration> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// Announces a push that was started here. `evicted` is told when another had to be forgotten.
    pub(crate) fn announce(
        &mut self,
        now: Duration,
        started: Started,
        evicted: &mut bool,
        out: &mut Outputs,
    ) -> PushId {
        let id = PushId {
            origin: self.me,
            number: started.login.0,
        };
        let push = Push::started(self.me, now, started);
        tell(out, None, id, push.body(now, What::Announce, 0));
        self.insert(id, push, evicted);
        id
    }

    /// Another's push that a login of the user can only join, or that refuses it.
    pub(crate) fn of_user(&mut self, user: &UserName, now: Duration) -> Option<(PushId, &Push)> {
        let id = *self.users.get(user)?;
        let gone = |push: &Push| push.ended || push.ends <= now || push.until <= now;
        if self.all.get(&id).is_none_or(gone) {
            self.users.remove(user);
            return None;
        }
        self.all.get(&id).map(|push| (id, push))
    }

    /// A login of this proxy goes on with another's push: its client has left whoever followed before.
    pub(crate) fn adopt(&mut self, now: Duration, id: PushId, login: LoginId, out: &mut Outputs) {
        let me = self.me;
        self.change(id, |push| {
            push.login = Some(login);
            push.last_packet = now;
            push.until = push.until.max(now + KNOWN_LONGER);
            push.claim(now, id, me, true, out);
        });
    }

    /// A packet of `sender` goes on with another's push: when its login is over.
    pub(crate) fn adopted_by(&mut self, id: PushId, sender: &Sender) -> Option<Duration> {
        self.change(id, |push| {
            push.sender.joined_by(sender);
            push.ends
        })
    }

    /// Whether its login has gone on from another address of the directory.
    pub(crate) fn has_moved(&self, id: PushId) -> bool {
        self.all.get(&id).is_some_and(|push| push.sender.moved)
    }

    /// The login here that follows it has had a packet.
    pub(crate) fn packet_seen(&mut self, id: PushId, now: Duration) {
        self.change(id, |push| push.last_packet = now);
    }

    /// A packet of `sender` is not the next try of the push's login.
    pub(crate) fn rivalled_by(&mut self, now: Duration, id: PushId, sender: &Sender, out: &mut Outputs) {
        let seen = self.change(id, |push| {
            push.sender.rivalled_by(sender);
            push.sender.rival_seen
        });
        if seen == Some(true) {
            self.tell_of_rival(now, id, out);
        }
    }

    /// The others must not take a rival's packet for its login's next try.
    pub(crate) fn tell_of_rival(&mut self, now: Duration, id: PushId, out: &mut Outputs) {
        let told = self.change(id, |push| {
            push.sender.rival_seen = true;
            now < push.ends && !push.ended
        });
        if told == Some(true) {
            tell(out, None, id, Body::Rival);
        }
    }

    /// An approval has come. With `Granted` the push is at its end everywhere.
    pub(crate) fn use_approval(&mut self, now: Duration, id: PushId, out: &mut Outputs) -> Use {
        let me = self.me;
        let used = self.change(id, |push| {
            if push.ended {
                return Use::Refused;
            }
            if !push.right.is(me) && !push.claims() {
                if !push.right.may_claim(me) {
                    return Use::Refused;
                }
                push.claim(now, id, me, false, out);
            }
            if push.right.is(me) {
                Use::Granted
            } else {
                Use::Wait
            }
        });
        let used = used.unwrap_or(Use::Refused);
        if used == Use::Granted {
            self.end(now, id, out);
        }
        used
    }

    /// The push has ended here: used, denied, or given up.
    pub(crate) fn end(&mut self, now: Duration, id: PushId, out: &mut Outputs) {
        let me = self.me;
        let user = self.change(id, |push| {
            push.login = None;
            push.ended = true;
            push.until = now + REMEMBERED;
            // All are told, since one that is no member may know of it and wait for its end; members until they answer.
            tell(out, None, id, Body::Ended);
            push.repeat_later(now, What::End, push.right.others(me));
            push.user.clone()
        });
        self.close(user.as_ref(), id);
    }

    /// The login that followed is gone, and the push goes on without it.
    pub(crate) fn leave(&mut self, id: PushId) {
        let user = self.change(id, |push| {
            push.login = None;
            (!push.ended).then(|| push.user.clone())
        });
        if let Some(user) = user.flatten() {
            self.users.insert(user, id);
        }
    }

    /// These other proxies are there, as far as one knows.
    pub(crate) fn here(&mut self, here: BTreeSet<Instance>) {
        self.here = here;
    }

    /// A run of a proxy is over for certain. Where nobody can have followed our push yet, its word is not needed any
    /// more; after that, nobody knows what it has done.
    pub(crate) fn gone(&mut self, now: Duration, instance: Instance) -> Vec<Step> {
        let mine: Vec<PushId> = self.ids(|id, push| id.origin == self.me && !push.ended);
        let me = self.me;
        let won = |push: &mut Push| {
            push.right.excuse(instance, now);
            push.won(me)
        };
        mine.into_iter()
            .filter_map(|id| self.change(id, won).flatten())
            .collect()
    }

    /// This proxy is ending: it adopts no more pushes, so its unused votes go to the origins. Each vote is repeated until
    /// it is confirmed: nobody can ask for it once this proxy has ended. It doesn't wait for the list of members, which may
    /// come too late.
    pub(crate) fn give_votes_away(&mut self, now: Duration, out: &mut Outputs) {
        self.leaving = true;
        let me = self.me;
        let others = |id: &PushId, push: &Push| {
            id.origin != me && push.login.is_none() && !push.ended && now < push.ends
        };
        let pending: Vec<PushId> = self.ids(others);
        for id in pending {
            self.change(id, |push| {
                if let Some(to) = push.right.give(me) {
                    push.say(now, id, What::Vote, vec![to], 0, out);
                }
            });
        }
    }

    /// Whether a message still waits for its confirmation. A claim doesn't count: it belongs to a pending login.
    pub(crate) fn is_unconfirmed(&self, now: Duration) -> bool {
        let mut soon = self
            .wakes
            .iter()
            .take_while(|(wake, _)| *wake <= now + LONGEST_REPEAT);
        soon.any(|(_, id)| self.all.get(id).is_some_and(Push::is_unconfirmed))
    }

    /// Repeats what was not answered and forgets what is old. `false` when nothing is due.
    pub(crate) fn wake(&mut self, now: Duration, out: &mut Outputs) -> bool {
        let Some((_, id)) = self.wakes.first().filter(|(wake, _)| *wake <= now).copied() else {
            return false;
        };
        let me = self.me;
        let old = self.change(id, |push| {
            if push.until <= now && push.login.is_some() {
                push.until = now + KNOWN_LONGER;
            }
            if push.until > now {
                push.say_again(now, id, me, out);
            }
            push.until <= now
        });
        if old == Some(true) {
            self.forget(id);
        }
        true
    }

    fn ids(&self, which: impl Fn(&PushId, &Push) -> bool) -> Vec<PushId> {
        let all = self.wakes.iter().map(|(_, id)| *id);
        all.filter(|id| self.all.get(id).is_some_and(|push| which(id, push)))
            .collect()
    }

    /// A login of the user goes on with it no more.
    fn close(&mut self, user: Option<&UserName>, id: PushId) {
        if let Some(user) = user
            && self.users.get(user) == Some(&id)
        {
            self.users.remove(user);
        }
    }

    fn insert(&mut self, id: PushId, mut push: Push, evicted: &mut bool) {
        push.wake = push.next_wake();
        self.wakes.insert((push.wake, id));
        if let Some((old, push)) = self.all.insert(id, push) {
            *evicted = !push.ended;
            self.wakes.remove(&(push.wake, old));
            self.close(Some(&push.user), old);
        }
    }

    fn forget(&mut self, id: PushId) {
        if let Some(push) = self.all.remove(&id) {
            self.wakes.remove(&(push.wake, id));
            self.close(Some(&push.user), id);
        }
    }

    /// Changes a push and keeps its place among the wakes.
    fn change<T>(&mut self, id: PushId, change: impl FnOnce(&mut Push) -> T) -> Option<T> {
        let push = self.all.touch(&id)?;
        let result = change(push);
        let wake = push.next_wake();
        if wake != push.wake {
            self.wakes.remove(&(push.wake, id));
            self.wakes.insert((wake, id));
            push.wake = wake;
        }
        Some(result)
    }
}

fn tell(out: &mut Outputs, to: Option<Instance>, push: PushId, body: Body) {
    out.peers.push(ToPeer {
        to,
        message: PeerMessage { push, body },
    });
}
