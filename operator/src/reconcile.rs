//! One piece of work: gather, plan, apply, status, at most one write to AWS.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::access::{DirectoryAccess, access};
use operator_core::api::RadiusProxy;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::input::WriteOutcome;
use operator_core::plan::{DirectoryWrite, Plan, plan, without_observation};

use crate::apply::{self, within};
use crate::context::Context;
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
/// A write to AWS is given at most this, and less when the leader's lease ends sooner.
const WRITING: Duration = Duration::from_secs(10);
/// Kept between the end of a write and the end of the leader's lease.
const SPARE: Duration = Duration::from_secs(1);
/// With less left of the lease than this, nothing that writes to AWS is begun.
const ENOUGH: Duration = Duration::from_secs(5);
/// The soonest and the latest next look.
pub(crate) const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);
/// How soon a plan with news of the last round follows.
/// How long what a plan needs can't be read before people are told.
const BLIND_FOR: Duration = Duration::from_secs(30);
/// How often is looked whether another operator still works.
const HELD: Duration = Duration::from_secs(60);

/// What comes after a piece of work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The RadiusProxy exists no more.
    Gone,
    /// Look again at the latest after this.
    After(Duration),
}

/// Works on one RadiusProxy.
///
/// # Errors
/// The Kubernetes API could not be read, or somebody else wrote the RadiusProxy meanwhile; everything else is part of the
/// next plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let gathered = match within("gathering", PREPARING, prepare(ctx, key, memory)).await? {
        Prepared::Ready(gathered) => gathered,
        Prepared::Held => return Ok(Next::After(HELD)),
        Prepared::Gone => {
            forget(ctx, key);
            return Ok(Next::Gone);
        }
    };
    let Gathered { input, vacant } = *gathered;
    let plan = plan(&input, Timestamp::now());
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
    let access = access(&input.proxy, &input.grants, &ctx.settings.cluster).ok();
    let round = Round::new(ctx, key, access.as_ref(), input.proxy, memory);
    within("applying", EXECUTING, round.execute(&plan, &vacant)).await
}

/// What [`prepare`] found.
enum Prepared {
    /// The input of a plan.
    Ready(Box<Gathered>),
    /// Another operator works on it.
    Held,
    /// The RadiusProxy exists no more.
    Gone,
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
    match gather::input(ctx, key, proxy.clone(), memory).await {
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
    way: &DirectoryAccess,
    tags: &[(String, String)],
) -> Result<(), AwsFailure> {
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
            Ok(())
        }
        Err(failure) => {
            tracing::warn!(directory = way.directory_id, %failure, "could not tag the directory");
            ctx.metrics.proxy.failed(key, failure.class.as_str());
            Err(failure)
        }
    }
}

/// The one write. Its deadline lies before the end of the leader's lease, so that no two leaders write at once.
pub(crate) async fn send(
    ctx: &Context,
    key: &ProxyKey,
    way: &DirectoryAccess,
    write: &DirectoryWrite,
) -> WriteOutcome {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, refused};
    use crate::queue::WorkQueue;
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
        let cluster = Arc::new(Cluster::new(WorkQueue::new()));
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
