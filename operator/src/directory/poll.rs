//! The background: a group of directories that share region and role, and the task that asks about them.

mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use operator_core::access::DirectoryAccess;
use operator_core::aws::AwsFailure;
use operator_core::input::{Directory, DirectoryObservation};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use super::Surroundings;
use super::round::{Due, Known};
use super::schedule::Schedule;
use super::session::{Account, Sessions};
use crate::key::ProxyKey;
use ask::{Detailed, ask};

/// Those that ask at nearly the same time are answered together.
const GATHERING: Duration = Duration::from_millis(30);
/// Directories that failed before and are asked about in one round.
const MOST_FAILED: usize = 8;
/// How often a replica that does not lead looks whether it does.
const IDLE: Duration = Duration::from_secs(1);

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

/// A directory, and the external id that proves who asks: whoever's own AssumeRole is refused gets no answer of another's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WatchKey {
    directory: String,
    external_id: Option<String>,
}

impl WatchKey {
    pub(super) fn of(access: &DirectoryAccess) -> Self {
        Self {
            directory: access.directory_id.clone(),
            external_id: access.role.as_ref().map(|role| role.external_id.clone()),
        }
    }
}

/// Directories of one region and role.
#[derive(Debug)]
pub(super) struct Group {
    watched: Mutex<BTreeMap<WatchKey, Watched>>,
    wake: Notify,
    round_ended: Notify,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Watched {
    account: Account,
    /// Who wants to know, and how old an answer each takes.
    interested: BTreeMap<ProxyKey, Duration>,
    schedule: Schedule,
    known: Known,
    last: Option<Box<Directory>>,
    failure: Option<AwsFailure>,
}

impl Watched {
    /// The most impatient decides.
    fn allow_least(&mut self) {
        if let Some(least) = self.interested.values().min() {
            self.schedule.allow(*least);
        }
    }

    fn observation(&self) -> Option<DirectoryObservation> {
        match (&self.failure, &self.last) {
            (Some(failure), last) => Some(DirectoryObservation::Failed {
                failure: failure.clone(),
                last: last.clone(),
            }),
            (None, Some(directory)) => Some(DirectoryObservation::Described(directory.clone())),
            (None, None) => None,
        }
    }

    /// Takes an answer over; says whether it is news.
    fn take(
        &mut self,
        watch: &WatchKey,
        (sent, ended): (Instant, Instant),
        answer: Result<Directory, AwsFailure>,
    ) -> bool {
        self.schedule.answered(sent, ended, answer.is_ok());
        match answer {
            Ok(directory) => {
                let healed = self.failure.take().is_some();
                if healed {
                    tracing::info!(directory = watch.directory, "AWS describes the directory again");
                }
                let changed = self.last.as_deref().is_none_or(|last| !same(last, &directory));
                self.last = Some(Box::new(directory));
                healed || changed || self.schedule.is_hot()
            }
            Err(failure) => {
                let news = self.failure.as_ref().map(|before| before.class) != Some(failure.class);
                if news {
                    let directory = &watch.directory;
                    tracing::warn!(directory, region = self.account.region, %failure, "AWS does not describe the directory");
                }
                self.failure = Some(failure);
                news
            }
        }
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

impl Group {
    pub(super) fn new() -> Self {
        Self {
            watched: Mutex::default(),
            wake: Notify::new(),
            round_ended: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WatchKey, Watched>> {
        super::lock(&self.watched)
    }

    /// A RadiusProxy wants to know of a directory.
    pub(super) fn interest(
        &self,
        watch: &WatchKey,
        key: &ProxyKey,
        access: &DirectoryAccess,
        allowed: Duration,
    ) {
        let mut all = self.lock();
        let watched = all.entry(watch.clone()).or_insert_with(|| Watched {
            account: Account::of(access),
            interested: BTreeMap::new(),
            schedule: Schedule::new(allowed),
            known: Known::default(),
            last: None,
            failure: None,
        });
        watched.interested.insert(key.clone(), allowed);
        watched.allow_least();
        drop(all);
        self.wake.notify_one();
    }

    /// A RadiusProxy wants to know no more. Says whether nobody is left.
    pub(super) fn leave(&self, watch: &WatchKey, key: &ProxyKey) -> bool {
        let mut all = self.lock();
        if let Some(watched) = all.get_mut(watch) {
            watched.interested.remove(key);
            watched.allow_least();
            if watched.interested.is_empty() {
                all.remove(watch);
            }
        }
        all.is_empty()
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn changed(&self) -> Notified<'_> {
        self.round_ended.notified()
    }

    /// What is known, if it is fresh enough.
    pub(super) fn usable(&self, watch: &WatchKey, now: Instant) -> Option<DirectoryObservation> {
        let all = self.lock();
        all.get(watch)
            .filter(|watched| watched.schedule.usable(now))?
            .observation()
    }

    /// What is known, if it is a failure: it is the best that can be said.
    pub(super) fn anyway(&self, watch: &WatchKey) -> Option<DirectoryObservation> {
        let all = self.lock();
        all.get(watch)
            .filter(|watched| watched.failure.is_some())?
            .observation()
    }

    pub(super) fn last(&self, watch: &WatchKey) -> Option<Box<Directory>> {
        self.lock().get(watch)?.last.clone()
    }

    pub(super) fn refresh(&self, watch: &WatchKey, now: Instant) {
        if let Some(watched) = self.lock().get_mut(watch) {
            watched.schedule.refresh(now);
        }
        self.wake.notify_one();
    }

    pub(super) fn forget_tags(&self, watch: &WatchKey) {
        if let Some(watched) = self.lock().get_mut(watch) {
            watched.known.forget_tags();
        }
    }

    /// How many directories are asked about.
    fn size(&self) -> usize {
        self.lock().len()
    }

    fn known(&self, watch: &WatchKey) -> Option<Known> {
        self.lock().get(watch).map(|watched| watched.known.clone())
    }

    /// Whether a directory is due, beside those that nothing was told of yet.
    fn is_awaited(&self, now: Instant, detailed: &[Detailed<'_>]) -> bool {
        let own: BTreeSet<&WatchKey> = detailed
            .iter()
            .filter(|each| each.due == Due::First)
            .map(|each| &each.asked.watch)
            .collect();
        self.lock()
            .iter()
            .any(|(watch, watched)| watched.schedule.due(now) <= now && !own.contains(watch))
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        self.lock()
            .values()
            .map(|watched| watched.schedule.due(now))
            .min()
    }

    /// Those to ask about now, once at least one is due: all that are well, in few calls, and a few of those that failed,
    /// which cost a call each and must not keep the others waiting.
    fn batch(&self, now: Instant) -> Vec<Asked> {
        let all = self.lock();
        if !all.values().any(|watched| watched.schedule.due(now) <= now) {
            return Vec::new();
        }
        let (mut failed, mut batch): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|(_, watched)| watched.schedule.nearly_due(now))
            .partition(|(_, watched)| watched.failure.is_some());
        failed.sort_by_key(|(_, watched)| watched.schedule.due(now));
        failed.truncate(MOST_FAILED);
        batch.extend(failed);
        batch
            .into_iter()
            .map(|(watch, watched)| Asked {
                watch: watch.clone(),
                account: watched.account.clone(),
                known: watched.known.clone(),
                failed: watched.failure.is_some(),
            })
            .collect()
    }

    /// Takes over an answer to what was sent at the first and ended at the second of two times, counts a failure, and
    /// touches those for whom it is news.
    fn tell(
        &self,
        around: &Surroundings,
        watch: &WatchKey,
        times: (Instant, Instant),
        known: Option<Known>,
        answer: Result<Directory, AwsFailure>,
    ) {
        let mut all = self.lock();
        let Some(watched) = all.get_mut(watch) else {
            return;
        };
        if let Some(known) = known {
            watched.known = known;
        }
        if let Err(failed) = &answer {
            for key in watched.interested.keys() {
                around.metrics.proxy.failed(key, failed.class.as_str());
            }
        }
        if watched.take(watch, times, answer) {
            for key in watched.interested.keys() {
                around.queue.touch(key.clone());
            }
        }
    }
}

/// A directory that is asked about in a round.
struct Asked {
    watch: WatchKey,
    account: Account,
    known: Known,
    failed: bool,
}

/// Asks until nobody is interested any more. A replica that does not lead asks nothing.
pub(super) async fn run(group: Arc<Group>, sessions: Arc<Sessions>, around: Surroundings) {
    loop {
        let now = Instant::now();
        let wait = match group.next_due(now) {
            Some(due) if around.leadership.leads() => due.saturating_duration_since(now),
            _ => IDLE,
        };
        tokio::select! {
            () = group.closed.cancelled() => return,
            () = around.stop.cancelled() => return,
            () = group.wake.notified() => tokio::time::sleep(GATHERING).await,
            () = tokio::time::sleep(wait) => {}
        }
        if !around.leadership.leads() {
            continue;
        }
        let batch = group.batch(Instant::now());
        if !batch.is_empty() {
            tokio::select! {
                () = group.closed.cancelled() => return,
                () = around.stop.cancelled() => return,
                () = ask(&group, &sessions, &around, batch) => {}
            }
        }
        group.round_ended.notify_waiters();
    }
}
