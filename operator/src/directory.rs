//! AWS Directory Service: descriptions of directories, kept fresh in the background, and the writes.
//!
//! RadiusProxy resources that share a region and a role share their calls: one DescribeDirectories answers for all
//! directories that are due.

mod calls;
mod convert;
mod describe;
mod failure;
mod lru_cache;
mod poll;
mod rate_limiter;
mod schedule;
mod session;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use operator_core::access::DirectoryAccess;
use operator_core::aws::{AwsFailure, AwsOperation};
use operator_core::observed::DirectoryObservation;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::queue::RegistrationQueue;
use calls::Calls;
use poll::{DirectoryKey, Group, GroupKey};
use session::{Account, Sessions};
pub(crate) use write::{WritePermit, WriteTurn};

/// What the background tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    pub(crate) queue: RegistrationQueue,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// How often domain controllers are read. Tags are read less often.
    pub(crate) detail_interval: Duration,
}

/// AWS Directory Service in every region and role that is granted.
#[derive(Debug)]
pub(crate) struct Directories {
    sessions: Arc<Sessions>,
    deps: Deps,
    state: Mutex<State>,
}

/// One lock for both maps: a group is closed only when no subscription can be on its way to it.
#[derive(Debug, Default)]
struct State {
    groups: HashMap<GroupKey, Arc<Group>>,
    subscriptions: HashMap<RegistrationKey, Subscription>,
}

/// What a RadiusProxy is subscribed to.
#[derive(Debug)]
struct Subscription {
    group: GroupKey,
    directory: DirectoryKey,
    /// When its write may be sent, once it has had to wait for its turn.
    turn: Option<Instant>,
}

/// What is known of a directory.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) observation: DirectoryObservation,
    /// Set while a newer answer is on its way: how much longer it is worth waiting for. The RadiusProxy is enqueued when
    /// the answer arrives.
    pub(crate) awaited: Option<Duration>,
}

impl Directories {
    /// Without any subscription.
    pub(crate) fn new(calls_per_second: u32, deps: Deps) -> Self {
        Self::with(Sessions::new(calls_per_second), deps)
    }

    fn with(sessions: Sessions, deps: Deps) -> Self {
        Self {
            sessions: Arc::new(sessions),
            deps,
            state: Mutex::default(),
        }
    }

    /// What is known of a directory, without waiting: no worker is held up by a region that is silent. Subscribes the
    /// RadiusProxy, so that it is enqueued when the directory changes. `allowed` is the age from which the directory is
    /// described again.
    pub(crate) fn observe(
        &self,
        key: &RegistrationKey,
        holder: &RadiusProxyKey,
        access: &DirectoryAccess,
        allowed: Duration,
    ) -> Observed {
        let (group_key, directory) = (GroupKey::of(access), DirectoryKey::of(access));
        let mut state = lock(&self.state);
        let is_other = |before: &Subscription| (&before.group, &before.directory) != (&group_key, &directory);
        if state.subscriptions.get(key).is_some_and(is_other) {
            state.unsubscribe(key);
        }
        let group = Arc::clone(
            state
                .groups
                .entry(group_key.clone())
                .or_insert_with(|| self.spawn_group()),
        );
        state.subscriptions.entry(key.clone()).or_insert(Subscription {
            group: group_key,
            directory: directory.clone(),
            turn: None,
        });
        group.subscribe(&directory, (key, holder), access, allowed);
        group.observe(&directory, Instant::now())
    }

    /// What was known is outdated: by a write of ours, or because a write is about to be decided.
    pub(crate) fn refresh(&self, key: &RegistrationKey) {
        if let Some((group, directory)) = lock(&self.state).subscription(key) {
            group.refresh(&directory, Instant::now());
        }
    }

    /// The RadiusProxy has no directory, may not use it, or is gone.
    pub(crate) fn forget(&self, key: &RegistrationKey) {
        lock(&self.state).unsubscribe(key);
    }

    /// Takes what a write needs before it is noted as pending: credentials, and its turn within the rate limit. A turn that
    /// had to be waited for is kept until the RadiusProxy asks again.
    ///
    /// # Errors
    /// There are no credentials. The write isn't sent.
    pub(crate) async fn prepare_write(
        &self,
        key: &RegistrationKey,
        access: &DirectoryAccess,
        operation: AwsOperation,
    ) -> Result<WriteTurn, AwsFailure> {
        let started = Instant::now();
        let session = self.sessions.of(&Account::of(access)).await;
        session.ready(operation).await?;
        let now = Instant::now();
        let mut state = lock(&self.state);
        let mut subscribed = state.subscriptions.get_mut(key);
        let kept = subscribed.as_mut().and_then(|subscribed| subscribed.turn.take());
        let turn = kept.unwrap_or_else(|| session.limits.writes.reserve(now));
        let wait = turn.saturating_duration_since(now);
        if wait.is_zero() && now.duration_since(started) <= write::MAX_PREPARATION {
            let metrics = self.deps.metrics.clone();
            let id = access.directory_id.clone();
            let permit = WritePermit::new(session, metrics, id);
            return Ok(WriteTurn::Now(Box::new(permit)));
        }
        if let Some(subscribed) = subscribed {
            subscribed.turn = Some(turn);
        }
        Ok(WriteTurn::Later(wait))
    }

    /// Adds tags to a directory. `limit` bounds the wait for the rate limit, and then the call.
    pub(crate) async fn add_tags(
        &self,
        key: &RegistrationKey,
        access: &DirectoryAccess,
        tags: &[(String, String)],
        limit: Duration,
    ) -> Result<(), AwsFailure> {
        let session = self.sessions.of(&Account::of(access)).await;
        let calls = Calls {
            session: &session,
            metrics: &self.deps.metrics,
        };
        let result = calls.add_tags(&access.directory_id, tags, limit).await;
        if let Some((group, directory)) = lock(&self.state).subscription(key) {
            group.forget_tags(&directory);
        }
        result
    }

    /// The tags have to be read again before a decision.
    pub(crate) fn read_tags(&self, key: &RegistrationKey) {
        if let Some((group, directory)) = lock(&self.state).subscription(key) {
            group.forget_tags(&directory);
            group.refresh(&directory, Instant::now());
        }
    }

    fn spawn_group(&self) -> Arc<Group> {
        let group = Arc::new(Group::new());
        let poller = poll::run(Arc::clone(&group), Arc::clone(&self.sessions), self.deps.clone());
        tokio::spawn(poller);
        group
    }
}

impl State {
    fn subscription(&self, key: &RegistrationKey) -> Option<(Arc<Group>, DirectoryKey)> {
        let subscribed = self.subscriptions.get(key)?;
        let group = Arc::clone(self.groups.get(&subscribed.group)?);
        Some((group, subscribed.directory.clone()))
    }

    /// Ends a subscription. The poller of a group without any ends, too.
    fn unsubscribe(&mut self, key: &RegistrationKey) {
        if let Some(Subscription { group, directory, .. }) = self.subscriptions.remove(key)
            && let Some(members) = self.groups.get(&group)
            && members.unsubscribe(&directory, key)
        {
            members.close();
            self.groups.remove(&group);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
