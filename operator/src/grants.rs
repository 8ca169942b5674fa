//! The status of DirectoryGrants: who uses them. Only the leader writes it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use operator_core::access::{status, users};
use operator_core::api::{DirectoryGrant, DirectoryGrantStatus};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::health::Health;
use crate::watch::decoded;

/// How long changes are collected before the statuses are written.
const DEBOUNCE: Duration = Duration::from_secs(2);
/// When the statuses are compared again after a failed write.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Keeps the statuses current while this replica leads, until `stop`. `watched` are the namespaces that are watched; `None`
/// for all.
pub(crate) async fn run(
    ctx: &Context,
    watched: Option<BTreeSet<String>>,
    health: Health,
    stop: CancellationToken,
) {
    loop {
        // An incomplete list of RadiusProxy resources would take users out of the status.
        if health.knows_roots() {
            write(ctx, watched.as_ref()).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.cluster.grants_changed() => {}
            () = tokio::time::sleep(RETRY_AFTER) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DEBOUNCE) => {}
        }
    }
}

/// Writes the statuses that are not as they should be.
async fn write(ctx: &Context, watched: Option<&BTreeSet<String>>) {
    let (grants, proxies) = (ctx.cluster.grants(), ctx.cluster.proxies());
    let (grants, proxies) = (decoded(&grants), decoded(&proxies));
    let namespaces = ctx.cluster.namespaces();
    let users = users(&grants, &proxies, &namespaces);
    let api: Api<DirectoryGrant> = Api::all(ctx.client.clone());
    for grant in &grants {
        let Some(name) = grant.metadata.name.as_deref() else {
            continue;
        };
        let of_grant = users.get(name).map_or(&[][..], Vec::as_slice);
        let wanted = status(grant, of_grant, watched, &namespaces, Timestamp::now());
        if grant.status.as_ref() == Some(&wanted) {
            continue;
        }
        let patched = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch(&wanted)))
            .await;
        if let Err(error) = patched {
            tracing::warn!(grant = name, %error, "the status of a DirectoryGrant cannot be written; it is retried");
        }
    }
}

/// A merge patch that also clears what the status no longer has.
fn patch(status: &DirectoryGrantStatus) -> serde_json::Value {
    json!({"status": {
        "observedGeneration": status.observed_generation,
        "conditions": status.conditions,
        "userCount": status.user_count,
        "users": status.users,
    }})
}
