//! One round of a rollout: gather, plan, execute.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::RadiusProxy;
use operator_core::plan::{Plan, plan, without_observation};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::error::{Error, words};
use crate::gather::{self, Gathered};
use crate::key::ProxyKey;
use crate::memory::Memory;
use crate::second_operator;
use crate::steps::Round;

/// Bounds of the parts of a piece of work.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(150);
/// The soonest and the latest next look.
pub(crate) const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3600);
/// How long what a plan needs can't be read before people are told.
const BLIND_FOR: Duration = Duration::from_secs(30);
/// How often is looked whether another operator still works.
const HELD: Duration = Duration::from_secs(60);

/// One round of the rollout of one RadiusProxy.
///
/// # Errors
/// The Kubernetes API could not be read, or somebody else wrote the RadiusProxy meanwhile; everything else is part of the
/// next plan.
pub(crate) async fn run(ctx: &Context, key: &ProxyKey, memory: &mut Memory) -> Result<Next, Error> {
    let gathered = match within("gathering", PREPARING, prepare(ctx, key, memory)).await? {
        Prepared::Ready(gathered) => gathered,
        Prepared::Held => return Ok(Next::After(HELD)),
        Prepared::Gone => return Ok(Next::Gone),
    };
    let Gathered { input, vacant } = *gathered;
    let plan = plan(&input, Timestamp::now());
    ctx.rollouts.planned(key, plan.upgrading);
    let round = Round::new(ctx, key, input.proxy, memory);
    within(
        "applying",
        EXECUTING,
        round.execute(&plan, input.registration.as_ref(), &vacant),
    )
    .await
}

/// What [`prepare`] found.
enum Prepared {
    /// The input of a plan.
    Ready(Box<Gathered>),
    /// Another operator works on it.
    Held,
    /// The RadiusProxy doesn't exist any more.
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
    ctx.names.observe(key, &[]);
    ctx.metrics.proxy.forget(key);
}

/// When the rollout is looked at again.
pub(crate) fn next(plan: &Plan) -> Duration {
    plan.requeue_after.clamp(SOONEST, LATEST)
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
    async fn a_secret_of_the_spec_that_cannot_be_read_is_named_in_the_status() {
        let proxy = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": "auth", "uid": "u", "resourceVersion": "1"},
            "spec": {"provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}}}});
        let api = FakeApi::new(move |call| {
            let mut answer = proxy.clone();
            if call.method == "PATCH" {
                answer["status"] = call.body["status"].clone();
            }
            Some(match call.uri.as_str() {
                uri if uri.contains("/secrets/duo") => refused(403, "Forbidden"),
                uri if uri.contains("/radiusproxies/") => (200, answer),
                _ => refused(404, "NotFound"),
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let (key, mut memory) = (ProxyKey::new("auth", "mfa"), Memory::default());
        run(&ctx, &key, &mut memory).await.unwrap();
        let calls = api.calls(1, |call| call.method == "PATCH").await;
        let conditions = calls[0].body["status"]["conditions"].as_array().unwrap();
        let secrets = conditions.iter().find(|c| c["type"] == "SecretsReady").unwrap();
        assert_eq!(
            (&secrets["status"], &secrets["reason"]),
            (&json!("False"), &json!("ApiServerErrors"))
        );
        assert!(
            secrets["message"].as_str().unwrap().contains("says Forbidden"),
            "{secrets}"
        );
    }

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
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
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
