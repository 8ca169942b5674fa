//! Carries a plan out. All steps are tried; one that fails stops those that depend on it ([`operator_core::outcomes`]).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::{DirectoryRegistration, RadiusProxy};
use operator_core::observed::ObjectId;
use operator_core::outcomes::{Failure, Outcomes, Step, retry_after};
use operator_core::registration::FinalizerChange;
use operator_core::rollout::{ObjectKind, PodPatch, RolloutPlan, of_outcomes};

use crate::apply;
use crate::context::Context;
use crate::controller::Next;
use crate::error::{Error, message};
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::ReconcileState;

#[cfg(test)]
mod tests;

/// How long objects, and then pods, may take together. The rest is tried in the next reconciliation; the status isn't kept
/// waiting.
const OBJECTS_LIMIT: Duration = Duration::from_secs(45);
const PODS_LIMIT: Duration = Duration::from_secs(20);

/// The execution of one plan: what the steps need, and how they ended so far.
pub(crate) struct Execution<'a> {
    ctx: &'a Context,
    key: &'a RadiusProxyKey,
    /// The RadiusProxy as it was last read or written.
    proxy: RadiusProxy,
    state: &'a mut ReconcileState,
    outcomes: Outcomes,
    now: Timestamp,
}

impl<'a> Execution<'a> {
    /// Nothing done yet.
    pub(crate) fn new(
        ctx: &'a Context,
        key: &'a RadiusProxyKey,
        proxy: RadiusProxy,
        state: &'a mut ReconcileState,
    ) -> Self {
        Self {
            ctx,
            key,
            proxy,
            state,
            outcomes: Outcomes::default(),
            now: Timestamp::now(),
        }
    }

    /// Carries the plan out, in its own order ([`operator_core::rollout`]). `registration` is what was planned from, and `vacant` are names
    /// that nobody had a moment ago.
    ///
    /// # Errors
    /// Somebody else wrote the RadiusProxy meanwhile.
    pub(crate) async fn execute(
        mut self,
        plan: &RolloutPlan,
        registration: Option<&DirectoryRegistration>,
        vacant: &BTreeSet<ObjectId>,
    ) -> Result<Next, Error> {
        let before = self.state.outcomes.clone();
        if plan.finalizer == FinalizerChange::Add {
            let result = apply::finalizer(&self.ctx.api(self.key), &self.proxy, true).await;
            if let Some(Some(changed)) = self.note(Step::Finalizer, result)? {
                self.state.newest = Some(changed.clone());
                self.proxy = changed;
            }
        }
        // A registration without the finalizer may be one that the next plan blocks.
        if let Some(spec) = &plan.registration
            && !self.outcomes.failed_newly(&Step::Finalizer, &before)
        {
            let name = DirectoryRegistration::name_of(&spec.directory_id, &spec.region);
            let result = apply::registration_spec(self.ctx, registration, spec).await;
            self.note(Step::Apply("DirectoryRegistration", name), result)?;
        }
        self.objects(plan, vacant).await;
        self.pods(&plan.pods).await;
        let images = plan.pods.iter().any(|patch| patch.image.is_some());
        self.outcomes = self.outcomes.keeping(&before, images);
        let news = self.outcomes.differ_from(&before) && !self.state.stopped_short;
        self.state.stopped_short = news;
        if !news {
            self.status_and_later(plan).await?;
        }
        Ok(self.finish(plan, &before).await)
    }

    async fn finish(self, plan: &RolloutPlan, before: &Outcomes) -> Next {
        let outcomes = self.outcomes.lasting(before);
        for event in of_outcomes(before, &outcomes) {
            self.ctx.events.publish(&self.proxy, &event).await;
        }
        let news = outcomes.differ_from(before);
        let state = self.state;
        state.failed_in_a_row = if outcomes.is_good() {
            0
        } else {
            state.failed_in_a_row.saturating_add(1)
        };
        state.outcomes = outcomes;
        let next = plan.requeue_after;
        Next::after(match (news, state.failed_in_a_row) {
            (true, _) => Duration::ZERO,
            (false, 0) => next,
            (false, failed) => next.min(retry_after(failed)),
        })
    }

    /// Notes how a step ended.
    ///
    /// # Errors
    /// Somebody else wrote meanwhile: another look is all it takes.
    fn note<T>(&mut self, step: Step, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_conflict() => Err(error),
            Err(error) => {
                self.failed(step, &error);
                Ok(None)
            }
        }
    }

    fn failed(&mut self, step: Step, error: &Error) {
        let failure = error.failure(&step);
        let (Failure::Refused { message: text, .. } | Failure::Transient { message: text }) = &failure;
        if self.state.outcomes.failed(&step) {
            tracing::debug!(%step, error = text, "failed again");
        } else {
            tracing::warn!(%step, error = text, "failed; the steps that don't depend on it go on");
        }
        self.ctx.metrics.proxy.failed(self.key, error.class());
        self.outcomes.record(step, failure, self.now);
    }

    async fn objects(&mut self, plan: &RolloutPlan, vacant: &BTreeSet<ObjectId>) {
        let (ctx, key) = (self.ctx, self.key);
        let end = Instant::now() + OBJECTS_LIMIT;
        for id in &plan.adopt {
            if let Err(error) = apply::adopt(ctx, key, &self.proxy, id).await {
                self.failed(Step::Adopt(id.kind, id.name.clone()), &error);
            }
        }
        for object in &plan.apply {
            let step = object.step();
            if !self.outcomes.allow(&self.state.outcomes, &step) {
                continue;
            }
            let result = if Instant::now() < end {
                apply::object(ctx, key, &self.proxy, object, vacant, self.state).await
            } else {
                Err(Error::OutOfTime)
            };
            if let Err(error) = result {
                self.failed(step, &error);
            }
        }
        let wanted: BTreeSet<ObjectId> = plan
            .apply
            .iter()
            .map(operator_core::objects::Object::id)
            .collect();
        self.state.applied.retain(|id, _| wanted.contains(id));
    }

    async fn pods(&mut self, patches: &[PodPatch]) {
        let (ctx, key, now) = (self.ctx, self.key, self.now);
        let end = Instant::now() + PODS_LIMIT;
        for patch in patches {
            let pod = || patch.name.clone();
            let late = || Instant::now() >= end;
            let result = match late() {
                false => apply::pod_metadata(ctx, key, patch).await,
                true => Err(Error::OutOfTime),
            };
            if let Err(error) = result {
                self.failed(Step::PodMetadata(pod()), &error);
            }
            if let Some(image) = patch.image.as_ref().filter(|_| !late())
                && let Err(error) = apply::pod_image(ctx, key, patch, image).await
            {
                self.failed_image(&image.revision, &error);
            }
            if let Some(gate) = patch.gate.as_ref().filter(|_| !late())
                && let Err(error) = apply::pod_gate(ctx, key, patch, gate, now).await
            {
                self.failed(Step::PodGate(pod()), &error);
            }
        }
    }

    /// A refusal counts for all pods of the revision: they are replaced. A temporary failure is retried.
    fn failed_image(&mut self, revision: &str, error: &Error) {
        let step = Step::PodImage(revision.to_owned());
        if matches!(error.failure(&step), Failure::Refused { .. }) {
            self.failed(step, error);
        } else {
            tracing::warn!(
                revision,
                error = message(error),
                "could not change the image in place"
            );
        }
    }

    async fn status_and_later(&mut self, plan: &RolloutPlan) -> Result<(), Error> {
        let (ctx, key) = (self.ctx, self.key);
        let written = apply::status(&ctx.api(key), self.proxy.clone(), &plan.status).await;
        let Some(written) = self.note(Step::Status, written)? else {
            // It may have arrived, and what was read before it is old then.
            self.state.newest = None;
            ctx.metrics.proxy.status_not_written(key);
            return Ok(());
        };
        self.outcomes.status_written();
        self.state.newest = Some(written.clone());
        self.proxy = written;
        ctx.metrics.proxy.show(key, &plan.status, self.now);
        for object in &plan.delete {
            if let Err(error) = apply::delete(ctx, key, object).await {
                let kind = match object.kind {
                    ObjectKind::Pod | ObjectKind::PodByForce => "Pod",
                    ObjectKind::Service => "Service",
                };
                self.failed(Step::Delete(kind, object.name.clone()), &error);
            }
        }
        for event in &plan.events {
            ctx.events.publish(&self.proxy, event).await;
        }
        if plan.finalizer == FinalizerChange::Remove {
            let result = apply::finalizer(&ctx.api(key), &self.proxy, false).await;
            self.state.newest = self.note(Step::Finalizer, result)?.flatten();
        }
        Ok(())
    }
}
