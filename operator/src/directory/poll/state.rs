//! One directory: who is subscribed to it, and what is known of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::observed::{Directory, DirectoryObservation};

use super::super::describe::CachedDetails;
use super::super::schedule::Schedule;
use super::super::session::Account;
use super::super::{Observed, failure};
use super::DirectoryKey;
use crate::object_keys::{RadiusProxyKey, RegistrationKey};

/// How long an answer is worth waiting for. After that, the directory counts as unreachable until it comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct DirectoryState {
    pub(super) account: Account,
    /// The subscribed RadiusProxy resources, and how old an answer may be for each.
    pub(super) subscribers: BTreeMap<RegistrationKey, (RadiusProxyKey, Duration)>,
    pub(super) schedule: Schedule,
    pub(super) details: CachedDetails,
    last: Option<Box<Directory>>,
    pub(super) failure: Option<AwsFailure>,
    /// Since when a subscriber has been waiting for an answer that can be used.
    awaited_since: Option<Instant>,
}

impl DirectoryState {
    pub(super) fn new(account: Account, allowed: Duration) -> Self {
        Self {
            account,
            subscribers: BTreeMap::new(),
            schedule: Schedule::new(allowed),
            details: CachedDetails::default(),
            last: None,
            failure: None,
            awaited_since: None,
        }
    }

    /// The subscriber with the shortest limit decides.
    pub(super) fn update_allowed(&mut self) {
        if let Some(least) = self.subscribers.values().map(|(_, allowed)| allowed).min() {
            self.schedule.allow(*least);
        }
    }

    pub(super) fn observe(&mut self, now: Instant) -> Observed {
        if self.schedule.is_usable(now) {
            self.awaited_since = None;
            return self.known(None);
        }
        let since = *self.awaited_since.get_or_insert(now);
        let left = (since + ANSWER_TIMEOUT).saturating_duration_since(now);
        if !left.is_zero() {
            return self.known(Some(left));
        }
        let unreachable = || {
            failure::own(
                AwsOperation::DescribeDirectories,
                AwsErrorClass::Unreachable,
                format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            )
        };
        Observed {
            observation: DirectoryObservation::Failed {
                failure: self.failure.clone().unwrap_or_else(unreachable),
                last: self.last.clone(),
            },
            awaited: None,
        }
    }

    fn known(&self, awaited: Option<Duration>) -> Observed {
        let observation = match (&self.failure, &self.last) {
            (Some(failure), last) => DirectoryObservation::Failed {
                failure: failure.clone(),
                last: last.clone(),
            },
            (None, Some(directory)) => DirectoryObservation::Described(directory.clone()),
            (None, None) => DirectoryObservation::Unasked,
        };
        Observed { observation, awaited }
    }

    /// Stores an answer. Returns whether it is news to the subscribers.
    pub(super) fn store(
        &mut self,
        key: &DirectoryKey,
        (sent, ended): (Instant, Instant),
        answer: Result<Directory, AwsFailure>,
    ) -> bool {
        self.schedule.answered(sent, ended, answer.is_ok());
        let is_awaited = self.awaited_since.is_some() && self.schedule.is_usable(ended);
        if is_awaited {
            self.awaited_since = None;
        }
        let is_news = match answer {
            Ok(directory) => {
                let healed = self.failure.take().is_some();
                if healed {
                    tracing::info!(directory = key.id, "AWS describes the directory again");
                }
                let changed = self.last.as_deref().is_none_or(|last| !same(last, &directory));
                self.last = Some(Box::new(directory));
                healed || changed || self.schedule.is_hot()
            }
            Err(failure) => {
                let news = self.failure.as_ref().map(|before| before.class) != Some(failure.class);
                if news {
                    let directory = &key.id;
                    tracing::warn!(directory, region = self.account.region, %failure, "AWS does not describe the directory");
                }
                self.failure = Some(failure);
                news
            }
        };
        is_news || is_awaited
    }
}

/// Whether nothing but the times differ.
fn same(a: &Directory, b: &Directory) -> bool {
    *a == Directory {
        as_of: a.as_of,
        answered: a.answered,
        ..b.clone()
    }
}

#[cfg(test)]
mod tests {
    use operator_core::access::DirectoryAccess;

    use super::*;

    #[test]
    fn a_directory_without_an_answer_is_awaited_and_then_unreachable_until_the_answer_comes() {
        let access = DirectoryAccess {
            directory_id: "d-0000000001".to_owned(),
            region: "eu-central-1".to_owned(),
            role: None,
        };
        let hour = Duration::from_secs(3600);
        let mut state = DirectoryState::new(Account::of(&access), hour);
        let now = Instant::now();
        let left = |state: &mut DirectoryState, after| state.observe(now + after).awaited;
        assert_eq!(left(&mut state, Duration::ZERO), Some(ANSWER_TIMEOUT));
        let second = Duration::from_secs(1);
        assert_eq!(left(&mut state, second), Some(ANSWER_TIMEOUT - second));
        let late = state.observe(now + ANSWER_TIMEOUT);
        assert_eq!(late.awaited, None);
        let DirectoryObservation::Failed { failure, last: None } = late.observation else {
            panic!("{late:?}");
        };
        assert_eq!(failure.class, AwsErrorClass::Unreachable);
        // The next one doesn't wait again.
        assert_eq!(left(&mut state, ANSWER_TIMEOUT + second), None);
    }
}
