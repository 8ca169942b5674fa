//! Carrying out the Kubernetes part of a plan.

mod adopt;
mod pods;
mod registration;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use operator_core::api::{RadiusProxy, RadiusProxyStatus};
use operator_core::names::{FIELD_MANAGER, FINALIZER};
use operator_core::objects::Object;
use operator_core::observed::ObjectId;
use operator_core::outcomes::is_immutable;
use operator_core::rollout::ownership::Ownership;
use operator_core::rollout::{ObjectKind, ObjectRef};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{Error, has_code};
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::{Applied, ReconcileState, digest, trimmed};
use crate::watch::owned;
pub(crate) use adopt::{adopt, owner};
pub(crate) use pods::{pod_gate, pod_image, pod_metadata};
pub(crate) use registration::registration_spec;

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

/// The API of one of the kinds that a plan applies.
fn dynamic(ctx: &Context, key: &RadiusProxyKey, kind: &str) -> Option<Api<DynamicObject>> {
    let resource = match kind {
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        "Role" => ApiResource::erase::<Role>(&()),
        "RoleBinding" => ApiResource::erase::<RoleBinding>(&()),
        "Lease" => ApiResource::erase::<Lease>(&()),
        "Secret" => ApiResource::erase::<Secret>(&()),
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        "NetworkPolicy" => ApiResource::erase::<NetworkPolicy>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        _ => return None,
    };
    Some(Api::namespaced_with(
        ctx.client.clone(),
        &key.namespace,
        &resource,
    ))
}

/// Live metadata of the object of this kind and name.
pub(crate) async fn metadata(
    ctx: &Context,
    key: &RadiusProxyKey,
    id: &ObjectId,
) -> Result<Option<ObjectMeta>, Error> {
    let Some(api) = dynamic(ctx, key, id.kind) else {
        return Ok(None);
    };
    let read = within("reading an object", LIMIT, async {
        let result = api.get_metadata_opt(&id.name).await;
        result.map_err(|source| Error::Read {
            what: id.to_string(),
            source,
        })
    });
    Ok(read.await?.map(|found| found.metadata))
}

/// Applies an object, unless it is known to be applied already: what is wanted now was not wanted before, or what is there
/// is not what the API server made of it then. `vacant` are names without an object a moment ago.
pub(crate) async fn object(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
    object: &Object,
    vacant: &BTreeSet<ObjectId>,
    state: &mut ReconcileState,
) -> Result<(), Error> {
    let id = object.id();
    let json = object.to_json().map_err(|source| Error::Encode {
        what: id.to_string(),
        source,
    })?;
    let digest = digest(&json);
    let seen = ctx.cluster.owned(object, key).map(|seen| seen.fingerprint);
    if let (Some(before), Some(fingerprint)) = (state.applied.get(&id), seen)
        && *before
            == (Applied {
                wanted: digest,
                fingerprint,
            })
    {
        return Ok(());
    }
    // Applying by force would take an object over. One of another owner has no label of ours, and no watch shows it.
    if seen.is_none()
        && !vacant.contains(&id)
        && let Some(found) = metadata(ctx, key, &id).await?
        && owner(ctx, proxy, &found) != Ownership::Ours
    {
        return Err(Error::Foreign { what: id.to_string() });
    }
    let applied = match apply(ctx, key, &id, &json).await {
        Err(Error::Apply {
            source: kube::Error::Api(status),
            ..
        }) if is_immutable(status.code, &status.message) && object.may_be_created_again() => {
            create_again(ctx, key, proxy, &id, &json).await?
        }
        result => result?,
    };
    tracing::debug!(object = %id, "applied");
    let fingerprint = owned::fingerprint(object.kind(), &applied);
    state.applied.insert(
        id,
        Applied {
            wanted: digest,
            fingerprint,
        },
    );
    Ok(())
}

async fn apply(
    ctx: &Context,
    key: &RadiusProxyKey,
    id: &ObjectId,
    json: &Value,
) -> Result<ObjectMeta, Error> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(json);
    within("applying an object", LIMIT, async {
        let Some(api) = dynamic(ctx, key, id.kind) else {
            return Ok(ObjectMeta::default());
        };
        let result = api.patch_metadata(&id.name, &params, &patch).await;
        let applied = result.map_err(|source| Error::Apply {
            what: id.to_string(),
            source,
        })?;
        Ok(applied.metadata)
    })
    .await
}

/// Deletes an object of which a field can't change, and creates it with the wanted one.
async fn create_again(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
    id: &ObjectId,
    json: &Value,
) -> Result<ObjectMeta, Error> {
    if let (Some(api), Some(found)) = (dynamic(ctx, key, id.kind), metadata(ctx, key, id).await?)
        && owner(ctx, proxy, &found) == Ownership::Ours
    {
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: found.uid,
            ..Preconditions::default()
        });
        let deleted = api.delete(&id.name, &params).await;
        deleted.map_err(|source| Error::Delete {
            what: id.to_string(),
            source,
        })?;
        tracing::info!(object = %id, "deleted, to create it with a field that can't change");
    }
    apply(ctx, key, id, json).await
}

/// Writes the status when it differs, at the resource version that was planned from: whoever else wrote, this replica
/// looks again first.
pub(crate) async fn status(
    ctx: &Context,
    key: &RadiusProxyKey,
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
    // The status records what was sent to AWS. An older CRD drops fields that it does not know, and without
    // them the same write would be sent again and again.
    if encode_status(&written.status.clone().unwrap_or_default())? == encode_status(wanted)? {
        Ok(trimmed(written))
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
    key: &RadiusProxyKey,
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
        Ok(changed) => Ok(Some(trimmed(changed))),
        Err(error) if has_code(&error, 404) => Ok(None),
        Err(error) => Err(Error::Finalizer(error)),
    }
}

/// Deletes an object that is no longer wanted.
pub(crate) async fn delete(ctx: &Context, key: &RadiusProxyKey, object: &ObjectRef) -> Result<(), Error> {
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
    fn a_status_is_replaced_as_a_whole_by_a_merge_patch() {
        let before = json!({"a": 1, "b": {"c": 1, "d": [1, 2]}, "e": {"f": 1}, "list": [1]});
        let after = json!({"b": {"d": [3], "g": {"h": 1}}, "e": {"f": 1}, "list": []});
        assert_eq!(
            merge_patch(&before, after),
            json!({"a": null, "b": {"c": null, "d": [3], "g": {"h": 1}}, "e": {"f": 1}, "list": []})
        );
    }
}
