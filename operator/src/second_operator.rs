//! Holds where the operator of another release works on a RadiusProxy ([`operator_core::rollout::second_operator`]).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::Patch;
use operator_core::api::RadiusProxy;
use operator_core::names::SECOND_OPERATOR_ANNOTATION;
use operator_core::rollout::second_operator::{self, LeaseState};
use serde_json::json;

use crate::apply::by_us;
use crate::context::Context;
use crate::error::message;
use crate::object_keys::RadiusProxyKey;

/// Whether another operator works on it. Writes a notice, which the other operator shows in a condition.
pub(crate) async fn holds(ctx: &Context, key: &RadiusProxyKey, proxy: &RadiusProxy) -> bool {
    let now = Timestamp::now();
    let Some(other) = other(ctx, proxy, now).await else {
        return false;
    };
    if let Some(notice) = second_operator::notice(proxy, &ctx.settings.operator, now) {
        tracing::warn!(
            operator = other,
            "another operator works on this RadiusProxy; holding"
        );
        let change = json!({"metadata": {"annotations": {SECOND_OPERATOR_ANNOTATION: notice}}});
        let api: Api<RadiusProxy> = ctx.api(key);
        if let Err(error) = api.patch(&key.name, &by_us(), &Patch::Merge(change)).await {
            tracing::warn!(error = message(&error), "could not tell the other operator");
        }
    }
    true
}

/// The operator of another release that works on it.
pub(crate) async fn other<'a>(ctx: &Context, proxy: &'a RadiusProxy, now: Timestamp) -> Option<&'a str> {
    let other = second_operator::other(proxy, &ctx.settings.operator, now)?;
    second_operator::is_at_work(lease(ctx, other).await, now).then_some(other)
}

/// The other operator's Lease; this one may lack the permission to read it.
async fn lease(ctx: &Context, operator: &str) -> LeaseState {
    let mut parts = operator.split('/');
    let (Some(namespace), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
        return LeaseState::Unknown;
    };
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(lease)) => state(&lease),
        Ok(None) => LeaseState::Absent,
        Err(_) => LeaseState::Unknown,
    }
}

fn state(lease: &Lease) -> LeaseState {
    let spec = lease.spec.clone().unwrap_or_default();
    let Some(renewed) = spec.renew_time else {
        return LeaseState::Unknown;
    };
    let seconds = spec.lease_duration_seconds.unwrap_or_default().max(0);
    let end = renewed
        .0
        .saturating_add(SignedDuration::from_secs(seconds.into()));
    LeaseState::Until(end.unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::fake_api::{Call, FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    fn proxy() -> Value {
        json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": "auth"}, "spec": {"provider": {}},
            "status": {"operator": "elsewhere/other", "lastRefreshTime": Timestamp::now().to_string(),
                "replicas": 0, "readyReplicas": 0, "configuredReplicas": 0, "selector": ""}})
    }

    /// Whether it holds, and what it patched.
    async fn held(renewed: Option<Timestamp>) -> (bool, Vec<Call>) {
        let lease = renewed.map(|renewed| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "other"},
                "spec": {"leaseDurationSeconds": 15, "renewTime": format!("{renewed:.6}")}})
        });
        let api = FakeApi::new(move |call| match call.method.as_str() {
            "GET" => Some(
                lease
                    .clone()
                    .map_or_else(|| refused(404, "NotFound"), |lease| (200, lease)),
            ),
            _ => Some((200, proxy())),
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let proxy = serde_json::from_value(proxy()).unwrap();
        let holds = holds(&ctx, &RadiusProxyKey::new("auth", "mfa"), &proxy).await;
        (holds, api.calls(0, |call| call.method == "PATCH").await)
    }

    #[tokio::test]
    async fn an_operator_that_works_is_left_alone_and_told_and_one_that_is_gone_is_replaced() {
        let (holds, patches) = held(Some(Timestamp::now())).await;
        assert!(holds);
        let notice = &patches[0].body["metadata"]["annotations"][SECOND_OPERATOR_ANNOTATION];
        assert!(
            notice
                .as_str()
                .unwrap()
                .starts_with("radius-mfa-system/radius-mfa-operator ")
        );
        assert_eq!(patches.len(), 1);
        let (holds, patches) = held(Some(Timestamp::now() - SignedDuration::from_secs(90))).await;
        assert!(!holds && patches.is_empty());
        let (holds, patches) = held(None).await;
        assert!(!holds && patches.is_empty(), "its Lease is deleted");
    }
}
