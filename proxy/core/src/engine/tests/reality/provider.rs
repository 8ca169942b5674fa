//! The provider that all proxies ask: pushes that a user approves after a while, and codes that work once.

use std::collections::{BTreeMap, BTreeSet};

use crate::factor::{Credential, Factor, LoginId, RefusalReason, Verdict};
use crate::testing::{approval, refusal};

/// A push lives so long.
pub(super) const PUSH_LIVES: u64 = 60_000;
/// Looking a user up and starting a push take so long.
pub(super) const STARTS_AFTER: u64 = 300;

/// Who waits for a push: proxy and login.
pub(super) type Follower = (usize, LoginId);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Approved,
    Expired,
}

struct Push {
    /// The person whose login it is.
    starter: usize,
    state: State,
    followers: Vec<Follower>,
}

/// What becomes of a question.
pub(super) enum Answer {
    /// A push was started, or is followed.
    Follows(usize),
    /// This is said after so many milliseconds.
    Says(u64, Verdict),
}

#[derive(Default)]
pub(super) struct Provider {
    pushes: Vec<Push>,
    used: BTreeSet<String>,
    /// Pushes that each user got.
    pub(super) started: BTreeMap<String, usize>,
}

impl Provider {
    /// `codes`: what may be typed as a code, by the text.
    pub(super) fn ask(
        &mut self,
        (user, asker): (&str, usize),
        credential: &Credential,
        codes: &[String],
        by: Follower,
    ) -> Answer {
        match credential {
            Credential::Follow(handle) => {
                let push: usize = handle.as_str().parse().unwrap();
                self.follow(push, by)
            }
            Credential::Passcode(code) => self.code(code.expose_str().unwrap().to_owned()),
            Credential::Response(response) => {
                match codes.iter().find(|code| response.matches(code.as_bytes())) {
                    Some(code) => self.code(code.clone()),
                    None => Answer::Says(20, Verdict::Refused(refusal(RefusalReason::NothingMatched))),
                }
            }
            _ if !["owner"].contains(&user) => {
                Answer::Says(200, Verdict::Refused(refusal(RefusalReason::UnknownUser)))
            }
            _ => {
                self.pushes.push(Push {
                    starter: asker,
                    state: State::Pending,
                    followers: vec![by],
                });
                *self.started.entry(user.to_owned()).or_default() += 1;
                Answer::Follows(self.pushes.len() - 1)
            }
        }
    }

    fn follow(&mut self, number: usize, by: Follower) -> Answer {
        let push = &mut self.pushes[number];
        match push.state {
            State::Pending => {
                push.followers.push(by);
                Answer::Follows(number)
            }
            State::Approved => Answer::Says(100, Self::approved(number)),
            State::Expired => Answer::Says(100, Verdict::Refused(refusal(RefusalReason::TimedOut))),
        }
    }

    fn code(&mut self, code: String) -> Answer {
        if self.used.insert(code.clone()) {
            let mut approved = approval(Factor::Passcode);
            approved.found_text = Some(proxy_config::Secret::new(code.into_bytes()));
            Answer::Says(20, Verdict::Approved(approved))
        } else {
            // It has to be read that the code is used, after it could not be written.
            Answer::Says(40, Verdict::Refused(refusal(RefusalReason::PasscodeReplayed)))
        }
    }

    fn approved(number: usize) -> Verdict {
        let mut approved = approval(Factor::Push);
        approved.message = Some(format!("push {number:04}"));
        Verdict::Approved(approved)
    }

    /// The user approves a push, or it has lived its time: those who wait for it hear of it.
    pub(super) fn end(&mut self, number: usize, state: State) -> Vec<(Follower, Verdict)> {
        let push = &mut self.pushes[number];
        if push.state != State::Pending {
            return Vec::new();
        }
        push.state = state;
        let followers = std::mem::take(&mut push.followers);
        let verdict = || match state {
            State::Approved => Self::approved(number),
            _ => Verdict::Refused(refusal(RefusalReason::TimedOut)),
        };
        followers
            .into_iter()
            .map(|follower| (follower, verdict()))
            .collect()
    }

    pub(super) fn starter(&self, number: usize) -> usize {
        self.pushes[number].starter
    }

    /// Nobody asks for this login any more.
    pub(super) fn forget(&mut self, by: Follower) {
        for push in &mut self.pushes {
            push.followers.retain(|follower| *follower != by);
        }
    }

    /// Pushes that their user has not approved.
    pub(super) fn pending(&self) -> usize {
        self.pushes
            .iter()
            .filter(|push| push.state == State::Pending)
            .count()
    }
}
