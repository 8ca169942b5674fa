//! The rollout controller: gather, plan, execute.

mod steps;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::RadiusProxy;
use operator_core::rollout::{plan, without_observation};

use crate::apply::{self, within};
use crate::context::Context;
use crate::controller::Next;
use crate::error::{Error, message};
use crate::gather::{self, Gathered};
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::ReconcileState;
use crate::second_operator;
use steps::Execution;

/// Time limits of the parts of a reconciliation.
const PREPARING: Duration = Duration::from_secs(90);
const EXECUTING: Duration = Duration::from_secs(150);
/// How long reads may fail before the status reports it.
const UNREADABLE_LIMIT: Duration = Duration::from_secs(30);
/// The time between two checks whether another operator still works.
const SECOND_OPERATOR_INTERVAL: Duration = Duration::from_secs(60);

/// Reconciles one RadiusProxy.
///
/// # Errors
/// The Kubernetes API could not be read, or somebody else wrote the RadiusProxy meanwhile; everything else is part of the
/// next plan.
pub(crate) async fn run(
    ctx: &Context,
    key: &RadiusProxyKey,
    state: &mut ReconcileState,
) -> Result<Next, Error> {
    let gathered = match within("gathering", PREPARING, prepare(ctx, key, state)).await? {
        Prepared::Ready(gathered) => gathered,
        Prepared::Held => return Ok(Next::After(SECOND_OPERATOR_INTERVAL)),
        Prepared::Gone => return Ok(Next::Gone),
    };
    let Gathered { input, vacant } = *gathered;
    let plan = plan(&input, Timestamp::now());
    ctx.rollout_limit.planned(key, plan.upgrading);
    let execution = Execution::new(ctx, key, input.proxy, state);
    within(
        "applying",
        EXECUTING,
        execution.execute(&plan, input.registration.as_ref(), &vacant),
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

async fn prepare(ctx: &Context, key: &RadiusProxyKey, state: &mut ReconcileState) -> Result<Prepared, Error> {
    let Some(proxy) = gather::proxy(ctx, key, state).await? else {
        return Ok(Prepared::Gone);
    };
    if second_operator::holds(ctx, key, &proxy).await {
        // What it remembers is overtaken when the other one is gone.
        *state = ReconcileState::default();
        ctx.forget(key);
        return Ok(Prepared::Held);
    }
    ctx.metrics.proxy.status_time(key, proxy.status.as_ref());
    match gather::input(ctx, key, proxy.clone(), state).await {
        Ok(gathered) => {
            state.unreadable_since = None;
            Ok(Prepared::Ready(Box::new(gathered)))
        }
        Err(error) => {
            let since = *state.unreadable_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= UNREADABLE_LIMIT {
                report_unreadable(ctx, key, proxy, &error).await;
            }
            Err(error)
        }
    }
}

/// Reports that nothing can be planned, so that the status is out of date.
async fn report_unreadable(ctx: &Context, key: &RadiusProxyKey, proxy: RadiusProxy, error: &Error) {
    ctx.metrics.proxy.status_not_written(key);
    let (status, events) = without_observation(&proxy, &message(error), Timestamp::now());
    match apply::status(&ctx.api(key), proxy, &status).await {
        Ok(proxy) => {
            for event in &events {
                ctx.events.publish(&proxy, event).await;
            }
        }
        Err(error) => tracing::debug!(error = message(&error), "could not tell so in the status either"),
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
    async fn a_plan_knows_that_reconciliations_of_the_registration_fail() {
        let registration = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryRegistration",
            "metadata": {"name": "d-0000000001.eu-central-1", "resourceVersion": "1"},
            "spec": {"directoryId": "d-0000000001", "region": "eu-central-1",
                "claimedBy": {"namespace": "auth", "name": "mfa", "uid": "u"}}});
        let api = FakeApi::new(move |call| {
            Some(match call.uri.contains("/directoryregistrations/") {
                true => (200, registration.clone()),
                false => refused(404, "NotFound"),
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let proxy: RadiusProxy = serde_json::from_value(json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": "auth", "uid": "u"},
            "spec": {"directory": {"id": "d-0000000001", "region": "eu-central-1"}, "provider": {}}}))
        .unwrap();
        let (key, mut state) = (RadiusProxyKey::of(&proxy), ReconcileState::default());
        let registration = crate::object_keys::RegistrationKey::of(&proxy).unwrap();
        ctx.registration_states
            .failed(&registration, "denied the request".to_owned());
        let gathered = gather::input(&ctx, &key, proxy, &mut state).await.unwrap();
        let failure = gathered.input.registration_failure.unwrap();
        assert_eq!(failure.message, "denied the request");
    }

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
        let (key, mut state) = (RadiusProxyKey::new("auth", "mfa"), ReconcileState::default());
        run(&ctx, &key, &mut state).await.unwrap();
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
        let (key, mut state) = (RadiusProxyKey::new("auth", "mfa"), ReconcileState::default());
        run(&ctx, &key, &mut state).await.unwrap_err();
        let written = |call: &crate::fake_api::Call| call.method == "PATCH";
        assert_eq!(api.calls(0, written).await, []);
        state.unreadable_since = Instant::now().checked_sub(UNREADABLE_LIMIT);
        run(&ctx, &key, &mut state).await.unwrap_err();
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
