//! How many RadiusProxy resources bring their pods to another image or template at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::object_keys::RadiusProxyKey;

/// A rollout that takes longer than this no longer counts: one that can't finish must not hold back all others.
const STUCK_AFTER: Duration = Duration::from_secs(15 * 60);

/// Places for rollouts, for one term of leadership, with the time at which each was taken.
#[derive(Debug)]
pub(crate) struct RolloutLimit {
    limit: usize,
    places: Mutex<BTreeMap<RadiusProxyKey, Instant>>,
}

impl RolloutLimit {
    /// Room for this many rollouts.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            places: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether a rollout may begin beside those that the watch shows as `under_way`. Its place is taken until
    /// [`RolloutLimit::planned`] says whether it is needed.
    pub(crate) fn may_begin(
        &self,
        key: &RadiusProxyKey,
        under_way: &BTreeSet<RadiusProxyKey>,
        now: Instant,
    ) -> bool {
        let mut places = self.lock();
        for other in under_way {
            places.entry(other.clone()).or_insert(now);
        }
        let others = places
            .iter()
            .filter(|(other, since)| *other != key && now.duration_since(**since) < STUCK_AFTER)
            .count();
        let may_begin = others < self.limit;
        if may_begin {
            places.entry(key.clone()).or_insert(now);
        }
        may_begin
    }

    /// Keeps the place of a rollout that is under way by its plan, and gives back that of any other.
    pub(crate) fn planned(&self, key: &RadiusProxyKey, upgrading: bool) {
        if !upgrading {
            self.lock().remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RadiusProxyKey, Instant>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> RadiusProxyKey {
        RadiusProxyKey::new("mfa", name)
    }

    #[test]
    fn no_more_rollouts_begin_than_there_are_places() {
        let now = Instant::now();
        let rollouts = RolloutLimit::new(2);
        let shown = BTreeSet::from([key("a")]);
        assert!(rollouts.may_begin(&key("b"), &shown, now), "one place is left");
        assert!(!rollouts.may_begin(&key("c"), &shown, now));
        rollouts.planned(&key("b"), true);
        // The watch shows it now, too: it takes one place and not two.
        let shown = BTreeSet::from([key("a"), key("b")]);
        assert!(!rollouts.may_begin(&key("c"), &shown, now));
        assert!(rollouts.may_begin(&key("a"), &shown, now), "it has its place");
        rollouts.planned(&key("b"), false);
        assert!(rollouts.may_begin(&key("c"), &BTreeSet::from([key("a")]), now));
    }

    #[test]
    fn a_plan_that_begins_nothing_gives_its_place_back() {
        let now = Instant::now();
        let rollouts = RolloutLimit::new(1);
        let nothing = BTreeSet::new();
        assert!(rollouts.may_begin(&key("a"), &nothing, now));
        rollouts.planned(&key("a"), false);
        assert!(rollouts.may_begin(&key("b"), &nothing, now));
        rollouts.planned(&key("b"), true);
        assert!(!rollouts.may_begin(&key("a"), &nothing, now));
    }

    #[test]
    fn a_rollout_that_cannot_finish_holds_back_the_others_for_a_while_only() {
        let now = Instant::now();
        let rollouts = RolloutLimit::new(1);
        let stuck = BTreeSet::from([key("stuck")]);
        assert!(!rollouts.may_begin(&key("a"), &stuck, now));
        let later = now + STUCK_AFTER;
        assert!(rollouts.may_begin(&key("a"), &stuck, later));
        assert!(!rollouts.may_begin(&key("b"), &stuck, later), "that one counts");
    }
}
