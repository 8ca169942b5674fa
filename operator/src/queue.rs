//! The triggers of a controller: which objects it is asked to reconcile, and how their last attempts ended.

mod attempts;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt as _};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use operator_core::api::{DirectoryRegistration, RadiusProxy};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use attempts::Attempts;

/// Several events follow each other when a pod comes or goes: triggers within this time cause one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// A kind that has a controller.
pub(crate) trait Root:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Root for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// The queue of RadiusProxy resources.
pub(crate) type WorkQueue = Queue<RadiusProxy>;

/// The queue of DirectoryRegistrations.
pub(crate) type RegistrationQueue = Queue<DirectoryRegistration>;

/// What a controller has to reconcile. Clones are the same queue. It holds one entry for each object, and nothing while
/// nobody reads its requests.
#[derive(Debug)]
pub(crate) struct Queue<K: Root>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K: Root> {
    state: Mutex<State<K>>,
    added: Notify,
}

#[derive(Debug)]
struct State<K: Root> {
    /// Whether a controller reads the requests.
    open: bool,
    requested: HashSet<ObjectRef<K>>,
    attempts: Attempts<ObjectRef<K>>,
}

impl<K: Root> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Root> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                open: false,
                requested: HashSet::new(),
                attempts: Attempts::new(),
            }),
            added: Notify::new(),
        }))
    }

    /// Requests a reconciliation of this object.
    pub(crate) fn enqueue(&self, object: impl Into<ObjectRef<K>>) {
        let mut state = self.state();
        if !state.open {
            return;
        }
        let object = object.into();
        state.attempts.requested(object.clone(), Instant::now());
        state.requested.insert(object);
        drop(state);
        self.0.added.notify_one();
    }

    /// The requests from now on, each object once in [`DEBOUNCE`]. What was remembered before is forgotten; dropping the
    /// stream closes the queue.
    pub(crate) fn requests(&self) -> BoxStream<'static, ObjectRef<K>> {
        *self.state() = State {
            open: true,
            requested: HashSet::new(),
            attempts: Attempts::new(),
        };
        stream::unfold(Reader(self.clone()), |reader| async {
            reader.0.0.added.notified().await;
            tokio::time::sleep(DEBOUNCE).await;
            let requested = std::mem::take(&mut reader.0.state().requested);
            Some((stream::iter(requested), reader))
        })
        .flatten()
        .boxed()
    }

    /// The attempts to reconcile the objects, for a moment.
    pub(crate) fn attempts<T>(&self, of: impl FnOnce(&mut Attempts<ObjectRef<K>>) -> T) -> T {
        of(&mut self.state().attempts)
    }

    /// Takes what was requested, without the stream.
    #[cfg(test)]
    pub(crate) fn take_requested(&self) -> Vec<ObjectRef<K>> {
        let mut requested: Vec<_> = self.state().requested.drain().collect();
        requested.sort_by(|a, b| a.name.cmp(&b.name));
        requested
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when its stream is dropped.
struct Reader<K: Root>(Queue<K>);

impl<K: Root> Drop for Reader<K> {
    fn drop(&mut self) {
        *self.0.state() = State {
            open: false,
            requested: HashSet::new(),
            attempts: Attempts::new(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectRef<RadiusProxy> {
        ObjectRef::new(name).within("mfa")
    }

    #[tokio::test]
    async fn triggers_that_follow_each_other_are_one_request() {
        let queue = WorkQueue::new();
        let mut requests = queue.requests();
        for name in ["a", "a", "b", "a"] {
            queue.enqueue(object(name));
        }
        let mut both = [requests.next().await.unwrap(), requests.next().await.unwrap()];
        both.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(both, [object("a"), object("b")]);
        let none = tokio::time::timeout(3 * DEBOUNCE, requests.next()).await;
        assert!(none.is_err(), "{none:?}");
    }

    #[tokio::test]
    async fn triggers_without_an_end_delay_no_request() {
        let queue = WorkQueue::new();
        let mut requests = queue.requests();
        let endless = async {
            loop {
                queue.enqueue(object("a"));
                tokio::time::sleep(DEBOUNCE / 4).await;
            }
        };
        tokio::select! {
            request = requests.next() => assert_eq!(request, Some(object("a"))),
            () = endless => {}
        }
    }

    #[tokio::test]
    async fn a_queue_that_nobody_reads_collects_nothing() {
        let queue = WorkQueue::new();
        queue.enqueue(object("a"));
        let requests = queue.requests();
        queue.enqueue(object("b"));
        drop(requests);
        queue.enqueue(object("c"));
        assert!(queue.state().requested.is_empty());
        assert_eq!(queue.attempts(|attempts| attempts.len()), 0);
    }
}
