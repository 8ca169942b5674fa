//! Carrying out the Kubernetes part of a plan.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use operator_core::api::{RadiusProxy, RadiusProxyStatus};
use operator_core::input::ForeignObject;
use operator_core::names::{
    CONFIG_DIGEST_ANNOTATION, CONTAINER, FIELD_MANAGER, FINALIZER, IN_PLACE_ANNOTATION,
    PEERS_DIGEST_ANNOTATION, READINESS_GATE, REVISION_LABEL,
};
use operator_core::plan::{ImageChange, Object, ObjectKind, ObjectRef, PodPatch};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{Error, has_code};
use crate::key::ProxyKey;
use crate::memory::{Applied, Memory, digest, lean};
use crate::watch::rows;

/// How long one call to the Kubernetes API may take. The client's own limit is that of a watch.
const LIMIT: Duration = Duration::from_secs(15);

/// Bounds a step.
pub(crate) async fn within<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Slow { step, limit }),
    }
}

fn dynamic(ctx: &Context, key: &ProxyKey, object: &Object) -> Api<DynamicObject> {
    let resource = match object {
        Object::ServiceAccount(_) => ApiResource::erase::<ServiceAccount>(&()),
        Object::Role(_) => ApiResource::erase::<Role>(&()),
        Object::RoleBinding(_) => ApiResource::erase::<RoleBinding>(&()),
        Object::Lease(_) => ApiResource::erase::<Lease>(&()),
        Object::Secret(_) => ApiResource::erase::<Secret>(&()),
        Object::ConfigMap(_) => ApiResource::erase::<ConfigMap>(&()),
        Object::NetworkPolicy(_) => ApiResource::erase::<NetworkPolicy>(&()),
        Object::Service(_) => ApiResource::erase::<Service>(&()),
        Object::PodDisruptionBudget(_) => ApiResource::erase::<PodDisruptionBudget>(&()),
        Object::StatefulSet(_) => ApiResource::erase::<StatefulSet>(&()),
    };
    Api::namespaced_with(ctx.client.clone(), &key.namespace, &resource)
}

/// Objects under the wanted names that belong to somebody else. Applying by force would take them over.
pub(crate) async fn foreign(
    ctx: &Context,
    key: &ProxyKey,
    proxy: &RadiusProxy,
    wanted: &[Object],
) -> Result<Vec<ForeignObject>, Error> {
    let mut foreign = Vec::new();
    for object in wanted {
        let controller = match ctx.cluster.owned(object, key) {
            Some(seen) => Some(seen.controller),
            // An object of somebody else has no label of ours, and the watch does not show it.
            None => {
                let read = dynamic(ctx, key, object).get_metadata_opt(object.name()).await;
                let found = read.map_err(|source| Error::Read {
                    what: format!("{object:?}"),
                    source,
                })?;
                found.map(|found| rows::controller(&found.metadata))
            }
        };
        if let Some(controller) = controller
            && controller != proxy.metadata.uid
        {
            foreign.push(ForeignObject {
                kind: object.kind().to_owned(),
                name: object.name().to_owned(),
            });
        }
    }
    Ok(foreign)
}

/// Applies what is not known to be applied already: what is wanted now was not wanted before, or what is there is not
/// what the API server made of it then.
pub(crate) async fn objects(
    ctx: &Context,
    key: &ProxyKey,
    wanted: &[Object],
    memory: &mut Memory,
) -> Result<(), Error> {
    for object in wanted {
        let json = object.to_json().map_err(|source| Error::Encode {
            what: format!("{object:?}"),
            source,
        })?;
        let digest = digest(&json);
        let id = (object.kind(), object.name().to_owned());
        let seen = ctx.cluster.owned(object, key).map(|seen| seen.print);
        if let (Some(before), Some(print)) = (memory.applied.get(&id), seen)
            && *before
                == (Applied {
                    wanted: digest,
                    print,
                })
        {
            continue;
        }
        let api = dynamic(ctx, key, object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(json);
        let applied = within("applying an object", LIMIT, async {
            let result = api.patch_metadata(object.name(), &params, &patch).await;
            result.map_err(|source| Error::Apply {
                what: format!("{object:?}"),
                source,
            })
        })
        .await?;
        tracing::debug!(?object, "applied");
        memory.applied.insert(
            id,
            Applied {
                wanted: digest,
                print: rows::print(object.kind(), &applied.metadata),
            },
        );
    }
    let still = |id: &(&'static str, String)| {
        wanted
            .iter()
            .any(|object| object.kind() == id.0 && object.name() == id.1)
    };
    memory.applied.retain(|id, _| still(id));
    Ok(())
}

/// Patches a pod, if it is still the one that was meant. A change of its image that is refused is remembered and no error:
/// there is another way.
pub(crate) async fn pod(
    ctx: &Context,
    key: &ProxyKey,
    patch: &PodPatch,
    now: Timestamp,
    memory: &mut Memory,
) -> Result<(), Error> {
    let api: Api<Pod> = ctx.api(key);
    let params = by_us();
    let mut result = Ok(());
    if let Some(change) = metadata_change(patch) {
        result = api
            .patch(&patch.name, &params, &Patch::Merge(change))
            .await
            .map(drop);
    }
    if let (Ok(()), Some(image)) = (&result, &patch.image) {
        let change = image_change(&patch.uid, image);
        match api.patch(&patch.name, &params, &Patch::Strategic(change)).await {
            Ok(_) => tracing::info!(
                pod = patch.name,
                image = image.image,
                "changing the image in place"
            ),
            Err(error) if is_refusal(&error) => {
                tracing::warn!(pod = patch.name, %error, "the image may not be changed in place; new pods are made");
                memory.in_place_refused = Some(image.revision.clone());
            }
            Err(error) => result = Err(error),
        }
    }
    if let (Ok(()), Some(gate)) = (&result, &patch.gate) {
        let change = json!({
            "metadata": {"uid": patch.uid},
            "status": {"conditions": [{
                "type": READINESS_GATE,
                "status": if gate.open { "True" } else { "False" },
                "reason": gate.reason,
                "message": gate.message,
                "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }]}
        });
        result = api
            .patch_status(&patch.name, &params, &Patch::Strategic(change))
            .await
            .map(drop);
    }
    match result {
        Ok(()) => Ok(()),
        // Gone, or another pod of the name: the watch brings the next look.
        Err(error) if has_code(&error, 404) || has_code(&error, 409) => Ok(()),
        Err(source) => Err(Error::PatchPod {
            pod: patch.name.clone(),
            source,
        }),
    }
}

/// The merge patch of labels and annotations, if there is one to make.
fn metadata_change(patch: &PodPatch) -> Option<Value> {
    let mut annotations = Map::new();
    if let Some(digest) = &patch.config_digest {
        annotations.insert(CONFIG_DIGEST_ANNOTATION.to_owned(), digest.as_str().into());
    }
    if let Some(digest) = &patch.peers_digest {
        annotations.insert(PEERS_DIGEST_ANNOTATION.to_owned(), digest.as_str().into());
    }
    let mut metadata = Map::new();
    if let Some(revision) = &patch.revision {
        annotations.insert(IN_PLACE_ANNOTATION.to_owned(), Value::Null);
        metadata.insert("labels".to_owned(), json!({REVISION_LABEL: revision}));
    }
    if annotations.is_empty() {
        return None;
    }
    metadata.insert("uid".to_owned(), patch.uid.as_str().into());
    metadata.insert("annotations".to_owned(), annotations.into());
    Some(json!({"metadata": metadata}))
}

/// The strategic patch of a pod's image, with the marker that tells that it has begun.
fn image_change(uid: &str, change: &ImageChange) -> Value {
    json!({
        "metadata": {"uid": uid, "annotations": {IN_PLACE_ANNOTATION: change.marker}},
        "spec": {"containers": [{"name": CONTAINER, "image": change.image}]},
    })
}

/// Whether the API server, or an admission policy, will not have it, however often it is tried. An RBAC rule that is
/// missing is one of these, too.
const fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
}

/// Writes the status when it differs, at the resource version that was planned from: whoever else wrote, this replica
/// looks again first.
pub(crate) async fn status(
    ctx: &Context,
    key: &ProxyKey,
    proxy: RadiusProxy,
    wanted: &RadiusProxyStatus,
) -> Result<RadiusProxy, Error> {
    // As JSON: what was read back went through it once, and a time may have lost its fractions there.
    let before = encode_status(&proxy.status.clone().unwrap_or_default())?;
    let after = encode_status(wanted)?;
    if before == after && proxy.status.is_some() {
        return Ok(proxy);
    }
    let change = json!({
        "metadata": {"resourceVersion": proxy.metadata.resource_version},
        "status": merge_patch(&before, after),
    });
    let api: Api<RadiusProxy> = ctx.api(key);
    let patched = api.patch_status(&key.name, &by_us(), &Patch::Merge(change)).await;
    let written = patched.map_err(Error::WriteStatus)?;
    // The status is the memory of what was sent to AWS. An older CRD drops fields that it does not know, and without
    // them the same write would be sent again and again.
    if encode_status(&written.status.clone().unwrap_or_default())? == encode_status(wanted)? {
        Ok(lean(written))
    } else {
        Err(Error::StatusNotKept)
    }
}

/// A status as JSON.
pub(crate) fn encode_status(status: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(status).map_err(|source| Error::Encode {
        what: "the status".to_owned(),
        source,
    })
}

/// The JSON merge patch (RFC 7396) that leaves exactly `after`: what is there no more has to be named as null.
pub(crate) fn merge_patch(before: &Value, after: Value) -> Value {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let gone = before.keys().filter(|name| !after.contains_key(*name));
            let mut patch: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
            for (name, value) in after {
                let value = match before.get(&name) {
                    Some(old) => merge_patch(old, value),
                    None => value,
                };
                patch.insert(name, value);
            }
            Value::Object(patch)
        }
        (_, after) => after,
    }
}

pub(crate) fn by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Adds the finalizer or takes it away, at the resource version that was planned from.
pub(crate) async fn finalizer(
    ctx: &Context,
    key: &ProxyKey,
    proxy: &RadiusProxy,
    held: bool,
) -> Result<Option<RadiusProxy>, Error> {
    let mut finalizers = proxy.metadata.finalizers.clone().unwrap_or_default();
    let has = finalizers.iter().any(|each| each == FINALIZER);
    if has == held {
        return Ok(Some(proxy.clone()));
    }
    finalizers.retain(|each| each != FINALIZER);
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    let change = json!({"metadata": {
        "resourceVersion": proxy.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let params = by_us();
    let api: Api<RadiusProxy> = ctx.api(key);
    match api.patch(&key.name, &params, &Patch::Merge(change)).await {
        Ok(changed) => Ok(Some(lean(changed))),
        Err(error) if has_code(&error, 404) => Ok(None),
        Err(error) => Err(Error::Finalizer(error)),
    }
}

/// Deletes an object that is no longer wanted.
pub(crate) async fn delete(ctx: &Context, key: &ProxyKey, object: &ObjectRef) -> Result<(), Error> {
    let mut params = DeleteParams::default();
    if let Some(uid) = &object.uid {
        params = params.preconditions(Preconditions {
            uid: Some(uid.clone()),
            ..Preconditions::default()
        });
    }
    let name = object.name.as_str();
    let result = match object.kind {
        ObjectKind::PodByForce => {
            let params = params.grace_period(0);
            ctx.api::<Pod>(key).delete(name, &params).await.map(drop)
        }
        ObjectKind::Pod => ctx.api::<Pod>(key).delete(name, &params).await.map(drop),
        ObjectKind::Service => ctx.api::<Service>(key).delete(name, &params).await.map(drop),
    };
    match result {
        Ok(()) => {
            tracing::info!(kind = ?object.kind, name, "deleted");
            Ok(())
        }
        Err(error) if has_code(&error, 404) || has_code(&error, 409) => Ok(()),
        Err(source) => Err(Error::Delete {
            what: format!("{:?} {name}", object.kind),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_annotations_of_a_pod_are_one_patch_or_none() {
        let mut patch = PodPatch {
            name: "mfa-0".to_owned(),
            uid: "u".to_owned(),
            config_digest: None,
            peers_digest: None,
            image: None,
            revision: None,
            gate: None,
        };
        assert_eq!(metadata_change(&patch), None);
        patch.config_digest = Some("d".to_owned());
        patch.peers_digest = Some("p".to_owned());
        patch.revision = Some("r2".to_owned());
        assert_eq!(
            metadata_change(&patch),
            Some(json!({"metadata": {
                "uid": "u",
                "labels": {"controller-revision-hash": "r2"},
                "annotations": {"radius-mfa.dev/config-digest": "d", "radius-mfa.dev/peers-digest": "p",
                    "radius-mfa.dev/in-place": null},
            }}))
        );
    }

    #[test]
    fn a_status_is_replaced_as_a_whole_by_a_merge_patch() {
        let before = json!({"a": 1, "b": {"c": 1, "d": [1, 2]}, "e": {"f": 1}, "list": [1]});
        let after = json!({"b": {"d": [3], "g": {"h": 1}}, "e": {"f": 1}, "list": []});
        assert_eq!(
            merge_patch(&before, after),
            json!({"a": null, "b": {"c": null, "d": [3], "g": {"h": 1}}, "e": {"f": 1}, "list": []})
        );
    }
}
