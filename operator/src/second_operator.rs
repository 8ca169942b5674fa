//! Holds where the operator of another release works on a RadiusProxy ([`operator_core::plan::operators`]).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use operator_core::api::RadiusProxy;
use operator_core::names::{FIELD_MANAGER, SECOND_OPERATOR_ANNOTATION};
use operator_core::plan::operators::{self, LeaseState};
use serde_json::json;

use crate::context::Context;
use crate::error::words;
use crate::key::ProxyKey;

/// Whether another operator works on it. It is told of this one, and tells people.
pub(crate) async fn holds(ctx: &Context, key: &ProxyKey, proxy: &RadiusProxy) -> bool {
    let now = Timestamp::now();
    let own = &ctx.settings.operator;
    let Some(other) = operators::other(proxy, own, now) else {
        return false;
    };
    if !operators::is_at_work(lease(ctx, other).await, now) {
        tracing::info!(operator = other, "took over from an operator that is gone");
        return false;
    }
    if let Some(notice) = operators::notice(proxy, own, now) {
        tracing::warn!(
            operator = other,
            "another operator works on this RadiusProxy; holding"
        );
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let change = json!({"metadata": {"annotations": {SECOND_OPERATOR_ANNOTATION: notice}}});
        let api: Api<RadiusProxy> = ctx.api(key);
        if let Err(error) = api.patch(&key.name, &params, &Patch::Merge(change)).await {
            tracing::warn!(error = words(&error), "could not tell the other operator");
        }
    }
    true
}

/// The other operator's Lease; this one may lack the permission to read it.
async fn lease(ctx: &Context, operator: &str) -> LeaseState {
    let Some((namespace, name)) = operator.split_once('/') else {
        return LeaseState::Unknown;
    };
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(lease)) => state(&lease),
        Ok(None) | Err(_) => LeaseState::Unknown,
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
