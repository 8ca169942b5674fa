//! Objects of a restore get their owner ([`operator_core::rollout::ownership`]).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::Resource as _;
use kube::api::Patch;
use operator_core::api::RadiusProxy;
use operator_core::names::FIELD_MANAGER;
use operator_core::observed::ObjectId;
use operator_core::rollout::ownership::{Ownership, ownership};
use serde_json::{Map, Value, json};

use super::{LIMIT, by_us, dynamic, metadata, within};
use crate::context::Context;
use crate::error::Error;
use crate::object_keys::RadiusProxyKey;

/// Whose an object is.
pub(crate) fn owner(ctx: &Context, proxy: &RadiusProxy, object: &ObjectMeta) -> Ownership {
    let namespace = &proxy.metadata.namespace;
    let proxies = ctx.cluster.proxies();
    ownership(object, proxy, |uid| {
        let mut all = proxies.iter().map(|other| other.meta());
        all.any(|other| other.namespace == *namespace && other.uid.as_deref() == Some(uid))
    })
}

/// Gives an object of a restore its owner, and all of its fields to the operator: what the next apply leaves out goes.
pub(crate) async fn adopt(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
    id: &ObjectId,
) -> Result<(), Error> {
    let (Some(api), Some(found)) = (dynamic(ctx, key, id.kind), metadata(ctx, key, id).await?) else {
        return Ok(());
    };
    if owner(ctx, proxy, &found) != Ownership::Orphan {
        return Ok(());
    }
    let change = adoption(&found, proxy);
    let params = by_us();
    let patched = within("adopting an object", LIMIT, async {
        let result = api.patch_metadata(&id.name, &params, &Patch::Merge(change)).await;
        result.map_err(|source| Error::Apply {
            what: id.to_string(),
            source,
        })
    });
    patched.await?;
    tracing::info!(object = %id, "took over an object whose owner is gone");
    Ok(())
}

/// The merge patch that adopts an object. As `kubectl` moves an object to server-side apply: whatever others have applied
/// or updated counts as applied by the operator.
fn adoption(found: &ObjectMeta, proxy: &RadiusProxy) -> Value {
    let (of_status, of_spec): (Vec<_>, Vec<_>) = found
        .managed_fields
        .iter()
        .flatten()
        .cloned()
        .partition(|entry| entry.subresource.is_some());
    let mut fields = Value::Object(Map::new());
    for entry in of_spec.iter().filter_map(|entry| entry.fields_v1.as_ref()) {
        unite(&mut fields, &entry.0);
    }
    let ours = of_spec.first().map(|first| ManagedFieldsEntry {
        manager: Some(FIELD_MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..first.clone()
    });
    let managed_fields: Vec<_> = ours.into_iter().chain(of_status).collect();
    json!({"metadata": {
        "uid": found.uid,
        "resourceVersion": found.resource_version,
        "ownerReferences": [proxy.controller_owner_ref(&())],
        "managedFields": managed_fields,
    }})
}

/// Both sets of fields.
fn unite(fields: &mut Value, more: &Value) {
    let (Value::Object(fields), Value::Object(more)) = (fields, more) else {
        return;
    };
    for (name, below) in more {
        unite(fields.entry(name.clone()).or_insert_with(|| json!({})), below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adopted_object_has_one_owner_and_all_its_fields_are_applied_by_the_operator() {
        let spec = serde_json::from_value(json!({"provider": {}})).unwrap();
        let mut proxy = RadiusProxy::new("mfa", spec);
        proxy.metadata.uid = Some("uid-2".to_owned());
        let found: ObjectMeta = serde_json::from_value(json!({
            "name": "mfa", "uid": "u", "resourceVersion": "7",
            "ownerReferences": [{"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "name": "mfa",
                "uid": "uid-1", "controller": true}],
            "managedFields": [
                {"manager": "velero", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:data": {"f:a": {}}}},
                {"manager": "radius-mfa-operator", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:data": {"f:b": {}}}},
                {"manager": "kcm", "operation": "Update", "apiVersion": "v1", "subresource": "status"},
            ],
        }))
        .unwrap();
        let change = adoption(&found, &proxy);
        let metadata = &change["metadata"];
        assert_eq!(metadata["resourceVersion"], "7");
        assert_eq!(metadata["ownerReferences"].as_array().unwrap().len(), 1);
        assert_eq!(metadata["ownerReferences"][0]["uid"], "uid-2");
        assert_eq!(metadata["managedFields"][0]["operation"], "Apply");
        assert_eq!(
            metadata["managedFields"][0]["fieldsV1"],
            json!({"f:data": {"f:a": {}, "f:b": {}}})
        );
        assert_eq!(metadata["managedFields"][1]["manager"], "kcm");
    }
}
