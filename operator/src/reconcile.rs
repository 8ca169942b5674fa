//! One piece of work: gather, plan, apply, status, at most one write to AWS.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::access::{DirectoryAccess, access};
use operator_core::api::RadiusProxy;
use operator_core::aws::{AwsErrorClass, AwsFailure};
use operator_core::input::{Input, WriteOutcome};
use operator_core::plan::{DirectoryWrite, Plan, plan, without_observation};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::directory::{WritePermit, WriteTurn};
use crate::error::{Error, words};
use crate::gather::{self, Gathered};
use crate::key::ProxyKey;
use crate::memory::Memory;
use crate::second_operator;
use crate::steps::Round;

/// Bounds of the parts of a piece of work.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(150);
/// A tag comes before a write, and must not keep it waiting: one that fails is made later.
const TAGGING: Duration = Duration::from_secs(3);
/// How soon to look again when the leader's lease ends too soon for a write.
const AFTER_RENEWAL: Duration = Duration::from_secs(1);
/// The soonest and the latest next look.
pub(crate) const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);
/// How long what a plan needs can't be read before people are told.
const BLIND_FOR: Duration = Duration::from_secs(30);
/// How often is looked whether another operator still works.
const HELD: Duration = Duration::from_secs(60);

/// Works on one RadiusProxy.
///
/// # Errors
/// The Kubernetes API could not be read, or somebody else wrote the RadiusProxy meanwhile; everything else is part of the
/// next plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let gathered = match within("gathering", PREPARING, prepare(ctx, key, memory)).await? {
        Prepared::Ready(gathered) => gathered,
        Prepared::Held => return Ok(Next::After(HELD)),
        Prepared::Later(wait) => return Ok(Next::After(wait.max(SOONEST))),
        Prepared::Gone => return Ok(Next::Gone),
    };
    let Gathered { input, vacant } = *gathered;
    let plan = plan(&input, Timestamp::now());
    ctx.rollouts.planned(key, plan.upgrading);
    if plan.write.is_some() && !ctx.leadership.may_begin_write(Instant::now()) {
        tracing::info!(
            "the leader's lease ends too soon for a write to AWS; looking again once it is renewed"
        );
        return Ok(Next::After(AFTER_RENEWAL));
    }
    let access = directory_access(ctx, &input);
    let permit = match write_turn(ctx, key, access.as_ref(), &plan).await {
        Some(Ok(WriteTurn::Later(wait))) => return Ok(Next::After(wait.max(SOONEST))),
        Some(Ok(WriteTurn::Now(permit))) => Some(Ok(permit)),
        // The write is noted, and then that it failed.
        Some(Err(failure)) => Some(Err(failure)),
        None => None,
    };
    let round = Round::new(ctx, key, access.as_ref(), input.proxy, memory);
    within("applying", EXECUTING, round.execute(&plan, permit, &vacant)).await
}

/// What [`prepare`] found.
enum Prepared {
    /// The input of a plan.
    Ready(Box<Gathered>),
    /// Another operator works on it.
    Held,
    /// The description of the directory isn't there yet. The RadiusProxy is enqueued when it is, and at the latest after this.
    Later(Duration),
    /// The RadiusProxy doesn't exist any more.
    Gone,
}

/// The turn of the plan's write, or why there is none.
pub(crate) type Permit = Option<Result<Box<WritePermit>, AwsFailure>>;

/// The turn of the plan's write, if it has one.
async fn write_turn(
    ctx: &Context,
    key: &ProxyKey,
    access: Option<&DirectoryAccess>,
    plan: &Plan,
) -> Option<Result<WriteTurn, AwsFailure>> {
    let (write, access) = (plan.write.as_ref()?, access?);
    let operation = write.call.operation();
    Some(ctx.directories.prepare_write(key, access, operation).await)
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

async fn prepare(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Prepared, Error> {
    let Some(proxy) = gather::proxy(ctx, key, memory).await? else {
        return Ok(Prepared::Gone);
    };
    if second_operator::holds(ctx, key, &proxy).await {
        // What it remembers is overtaken when the other one is gone.
        *memory = Memory::default();
        forget(ctx, key);
        return Ok(Prepared::Held);
    }
    ctx.metrics.proxy.status_time(key, proxy.status.as_ref());
    let observed = gather::directory(ctx, key, &proxy, memory);
    if let Some(wait) = observed.awaited {
        return Ok(Prepared::Later(wait));
    }
    match gather::input(ctx, key, proxy.clone(), observed.observation, memory).await {
        Ok(gathered) => {
            memory.blind_since = None;
            Ok(Prepared::Ready(Box::new(gathered)))
        }
        Err(error) => {
            let since = *memory.blind_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= BLIND_FOR {
                tell_blindness(ctx, key, proxy, &error).await;
            }
            Err(error)
        }
    }
}

/// Nothing can be planned for a while: what the status says of now isn't known.
async fn tell_blindness(ctx: &Context, key: &ProxyKey, proxy: RadiusProxy, error: &Error) {
    ctx.metrics.proxy.status_not_written(key);
    let (status, events) = without_observation(&proxy, &words(error), Timestamp::now());
    match apply::status(ctx, key, proxy, &status).await {
        Ok(proxy) => {
            for event in &events {
                ctx.events.publish(&proxy, event).await;
            }
        }
        Err(error) => tracing::debug!(error = words(&error), "could not tell so in the status either"),
    }
}

fn forget(ctx: &Context, key: &ProxyKey) {
    ctx.directories.forget(key);
    ctx.names.observe(key, &[]);
    ctx.metrics.proxy.forget(key);
}

/// What a write made of the directory is looked at at once, for its outcome is not in the status yet.
pub(crate) fn next(plan: &Plan) -> Duration {
    if plan.write.is_some() {
        Duration::ZERO
    } else {
        plan.requeue_after.clamp(SOONEST, LATEST)
    }
}

pub(crate) async fn add_tags(
    ctx: &Context,
    key: &ProxyKey,
    access: &DirectoryAccess,
    tags: &[(String, String)],
) -> Result<(), AwsFailure> {
    match ctx.directories.add_tags(key, access, tags, TAGGING).await {
        Ok(()) => {
            tracing::info!(directory = access.directory_id, "tagged the directory");
            ctx.directories.refresh(key);
            Ok(())
        }
        Err(failure) => {
            tracing::warn!(directory = access.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(key, failure.class.as_str());
            Err(failure)
        }
    }
}

/// The one write. Its deadline is before the end of the leader's lease, so that no two leaders write at once.
pub(crate) async fn send(
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    #[tokio::test]
    async fn secrets_that_stay_out_of_reach_end_a_ready_status() {
        let proxy = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": "auth", "uid": "u", "resourceVersion": "1"},
            "spec": {"provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}}}});
        let api = FakeApi::new(move |call| {
            let mut answer = proxy.clone();
            if call.method == "PATCH" {
                answer["status"] = call.body["status"].clone();
            }
            Some(match call.uri.contains("/secrets/") {
                true => refused(403, "Forbidden"),
                false => (200, answer),
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let (key, mut memory) = (ProxyKey::new("auth", "mfa"), Memory::default());
        run(&ctx, &key, &mut memory).await.unwrap_err();
        let written = |call: &crate::fake_api::Call| call.method == "PATCH";
        assert_eq!(api.calls(0, written).await, []);
        memory.blind_since = Instant::now().checked_sub(BLIND_FOR);
        run(&ctx, &key, &mut memory).await.unwrap_err();
        let calls = api.calls(1, written).await;
        let conditions = calls[0].body["status"]["conditions"].as_array().unwrap().clone();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&json!("Unknown"), &json!("ApiServerErrors"))
        );
        assert!(
            ready["message"].as_str().unwrap().contains("says Forbidden"),
            "{ready}"
        );
    }
}
