//! The text with which each user last got in. A login with that text passes pushes and limits that a stranger has caused.
//!
//! A directory asks RADIUS before it checks the password, so anyone who knows a user's name can start a push and use up the
//! user's limit. A text of the user's own tells the user from strangers. Only a keyed digest of it is kept, in memory.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::factor::UserName;
use crate::random::TextDigest;
use crate::sender::Sender;

const USERS: usize = 65_536;

pub(crate) struct KnownTexts(Bounded<UserName, KnownText>);

struct KnownText {
    text: TextDigest,
    /// The earliest time at which the text passes again.
    passes: Duration,
}

impl KnownTexts {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(USERS))
    }

    /// A login with this text was approved.
    pub(crate) fn approved(&mut self, user: &UserName, sender: &Sender) {
        let Some(text) = sender.text.filter(|_| sender.own_text) else {
            return;
        };
        match self.0.touch(user) {
            Some(known) => known.text = text,
            None => {
                let passes = Duration::ZERO;
                self.0.insert(user.clone(), KnownText { text, passes });
            }
        }
    }

    /// Whether a login with this text may pass, once in `cool_down`.
    pub(crate) fn pass(
        &mut self,
        user: &UserName,
        sender: &Sender,
        cool_down: Duration,
        now: Duration,
    ) -> bool {
        let passes =
            |known: &KnownText| sender.proved && sender.text == Some(known.text) && now >= known.passes;
        if !self.0.get(user).is_some_and(passes) {
            return false;
        }
        if let Some(known) = self.0.touch(user) {
            known.passes = now + cool_down;
        }
        true
    }
}
