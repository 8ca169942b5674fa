//! Carrying out the Kubernetes part of a plan.

mod adopt;
mod pods;
mod registration;
mod root_object;

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
use operator_core::api::RadiusProxy;
use operator_core::names::FIELD_MANAGER;
use operator_core::objects::Object;
use operator_core::observed::ObjectId;
use operator_core::outcomes::is_immutable;
use operator_core::rollout::ownership::Ownership;
use operator_core::rollout::{ObjectKind, ObjectRef};
use serde_json::Value;

use crate::context::Context;
use crate::error::{Error, has_code};
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::{Applied, ReconcileState, digest};
use crate::watch::owned;
pub(crate) use adopt::{adopt, owner};
pub(crate) use pods::{pod_gate, pod_image, pod_metadata};
pub(crate) use registration::registration_spec;
pub(crate) use root_object::{finalizer, status};

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

pub(crate) fn by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
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
