//! The background: a group of directories that share region and role, and the task that describes them.

mod batch;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use operator_core::access::DirectoryAccess;
use operator_core::aws::AwsFailure;
use operator_core::observed::{Directory, DirectoryObservation};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::describe::{CachedDetails, Due};
use super::session::{Account, Sessions};
use super::{Deps, Observed};
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use batch::{Detailed, describe_batch};
use state::DirectoryState;

/// Directories that become due at nearly the same time are described together.
const BATCH_DEBOUNCE: Duration = Duration::from_millis(30);
/// Maximum number of directories in a batch whose last description failed: each needs a call of its own.
const MAX_FAILED: usize = 8;
/// The longest wait while no directory is due.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Region and role's ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    region: String,
    role: Option<String>,
}

impl GroupKey {
    pub(super) fn of(access: &DirectoryAccess) -> Self {
        Self {
            region: access.region.clone(),
            role: access.role.as_ref().map(|role| role.arn.clone()),
        }
    }
}

/// A directory, and the external id by which it is described: a RadiusProxy whose own AssumeRole is refused doesn't get the
/// answer that another one got.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DirectoryKey {
    id: String,
    external_id: Option<String>,
}

impl DirectoryKey {
    pub(super) fn of(access: &DirectoryAccess) -> Self {
        Self {
            id: access.directory_id.clone(),
            external_id: access.role.as_ref().map(|role| role.external_id.clone()),
        }
    }
}

/// Directories of one region and role.
#[derive(Debug)]
pub(super) struct Group {
    directories: Mutex<BTreeMap<DirectoryKey, DirectoryState>>,
    wake: Notify,
    closed: CancellationToken,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            directories: Mutex::default(),
            wake: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DirectoryKey, DirectoryState>> {
        super::lock(&self.directories)
    }

    /// Has `registration`, which `holder` holds, enqueued when the directory changes.
    pub(super) fn subscribe(
        &self,
        key: &DirectoryKey,
        (registration, holder): (&RegistrationKey, &RadiusProxyKey),
        access: &DirectoryAccess,
        allowed: Duration,
    ) {
        let mut all = self.lock();
        let state = all
            .entry(key.clone())
            .or_insert_with(|| DirectoryState::new(Account::of(access), allowed));
        state
            .subscribers
            .insert(registration.clone(), (holder.clone(), allowed));
        state.update_allowed();
        drop(all);
        self.wake.notify_one();
    }

    /// Ends a subscription. Returns whether it was the last one of the group.
    pub(super) fn unsubscribe(&self, key: &DirectoryKey, registration: &RegistrationKey) -> bool {
        let mut all = self.lock();
        if let Some(state) = all.get_mut(key) {
            state.subscribers.remove(registration);
            state.update_allowed();
            if state.subscribers.is_empty() {
                all.remove(key);
            }
        }
        all.is_empty()
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn observe(&self, key: &DirectoryKey, now: Instant) -> Observed {
        let nothing = Observed {
            observation: DirectoryObservation::Unasked,
            awaited: None,
        };
        self.lock()
            .get_mut(key)
            .map_or(nothing, |state| state.observe(now))
    }

    pub(super) fn refresh(&self, key: &DirectoryKey, now: Instant) {
        if let Some(state) = self.lock().get_mut(key) {
            state.schedule.refresh(now);
        }
        self.wake.notify_one();
    }

    pub(super) fn forget_tags(&self, key: &DirectoryKey) {
        if let Some(state) = self.lock().get_mut(key) {
            state.details.forget_tags();
        }
    }

    /// How many directories are described.
    fn size(&self) -> usize {
        self.lock().len()
    }

    fn details(&self, key: &DirectoryKey) -> Option<CachedDetails> {
        self.lock().get(key).map(|state| state.details.clone())
    }

    /// Whether a directory is due, other than those of `detailed` that are not published yet.
    fn has_others_due(&self, now: Instant, detailed: &[Detailed<'_>]) -> bool {
        let own: BTreeSet<&DirectoryKey> = detailed
            .iter()
            .filter(|each| each.due == Due::First)
            .map(|each| &each.request.directory)
            .collect();
        self.lock()
            .iter()
            .any(|(key, state)| state.schedule.due(now) <= now && !own.contains(key))
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        self.lock().values().map(|state| state.schedule.due(now)).min()
    }

    /// The directories to describe now, once at least one is due: all healthy ones, in few calls, and a few of those that
    /// failed, which cost a call each and must not delay the others.
    fn batch(&self, now: Instant) -> Vec<Request> {
        let all = self.lock();
        if !all.values().any(|state| state.schedule.due(now) <= now) {
            return Vec::new();
        }
        let (mut failed, mut batch): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|(_, state)| state.schedule.nearly_due(now))
            .partition(|(_, state)| state.failure.is_some());
        failed.sort_by_key(|(_, state)| state.schedule.due(now));
        failed.truncate(MAX_FAILED);
        batch.extend(failed);
        batch
            .into_iter()
            .map(|(key, state)| Request {
                directory: key.clone(),
                account: state.account.clone(),
                details: state.details.clone(),
                failed: state.failure.is_some(),
            })
            .collect()
    }

    /// Stores the answer to a call that was sent at the first and ended at the second of two times, counts a failure, and
    /// enqueues the subscribers if it is news.
    fn publish(
        &self,
        deps: &Deps,
        key: &DirectoryKey,
        times: (Instant, Instant),
        details: Option<CachedDetails>,
        answer: Result<Directory, AwsFailure>,
    ) {
        let mut all = self.lock();
        let Some(state) = all.get_mut(key) else {
            return;
        };
        if let Some(details) = details {
            state.details = details;
        }
        if let Err(failed) = &answer {
            for (proxy, _) in state.subscribers.values() {
                deps.metrics.proxy.failed(proxy, failed.class.as_str());
            }
        }
        if state.store(key, times, answer) {
            for registration in state.subscribers.keys() {
                deps.queue.enqueue(registration.clone());
            }
        }
    }
}

/// A directory to describe in a batch.
struct Request {
    directory: DirectoryKey,
    account: Account,
    details: CachedDetails,
    failed: bool,
}

/// Describes directories until the group has no subscription any more, or the term is over.
pub(super) async fn run(group: Arc<Group>, sessions: Arc<Sessions>, deps: Deps) {
    loop {
        let now = Instant::now();
        let wait = match group.next_due(now) {
            Some(due) => due.saturating_duration_since(now),
            None => MAX_WAIT,
        };
        tokio::select! {
            () = group.closed.cancelled() => return,
            () = deps.stop.cancelled() => return,
            () = group.wake.notified() => tokio::time::sleep(BATCH_DEBOUNCE).await,
            () = tokio::time::sleep(wait) => {}
        }
        let batch = group.batch(Instant::now());
        if !batch.is_empty() {
            tokio::select! {
                () = group.closed.cancelled() => return,
                () = deps.stop.cancelled() => return,
                () = describe_batch(&group, &sessions, &deps, batch) => {}
            }
        }
    }
}
