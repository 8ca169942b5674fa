//! The controller of one kind: kube-runtime's applier, with back-off for each object. It is built when this replica begins
//! to lead; dropping its future ends every reconciliation.

mod undecodable;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Error as ApplierError, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::error::{Error, message};
use crate::events::Events;
use crate::metrics::{Metrics, ResultLabel};
use crate::queue::{Queue, Root};
use crate::watch::{guarded, unguarded};

/// What a reconciliation asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The object is gone.
    Gone,
    /// Reconcile again after this, or when something changes.
    After(Duration),
}

/// The shortest and the longest time until the next reconciliation.
pub(crate) const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);

impl Next {
    /// Reconcile again after this, within bounds.
    pub(crate) fn after(delay: Duration) -> Self {
        Self::After(delay.clamp(SOONEST, LATEST))
    }
}

/// Reconciles objects of one kind.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Root: Root;

    /// Reconciles one object.
    fn reconcile(&self, object: &ObjectRef<Self::Root>) -> impl Future<Output = Result<Next, Error>> + Send;

    /// The object is gone, or can't be decoded: what is kept of it is dropped.
    fn forget(&self, object: &ObjectRef<Self::Root>);

    /// A reconciliation failed.
    fn failed(&self, object: &ObjectRef<Self::Root>, class: &'static str);
}

/// A reconciler with all that a controller needs.
pub(crate) struct Controller<R: Reconciler> {
    pub(crate) reconciler: R,
    pub(crate) store: Store<DeserializeGuard<R::Root>>,
    pub(crate) queue: Queue<R::Root>,
    pub(crate) concurrency: u16,
    pub(crate) client: kube::Client,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
}

/// A failed attempt.
#[derive(Debug, thiserror::Error)]
#[error("retrying in {} s", delay.as_secs_f32())]
struct Failed {
    delay: Duration,
}

impl<R: Reconciler> Controller<R> {
    /// Reconciles every object, then those that the queue names. After `stop` no reconciliation begins, and those under way
    /// end.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let controller = Arc::new(self);
        let requests = controller.queue.requests();
        for object in controller.store.state() {
            controller.queue.enqueue(unguarded(&object));
        }
        let requests = requests
            .map(|object| Ok::<_, Infallible>(guarded(object)))
            .take_until(stop.cancelled_owned());
        let ended = applier(
            |object, controller: Arc<Self>| controller.start(object),
            |_, failed: &Failed, _| Action::requeue(failed.delay),
            Arc::clone(&controller),
            controller.store.clone(),
            requests,
            Config::default().concurrency(controller.concurrency),
        );
        ended
            .for_each(|ended| {
                if let Err(ApplierError::ObjectNotFound(object)) = ended {
                    let mut gone = ObjectRef::new(&object.name);
                    gone.namespace.clone_from(&object.namespace);
                    controller.gone(&gone);
                    controller.count("gone");
                }
                std::future::ready(())
            })
            .await;
    }

    /// Starts an attempt in a task of its own, so that reconciliations use every processor and a panic ends one attempt only.
    fn start(
        self: Arc<Self>,
        object: Arc<DeserializeGuard<R::Root>>,
    ) -> BoxFuture<'static, Result<Action, Failed>> {
        // A set aborts its tasks when it's dropped.
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&self).attempt(Arc::clone(&object)));
        async move {
            let panicked = "the reconciliation panicked";
            match task.join_next().await {
                Some(Ok(result)) => result,
                _ => Err(self.retry(&unguarded(&object), "error", panicked)),
            }
        }
        .boxed()
    }

    async fn attempt(self: Arc<Self>, object: Arc<DeserializeGuard<R::Root>>) -> Result<Action, Failed> {
        let key = unguarded(&object);
        if let Err(wait) = self
            .queue
            .attempts(|attempts| attempts.begin(&key, Instant::now()))
        {
            return Ok(Action::requeue(wait));
        }
        let kind = <R::Root as kube::Resource>::kind(&());
        let span = tracing::info_span!("reconcile", %kind, namespace = key.namespace, name = key.name);
        self.reconcile(&key, &object).instrument(span).await
    }

    async fn reconcile(
        &self,
        key: &ObjectRef<R::Root>,
        object: &DeserializeGuard<R::Root>,
    ) -> Result<Action, Failed> {
        let started = Instant::now();
        let result = match &object.0 {
            Ok(_) => self.reconciler.reconcile(key).await,
            Err(invalid) => {
                self.reconciler.forget(key);
                undecodable::report::<R::Root>(&self.client, &self.events, invalid).await
            }
        };
        self.metrics
            .reconcile_seconds
            .observe(started.elapsed().as_secs_f64());
        match result {
            Ok(Next::Gone) => {
                self.gone(key);
                self.count("gone");
                Ok(Action::await_change())
            }
            Ok(Next::After(delay)) => {
                let again = Instant::now() + delay;
                self.queue
                    .attempts(|attempts| attempts.succeeded(key.clone(), again));
                self.count("ok");
                Ok(Action::requeue(delay))
            }
            Err(error) if error.is_conflict() => Err(self.retry(key, "conflict", &message(&error))),
            Err(error) => {
                self.reconciler.failed(key, error.class());
                Err(self.retry(key, "error", &message(&error)))
            }
        }
    }

    fn gone(&self, key: &ObjectRef<R::Root>) {
        tracing::debug!(object = %key, "gone");
        self.queue.attempts(|attempts| attempts.forget(key));
        self.reconciler.forget(key);
    }

    /// Counts a failure and says when to retry. The same one again and again is logged once; a conflict only means that
    /// somebody else wrote first.
    fn retry(&self, key: &ObjectRef<R::Root>, result: &'static str, error: &str) -> Failed {
        let now = Instant::now();
        let failure = self
            .queue
            .attempts(|attempts| attempts.failed(key.clone(), now, jitter(), error));
        let delay = failure.delay;
        if result == "conflict" || failure.repeated {
            tracing::debug!(error, ?delay, "failed again, or somebody else wrote; retrying");
        } else {
            tracing::warn!(error, ?delay, "failed; retrying");
        }
        self.count(result);
        Failed { delay }
    }

    fn count(&self, result: &'static str) {
        self.metrics
            .reconciles
            .get_or_create(&ResultLabel { result })
            .inc();
    }
}

/// From 0 to 1; the middle when the system has no random bytes.
fn jitter() -> f64 {
    let mut byte = [128];
    if getrandom::fill(&mut byte).is_err() {
        return 0.5;
    }
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
