//! One piece of work: gather, plan, apply, status, at most one write to AWS.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::access::{DirectoryAccess, access};
use operator_core::api::RadiusProxy;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::conditions::Reason;
use operator_core::input::{Input, WriteOutcome};
use operator_core::plan::{DirectoryWrite, Event, FinalizerChange, Plan, is_fresh, plan};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::error::Error;
use crate::gather;
use crate::key::ProxyKey;
use crate::memory::Memory;

/// Bounds of the parts of a piece of work.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// A write to AWS is given at most this, and less when the leader's lease ends sooner.
const WRITING: Duration = Duration::from_secs(10);
/// Kept between the end of a write and the end of the leader's lease.
const SPARE: Duration = Duration::from_secs(1);
/// With less left of the lease than this, nothing that writes to AWS is begun.
const ENOUGH: Duration = Duration::from_secs(5);
/// The soonest and the latest next look.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);

/// Works on one RadiusProxy.
///
/// # Errors
/// The Kubernetes API refused or did not answer; everything else is part of the plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let Some((input, plan)) = within("gathering", PREPARING, prepare(ctx, key, memory)).await? else {
        return Ok(Next::Gone);
    };
    if plan.write.is_some()
        && ctx
            .leadership
            .remaining(Instant::now())
            .is_none_or(|left| left < ENOUGH)
    {
        tracing::info!(
            "the leader's lease ends too soon for a write to AWS; looking again once it is renewed"
        );
        return Ok(Next::After(Duration::from_secs(1)));
    }
    within("applying", EXECUTING, execute(ctx, key, &input, plan, memory)).await
}

/// Gathers and plans, again where the plan itself says that more has to be looked at.
async fn prepare(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Option<(Input, Plan)>, Error> {
    let Some(proxy) = gather::proxy(ctx, key, memory).await? else {
        return Ok(None);
    };
    let mut input = gather::input(ctx, key, proxy, memory).await?;
    let mut now = Timestamp::now();
    let mut planned = plan(&input, now);
    input.foreign = apply::foreign(ctx, key, &input.proxy, &planned.apply).await?;
    if !input.foreign.is_empty() {
        planned = plan(&input, now);
    }
    let described = input.directory.described();
    if planned.write.is_some() && !described.is_some_and(|directory| is_fresh(directory, now)) {
        ctx.directories.refresh(key);
        let way = way(ctx, &input);
        input.directory = gather::directory(ctx, key, way.as_ref(), memory).await;
        now = Timestamp::now();
        planned = plan(&input, now);
    }
    Ok(Some((input, planned)))
}

fn way(ctx: &Context, input: &Input) -> Option<DirectoryAccess> {
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
    let way = way(ctx, input);
    if let (false, Some(way)) = (plan.tags.is_empty(), &way) {
        memory.tag_failure = add_tags(ctx, key, way, &plan.tags).await;
    }
    if let (Some(write), Some(way)) = (&plan.write, &way) {
        memory.outcome = Some(send(ctx, key, way, write).await);
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
    way: &DirectoryAccess,
    tags: &[(String, String)],
) -> Option<AwsFailure> {
    let tagged = tokio::time::timeout(TAGGING, ctx.directories.add_tags(key, way, tags)).await;
    let late = |_| {
        Err(AwsFailure {
            operation: AwsOperation::AddTagsToResource,
            class: AwsErrorClass::Unreachable,
            message: format!("no answer within {} s", TAGGING.as_secs()),
            request_id: None,
        })
    };
    match tagged.unwrap_or_else(late) {
        Ok(()) => {
            tracing::info!(directory = way.directory_id, "tagged the directory");
            ctx.directories.refresh(key);
            None
        }
        Err(failure) => {
            tracing::warn!(directory = way.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(key, failure.class.as_str());
            Some(failure)
        }
    }
}

/// The one write. Its deadline lies before the end of the leader's lease, so that no two leaders write at once.
async fn send(ctx: &Context, key: &ProxyKey, way: &DirectoryAccess, write: &DirectoryWrite) -> WriteOutcome {
    let operation = write.call.operation();
    let left = ctx
        .leadership
        .remaining(Instant::now())
        .unwrap_or_default()
        .saturating_sub(SPARE);
    let result = if left < SPARE {
        Err(AwsFailure {
            operation,
            class: AwsErrorClass::NotSent,
            message: "the leader's lease was about to end".to_owned(),
            request_id: None,
        })
    } else {
        let sent = ctx.directories.write(way, &write.call, left.min(WRITING)).await;
        ctx.metrics.proxy.wrote(key, write);
        sent
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
