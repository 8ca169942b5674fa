//! The registration controller: gather, plan, execute; at most one write to AWS in a reconciliation.

mod observe;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, Preconditions};
use operator_core::access::DirectoryAccess;
use operator_core::api::{DirectoryClaim, RadiusProxy};
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::observed::WriteOutcome;
use operator_core::registration::{
    DirectoryWrite, FinalizerChange, RegistrationPlan, TagFailure, is_released, plan,
};
use serde_json::json;

use crate::apply::{self, by_us, within};
use crate::context::Context;
use crate::controller::{Next, SOONEST};
use crate::directory::{WritePermit, WriteTurn};
use crate::error::{Error, has_code, message};
use crate::gather;
use crate::object_keys::RegistrationKey;
use observe::{Gathered, Holder, observe};

/// Time limits of the parts of a reconciliation.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// The status that notes a write. A write that waited for longer is decided again.
const NOTING_LIMIT: Duration = Duration::from_secs(5);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);

/// Reconciles one DirectoryRegistration.
///
/// # Errors
/// The Kubernetes API refused or did not answer; everything else is part of the plan.
pub(crate) async fn run(ctx: &Context, key: &RegistrationKey) -> Result<Next, Error> {
    let result = reconcile(ctx, key).await;
    if let Err(error) = &result {
        ctx.registration_states.doubt(key);
        if error.is_conflict() {
            // The rollout wrote meanwhile.
            return Ok(Next::After(SOONEST));
        }
        if ctx.registration_states.failed(key, message(error)) {
            ctx.cluster.enqueue_holder(key);
        }
    }
    result
}

async fn reconcile(ctx: &Context, key: &RegistrationKey) -> Result<Next, Error> {
    let Some(registration) = gather::registration(ctx, key).await? else {
        return Ok(Next::Gone);
    };
    if is_released(&registration) {
        return Ok(Next::Gone);
    }
    let gathered = match within("gathering", PREPARING, observe(ctx, key, registration)).await? {
        Ok(gathered) => gathered,
        Err(wait) => return Ok(Next::after(wait)),
    };
    let plan = plan(&gathered.input, Timestamp::now());
    if plan.write.is_some() && !ctx.leadership.may_begin_write(Instant::now()) {
        tracing::info!("the leader's lease ends too soon for a write to AWS; retrying once it is renewed");
        return Ok(Next::After(AFTER_RENEWAL));
    }
    let permit = match write_turn(ctx, key, &gathered.holder, &plan).await {
        Some(Ok(WriteTurn::Later(wait))) => return Ok(Next::after(wait)),
        Some(Ok(WriteTurn::Now(permit))) => Some(Ok(permit)),
        // The write is noted, and then that it failed.
        Some(Err(failure)) => Some(Err(failure)),
        None => None,
    };
    let executed = execute(ctx, key, &gathered, &plan, permit);
    let next = within("executing", EXECUTING, executed).await?;
    if ctx.registration_states.succeeded(key) {
        ctx.cluster.enqueue_holder(key);
    }
    Ok(next)
}

/// The turn of the plan's write, if it has one.
async fn write_turn(
    ctx: &Context,
    key: &RegistrationKey,
    holder: &Holder,
    plan: &RegistrationPlan,
) -> Option<Result<WriteTurn, AwsFailure>> {
    let (write, access) = (plan.write.as_ref()?, holder.access.as_ref()?);
    let operation = write.call.operation();
    Some(ctx.directories.prepare_write(key, access, operation).await)
}

/// Executes the plan, in its own order ([`operator_core::registration`]).
async fn execute(
    ctx: &Context,
    key: &RegistrationKey,
    gathered: &Gathered,
    plan: &RegistrationPlan,
    permit: Option<Result<Box<WritePermit>, AwsFailure>>,
) -> Result<Next, Error> {
    let (registration, holder) = (&gathered.input.registration, &gathered.holder);
    if let Some(claim) = &plan.claim {
        let change = json!({
            "metadata": {"resourceVersion": registration.metadata.resource_version},
            "spec": {"claimedBy": claim},
        });
        let moved = ctx
            .registration_api()
            .patch(key.as_str(), &by_us(), &Patch::Merge(change))
            .await;
        ctx.registration_states
            .know(key, moved.map_err(Error::WriteStatus)?);
        ctx.directories.forget(key);
        publish_events(ctx, gathered, plan).await;
        publish_about(ctx, claim, None, plan).await;
        return Ok(Next::After(SOONEST));
    }
    let (api, mut current) = (ctx.registration_api(), registration.clone());
    if plan.finalizer == FinalizerChange::Add {
        let Some(changed) = apply::finalizer(&api, &current, true).await? else {
            return Ok(Next::Gone);
        };
        current = changed;
    }
    let written = apply::status(&api, current, &plan.status);
    let written = match &plan.write {
        None => written.await?,
        // A write is decided by what was described a moment ago.
        Some(write) => {
            let written = within("noting a write", NOTING_LIMIT, written).await;
            if written.is_err() {
                let failure = not_sent(write, "it could not be noted in the status");
                ctx.registration_states
                    .with(key, |state| state.outcome = Some(outcome(write, Err(failure))));
            }
            written?
        }
    };
    ctx.registration_states.know(key, written);
    ctx.metrics
        .proxy
        .show_registration(&holder.key, registration.status.as_ref(), &plan.status);
    let asks_for_tags = ctx.registration_states.with(key, |state| {
        state.describe_after = Some(plan.describe_after);
        state.tag_failure.clone_from(&plan.tag_failure);
        state.asks_for_tags(plan.read_tags, Instant::now())
    });
    if asks_for_tags {
        ctx.directories.read_tags(key);
    }
    if let (false, Some(access)) = (plan.tags.is_empty(), &holder.access) {
        let failure = add_tags(ctx, key, holder, access, plan).await;
        ctx.registration_states
            .with(key, |state| state.tag_failure = failure);
    }
    if let (Some(write), Some(permit)) = (&plan.write, permit) {
        let outcome = send(ctx, key, holder, write, permit).await;
        ctx.registration_states
            .with(key, |state| state.outcome = Some(outcome));
    }
    publish_events(ctx, gathered, plan).await;
    if plan.finalizer == FinalizerChange::Remove {
        remove(ctx, key).await?;
        ctx.directories.forget(key);
        return Ok(Next::Gone);
    }
    // How a write ended is not in the status yet.
    Ok(match &plan.write {
        Some(_) => Next::After(Duration::ZERO),
        None => Next::after(plan.requeue_after),
    })
}

/// Deletes the registration, and then lets it go.
async fn remove(ctx: &Context, key: &RegistrationKey) -> Result<(), Error> {
    let Some(registration) = gather::registration(ctx, key).await? else {
        return Ok(());
    };
    let params = DeleteParams::default().preconditions(Preconditions {
        resource_version: registration.metadata.resource_version.clone(),
        ..Preconditions::default()
    });
    ctx.registration_states.doubt(key);
    let ending = match ctx.registration_api().delete(key.as_str(), &params).await {
        Ok(deleted) => deleted.left(),
        Err(error) if has_code(&error, 404) => None,
        Err(source) => {
            return Err(Error::Delete {
                what: format!("DirectoryRegistration {key}"),
                source,
            });
        }
    };
    if let Some(ending) = ending {
        apply::finalizer(&ctx.registration_api(), &ending, false).await?;
    }
    ctx.registration_states.forget(key);
    tracing::info!(registration = key.as_str(), "deleted");
    Ok(())
}

/// Events about the RadiusProxy that holds the directory, also when it is gone.
async fn publish_events(ctx: &Context, gathered: &Gathered, plan: &RegistrationPlan) {
    let claim = &gathered.input.registration.spec.claimed_by;
    publish_about(ctx, claim, gathered.holder.proxy.clone(), plan).await;
}

async fn publish_about(
    ctx: &Context,
    claim: &DirectoryClaim,
    proxy: Option<RadiusProxy>,
    plan: &RegistrationPlan,
) {
    if plan.events.is_empty() {
        return;
    }
    let stub = || {
        let json = json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid},
            "spec": {"provider": {}},
        });
        serde_json::from_value::<RadiusProxy>(json).ok()
    };
    let Some(proxy) = proxy.or_else(stub) else {
        return;
    };
    for event in &plan.events {
        ctx.events.publish(&proxy, event).await;
    }
}

async fn add_tags(
    ctx: &Context,
    key: &RegistrationKey,
    holder: &Holder,
    access: &DirectoryAccess,
    plan: &RegistrationPlan,
) -> Option<TagFailure> {
    match ctx.directories.add_tags(key, access, &plan.tags, TAGGING).await {
        Ok(()) => {
            tracing::info!(directory = access.directory_id, "tagged the directory");
            ctx.directories.refresh(key);
            None
        }
        Err(failure) => {
            tracing::warn!(directory = access.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(&holder.key, failure.class.as_str());
            let before = plan.tag_failure.as_ref();
            let is_published =
                before.is_some_and(|before| before.published && before.failure.class == failure.class);
            Some(TagFailure {
                failure,
                time: Timestamp::now(),
                published: is_published,
            })
        }
    }
}

/// The one write. Its deadline is before the end of the leader's lease, so that no two leaders write at once.
async fn send(
    ctx: &Context,
    key: &RegistrationKey,
    holder: &Holder,
    write: &DirectoryWrite,
    permit: Result<Box<WritePermit>, AwsFailure>,
) -> WriteOutcome {
    let operation = write.call.operation();
    let result = match (permit, ctx.leadership.write_deadline(Instant::now())) {
        (Err(failure), _) => Err(failure),
        (Ok(_), None) => Err(not_sent(write, "the leader's lease was about to end")),
        (Ok(permit), Some(deadline)) => {
            let sent = permit.send(&write.call, deadline).await;
            ctx.metrics.proxy.wrote(&holder.key, write);
            sent
        }
    };
    ctx.directories.refresh(key);
    match &result {
        Ok(request_id) => tracing::info!(
            directory = write.directory_id,
            operation = operation.as_str(),
            reason = write.reason.as_str(),
            request_id,
            "{}",
            write.message
        ),
        Err(failure) => {
            tracing::warn!(directory = write.directory_id, reason = write.reason.as_str(), %failure, "the write failed");
            ctx.metrics.proxy.failed(&holder.key, failure.class.as_str());
        }
    }
    outcome(write, result)
}

fn not_sent(write: &DirectoryWrite, why: &str) -> AwsFailure {
    AwsFailure {
        operation: write.call.operation(),
        class: AwsErrorClass::NotSent,
        message: why.to_owned(),
        request_id: None,
    }
}

fn outcome(write: &DirectoryWrite, result: Result<Option<String>, AwsFailure>) -> WriteOutcome {
    WriteOutcome {
        id: write.id.clone(),
        result,
    }
}

#[cfg(test)]
mod tests;
