//! The right to use a push's approval, as one member knows it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::MEMBERS;
use crate::peers::{Instance, Vote};

/// Votes given and got. While the list of members is not out, the origin alone has the right.
pub(super) struct Right {
    origin: Instance,
    /// The origin first. Before the list is out: who has seen the announcement, without the origin.
    members: Vec<Instance>,
    armed: bool,
    /// Whose the own vote is, for good; with a right that was handed over, who holds it.
    mine: Option<Instance>,
    /// Votes got.
    votes: Vec<Instance>,
    /// The whole right was got from who had it.
    handed: bool,
    /// The right was here and was handed on: the votes it came by count no more.
    handed_on: bool,
    /// The claim for which it was handed on: nobody gets it twice.
    handed_for: u32,
    /// Before this nobody but the origin can have followed the push.
    opens: Duration,
    round: u32,
}

impl Right {
    pub(super) fn of_origin(origin: Instance, opens: Duration) -> Self {
        Self {
            origin,
            members: Vec::new(),
            armed: false,
            mine: None,
            votes: Vec::new(),
            handed: false,
            handed_on: false,
            handed_for: 0,
            opens,
            round: 0,
        }
    }

    pub(super) fn of_another(origin: Instance) -> Self {
        Self::of_origin(origin, Duration::ZERO)
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    pub(super) fn members(&self) -> usize {
        self.members.len() + usize::from(!self.armed)
    }

    pub(super) fn list(&self) -> Vec<Instance> {
        self.members.clone()
    }

    pub(super) fn round(&self) -> u32 {
        self.round
    }

    pub(super) fn seen_by(&mut self, member: Instance) {
        if !self.armed && !self.members.contains(&member) {
            self.members.push(member);
        }
    }

    /// At the origin: whether all of these have seen the announcement. `false` where nobody is known.
    pub(super) fn is_seen_by(&self, all: &BTreeSet<Instance>) -> bool {
        !all.is_empty() && all.iter().all(|member| self.members.contains(member))
    }

    /// At the origin: makes those who have seen the announcement members. `None` when nobody has.
    pub(super) fn arm_seen(&mut self, me: Instance) -> Option<Vec<Instance>> {
        if self.armed || self.members.is_empty() {
            return None;
        }
        let others = self.members.clone();
        self.members.insert(0, me);
        self.armed = true;
        Some(others)
    }

    /// At another member: the list has come.
    pub(super) fn arm(&mut self, members: Vec<Instance>) {
        if !self.armed {
            self.members = members;
            self.armed = true;
        }
    }

    pub(super) fn others(&self, me: Instance) -> Vec<Instance> {
        let members = if self.armed { self.members.as_slice() } else { &[] };
        members.iter().copied().filter(|member| *member != me).collect()
    }

    /// Whether `me` has the right.
    pub(super) fn is(&self, me: Instance) -> bool {
        if !self.armed {
            return me == self.origin;
        }
        let votes = self.votes.iter().filter(|vote| self.is_voter(**vote)).count();
        self.handed || (!self.handed_on && votes > self.voters() / 2)
    }

    /// Whether asking for votes is of any use.
    pub(super) fn may_claim(&self, me: Instance) -> bool {
        self.armed && self.mine.is_none_or(|holder| holder == me)
    }

    /// Begins a claim: the own vote is the claimer's, unless it was given before.
    pub(super) fn claim(&mut self, me: Instance) -> u32 {
        if *self.mine.get_or_insert(me) == me && !self.handed_on {
            self.voted(me);
        }
        self.round = self.round.saturating_add(1);
        self.round
    }

    /// What is answered to a claim.
    pub(super) fn asked(&mut self, me: Instance, by: Instance, adopts: bool, round: u32) -> Vote {
        if !self.armed || !self.members.contains(&by) {
            return Vote::No;
        }
        match self.mine {
            None => {
                self.mine = Some(by);
                Vote::Yes
            }
            Some(holder) if holder == by => {
                // Lost on its way, or asked anew after it was handed on from there.
                match (self.handed_on, self.handed_for == round) {
                    (false, _) => Vote::Yes,
                    (true, true) => Vote::Yield,
                    (true, false) => Vote::No,
                }
            }
            Some(holder) if holder == me && adopts && self.is(me) => {
                self.mine = Some(by);
                self.handed = false;
                self.handed_on = true;
                self.handed_for = round;
                Vote::Yield
            }
            Some(_) => Vote::No,
        }
    }

    pub(super) fn voted(&mut self, member: Instance) {
        if !self.votes.contains(&member) && self.votes.len() < MEMBERS {
            self.votes.push(member);
        }
    }

    /// The whole right has come.
    pub(super) fn handed(&mut self, me: Instance) {
        self.handed = true;
        self.mine = Some(me);
    }

    /// Gives the own vote unasked: to the origin, or again to the member that has got it. `None` when `me` needs it, or has
    /// transferred the whole right.
    pub(super) fn give(&mut self, me: Instance) -> Option<Instance> {
        if self.handed_on {
            return None;
        }
        let holder = *self.mine.get_or_insert(self.origin);
        (holder != me).then_some(holder)
    }

    /// At the origin: a member is dead.
    pub(super) fn excuse(&mut self, member: Instance, now: Duration) {
        if !self.armed {
            self.members.retain(|seen| *seen != member);
        } else if now < self.opens && self.members.contains(&member) {
            self.voted(member);
        }
    }

    /// An odd number of members vote: the origin does not where it would make the number even, or of two proxies neither
    /// could go on when the other is dead.
    fn voters(&self) -> usize {
        self.members.len() - usize::from(self.members.len().is_multiple_of(2))
    }

    fn is_voter(&self, member: Instance) -> bool {
        self.members.contains(&member) && (member != self.origin || !self.members.len().is_multiple_of(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Instance = Instance(1);
    const B: Instance = Instance(2);
    const C: Instance = Instance(3);

    /// The member B of three, with A's vote and its own.
    fn holder() -> (Right, u32) {
        let mut right = Right::of_another(A);
        right.arm(vec![A, B, C]);
        let round = right.claim(B);
        assert!(!right.is(B), "one of three is not enough");
        right.voted(A);
        assert!(right.is(B));
        (right, round)
    }

    #[test]
    fn a_right_that_was_handed_on_does_not_come_back_by_the_old_votes() {
        let (mut right, _) = holder();
        assert_eq!(right.asked(B, C, true, 1), Vote::Yield);
        assert!(!right.is(B));
        right.claim(B);
        right.voted(A);
        right.voted(C);
        assert!(!right.is(B), "C has it, whoever voted for B before");
        right.handed(B);
        assert!(right.is(B));
    }

    #[test]
    fn a_right_is_handed_on_for_one_claim_and_to_who_follows() {
        let (mut right, _) = holder();
        assert_eq!(right.asked(B, C, false, 1), Vote::No, "B has the newest packet");
        assert_eq!(right.asked(B, C, true, 2), Vote::Yield);
        assert_eq!(right.asked(B, C, true, 2), Vote::Yield, "the answer was lost");
        assert_eq!(
            right.asked(B, C, true, 3),
            Vote::No,
            "C has handed it on meanwhile"
        );
        assert_eq!(right.asked(B, A, true, 1), Vote::No);
    }

    #[test]
    fn a_vote_is_given_once_and_to_members_only() {
        let mut right = Right::of_another(A);
        assert_eq!(right.asked(B, C, true, 1), Vote::No, "the list has not come");
        right.arm(vec![A, B, C]);
        assert_eq!(right.asked(B, Instance(9), true, 1), Vote::No);
        assert_eq!(right.asked(B, C, true, 1), Vote::Yes);
        assert_eq!(right.asked(B, C, true, 2), Vote::Yes);
        assert_eq!(right.asked(B, A, true, 1), Vote::No);
        assert_eq!(right.give(B), Some(C), "the answer to C may have been lost");
    }

    #[test]
    fn of_two_the_other_one_decides() {
        let mut origin = Right::of_origin(A, Duration::from_secs(19));
        assert!(origin.is(A));
        origin.seen_by(B);
        assert_eq!(origin.arm_seen(A), Some(vec![B]));
        origin.claim(A);
        assert!(!origin.is(A));
        let mut other = Right::of_another(A);
        other.arm(vec![A, B]);
        other.claim(B);
        assert!(other.is(B));
        origin.excuse(B, Duration::from_secs(19));
        assert!(!origin.is(A), "it may have gone on before it died");
        origin.excuse(B, Duration::from_secs(18));
        assert!(origin.is(A));
    }
}
