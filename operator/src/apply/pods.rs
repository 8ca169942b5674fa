//! Patches of pods, each only if the pod is still the one that was meant.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Patch;
use operator_core::names::{
    CONFIG_DIGEST_ANNOTATION, CONTAINER, IN_PLACE_ANNOTATION, PEERS_DIGEST_ANNOTATION, READINESS_GATE,
    REVISION_LABEL,
};
use operator_core::rollout::{GateChange, ImageChange, PodPatch};
use serde_json::{Map, Value, json};

use super::by_us;
use crate::context::Context;
use crate::error::{Error, has_code};
use crate::object_keys::RadiusProxyKey;

/// Patches labels and annotations of a pod, if it is still the one that was meant.
pub(crate) async fn pod_metadata(ctx: &Context, key: &RadiusProxyKey, patch: &PodPatch) -> Result<(), Error> {
    let Some(change) = metadata_change(patch) else {
        return Ok(());
    };
    let api: Api<Pod> = ctx.api(key);
    let result = api.patch(&patch.name, &by_us(), &Patch::Merge(change)).await;
    of_pod(patch, result)
}

/// Changes the image of a running pod.
pub(crate) async fn pod_image(
    ctx: &Context,
    key: &RadiusProxyKey,
    patch: &PodPatch,
    image: &ImageChange,
) -> Result<(), Error> {
    let api: Api<Pod> = ctx.api(key);
    let change = Patch::Strategic(image_change(&patch.uid, image));
    of_pod(patch, api.patch(&patch.name, &by_us(), &change).await)?;
    tracing::info!(
        pod = patch.name,
        image = image.image,
        "changing the image in place"
    );
    Ok(())
}

/// Sets the readiness gate of a pod.
pub(crate) async fn pod_gate(
    ctx: &Context,
    key: &RadiusProxyKey,
    patch: &PodPatch,
    gate: &GateChange,
    now: Timestamp,
) -> Result<(), Error> {
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
    let api: Api<Pod> = ctx.api(key);
    let result = api
        .patch_status(&patch.name, &by_us(), &Patch::Strategic(change))
        .await;
    of_pod(patch, result)
}

fn of_pod(patch: &PodPatch, result: Result<Pod, kube::Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
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
}
