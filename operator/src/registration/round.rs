//! One round of a DirectoryRegistration: gather, plan, execute; at most one write to AWS.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, Preconditions};
use operator_core::access::DirectoryAccess;
use operator_core::api::{DirectoryClaim, DirectoryRegistration, DirectoryRegistrationStatus, RadiusProxy};
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::input::WriteOutcome;
use operator_core::names::FINALIZER;
use operator_core::registration::{DirectoryWrite, FinalizerChange, RegistrationPlan, TagFailure, plan};
use serde_json::json;

use super::gather::{Gathered, Holder, gather};
use super::{api, current, trimmed};
use crate::apply::{by_us, encode_status, merge_patch, within};
use crate::context::Context;
use crate::controller::Next;
use crate::directory::{WritePermit, WriteTurn};
use crate::error::{Error, has_code, words};
use crate::key::RegistrationKey;

/// Bounds of the parts of a round.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// The status that notes a write. A write that waited for longer is decided again.
const NOTING: Duration = Duration::from_secs(5);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);
/// The soonest and the latest next look.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);
/// One round of one registration.
///
/// # Errors
/// The Kubernetes API refused or did not answer; everything else is part of the plan.
pub(crate) async fn run(ctx: &Context, key: &RegistrationKey) -> Result<Next, Error> {
    let result = round(ctx, key).await;
    if let Err(error) = &result {
        ctx.registrations.doubt(key);
        if error.is_conflict() {
            // The rollout wrote meanwhile.
            return Ok(Next::After(SOONEST));
        }
        if ctx.registrations.failed(key, words(error)) {
            ctx.cluster.enqueue_holder(key);
        }
    }
    result
}

async fn round(ctx: &Context, key: &RegistrationKey) -> Result<Next, Error> {
    let Some(registration) = current(ctx, key).await? else {
        return Ok(Next::Gone);
    };
    let gathered = match within("gathering", PREPARING, gather(ctx, key, registration)).await? {
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
    let executed = execute(ctx, key, &gathered, &plan, permit);
    let next = within("executing", EXECUTING, executed).await?;
    if ctx.registrations.succeeded(key) {
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
        let moved = api(ctx)
            .patch(key.as_str(), &by_us(), &Patch::Merge(change))
            .await;
        ctx.registrations.know(key, moved.map_err(Error::WriteStatus)?);
        ctx.directories.forget(key);
        tell(ctx, gathered, plan).await;
        publish(ctx, claim, None, plan).await;
        return Ok(Next::After(SOONEST));
    }
    let mut current = registration.clone();
    if plan.finalizer == FinalizerChange::Add {
        current = finalizer(ctx, key, &current, true).await?;
    }
    let written = write_status(ctx, key, current, &plan.status);
    match &plan.write {
        None => written.await?,
        // A write is decided by what was described a moment ago.
        Some(write) => {
            let written = within("noting a write", NOTING, written).await;
            if written.is_err() {
                let failure = not_sent(write, "it could not be noted in the status");
                ctx.registrations
                    .with(key, |memory| memory.outcome = Some(outcome(write, Err(failure))));
            }
            written?;
        }
    }
    ctx.metrics
        .proxy
        .show_registration(&holder.key, registration.status.as_ref(), &plan.status);
    let asks_for_tags = ctx.registrations.with(key, |memory| {
        memory.describe_after = Some(plan.describe_after);
        memory.tag_failure.clone_from(&plan.tag_failure);
        !std::mem::replace(&mut memory.reads_tags, plan.read_tags) && plan.read_tags
    });
    if asks_for_tags {
        ctx.directories.read_tags(key);
    }
    if let (false, Some(access)) = (plan.tags.is_empty(), &holder.access) {
        let failure = add_tags(ctx, key, holder, access, plan).await;
        ctx.registrations.with(key, |memory| memory.tag_failure = failure);
    }
    if let (Some(write), Some(permit)) = (&plan.write, permit) {
        let outcome = send(ctx, key, holder, write, permit).await;
        ctx.registrations
            .with(key, |memory| memory.outcome = Some(outcome));
    }
    tell(ctx, gathered, plan).await;
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
    let patched = api(ctx)
        .patch_status(key.as_str(), &by_us(), &Patch::Merge(change))
        .await;
    let written = patched.map_err(Error::WriteStatus)?;
    let kept = encode_status(&written.status.clone().unwrap_or_default())?;
    ctx.registrations.know(key, written);
    // Without a field that an older CRD drops, the same write would be sent again and again.
    if kept == after {
        Ok(())
    } else {
        Err(Error::StatusNotKept)
    }
}

/// Adds the operator's finalizer or takes it away. Those of others stay.
async fn finalizer(
    ctx: &Context,
    key: &RegistrationKey,
    registration: &DirectoryRegistration,
    held: bool,
) -> Result<DirectoryRegistration, Error> {
    let mut finalizers = registration.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|each| each != FINALIZER);
    finalizers.extend(held.then(|| FINALIZER.to_owned()));
    let change = json!({"metadata": {
        "resourceVersion": registration.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let changed = api(ctx)
        .patch(key.as_str(), &by_us(), &Patch::Merge(change))
        .await;
    changed.map(trimmed).map_err(Error::Finalizer)
}

/// Deletes the registration, and then lets it go.
async fn remove(ctx: &Context, key: &RegistrationKey) -> Result<(), Error> {
    let Some(registration) = current(ctx, key).await? else {
        return Ok(());
    };
    let params = DeleteParams::default().preconditions(Preconditions {
        resource_version: registration.metadata.resource_version.clone(),
        ..Preconditions::default()
    });
    ctx.registrations.doubt(key);
    let ending = match api(ctx).delete(key.as_str(), &params).await {
        Ok(deleted) => deleted.left(),
        Err(error) if has_code(&error, 404) => None,
        Err(source) => {
            return Err(Error::Delete {
                what: format!("DirectoryRegistration {key}"),
                source,
            });
        }
    };
    match ending.filter(|ending| !ending.is_released()) {
        Some(ending) => match finalizer(ctx, key, &ending, false).await {
            Err(Error::Finalizer(error)) if has_code(&error, 404) => {}
            freed => drop(freed?),
        },
        None => {}
    }
    ctx.registrations.forget(key);
    tracing::info!(registration = key.as_str(), "deleted");
    Ok(())
}

/// Events about the RadiusProxy that holds the directory, also when it is gone.
async fn tell(ctx: &Context, gathered: &Gathered, plan: &RegistrationPlan) {
    let claim = &gathered.input.registration.spec.claimed_by;
    publish(ctx, claim, gathered.holder.proxy.clone(), plan).await;
}

async fn publish(ctx: &Context, claim: &DirectoryClaim, proxy: Option<RadiusProxy>, plan: &RegistrationPlan) {
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
            let is_told = before.is_some_and(|before| before.told && before.failure.class == failure.class);
            Some(TagFailure {
                failure,
                time: Timestamp::now(),
                told: is_told,
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
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake_api::{Call, FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    fn registration(finalizers: &[&str]) -> serde_json::Value {
        json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryRegistration",
            "metadata": {"name": "d-0000000001.eu-central-1", "uid": "r", "resourceVersion": "7",
                "finalizers": finalizers},
            "spec": {"directoryId": "d-0000000001", "region": "eu-central-1",
                "claimedBy": {"namespace": "b", "name": "p", "uid": "u"},
                "desired": {"holderUid": "u", "settings": {"port": 1812, "timeoutSeconds": 20, "retries": 4},
                    "sharedSecret": {"secretName": "p-radius-secrets", "digest": "d"}}}})
    }

    fn holder() -> serde_json::Value {
        json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "p", "namespace": "b", "uid": "u"},
            "spec": {"directory": {"id": "d-0000000001", "region": "eu-central-1"}, "provider": {}}})
    }

    /// An API server with this registration, where the rest is answered by `answer`.
    fn api_of(
        finalizers: &[&str],
        answer: impl Fn(&Call) -> Option<(u16, serde_json::Value)> + Send + Sync + 'static,
    ) -> (FakeApi, Context, crate::leader::LeaseGuard) {
        let registration = registration(finalizers);
        let api = FakeApi::new(move |call: &Call| {
            answer(call).or_else(|| {
                let mut answer = registration.clone();
                if call.method == "DELETE" {
                    answer["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
                if let Some(status) = call.body.get("status") {
                    answer["status"] = status.clone();
                }
                Some((200, answer))
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, lease) = Context::for_test(api.client.clone(), cluster);
        (api, ctx, lease)
    }

    fn key() -> RegistrationKey {
        RegistrationKey::new("d-0000000001.eu-central-1")
    }

    fn without_holder(call: &Call) -> Option<(u16, serde_json::Value)> {
        if call.uri.contains("/secrets/") {
            Some(refused(403, "Forbidden"))
        } else if call.uri.contains("/radiusproxies/") {
            Some(refused(404, "NotFound"))
        } else {
            None
        }
    }

    fn with_holder(call: &Call) -> Option<(u16, serde_json::Value)> {
        if call.uri.contains("/secrets/") {
            Some(refused(404, "NotFound"))
        } else {
            call.uri.contains("/radiusproxies/").then(|| (200, holder()))
        }
    }

    #[tokio::test]
    async fn a_registration_ends_with_its_holder_though_the_namespace_is_out_of_reach() {
        for scope in [None, Some("elsewhere".to_owned())] {
            let (api, mut ctx, _lease) = api_of(&[FINALIZER], without_holder);
            ctx.scopes = vec![scope];
            assert_eq!(run(&ctx, &key()).await.unwrap(), Next::Gone);
            assert_eq!(api.calls(1, |call| call.method == "DELETE").await.len(), 1);
            let freed =
                |call: &Call| call.method == "PATCH" && call.body["metadata"]["finalizers"] == json!([]);
            assert_eq!(api.calls(1, freed).await.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_registration_ends_without_a_change_to_the_finalizers_of_others() {
        let (api, ctx, _lease) = api_of(&["example.com/backup", FINALIZER], without_holder);
        run(&ctx, &key()).await.unwrap();
        let freed = |call: &Call| call.body["metadata"]["finalizers"].is_array();
        let patches = api.calls(1, freed).await;
        assert_eq!(
            patches[0].body["metadata"]["finalizers"],
            json!(["example.com/backup"])
        );
        let registration = serde_json::from_value(registration(&["example.com/backup"])).unwrap();
        finalizer(&ctx, &key(), &registration, true).await.unwrap();
        assert_eq!(
            api.calls(2, freed).await[1].body["metadata"]["finalizers"],
            json!(["example.com/backup", FINALIZER])
        );
    }

    #[tokio::test]
    async fn a_directory_is_held_for_a_holder_in_a_namespace_that_is_not_watched() {
        let (api, mut ctx, _lease) = api_of(&[FINALIZER], with_holder);
        ctx.scopes = vec![Some("elsewhere".to_owned())];
        assert_eq!(
            run(&ctx, &key()).await.unwrap(),
            Next::After(Duration::from_secs(300))
        );
        let written = api.calls(1, |call| call.method == "PATCH").await;
        let hold = &written[0].body["status"]["hold"];
        assert_eq!(hold["name"], "HolderNotWatched");
        assert!(
            hold["message"].as_str().unwrap().contains("namespace b"),
            "{hold}"
        );
    }

    #[tokio::test]
    async fn a_round_that_fails_is_remembered_until_one_succeeds() {
        let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_refusing = Arc::clone(&refuses);
        let (_api, ctx, _lease) = api_of(&[FINALIZER], move |call| {
            let refuses = is_refusing.load(std::sync::atomic::Ordering::Relaxed);
            if refuses && call.method == "PATCH" {
                return Some(refused(403, "Forbidden"));
            }
            with_holder(call)
        });
        assert_eq!(ctx.registrations.failure(&key()), None);
        run(&ctx, &key()).await.unwrap_err();
        let first = ctx.registrations.failure(&key()).unwrap();
        assert!(first.message.contains("says Forbidden"), "{first:?}");
        run(&ctx, &key()).await.unwrap_err();
        assert_eq!(ctx.registrations.failure(&key()).unwrap().since, first.since);
        refuses.store(false, std::sync::atomic::Ordering::Relaxed);
        run(&ctx, &key()).await.unwrap();
        assert_eq!(ctx.registrations.failure(&key()), None);
    }

    /// A plan that was made of this registration.
    async fn planned(ctx: &Context) -> (Gathered, RegistrationPlan) {
        let registration = serde_json::from_value(registration(&[FINALIZER])).unwrap();
        let gathered = gather(ctx, &key(), registration).await.unwrap().unwrap();
        let plan = plan(&gathered.input, Timestamp::now());
        (gathered, plan)
    }

    #[tokio::test]
    async fn a_hand_over_is_an_event_at_both_holders() {
        let (api, ctx, _lease) = api_of(&[FINALIZER], with_holder);
        let (gathered, mut plan) = planned(&ctx).await;
        plan.claim = Some(DirectoryClaim {
            namespace: "new".to_owned(),
            name: "q".to_owned(),
            uid: "v".to_owned(),
        });
        plan.events = vec![operator_core::plan::Event {
            warning: false,
            reason: "DirectoryHandedOver",
            action: "Claim",
            note: "n".to_owned(),
        }];
        execute(&ctx, &key(), &gathered, &plan, None).await.unwrap();
        let events = api.calls(2, |call| call.method == "POST").await;
        let about: Vec<&serde_json::Value> = events
            .iter()
            .map(|call| &call.body["regarding"]["name"])
            .collect();
        assert_eq!(about, [&json!("p"), &json!("q")]);
    }

    #[tokio::test]
    async fn a_write_that_cannot_be_noted_in_time_is_not_sent() {
        let (_api, ctx, _lease) = api_of(&[FINALIZER], with_holder);
        let (gathered, mut plan) = planned(&ctx).await;
        plan.write = Some(DirectoryWrite {
            id: "w".to_owned(),
            directory_id: "d-0000000001".to_owned(),
            call: operator_core::registration::DirectoryCall::Disable,
            reason: operator_core::registration::WriteReason::Deletion,
            message: "m".to_owned(),
        });
        let silent = FakeApi::new(|_| None);
        let ctx = Context {
            client: silent.client.clone(),
            ..ctx
        };
        let started = Instant::now();
        let failed = execute(&ctx, &key(), &gathered, &plan, None).await;
        assert!(matches!(failed, Err(Error::Slow { .. })), "{failed:?}");
        assert!(started.elapsed() < 2 * NOTING);
        let outcome = ctx.registrations.with(&key(), |memory| memory.outcome.clone());
        let outcome = outcome.unwrap();
        assert_eq!(outcome.id, "w");
        assert_eq!(outcome.result.unwrap_err().class, AwsErrorClass::NotSent);
    }
}
