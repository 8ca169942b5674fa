//! One piece of work: gather, plan, apply, status, at most one write to AWS.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::access::{DirectoryAccess, access};
use operator_core::api::RadiusProxy;
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::conditions::Reason;
use operator_core::input::{Input, WriteOutcome};
use operator_core::plan::{DirectoryWrite, Event, FinalizerChange, Plan, is_fresh, plan};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::directory::{WritePermit, WriteTurn};
use crate::error::Error;
use crate::gather;
use crate::key::ProxyKey;
use crate::memory::Memory;

/// Bounds of the parts of a piece of work.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);
/// The soonest and the latest next look.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);

/// Works on one RadiusProxy.
///
/// # Errors
/// The Kubernetes API refused or did not answer; everything else is part of the plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let prepared = within("gathering", PREPARING, prepare(ctx, key, memory)).await?;
    let (input, plan) = match prepared {
        Prepared::Gone => return Ok(Next::Gone),
        Prepared::Later(wait) => return Ok(Next::After(wait.max(SOONEST))),
        Prepared::Planned(planned) => *planned,
    };
    if plan.write.is_some() && !ctx.leadership.may_begin_write(Instant::now()) {
        tracing::info!(
            "the leader's lease ends too soon for a write to AWS; looking again once it is renewed"
        );
        return Ok(Next::After(AFTER_RENEWAL));
    }
    let permit = match write_turn(ctx, key, &input, &plan).await {
        Some(Ok(WriteTurn::Later(wait))) => return Ok(Next::After(wait.max(SOONEST))),
        Some(Ok(WriteTurn::Now(permit))) => Some(Ok(permit)),
        // The write is noted, and then that it failed.
        Some(Err(failure)) => Some(Err(failure)),
        None => None,
    };
    let executed = execute(ctx, key, &input, plan, permit, memory);
    within("applying", EXECUTING, executed).await
}

/// What came of gathering and planning.
enum Prepared {
    /// The RadiusProxy doesn't exist any more.
    Gone,
    /// The description of the directory isn't there yet. The RadiusProxy is enqueued when it is, and at the latest after this.
    Later(Duration),
    Planned(Box<(Input, Plan)>),
}

/// The turn of the plan's write, if it has one.
async fn write_turn(
    ctx: &Context,
    key: &ProxyKey,
    input: &Input,
    plan: &Plan,
) -> Option<Result<WriteTurn, AwsFailure>> {
    let (write, access) = (plan.write.as_ref()?, directory_access(ctx, input)?);
    let operation = write.call.operation();
    Some(ctx.directories.prepare_write(key, &access, operation).await)
}

/// Gathers and plans, again where the plan itself says that more has to be looked at.
async fn prepare(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Prepared, Error> {
    let Some(proxy) = gather::proxy(ctx, key, memory).await? else {
        return Ok(Prepared::Gone);
    };
    let observed = gather::directory(ctx, key, &proxy, memory);
    if let Some(wait) = observed.awaited {
        return Ok(Prepared::Later(wait));
    }
    let mut input = gather::input(ctx, key, proxy, observed.observation, memory).await?;
    let now = Timestamp::now();
    let mut planned = plan(&input, now);
    ctx.rollouts.planned(key, planned.upgrading);
    input.foreign = apply::foreign(ctx, key, &input.proxy, &planned.apply).await?;
    if !input.foreign.is_empty() {
        planned = plan(&input, now);
    }
    let described = input.directory.described();
    if planned.write.is_some() && !described.is_some_and(|directory| is_fresh(directory, now)) {
        ctx.directories.refresh(key);
        let observed = gather::directory(ctx, key, &input.proxy, memory);
        if let Some(wait) = observed.awaited {
            return Ok(Prepared::Later(wait));
        }
        input.directory = observed.observation;
        planned = plan(&input, Timestamp::now());
    }
    Ok(Prepared::Planned(Box::new((input, planned))))
}

fn directory_access(ctx: &Context, input: &Input) -> Option<DirectoryAccess> {
    access(
        &input.proxy,
        input.namespace_labels.as_ref(),
        &input.grants,
        &ctx.settings.cluster,
    )
    .ok()
}

/// Carries the plan out, in its own order ([`operator_core::plan`]).
async fn execute(
    ctx: &Context,
    key: &ProxyKey,
    input: &Input,
    plan: Plan,
    permit: Option<Result<Box<WritePermit>, AwsFailure>>,
    memory: &mut Memory,
) -> Result<Next, Error> {
    let now = Timestamp::now();
    let mut proxy = input.proxy.clone();
    if plan.finalizer == FinalizerChange::Add {
        match apply::finalizer(ctx, key, &proxy, true).await? {
            Some(changed) => proxy = changed,
            None => return Ok(Next::After(SOONEST)),
        }
        memory.newest = Some(proxy.clone());
    }
    if let Err(error) = apply::objects(ctx, key, &plan.apply, memory).await {
        tell_refusal(ctx, key, input, proxy, &error).await?;
        return Err(error);
    }
    for pod in &plan.pods {
        apply::pod(ctx, key, pod, now, memory).await?;
    }
    proxy = apply::status(ctx, key, proxy, &plan.status).await?;
    memory.newest = Some(proxy.clone());
    memory.describe_after = Some(plan.describe_after);
    ctx.metrics.proxy.show(key, &plan.status, now);
    ctx.metrics
        .proxy
        .radius_failed(key, input.proxy.status.as_ref(), &plan.status);
    if let (false, Some(access)) = (plan.tags.is_empty(), directory_access(ctx, input)) {
        memory.tag_failure = add_tags(ctx, key, &access, &plan.tags).await;
    }
    if let (Some(write), Some(permit)) = (&plan.write, permit) {
        memory.outcome = Some(send(ctx, key, write, permit).await);
    }
    for object in &plan.delete {
        apply::delete(ctx, key, object).await?;
    }
    for event in &plan.events {
        ctx.events.publish(&proxy, event).await;
    }
    if plan.finalizer == FinalizerChange::Remove {
        memory.newest = apply::finalizer(ctx, key, &proxy, false).await?;
    }
    Ok(next(&plan))
}

/// Puts into the conditions what the API server will not take. The rest of the status stays: it says what was done, and
/// nothing of this round was.
async fn tell_refusal(
    ctx: &Context,
    key: &ProxyKey,
    input: &Input,
    proxy: RadiusProxy,
    error: &Error,
) -> Result<(), Error> {
    let Some(refusal) = error.refusal() else {
        return Ok(());
    };
    let mut input = input.clone();
    input.refusal = Some(refusal);
    let plan = plan(&input, Timestamp::now());
    let mut status = proxy.status.clone().unwrap_or_default();
    status.conditions = plan.status.conditions;
    status.observed_generation = plan.status.observed_generation;
    let proxy = apply::status(ctx, key, proxy, &status).await?;
    let refused = |event: &&Event| event.reason == Reason::ObjectRefused.as_str();
    for event in plan.events.iter().filter(refused) {
        ctx.events.publish(&proxy, event).await;
    }
    Ok(())
}

/// What a write made of the directory is looked at at once, for its outcome is not in the status yet.
fn next(plan: &Plan) -> Next {
    if plan.write.is_some() {
        Next::After(Duration::ZERO)
    } else {
        Next::After(plan.requeue_after.clamp(SOONEST, LATEST))
    }
}

async fn add_tags(
    ctx: &Context,
    key: &ProxyKey,
    access: &DirectoryAccess,
    tags: &[(String, String)],
) -> Option<AwsFailure> {
    match ctx.directories.add_tags(key, access, tags, TAGGING).await {
        Ok(()) => {
            tracing::info!(directory = access.directory_id, "tagged the directory");
            ctx.directories.refresh(key);
            None
        }
        Err(failure) => {
            tracing::warn!(directory = access.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(key, failure.class.as_str());
            Some(failure)
        }
    }
}

/// The one write. Its deadline is before the end of the leader's lease, so that no two leaders write at once.
async fn send(
    ctx: &Context,
    key: &ProxyKey,
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
            ctx.metrics.proxy.wrote(key, write);
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
            ctx.metrics.proxy.failed(key, failure.class.as_str());
        }
    }
    WriteOutcome {
        id: write.id.clone(),
        result,
    }
}
