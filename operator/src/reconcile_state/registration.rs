//! What this process remembers of a DirectoryRegistration between two reconciliations.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::DirectoryRegistration;
use operator_core::observed::WriteOutcome;
use operator_core::outcomes::LastingFailure;
use operator_core::registration::TagFailure;

use super::{newer, trimmed};
use crate::object_keys::RegistrationKey;

/// The time between two requests for the tags of a directory while a plan needs them.
const TAGS_AGAIN: Duration = Duration::from_secs(5);

/// What this process remembers of one DirectoryRegistration. All of it can be lost: what must last is in the status.
#[derive(Debug, Default)]
pub(crate) struct RegistrationState {
    /// The registration as this process last read it live or wrote it: an older one from the watch is not used.
    pub(crate) newest: Option<DirectoryRegistration>,
    /// How the last write to AWS ended.
    pub(crate) outcome: Option<WriteOutcome>,
    /// How the last tag write failed.
    pub(crate) tag_failure: Option<TagFailure>,
    /// Since when no grant allows the holder the directory.
    pub(crate) grant_missing_since: Option<Timestamp>,
    /// How its reconciliations fail.
    failure: Option<LastingFailure>,
    /// How old the directory's description may be.
    pub(crate) describe_after: Option<Duration>,
    /// When the tags were asked for that a plan needs.
    tags_asked: Option<Instant>,
}

impl RegistrationState {
    /// Whether the tags have to be asked for. An answer may be older than what they are to explain, so they are asked for
    /// again while a plan needs them, but not at each reconciliation.
    pub(crate) fn asks_for_tags(&mut self, needed: bool, now: Instant) -> bool {
        if !needed {
            self.tags_asked = None;
            return false;
        }
        let due = self
            .tags_asked
            .is_none_or(|asked| now.duration_since(asked) >= TAGS_AGAIN);
        if due {
            self.tags_asked = Some(now);
        }
        due
    }
}

/// The reconcile states of all DirectoryRegistrations, by name.
#[derive(Debug, Default)]
pub(crate) struct RegistrationStates(Mutex<HashMap<RegistrationKey, RegistrationState>>);

impl RegistrationStates {
    /// Forgets a registration that is gone.
    pub(crate) fn forget(&self, key: &RegistrationKey) {
        self.lock().remove(key);
    }

    /// How reconciliations of the registration fail.
    pub(crate) fn failure(&self, key: &RegistrationKey) -> Option<LastingFailure> {
        self.lock().get(key)?.failure.clone()
    }

    /// Remembers that a reconciliation failed. Returns whether it is the first one.
    pub(crate) fn failed(&self, key: &RegistrationKey, message: String) -> bool {
        self.with(key, |state| {
            let before = state.failure.take();
            state.failure = Some(LastingFailure {
                since: before.as_ref().map_or_else(Timestamp::now, |before| before.since),
                message,
            });
            before.is_none()
        })
    }

    /// Remembers that a reconciliation did all that it had to. Returns whether the one before failed.
    pub(crate) fn succeeded(&self, key: &RegistrationKey) -> bool {
        let mut all = self.lock();
        all.get_mut(key)
            .is_some_and(|state| state.failure.take().is_some())
    }

    pub(crate) fn with<T>(
        &self,
        key: &RegistrationKey,
        change: impl FnOnce(&mut RegistrationState) -> T,
    ) -> T {
        change(self.lock().entry(key.clone()).or_default())
    }

    /// Stores what was read or written, unless the stored one is newer.
    pub(crate) fn know(&self, key: &RegistrationKey, registration: DirectoryRegistration) {
        self.with(key, |state| {
            let registration = trimmed(registration);
            let newer = newer(Some(registration.clone()), state.newest.take());
            state.newest = Some(newer.unwrap_or(registration));
        });
    }

    /// The stored registration may be old: read it live next time.
    pub(crate) fn doubt(&self, key: &RegistrationKey) {
        self.with(key, |state| state.newest = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RegistrationKey, RegistrationState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_a_plan_goes_on_needing_are_asked_for_again_and_not_at_each_reconciliation() {
        let mut state = RegistrationState::default();
        let start = Instant::now();
        let mut asks = |needed, millis| state.asks_for_tags(needed, start + Duration::from_millis(millis));
        assert!(asks(true, 0));
        assert!(!asks(true, 100) && !asks(true, 4900));
        assert!(asks(true, 5000) && !asks(true, 5100));
        assert!(!asks(false, 5200) && asks(true, 5300));
    }
}
