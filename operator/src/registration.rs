//! The registration controller: gather, plan, execute; at most one write to AWS in a reconciliation.

mod observe;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, Preconditions};
use operator_core::access::DirectoryAccess;
use operator_core::api::{DirectoryRegistration, DirectoryRegistrationStatus, RadiusProxy};
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::names::FINALIZER;
use operator_core::observed::WriteOutcome;
use operator_core::registration::{DirectoryWrite, FinalizerChange, RegistrationPlan, plan};
use serde_json::json;

use crate::apply::{by_us, encode_status, merge_patch, within};
use crate::context::Context;
use crate::controller::Next;
use crate::directory::{WritePermit, WriteTurn};
use crate::error::{Error, has_code};
use crate::gather;
use crate::object_keys::RegistrationKey;
use crate::reconcile_state::trimmed;
use observe::{Gathered, Holder, observe};

/// Time limits of the parts of a reconciliation.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);
/// The shortest and the longest time until the next reconciliation.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);

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
    }
    result
}

async fn reconcile(ctx: &Context, key: &RegistrationKey) -> Result<Next, Error> {
    let Some(registration) = gather::registration(ctx, key).await? else {
        return Ok(Next::Gone);
    };
    let gathered = match within("gathering", PREPARING, observe(ctx, key, registration)).await? {
        Ok(gathered) => gathered,
        Err(wait) => return Ok(Next::After(wait.max(SOONEST))),
    };
    let plan = plan(&gathered.input, Timestamp::now());
    if plan.write.is_some() && !ctx.leadership.may_begin_write(Instant::now()) {
        tracing::info!("the leader's lease ends too soon for a write to AWS; retrying once it is renewed");
        return Ok(Next::After(AFTER_RENEWAL));
    }
    let permit = match write_turn(ctx, key, &gathered.holder, &plan).await {
        Some(Ok(WriteTurn::Later(wait))) => return Ok(Next::After(wait.max(SOONEST))),
        Some(Ok(WriteTurn::Now(permit))) => Some(Ok(permit)),
        // The write is noted, and then that it failed.
        Some(Err(failure)) => Some(Err(failure)),
        None => None,
    };
    within(
        "executing",
        EXECUTING,
        execute(ctx, key, &gathered, &plan, permit),
    )
    .await
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
        return Ok(Next::After(SOONEST));
    }
    let mut current = registration.clone();
    if plan.finalizer == FinalizerChange::Add {
        current = finalizers(ctx, key, &current, vec![FINALIZER.to_owned()]).await?;
    }
    write_status(ctx, key, current, &plan.status).await?;
    ctx.metrics
        .proxy
        .show_registration(&holder.key, registration.status.as_ref(), &plan.status);
    let asks_for_tags = ctx.registration_states.with(key, |state| {
        state.describe_after = Some(plan.describe_after);
        !std::mem::replace(&mut state.reads_tags, plan.read_tags) && plan.read_tags
    });
    if asks_for_tags {
        ctx.directories.read_tags(key);
    }
    if let (false, Some(access)) = (plan.tags.is_empty(), &holder.access) {
        let failure = add_tags(ctx, key, holder, access, &plan.tags).await;
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
    Ok(Next::After(if plan.write.is_some() {
        Duration::ZERO
    } else {
        plan.requeue_after.clamp(SOONEST, LATEST)
    }))
}

/// Writes the status when it differs, at the resource version that was planned from.
async fn write_status(
    ctx: &Context,
    key: &RegistrationKey,
    registration: DirectoryRegistration,
    wanted: &DirectoryRegistrationStatus,
) -> Result<(), Error> {
    let before = encode_status(&registration.status.clone().unwrap_or_default())?;
    let after = encode_status(wanted)?;
    if before == after && registration.status.is_some() {
        return Ok(());
    }
    let change = json!({
        "metadata": {"resourceVersion": registration.metadata.resource_version},
        "status": merge_patch(&before, after.clone()),
    });
    let patched = ctx
        .registration_api()
        .patch_status(key.as_str(), &by_us(), &Patch::Merge(change))
        .await;
    let written = patched.map_err(Error::WriteStatus)?;
    let kept = encode_status(&written.status.clone().unwrap_or_default())?;
    ctx.registration_states.know(key, written);
    // Without a field that an older CRD drops, the same write would be sent again and again.
    if kept == after {
        Ok(())
    } else {
        Err(Error::StatusNotKept)
    }
}

async fn finalizers(
    ctx: &Context,
    key: &RegistrationKey,
    registration: &DirectoryRegistration,
    wanted: Vec<String>,
) -> Result<DirectoryRegistration, Error> {
    let change = json!({"metadata": {
        "resourceVersion": registration.metadata.resource_version,
        "finalizers": wanted,
    }});
    let changed = ctx
        .registration_api()
        .patch(key.as_str(), &by_us(), &Patch::Merge(change))
        .await;
    changed.map(trimmed).map_err(Error::Finalizer)
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
    match ctx.registration_api().delete(key.as_str(), &params).await {
        Ok(_) => {}
        Err(error) if has_code(&error, 404) => return Ok(()),
        Err(source) => {
            return Err(Error::Delete {
                what: format!("DirectoryRegistration {key}"),
                source,
            });
        }
    }
    let change = json!({"metadata": {"finalizers": []}});
    match ctx
        .registration_api()
        .patch(key.as_str(), &by_us(), &Patch::Merge(change))
        .await
    {
        Ok(_) => {}
        Err(error) if has_code(&error, 404) => {}
        Err(error) => return Err(Error::Finalizer(error)),
    }
    ctx.registration_states.forget(key);
    tracing::info!(registration = key.as_str(), "deleted");
    Ok(())
}

/// Events about the RadiusProxy that holds the directory, also when it is gone.
async fn publish_events(ctx: &Context, gathered: &Gathered, plan: &RegistrationPlan) {
    if plan.events.is_empty() {
        return;
    }
    let claim = &gathered.input.registration.spec.claimed_by;
    let stub = || {
        let json = json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid},
            "spec": {"provider": {}},
        });
        serde_json::from_value::<RadiusProxy>(json).ok()
    };
    let Some(proxy) = gathered.holder.proxy.clone().or_else(stub) else {
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
    tags: &[(String, String)],
) -> Option<(AwsFailure, Timestamp)> {
    match ctx.directories.add_tags(key, access, tags, TAGGING).await {
        Ok(()) => {
            tracing::info!(directory = access.directory_id, "tagged the directory");
            ctx.directories.refresh(key);
            None
        }
        Err(failure) => {
            tracing::warn!(directory = access.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(&holder.key, failure.class.as_str());
            Some((failure, Timestamp::now()))
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
        (Ok(_), None) => Err(AwsFailure {
            operation,
            class: AwsErrorClass::NotSent,
            message: "the leader's lease was about to end".to_owned(),
            request_id: None,
        }),
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
    WriteOutcome {
        id: write.id.clone(),
        result,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake_api::{Call, FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    #[tokio::test]
    async fn a_registration_ends_with_its_holder_though_the_namespace_is_out_of_reach() {
        let registration = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryRegistration",
            "metadata": {"name": "d-0000000001.eu-central-1", "uid": "r", "resourceVersion": "7",
                "finalizers": [FINALIZER]},
            "spec": {"directoryId": "d-0000000001", "region": "eu-central-1",
                "claimedBy": {"namespace": "b", "name": "p", "uid": "u"},
                "desired": {"holderUid": "u", "settings": {"port": 1812, "timeoutSeconds": 20, "retries": 4},
                    "sharedSecret": {"secretName": "p-radius-secrets", "digest": "d"}}}});
        let api = FakeApi::new(move |call: &Call| {
            Some(if call.uri.contains("/secrets/") {
                refused(403, "Forbidden")
            } else if call.uri.contains("/radiusproxies/") {
                refused(404, "NotFound")
            } else {
                let mut answer = registration.clone();
                if let Some(status) = call.body.get("status") {
                    answer["status"] = status.clone();
                }
                (200, answer)
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (context, _lease) = Context::for_test(api.client.clone(), cluster);
        let key = RegistrationKey::new("d-0000000001.eu-central-1");
        assert_eq!(run(&context, &key).await.unwrap(), Next::Gone);
        assert_eq!(api.calls(1, |call| call.method == "DELETE").await.len(), 1);
        let freed = |call: &Call| call.method == "PATCH" && call.body["metadata"]["finalizers"] == json!([]);
        assert_eq!(api.calls(1, freed).await.len(), 1);
    }
}
