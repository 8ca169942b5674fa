//! Whose the objects are that have the names that the plan needs.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
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
        .map(|id| async move { Ok::<_, Error>((apply::metadata(ctx, key, &id).await?, id)) })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut owners = Owners::default();
    for (found, object) in read {
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
