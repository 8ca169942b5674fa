//! Whose the objects are that have the names that the plan needs.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _};
use operator_core::api::RadiusProxy;
use operator_core::observed::{ForeignObject, ObjectId};
use operator_core::rollout::ownership::{Ownership, object_ids};

use crate::apply;
use crate::context::Context;
use crate::error::Error;
use crate::object_keys::RadiusProxyKey;

/// Objects whose metadata is read at once.
const READS_AT_ONCE: usize = 8;

/// Whose the objects are that have the names of the plan's.
#[derive(Default)]
pub(super) struct Owners {
    pub(super) foreign: Vec<ForeignObject>,
    pub(super) orphans: Vec<ObjectId>,
    pub(super) vacant: BTreeSet<ObjectId>,
}

/// Looks at the objects that the watch doesn't show as this RadiusProxy's.
pub(super) async fn owners(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
) -> Result<Owners, Error> {
    // A deletion applies nothing, and what it could ask for may be out of reach.
    if proxy.metadata.deletion_timestamp.is_some() {
        return Ok(Owners::default());
    }
    let ids = object_ids(proxy);
    let kinds: BTreeSet<&str> = ids.iter().map(|id| id.kind).collect();
    let rows = kinds.into_iter().flat_map(|kind| {
        let rows = ctx.cluster.owned_of(kind, key).into_iter();
        rows.map(move |(name, row)| (kind, name, row.controller))
    });
    let ours: BTreeSet<(&str, String)> = rows
        .filter(|(_, _, controller)| *controller == proxy.metadata.uid)
        .map(|(kind, name, _)| (kind, name))
        .collect();
    let unknown = ids
        .iter()
        .filter(|id| !ours.contains(&(id.kind, id.name.clone())));
    let unknown: Vec<ObjectId> = unknown.cloned().collect();
    let read: Vec<_> = stream::iter(unknown)
        .map(|id| async move { (apply::metadata(ctx, key, &id).await, id) })
        .buffered(READS_AT_ONCE)
        .collect()
        .await;
    let mut owners = Owners::default();
    for (found, object) in read {
        let found = match found {
            // It is read again before it is applied, as a step of its own. Of a Secret it matters whose it is before it is used.
            Err(error) if error.is_refusal() && object.kind != "Secret" => continue,
            found => found?,
        };
        match found.map(|found| apply::owner(ctx, proxy, &found)) {
            None => drop(owners.vacant.insert(object)),
            Some(Ownership::Ours) => {}
            Some(Ownership::Orphan) => owners.orphans.push(object),
            Some(Ownership::Foreign { controller }) => {
                owners.foreign.push(ForeignObject { object, controller });
            }
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    async fn read(refused_kind: &'static str) -> Result<Owners, Error> {
        let api = FakeApi::new(move |call| {
            Some(match call.uri.contains(refused_kind) {
                true => refused(403, "Forbidden"),
                false => refused(404, "NotFound"),
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let proxy = serde_json::from_value(
            json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": "auth", "uid": "u"}, "spec": {"provider": {}}}),
        );
        owners(&ctx, &RadiusProxyKey::new("auth", "mfa"), &proxy.unwrap()).await
    }

    #[tokio::test]
    async fn a_kind_that_cannot_be_read_stops_nobody_but_a_secret() {
        let owners = read("/poddisruptionbudgets/").await.unwrap();
        assert!(owners.vacant.iter().all(|id| id.kind != "PodDisruptionBudget"));
        assert!(owners.vacant.iter().any(|id| id.kind == "StatefulSet"));
        assert!(read("/secrets/").await.is_err(), "a planted one must not be used");
    }
}
