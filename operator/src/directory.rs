//! AWS Directory Service: what it says of directories, kept fresh in the background, and the writes.
//!
//! Resources that share a region and a role share their questions: one DescribeDirectories answers all that are due.

mod calls;
mod convert;
mod failure;
mod pace;
mod poll;
mod round;
mod schedule;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use operator_core::access::DirectoryAccess;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::input::DirectoryObservation;
use operator_core::plan::DirectoryCall;
use tokio_util::sync::CancellationToken;

use crate::key::ProxyKey;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::queue::WorkQueue;
use calls::Calls;
use poll::{Group, GroupKey, WatchKey};
use session::{Account, Sessions};

/// How long an answer is waited for before the work goes on without one.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the background needs.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) queue: WorkQueue,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// How often domain controllers are asked for; tags come more seldom.
    pub(crate) detail_interval: Duration,
}

/// AWS Directory Service in every region and role that is granted.
#[derive(Debug)]
pub(crate) struct Directories {
    sessions: Arc<Sessions>,
    around: Surroundings,
    groups: Mutex<HashMap<GroupKey, Arc<Group>>>,
    /// Which directory each RadiusProxy is about.
    places: Mutex<HashMap<ProxyKey, (GroupKey, WatchKey)>>,
}

impl Directories {
    /// Nothing is asked yet.
    pub(crate) fn new(calls_per_second: u32, around: Surroundings) -> Self {
        Self::with(Sessions::new(calls_per_second), around)
    }

    fn with(sessions: Sessions, around: Surroundings) -> Self {
        Self {
            sessions: Arc::new(sessions),
            around,
            groups: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// What is known of a directory, no older than `allowed`, or as it is after a while of waiting. From now on the
    /// RadiusProxy is touched when it changes.
    pub(crate) async fn observe(
        &self,
        key: &ProxyKey,
        access: &DirectoryAccess,
        allowed: Duration,
    ) -> DirectoryObservation {
        let (group, watch) = self.join(key, access);
        group.interest(&watch, key, access, allowed);
        let started = Instant::now();
        loop {
            let changed = group.changed();
            tokio::pin!(changed);
            // Armed before the look, so that a round that ends in between is not missed.
            changed.as_mut().enable();
            if let Some(found) = group.usable(&watch, Instant::now()) {
                return found;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            if left.is_zero() || tokio::time::timeout(left, changed).await.is_err() {
                return group
                    .anyway(&watch)
                    .unwrap_or_else(|| DirectoryObservation::Failed {
                        failure: failure::own(
                            AwsOperation::DescribeDirectories,
                            AwsErrorClass::Unreachable,
                            format!("no answer within {} s", PATIENCE.as_secs()),
                        ),
                        last: group.last(&watch),
                    });
            }
        }
    }

    /// What was known is overtaken: by a write of ours, or because one is about to be decided.
    pub(crate) fn refresh(&self, key: &ProxyKey) {
        if let Some((group, watch)) = self.place(key) {
            group.refresh(&watch, Instant::now());
        }
    }

    /// The RadiusProxy has no directory, may not use it, or is gone.
    pub(crate) fn forget(&self, key: &ProxyKey) {
        let place = lock(&self.places).remove(key);
        if let Some((group, watch)) = place {
            self.leave(key, &group, &watch);
        }
    }

    /// Writes once. A write whose deadline would outlast the leader's lease is not begun.
    pub(crate) async fn write(
        &self,
        access: &DirectoryAccess,
        call: &DirectoryCall,
        deadline: Duration,
    ) -> Result<Option<String>, AwsFailure> {
        let session = self.sessions.of(&Account::of(access)).await;
        let calls = Calls {
            session: &session,
            metrics: &self.around.metrics,
        };
        calls.write(&access.directory_id, call, deadline).await
    }

    /// Adds tags to a directory.
    pub(crate) async fn add_tags(
        &self,
        key: &ProxyKey,
        access: &DirectoryAccess,
        tags: &[(String, String)],
    ) -> Result<(), AwsFailure> {
        let session = self.sessions.of(&Account::of(access)).await;
        let calls = Calls {
            session: &session,
            metrics: &self.around.metrics,
        };
        let result = calls.add_tags(&access.directory_id, tags).await;
        if let Some((group, watch)) = self.place(key) {
            group.forget_tags(&watch);
        }
        result
    }

    fn place(&self, key: &ProxyKey) -> Option<(Arc<Group>, WatchKey)> {
        let (group, watch) = lock(&self.places).get(key).cloned()?;
        let group = lock(&self.groups).get(&group).map(Arc::clone)?;
        Some((group, watch))
    }

    fn join(&self, key: &ProxyKey, access: &DirectoryAccess) -> (Arc<Group>, WatchKey) {
        let (group_key, watch) = (GroupKey::of(access), WatchKey::of(access));
        let before = lock(&self.places).insert(key.clone(), (group_key.clone(), watch.clone()));
        if let Some((old_group, old_watch)) = before
            && (&old_group, &old_watch) != (&group_key, &watch)
        {
            self.leave(key, &old_group, &old_watch);
        }
        let mut groups = lock(&self.groups);
        let group = groups.entry(group_key).or_insert_with(|| {
            let group = Arc::new(Group::new());
            let poller = poll::run(
                Arc::clone(&group),
                Arc::clone(&self.sessions),
                self.around.clone(),
            );
            tokio::spawn(poller);
            group
        });
        (Arc::clone(group), watch)
    }

    fn leave(&self, key: &ProxyKey, group_key: &GroupKey, watch: &WatchKey) {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(group_key)
            && group.leave(watch, key)
        {
            // Nobody is left: the poller ends.
            group.close();
            groups.remove(group_key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
