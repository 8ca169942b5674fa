//! One round of a rollout: gather, plan, execute.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::RadiusProxy;
use operator_core::conditions::Reason;
use operator_core::input::Input;
use operator_core::plan::{Event, FinalizerChange, Plan, plan};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::error::Error;
use crate::gather;
use crate::key::ProxyKey;
use crate::memory::Memory;
use crate::registration;

/// Bounds of the parts of a piece of work.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(90);
/// The soonest and the latest next look.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);

/// One round of the rollout of one RadiusProxy.
///
/// # Errors
/// The Kubernetes API refused or did not answer; everything else is part of the plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let Some((input, plan)) = within("gathering", PREPARING, prepare(ctx, key, memory)).await? else {
        return Ok(Next::Gone);
    };
    within("applying", EXECUTING, execute(ctx, key, &input, plan, memory)).await
}

/// Gathers and plans, again where objects of the wanted names belong to somebody else.
async fn prepare(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Option<(Input, Plan)>, Error> {
    let Some(proxy) = gather::proxy(ctx, key, memory).await? else {
        return Ok(None);
    };
    let mut input = gather::input(ctx, key, proxy, memory).await?;
    let now = Timestamp::now();
    let mut planned = plan(&input, now);
    ctx.rollouts.planned(key, planned.upgrading);
    input.foreign = apply::foreign(ctx, key, &input.proxy, &planned.apply).await?;
    if !input.foreign.is_empty() {
        planned = plan(&input, now);
    }
    Ok(Some((input, planned)))
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
    if let Some(spec) = &plan.registration {
        let applied = registration::apply_spec(ctx, input.registration.as_ref(), spec).await;
        if let Err(error) = applied {
            if error.is_conflict() {
                return Ok(Next::After(SOONEST));
            }
            return Err(error);
        }
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
    ctx.metrics.proxy.show(key, &plan.status, now);
    for object in &plan.delete {
        apply::delete(ctx, key, object).await?;
    }
    for event in &plan.events {
        ctx.events.publish(&proxy, event).await;
    }
    if plan.finalizer == FinalizerChange::Remove {
        memory.newest = apply::finalizer(ctx, key, &proxy, false).await?;
    }
    Ok(Next::After(plan.requeue_after.clamp(SOONEST, LATEST)))
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
