//! How many RadiusProxy resources bring their pods to another image or template at once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::key::ProxyKey;

/// Places for rollouts, for one term of leadership. Those that the watch shows take one each, and those that this process began before the watch shows
/// them.
#[derive(Debug)]
pub(crate) struct Rollouts {
    limit: usize,
    begun: Mutex<BTreeSet<ProxyKey>>,
}

impl Rollouts {
    /// Room for this many rollouts.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            begun: Mutex::new(BTreeSet::new()),
        }
    }

    /// Whether a rollout may begin beside those that are `under_way`. Its place is taken until [`Rollouts::planned`] says
    /// whether it is needed.
    pub(crate) fn may_begin(&self, key: &ProxyKey, under_way: &BTreeSet<ProxyKey>) -> bool {
        let mut begun = self.lock();
        let others = begun.union(under_way).filter(|other| *other != key).count();
        let may_begin = others < self.limit;
        if may_begin {
            begun.insert(key.clone());
        }
        may_begin
    }

    /// Keeps the place of a rollout that is under way by its plan, and gives back that of any other.
    pub(crate) fn planned(&self, key: &ProxyKey, upgrading: bool) {
        if !upgrading {
            self.lock().remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ProxyKey>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ProxyKey {
        ProxyKey::new("mfa", name)
    }

    #[test]
    fn no_more_rollouts_begin_than_there_are_places() {
        let rollouts = Rollouts::new(2);
        let shown = BTreeSet::from([key("a")]);
        assert!(rollouts.may_begin(&key("b"), &shown), "one place is left");
        assert!(!rollouts.may_begin(&key("c"), &shown));
        rollouts.planned(&key("b"), true);
        // The watch shows it now, too: it takes one place and not two.
        let shown = BTreeSet::from([key("a"), key("b")]);
        assert!(!rollouts.may_begin(&key("c"), &shown));
        assert!(rollouts.may_begin(&key("a"), &shown), "it has its place");
        rollouts.planned(&key("b"), false);
        assert!(rollouts.may_begin(&key("c"), &BTreeSet::from([key("a")])));
    }

    #[test]
    fn a_plan_that_begins_nothing_gives_its_place_back() {
        let rollouts = Rollouts::new(1);
        let nothing = BTreeSet::new();
        assert!(rollouts.may_begin(&key("a"), &nothing));
        rollouts.planned(&key("a"), false);
        assert!(rollouts.may_begin(&key("b"), &nothing));
        rollouts.planned(&key("b"), true);
        assert!(!rollouts.may_begin(&key("a"), &nothing));
    }
}
