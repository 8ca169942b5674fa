//! Whether the operator's loops turn, and which kinds it has listed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What `/healthz` and `/readyz` look at. Clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    start: Instant,
    loops: Arc<Mutex<Vec<Loop>>>,
    lists: Arc<Mutex<Vec<Listed>>>,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    allowed: Duration,
    last: Arc<AtomicU64>,
}

/// A loop's sign of life.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.last.store(millis(self.start.elapsed()), Ordering::Relaxed);
    }
}

/// The namespace that a watch covers, or all.
pub(crate) type Scope = Option<String>;

/// What the list of a kind is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// For everything: nothing is known of any object without it.
    Always,
    /// For everything but deletions.
    ToWork,
    /// To notice what others change.
    ToNotice,
}

/// A watched kind in one scope.
#[derive(Debug)]
struct Listed {
    kind: &'static str,
    needed: Needed,
    scope: Scope,
    state: Arc<Mutex<ListState>>,
}

#[derive(Debug, Default)]
struct ListState {
    /// Whether there was a complete list.
    listed: bool,
    /// Why the watch is broken now.
    broken: Option<String>,
}

/// How a watch reports its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct List(Arc<Mutex<ListState>>);

impl List {
    /// The list is complete. Returns whether it's the first one.
    pub(crate) fn complete(&self) -> bool {
        let mut state = lock(&self.0);
        state.broken = None;
        !std::mem::replace(&mut state.listed, true)
    }

    /// The watch broke. Returns whether it worked before.
    pub(crate) fn broke(&self, error: &str) -> bool {
        lock(&self.0).broken.replace(error.to_owned()).is_none()
    }

    /// The API server answered. Returns whether the watch was broken.
    pub(crate) fn works(&self) -> bool {
        lock(&self.0).broken.take().is_some()
    }
}

/// What `/readyz` answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// What isn't watched, a line each.
    pub(crate) missing: Vec<String>,
}

/// Whether the kinds that concern a namespace were listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lists {
    /// All that work needs.
    Complete,
    /// Some can't be listed that work needs, and deletions don't.
    Broken,
    /// Some have not been listed yet.
    Pending,
}

impl Health {
    /// Nothing to look at yet.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            loops: Arc::default(),
            lists: Arc::default(),
        }
    }

    /// A loop that turns at least every `allowed`.
    pub(crate) fn expect_heartbeat(&self, name: &'static str, allowed: Duration) -> Heartbeat {
        let last = Arc::new(AtomicU64::new(millis(self.start.elapsed())));
        lock(&self.loops).push(Loop {
            name,
            allowed,
            last: Arc::clone(&last),
        });
        Heartbeat {
            start: self.start,
            last,
        }
    }

    /// Loops that do not turn, in words; empty when all is well. A restart mends these and nothing else, so an API
    /// server or an AWS that is away is none of them.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<String> {
        let at = millis(now.saturating_duration_since(self.start));
        lock(&self.loops)
            .iter()
            .filter_map(|each| {
                let silent = at.saturating_sub(each.last.load(Ordering::Relaxed));
                (silent > millis(each.allowed))
                    .then(|| format!("{} has not turned for {} s", each.name, silent / 1000))
            })
            .collect()
    }

    /// A watch with a list that is needed in its scope.
    pub(crate) fn expect_list(&self, kind: &'static str, scope: &Scope, needed: Needed) -> List {
        let state = Arc::default();
        lock(&self.lists).push(Listed {
            kind,
            needed,
            scope: scope.clone(),
            state: Arc::clone(&state),
        });
        List(state)
    }

    /// Whether everything was listed without which nothing is known of any object, and no other list of such use is awaited.
    pub(crate) fn knows_roots(&self) -> bool {
        lock(&self.lists).iter().all(|list| {
            let state = lock(&list.state);
            match list.needed {
                Needed::Always => state.listed,
                Needed::ToNotice => state.listed || state.broken.is_some(),
                Needed::ToWork => true,
            }
        })
    }

    /// Whether the objects of a namespace can be worked on.
    pub(crate) fn lists(&self, namespace: &str) -> Lists {
        let concerns = |list: &&Listed| list.scope.as_ref().is_none_or(|scope| scope == namespace);
        let lists = lock(&self.lists);
        let states = lists.iter().filter(concerns).map(|list| {
            let state = lock(&list.state);
            match (&state.broken, list.needed) {
                _ if state.listed => Lists::Complete,
                (Some(_), Needed::ToNotice) => Lists::Complete,
                (Some(_), Needed::ToWork) => Lists::Broken,
                (Some(_), Needed::Always) | (None, _) => Lists::Pending,
            }
        });
        states.max().unwrap_or(Lists::Complete)
    }

    /// Ready are the kinds of the whole cluster, and the namespaces that can be watched. A namespace that can't be watched
    /// is named, and counts only if there is no other.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut missing = Vec::new();
        let mut ready = true;
        let mut scopes: BTreeMap<String, bool> = BTreeMap::new();
        for list in lock(&self.lists).iter() {
            let state = lock(&list.state);
            let place = list.scope.as_ref().map(|scope| format!(" in {scope}"));
            let what = format!("{} objects{}", list.kind, place.unwrap_or_default());
            match &state.broken {
                Some(error) => missing.push(format!("{what} can't be watched: {error}")),
                None if !state.listed => missing.push(format!("{what} have not been listed yet")),
                None => {}
            }
            match &list.scope {
                None => ready &= state.listed,
                Some(scope) => {
                    ready &= state.listed || state.broken.is_some();
                    *scopes.entry(scope.clone()).or_insert(true) &= state.listed;
                }
            }
        }
        ready &= scopes.is_empty() || scopes.into_values().any(|listed| listed);
        Readiness { ready, missing }
    }

    /// How many kinds can't be watched, by namespace; the empty name is the whole cluster.
    pub(crate) fn broken(&self) -> BTreeMap<String, i64> {
        let mut broken = BTreeMap::new();
        for list in lock(&self.lists).iter() {
            let count = broken.entry(list.scope.clone().unwrap_or_default()).or_insert(0);
            *count += i64::from(lock(&list.state).broken.is_some());
        }
        broken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let start = Instant::now();
        let health = Health::new(start);
        let _beat = health.expect_heartbeat("the queue", Duration::from_secs(60));
        assert!(health.stuck(start + Duration::from_secs(60)).is_empty());
        let stuck = health.stuck(start + Duration::from_secs(3600));
        assert_eq!(stuck.len(), 1);
        assert!(
            stuck[0].starts_with("the queue has not turned for 3"),
            "{stuck:?}"
        );
    }

    #[test]
    fn the_operator_is_ready_when_every_kind_was_listed() {
        let health = Health::new(Instant::now());
        let (pods, grants) = (
            health.expect_list("Pod", &None, Needed::ToWork),
            health.expect_list("DirectoryGrant", &None, Needed::Always),
        );
        assert!(pods.complete());
        assert!(!pods.complete());
        assert_eq!(
            health.readiness(),
            Readiness {
                ready: false,
                missing: vec!["DirectoryGrant objects have not been listed yet".to_owned()]
            }
        );
        grants.broke("403");
        assert!(!health.readiness().ready, "the whole cluster has one scope");
        assert_eq!(health.lists("a"), Lists::Pending);
        grants.complete();
        assert_eq!(
            (health.readiness().ready, health.lists("a")),
            (true, Lists::Complete)
        );
    }

    #[test]
    fn a_namespace_that_cannot_be_watched_is_named_and_stops_no_other() {
        let health = Health::new(Instant::now());
        let scope = |name: &str| Some(name.to_owned());
        let (of_a, of_b) = (
            health.expect_list("Pod", &scope("a"), Needed::ToWork),
            health.expect_list("Pod", &scope("b"), Needed::ToWork),
        );
        of_a.complete();
        assert!(!health.readiness().ready, "b may still be listed");
        assert_eq!(
            (health.lists("a"), health.lists("b")),
            (Lists::Complete, Lists::Pending)
        );
        assert!(of_b.broke("forbidden"));
        assert!(!of_b.broke("forbidden"));
        assert_eq!(
            (health.lists("a"), health.lists("b")),
            (Lists::Complete, Lists::Broken)
        );
        assert_eq!(
            health.readiness(),
            Readiness {
                ready: true,
                missing: vec!["Pod objects in b can't be watched: forbidden".to_owned()]
            }
        );
        assert_eq!(health.broken(), [("a".to_owned(), 0), ("b".to_owned(), 1)].into());
        of_b.complete();
        assert_eq!(health.lists("b"), Lists::Complete);
        of_b.broke("the namespace is gone");
        assert_eq!(health.lists("b"), Lists::Complete, "what was listed stays");
        assert!(of_b.works());
    }

    #[test]
    fn the_roots_are_known_though_other_kinds_cannot_be_watched() {
        let health = Health::new(Instant::now());
        let (grants, pods, namespaces) = (
            health.expect_list("DirectoryGrant", &None, Needed::Always),
            health.expect_list("Pod", &Some("gone".to_owned()), Needed::ToWork),
            health.expect_list("Namespace", &None, Needed::ToNotice),
        );
        pods.broke("forbidden");
        grants.complete();
        assert!(!health.knows_roots(), "namespaces may still be listed");
        namespaces.broke("forbidden");
        assert!(health.knows_roots());
        assert_eq!(health.lists("a"), Lists::Complete);
    }

    #[test]
    fn an_operator_that_can_watch_no_namespace_is_not_ready() {
        let health = Health::new(Instant::now());
        for name in ["a", "b"] {
            health
                .expect_list("Pod", &Some(name.to_owned()), Needed::ToWork)
                .broke("forbidden");
        }
        assert!(!health.readiness().ready);
    }

    #[test]
    fn a_kind_that_is_only_watched_to_notice_changes_stops_no_work() {
        let health = Health::new(Instant::now());
        let (budgets, pods) = (
            health.expect_list("PodDisruptionBudget", &None, Needed::ToNotice),
            health.expect_list("Pod", &None, Needed::ToWork),
        );
        pods.complete();
        assert_eq!(health.lists("a"), Lists::Pending, "it may still be listed");
        budgets.broke("forbidden");
        assert_eq!(health.lists("a"), Lists::Complete);
        assert!(!health.readiness().ready);
    }
}
