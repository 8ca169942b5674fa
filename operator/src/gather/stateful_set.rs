//! The StatefulSet, at least as new as what this process applied: an annotation of it records the state of a surge.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::apps::v1::StatefulSet;
use operator_core::api::RadiusProxy;
use operator_core::names::ObjectNames;
use operator_core::observed::{ObjectId, StatefulSetState};

use crate::context::Context;
use crate::error::Error;
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::Applied;
use crate::watch::owned::{self, Detail, Owned};

/// The StatefulSet as the watch has it, or read live where the watch may be late. `vacant` are names without an object a
/// moment ago.
pub(super) async fn stateful_set(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
    vacant: &BTreeSet<ObjectId>,
    applied: &HashMap<ObjectId, Applied>,
) -> Result<Option<StatefulSetState>, Error> {
    let id = ObjectId {
        kind: "StatefulSet",
        name: ObjectNames::new(&key.name).workload().to_owned(),
    };
    let sets = ctx.cluster.owned_of(id.kind, key).into_iter();
    let seen = sets
        .filter(|(name, _)| *name == id.name)
        .map(|(_, set)| set)
        .next();
    let is_current = match &seen {
        Some(seen) => applied
            .get(&id)
            .is_some_and(|applied| applied.fingerprint == seen.fingerprint),
        None => vacant.contains(&id),
    };
    // A deletion applies nothing, and the StatefulSet may be out of reach.
    let set = if is_current || proxy.metadata.deletion_timestamp.is_some() {
        seen
    } else {
        read(ctx, key, &id).await?
    };
    // One that another resource of the name left behind is about to go with it.
    let ours = set.filter(|set| set.controller == proxy.metadata.uid);
    Ok(ours.and_then(|set| match set.detail {
        Detail::StatefulSet(state) => Some(state),
        _ => None,
    }))
}

async fn read(ctx: &Context, key: &RadiusProxyKey, id: &ObjectId) -> Result<Option<Owned>, Error> {
    let read = ctx.api::<StatefulSet>(key).get_opt(&id.name).await;
    let found = read.map_err(|source| Error::Read {
        what: id.to_string(),
        source,
    })?;
    Ok(found.map(|set| owned::owned(id.kind, &set.metadata, owned::stateful_set(&set))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operator_core::api::RadiusProxySpec;
    use serde_json::{Value, json};

    use super::*;
    use crate::fake_api::{Call, FakeApi};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    fn set(generation: i64, phase: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "a", "namespace": "mfa", "uid": "s", "generation": generation,
                "labels": {"radius-mfa.dev/proxy": "a"},
                "annotations": {"radius-mfa.dev/surge": json!({"phase": phase, "replicas": 2}).to_string()},
                "ownerReferences": [{"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "name": "a", "uid": "u",
                    "controller": true}]},
            "spec": {"selector": {}, "serviceName": "a", "template": {}}})
    }

    /// A surge that seems to be where it was before the last apply would register the other half of the pods again.
    #[tokio::test]
    async fn a_surge_is_not_read_from_a_watch_that_lags_behind_our_own_apply() {
        let api = FakeApi::new(|_| Some((200, set(3, "Moved"))));
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), Arc::clone(&cluster));
        let spec: RadiusProxySpec = serde_json::from_value(json!({"provider": {}})).unwrap();
        let mut proxy = RadiusProxy::new("a", spec);
        proxy.metadata.uid = Some("u".to_owned());
        let decode = |json: Value| serde_json::from_value::<StatefulSet>(json).unwrap();
        let newest = decode(set(3, "Moved"));
        let applied = HashMap::from([(
            ObjectId {
                kind: "StatefulSet",
                name: "a".to_owned(),
            },
            Applied {
                wanted: 0,
                fingerprint: owned::fingerprint("StatefulSet", &newest.metadata),
            },
        )]);
        for (seen, reads) in [(set(2, "Starting"), 1), (set(3, "Moved"), 1)] {
            cluster.put_stateful_set(&decode(seen));
            let key = RadiusProxyKey::new("mfa", "a");
            let vacant = BTreeSet::new();
            let found = stateful_set(&ctx, &key, &proxy, &vacant, &applied).await.unwrap();
            let phase = found.unwrap().surge.unwrap().phase;
            assert_eq!(format!("{phase:?}"), "Moved");
            assert_eq!(api.calls(0, |_: &Call| true).await.len(), reads);
        }
    }
}
