//! One push as one member knows it: what is said about it, how often, and what the answers come to.

use std::time::Duration;

use super::right::Right;
use super::{KNOWN_LONGER, Sender, Step, UNASKED, soonest, tell};
use crate::factor::{LoginId, UserName};
use crate::outputs::Outputs;
use crate::peers::{Announcement, Body, Instance, PushHandle, PushId, Vote};
use crate::random::TextDigest;

/// An announcement is sent twice, so long apart; as long again after the second, who has seen it is counted, unless
/// everybody has seen it sooner.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(100);
/// The first repetition of anything else. It doubles up to a second.
const REPEAT: Duration = Duration::from_millis(50);
pub(super) const LONGEST_REPEAT: Duration = Duration::from_secs(1);
/// How often a list, a vote that is given unasked, or an end is sent to a proxy that doesn't answer.
const TRIES: u32 = 6;

/// Clocks of two machines run at the same rate, but for so much in a minute.
const DRIFT: Duration = Duration::from_millis(500);
/// No announcement is believed about more than this.
const LONGEST: u64 = 600_000;

/// A push to be announced.
pub(crate) struct Started {
    pub(crate) login: LoginId,
    pub(crate) user: UserName,
    pub(crate) sender: Sender,
    pub(crate) handle: PushHandle,
    pub(crate) timeout: Duration,
    pub(crate) last_packet: Duration,
    pub(crate) open_until: Duration,
    pub(crate) ends: Duration,
}

/// A push as one member knows it.
pub(crate) struct Push {
    pub(crate) user: UserName,
    pub(crate) sender: Sender,
    pub(crate) handle: PushHandle,
    pub(super) timeout: Duration,
    pub(super) last_packet: Duration,
    /// Until when its client may come with a further try.
    pub(super) open_until: Duration,
    pub(super) right: Right,
    /// The login here that follows it.
    pub(super) login: Option<LoginId>,
    pub(super) ended: bool,
    /// The claim that was heard last: by whom, and which of its claims.
    pub(super) heard: Option<(Instance, u32)>,
    pub(super) repeat: Option<Repeat>,
    /// When its login is over, whoever follows: until then no second push may be started beside it.
    pub(super) ends: Duration,
    /// Until when it is remembered.
    pub(super) until: Duration,
    pub(super) wake: Duration,
}

/// What is said until it is answered.
pub(super) struct Repeat {
    what: What,
    silent: Vec<Instance>,
    tries: u32,
    at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Announce,
    Arm,
    Claim {
        adopts: bool,
    },
    /// The own vote, before this proxy ends.
    Vote,
    End,
}

impl Repeat {
    /// The first announcement is out.
    pub(super) fn announced(now: Duration) -> Self {
        Self {
            what: What::Announce,
            silent: Vec::new(),
            tries: 1,
            at: now + ANNOUNCE_AGAIN,
        }
    }
}

impl Push {
    /// One that was started here, and announced just now.
    pub(super) fn started(me: Instance, now: Duration, started: Started) -> Self {
        let opens = (started.last_packet + soonest(started.timeout)).saturating_sub(DRIFT);
        Self {
            user: started.user,
            sender: started.sender,
            handle: started.handle,
            timeout: started.timeout,
            last_packet: started.last_packet,
            open_until: started.open_until,
            right: Right::of_origin(me, opens),
            login: Some(started.login),
            ended: false,
            heard: None,
            repeat: Some(Repeat::announced(now)),
            ends: started.ends,
            until: started.open_until + KNOWN_LONGER,
            wake: Duration::ZERO,
        }
    }

    /// One that another proxy has announced.
    pub(super) fn announced(id: PushId, now: Duration, announced: Announcement) -> Self {
        let milliseconds = |value: u64| Duration::from_millis(value.min(LONGEST));
        let open_until = now + milliseconds(announced.open);
        Self {
            user: UserName(announced.user),
            sender: Sender {
                source: announced.source,
                directory: announced.directory.map(Into::into),
                moved: announced.moved,
                user_address: announced.user_address,
                text: announced.text.map(TextDigest::from_peer),
                own_text: announced.own_text,
                proved: announced.proved,
                rival_seen: announced.rival_seen,
            },
            handle: announced.handle,
            timeout: milliseconds(announced.timeout),
            last_packet: now.saturating_sub(milliseconds(announced.age)),
            open_until,
            right: Right::of_another(id.origin),
            login: None,
            ended: false,
            heard: None,
            repeat: None,
            ends: now + milliseconds(announced.ends),
            until: open_until + KNOWN_LONGER,
            wake: Duration::ZERO,
        }
    }

    /// Whether a packet that came now can be the client's next try of it: no sooner than the client's timeout.
    pub(crate) fn is_next_try(&self, now: Duration) -> bool {
        self.right.is_armed()
            && now.saturating_sub(self.last_packet) >= soonest(self.timeout)
            && now <= self.open_until
    }

    /// Whether whoever follows here has had a packet so lately that another proxy's cannot be the client's next try. Both
    /// can be a rival's where anybody could have typed the text.
    pub(super) fn contends(&self, now: Duration) -> bool {
        self.login.is_some()
            && !self.sender.own_text
            && now.saturating_sub(self.last_packet) + DRIFT < soonest(self.timeout)
    }

    pub(super) fn announcement(&self, now: Duration) -> Box<Announcement> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Box::new(Announcement {
            user: self.user.as_str().to_owned(),
            source: self.sender.source,
            directory: self.sender.directory.as_deref().map(str::to_owned),
            moved: self.sender.moved,
            user_address: self.sender.user_address,
            text: self.sender.text.map(TextDigest::for_peer),
            own_text: self.sender.own_text,
            proved: self.sender.proved,
            rival_seen: self.sender.rival_seen,
            handle: self.handle.clone(),
            age: milliseconds(now.saturating_sub(self.last_packet)),
            timeout: milliseconds(self.timeout),
            open: milliseconds(self.open_until.saturating_sub(now)),
            ends: milliseconds(self.ends.saturating_sub(now)),
        })
    }

    pub(super) fn claim(&mut self, now: Duration, id: PushId, me: Instance, adopts: bool, out: &mut Outputs) {
        let round = self.right.claim(me);
        let others = self.right.others(me);
        self.say(now, id, What::Claim { adopts }, others, round, out);
    }

    pub(super) fn claims(&self) -> bool {
        let repeat = self.repeat.as_ref();
        repeat.is_some_and(|repeat| matches!(repeat.what, What::Claim { .. }))
    }

    pub(super) fn is_unconfirmed(&self) -> bool {
        self.repeat.is_some() && !self.claims()
    }

    pub(super) fn says(&self, what: What) -> bool {
        self.repeat.as_ref().is_some_and(|repeat| repeat.what == what)
    }

    pub(super) fn answered(&mut self, what: What, from: Instance) {
        if let Some(repeat) = self.repeat.as_mut().filter(|repeat| repeat.what == what) {
            repeat.silent.retain(|member| *member != from);
            if repeat.silent.is_empty() {
                self.repeat = None;
            }
        }
    }

    /// A claim that everybody has answered stays until it is won or lost.
    pub(super) fn answered_claim(&mut self, from: Instance) {
        if let Some(repeat) = &mut self.repeat {
            repeat.silent.retain(|member| *member != from);
        }
    }

    pub(super) fn won(&mut self, me: Instance) -> Option<Step> {
        if !self.right.is(me) {
            return None;
        }
        if self.claims()
            && self
                .repeat
                .as_ref()
                .is_some_and(|repeat| repeat.silent.is_empty())
        {
            self.repeat = None;
        }
        self.login.map(Step::Won)
    }

    /// Everybody has answered, and it was not enough.
    pub(super) fn lost(&mut self) -> Option<Step> {
        let repeat = self.repeat.as_ref()?;
        let What::Claim { adopts } = repeat.what else {
            return None;
        };
        if !repeat.silent.is_empty() {
            return None;
        }
        self.repeat = None;
        let step = if adopts { Step::Lost } else { Step::Left };
        self.login.map(step)
    }

    pub(super) fn say(
        &mut self,
        now: Duration,
        id: PushId,
        what: What,
        to: Vec<Instance>,
        round: u32,
        out: &mut Outputs,
    ) {
        for other in &to {
            tell(out, Some(*other), id, self.body(now, what, round));
        }
        self.repeat_later(now, what, to);
    }

    /// Says it again until it is answered.
    pub(super) fn repeat_later(&mut self, now: Duration, what: What, to: Vec<Instance>) {
        self.repeat = (!to.is_empty()).then_some(Repeat {
            what,
            silent: to,
            tries: 1,
            at: now + REPEAT,
        });
    }

    pub(super) fn say_again(&mut self, now: Duration, id: PushId, me: Instance, out: &mut Outputs) {
        let Some(mut repeat) = self.repeat.take_if(|repeat| repeat.at <= now) else {
            return;
        };
        if repeat.what == What::Announce {
            if repeat.tries == 1 {
                tell(out, None, id, self.body(now, What::Announce, 0));
                repeat.tries += 1;
                repeat.at = now + ANNOUNCE_AGAIN;
                self.repeat = Some(repeat);
            } else {
                self.arm(now, id, me, out);
            }
            return;
        }
        // Who claims asks until its login ends; once it has the right, it only tells.
        let asks = matches!(repeat.what, What::Claim { .. }) && !self.right.is(me);
        if repeat.tries >= TRIES && !asks {
            return;
        }
        let round = self.right.round();
        for other in &repeat.silent {
            tell(out, Some(*other), id, self.body(now, repeat.what, round));
        }
        let pause = REPEAT.saturating_mul(1 << repeat.tries.min(6));
        repeat.tries = repeat.tries.saturating_add(1);
        repeat.at = now + pause.min(LONGEST_REPEAT);
        self.repeat = Some(repeat);
    }

    /// The members are those who have seen the announcement by now; they are told so.
    pub(super) fn arm(&mut self, now: Duration, id: PushId, me: Instance, out: &mut Outputs) {
        if let Some(others) = self.right.arm_seen(me) {
            self.say(now, id, What::Arm, others, 0, out);
        }
    }

    pub(super) fn body(&self, now: Duration, what: What, round: u32) -> Body {
        match what {
            What::Announce => Body::Announce(self.announcement(now)),
            What::Arm => Body::Arm(self.right.list()),
            What::Claim { adopts } => Body::Claim {
                adopts,
                round,
                members: self.right.list(),
            },
            What::Vote => Body::Vote {
                round: UNASKED,
                vote: Vote::Yes,
            },
            What::End => Body::Ended,
        }
    }

    pub(super) fn next_wake(&self) -> Duration {
        let repeat = self.repeat.as_ref().map(|repeat| repeat.at);
        repeat.map_or(self.until, |at| at.min(self.until))
    }
}
