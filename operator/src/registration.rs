//! One round of a DirectoryRegistration: gather, plan, execute; at most one write to AWS.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions};
use operator_core::access::DirectoryAccess;
use operator_core::api::{
    AdoptionPolicy, DirectoryRegistration, DirectoryRegistrationSpec, DirectoryRegistrationStatus,
    RadiusProxy,
};
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::input::{DirectoryObservation, SecretContent, WriteOutcome};
use operator_core::names::{ABANDON_ANNOTATION, FIELD_MANAGER, FINALIZER};
use operator_core::plan::operators;
use operator_core::registration::{
    Candidate, DirectoryWrite, FinalizerChange, RegistrationInput, RegistrationPlan, plan,
};
use serde_json::json;

use crate::apply::{by_us, encode_status, merge_patch, within};
use crate::context::Context;
use crate::controller::Next;
use crate::directory::{WritePermit, WriteTurn};
use crate::error::{Error, has_code};
use crate::gather;
use crate::key::{ProxyKey, RegistrationKey};

/// Bounds of the parts of a round.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);
/// The soonest and the latest next look.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);
/// How often is looked whether another operator still works.
const HELD: Duration = Duration::from_secs(60);

/// What this process remembers of one registration. All of it can be lost: the status holds what must not be.
#[derive(Debug, Default)]
struct Memory {
    /// The registration as this process last read it live or wrote it: an older one from the watch is not used.
    newest: Option<DirectoryRegistration>,
    /// How the last write to AWS ended.
    outcome: Option<WriteOutcome>,
    /// How the last tag write failed.
    tag_failure: Option<(AwsFailure, Timestamp)>,
    /// How old the directory's description may be.
    describe_after: Option<Duration>,
    /// Whether the tags were asked for.
    reads_tags: bool,
}

/// What this process remembers of registrations, by name.
#[derive(Debug, Default)]
pub(crate) struct Registrations(Mutex<HashMap<RegistrationKey, Memory>>);

impl Registrations {
    /// The registration is gone.
    pub(crate) fn forget(&self, key: &RegistrationKey) {
        self.lock().remove(key);
    }

    fn with<T>(&self, key: &RegistrationKey, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.lock().entry(key.clone()).or_default())
    }

    /// Keeps what was read or written, unless something newer is known.
    fn know(&self, key: &RegistrationKey, registration: DirectoryRegistration) {
        self.with(key, |memory| {
            if memory
                .newest
                .as_ref()
                .is_none_or(|newest| !is_older(&registration, newest))
            {
                memory.newest = Some(trimmed(registration));
            }
        });
    }

    /// What was planned from may be old.
    fn doubt(&self, key: &RegistrationKey) {
        self.with(key, |memory| memory.newest = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RegistrationKey, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a version is known to be older than another.
fn is_older(one: &DirectoryRegistration, other: &DirectoryRegistration) -> bool {
    let version =
        |object: &DirectoryRegistration| object.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    version(one)
        .zip(version(other))
        .is_some_and(|(one, other)| one < other)
}

fn trimmed(mut registration: DirectoryRegistration) -> DirectoryRegistration {
    registration.metadata.managed_fields = None;
    registration
}

fn api(ctx: &Context) -> Api<DirectoryRegistration> {
    Api::all(ctx.client.clone())
}

/// The registration, at least as new as what this process last wrote; `None` when there is none.
///
/// # Errors
/// It can't be read.
pub(crate) async fn current(
    ctx: &Context,
    key: &RegistrationKey,
) -> Result<Option<DirectoryRegistration>, Error> {
    let newest = ctx.registrations.with(key, |memory| memory.newest.clone());
    if let (Some(seen), Some(newest)) = (ctx.cluster.registration(key), newest) {
        return Ok(Some(if is_older(&seen, &newest) { newest } else { seen }));
    }
    let read = api(ctx).get_opt(key.as_str()).await;
    let read = read.map_err(|source| Error::Read {
        what: format!("DirectoryRegistration {key}"),
        source,
    })?;
    match &read {
        Some(found) => ctx.registrations.know(key, found.clone()),
        None => ctx.registrations.forget(key),
    }
    Ok(read.map(trimmed))
}

/// Writes what the rollout wants of the registration, at the resource version that it was planned from.
///
/// # Errors
/// The API server refused it, or somebody else wrote meanwhile.
pub(crate) async fn apply_spec(
    ctx: &Context,
    before: Option<&DirectoryRegistration>,
    spec: &DirectoryRegistrationSpec,
) -> Result<(), Error> {
    if before.is_some_and(|before| before.spec == *spec) {
        return Ok(());
    }
    let name = DirectoryRegistration::name_of(&spec.directory_id, &spec.region);
    let key = &RegistrationKey::new(&name);
    let result = match before {
        None => {
            let mut registration = DirectoryRegistration::new(&name, spec.clone());
            registration.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            api(ctx).create(&params, &registration).await
        }
        Some(before) => {
            let encode = |spec: &DirectoryRegistrationSpec| {
                serde_json::to_value(spec).map_err(|source| Error::Encode {
                    what: format!("DirectoryRegistration {name}"),
                    source,
                })
            };
            let change = json!({
                "metadata": {"resourceVersion": before.metadata.resource_version},
                "spec": merge_patch(&encode(&before.spec)?, encode(spec)?),
            });
            api(ctx).patch(&name, &by_us(), &Patch::Merge(change)).await
        }
    };
    match result {
        Ok(written) => {
            ctx.registrations.know(key, written);
            Ok(())
        }
        Err(source) => {
            ctx.registrations.doubt(key);
            Err(Error::Apply {
                what: format!("DirectoryRegistration/{name}"),
                source,
            })
        }
    }
}

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
    }
    result
}

/// What was gathered, with the RadiusProxy that holds the directory.
struct Gathered {
    input: RegistrationInput,
    holder: Holder,
}

/// The RadiusProxy that holds the directory.
struct Holder {
    key: ProxyKey,
    /// Absent when it is gone.
    proxy: Option<RadiusProxy>,
    access: Option<DirectoryAccess>,
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

/// Everything observed; or how long to wait for AWS's answer.
async fn gather(
    ctx: &Context,
    key: &RegistrationKey,
    registration: DirectoryRegistration,
) -> Result<Result<Gathered, Duration>, Error> {
    let spec = &registration.spec;
    let holder = ProxyKey::new(&spec.claimed_by.namespace, &spec.claimed_by.name);
    let mut proxies = ctx.cluster.of_directory(key);
    let mut proxy = proxies
        .iter()
        .find(|proxy| ProxyKey::of(proxy) == holder)
        .cloned();
    if proxy.is_none() {
        // A cache that is late must not end a registration.
        let read = ctx.api::<RadiusProxy>(&holder).get_opt(&holder.name).await;
        let read = read.map_err(|source| Error::Read {
            what: format!("RadiusProxy {holder}"),
            source,
        })?;
        proxy = read.filter(|proxy| RegistrationKey::of(proxy).as_ref() == Some(key));
        proxies.extend(proxy.clone());
    }
    let own = &ctx.settings.operator;
    let other = proxy
        .as_ref()
        .and_then(|proxy| operators::other(proxy, own, Timestamp::now()));
    if other.is_some() {
        // Another release works on it.
        return Ok(Err(HELD));
    }
    let access = proxy.as_ref().and_then(|proxy| gather::access_of(ctx, proxy));
    let observation = match &access {
        Some(access) => {
            let allowed = ctx.registrations.with(key, |memory| memory.describe_after);
            let allowed = allowed
                .unwrap_or(ctx.describe_interval)
                .min(ctx.describe_interval);
            let observed = ctx.directories.observe(key, &holder, access, allowed);
            if let Some(wait) = observed.awaited {
                return Ok(Err(wait));
            }
            observed.observation
        }
        None => {
            ctx.directories.forget(key);
            DirectoryObservation::Unasked
        }
    };
    let candidates = proxies
        .iter()
        .filter_map(|proxy| candidate(proxy, gather::access_of(ctx, proxy).is_some()))
        .collect();
    let secret = secret(ctx, &holder, &registration).await?;
    let (outcome, tag_failure) = ctx
        .registrations
        .with(key, |memory| (memory.outcome.clone(), memory.tag_failure.clone()));
    let input = RegistrationInput {
        candidates,
        secret,
        directory: observation,
        outcome,
        tag_failure,
        settings: ctx.settings.clone(),
        replica: ctx.replica.clone(),
        registration,
    };
    let holder = Holder {
        key: holder,
        proxy,
        access,
    };
    Ok(Ok(Gathered { input, holder }))
}

fn candidate(proxy: &RadiusProxy, granted: bool) -> Option<Candidate> {
    let meta = &proxy.metadata;
    let directory = proxy.spec.directory.as_ref()?;
    let abandons = meta
        .annotations
        .as_ref()
        .and_then(|all| all.get(ABANDON_ANNOTATION));
    Some(Candidate {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        created: meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0),
        granted,
        suspended: proxy.spec.suspend,
        adopts: directory.adoption_policy == AdoptionPolicy::Adopt,
        deleted: meta.deletion_timestamp.as_ref().map(|time| time.0),
        abandons: abandons.is_some_and(|value| value == "true"),
    })
}

/// The operator's own Secret of the holder.
async fn secret(
    ctx: &Context,
    key: &ProxyKey,
    registration: &DirectoryRegistration,
) -> Result<Option<SecretContent>, Error> {
    let desired = registration.spec.desired.as_ref();
    let Some(source) = desired.and_then(|desired| desired.shared_secret.as_ref()) else {
        return Ok(None);
    };
    let read = ctx.api::<Secret>(key).get_opt(&source.secret_name).await;
    let found = read.map_err(|error| Error::Read {
        what: format!("Secret {}", source.secret_name),
        source: error,
    })?;
    Ok(found.map(gather::content))
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
    let asks_for_tags = ctx.registrations.with(key, |memory| {
        memory.describe_after = Some(plan.describe_after);
        !std::mem::replace(&mut memory.reads_tags, plan.read_tags) && plan.read_tags
    });
    if asks_for_tags {
        ctx.directories.read_tags(key);
    }
    if let (false, Some(access)) = (plan.tags.is_empty(), &holder.access) {
        let failure = add_tags(ctx, key, holder, access, &plan.tags).await;
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
    match api(ctx).delete(key.as_str(), &params).await {
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
    match api(ctx)
        .patch(key.as_str(), &by_us(), &Patch::Merge(change))
        .await
    {
        Ok(_) => {}
        Err(error) if has_code(&error, 404) => {}
        Err(error) => return Err(Error::Finalizer(error)),
    }
    ctx.registrations.forget(key);
    tracing::info!(registration = key.as_str(), "deleted");
    Ok(())
}

/// Events about the RadiusProxy that holds the directory, also when it is gone.
async fn tell(ctx: &Context, gathered: &Gathered, plan: &RegistrationPlan) {
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
