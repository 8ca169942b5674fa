//! A push under way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    person::Person,
    settings::{Behaviour, Factor},
};

/// Pushes that are remembered.
const PUSHES: usize = 100_000;

/// What a poll says.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Outcome {
    Waiting,
    Success,
    Rejected,
    Timeout,
    Cancelled,
}

/// A push under way.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) id: String,
    pub(super) person: Arc<Person>,
    pub(super) factor: Factor,
    pub(super) began: Instant,
    pub(super) timeout: Duration,
    /// The number that the access device would show.
    pub(super) challenge: Option<u8>,
    decided: Mutex<Option<Outcome>>,
}

impl Push {
    pub(super) fn new(person: Arc<Person>, factor: &Factor, timeout: Duration, challenged: bool) -> Self {
        let challenge = challenged.then(|| 10 + rand::random::<u8>() % 90);
        Self {
            id: format!("ft{}", uuid::Uuid::new_v4().simple()),
            person,
            factor: factor.clone(),
            began: Instant::now(),
            timeout,
            challenge,
            decided: Mutex::default(),
        }
    }

    fn decided(&self) -> std::sync::MutexGuard<'_, Option<Outcome>> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a poll says now. A number that nobody was shown is never chosen rightly: such a push runs out.
    pub(super) fn outcome(&self) -> Outcome {
        if let Some(decided) = *self.decided() {
            return decided;
        }
        let elapsed = self.began.elapsed();
        let end = match self.factor.answer {
            _ if self.challenge.is_some() => None,
            Behaviour::Approve => Some(Outcome::Success),
            Behaviour::Deny => Some(Outcome::Rejected),
            Behaviour::Ignore | Behaviour::Manual => None,
        };
        let delay = Duration::from_millis(self.factor.delay_ms);
        match end {
            Some(end) if elapsed >= delay && delay < self.timeout => end,
            _ if elapsed >= self.timeout => Outcome::Timeout,
            _ => Outcome::Waiting,
        }
    }

    /// Decides a push that waits; false when it does not.
    pub(super) fn decide(&self, outcome: Outcome) -> bool {
        let waits = self.outcome() == Outcome::Waiting;
        if waits {
            *self.decided() = Some(outcome);
        }
        waits
    }
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Pushes(Mutex<BTreeMap<String, Arc<Push>>>);

impl Pushes {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Push>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, push: Arc<Push>) {
        let mut all = self.all();
        if all.len() >= PUSHES {
            all.retain(|_, push| push.outcome() == Outcome::Waiting);
        }
        if all.len() < PUSHES {
            all.insert(push.id.clone(), push);
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Push>> {
        self.all().get(id).cloned()
    }

    pub(super) fn waiting(&self) -> Vec<Arc<Push>> {
        let mut waiting: Vec<_> = self
            .all()
            .values()
            .filter(|push| push.outcome() == Outcome::Waiting)
            .cloned()
            .collect();
        waiting.sort_by_key(|push| push.began);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::okta::settings::User;

    fn push(answer: Behaviour, number_challenge: bool) -> Push {
        let factor = Factor {
            answer,
            delay_ms: 2_000,
            number_challenge,
            ..Factor::default()
        };
        Push::new(
            Arc::new(Person::new(User::default())),
            &factor,
            Duration::from_secs(60),
            number_challenge,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_waits_until_its_owner_answers() {
        let push = push(Behaviour::Deny, false);
        assert_eq!(push.outcome(), Outcome::Waiting);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(push.outcome(), Outcome::Rejected);
        assert!(!push.decide(Outcome::Success));
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_nobody_saw_runs_out() {
        let push = push(Behaviour::Approve, true);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(push.outcome(), Outcome::Waiting);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(push.outcome(), Outcome::Timeout);
    }
}
