//! Writes of a RadiusProxy or a DirectoryRegistration itself, at the resource version that was planned from: if somebody
//! else wrote meanwhile, this replica plans again.

use std::fmt::Debug;

use kube::Api;
use kube::Resource;
use kube::api::Patch;
use kube::core::object::HasStatus;
use operator_core::names::FINALIZER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::by_us;
use crate::error::{Error, has_code};
use crate::reconcile_state::trimmed;

/// Writes the status when it differs.
///
/// # Errors
/// The API server refused it or didn't keep all of it, or somebody else wrote meanwhile.
pub(crate) async fn status<K>(api: &Api<K>, object: K, wanted: &K::Status) -> Result<K, Error>
where
    K: Resource + HasStatus<Status: Default + Serialize> + Clone + DeserializeOwned + Debug,
{
    // As JSON: what was read back went through it once, and a time may have lost its fractions there.
    let of = |object: &K| match object.status() {
        Some(status) => encode("the status", status),
        None => encode("the status", &K::Status::default()),
    };
    let (before, after) = (of(&object)?, encode("the status", wanted)?);
    if before == after && object.status().is_some() {
        return Ok(object);
    }
    let change = json!({
        "metadata": {"resourceVersion": object.meta().resource_version},
        "status": merge_patch(&before, after.clone()),
    });
    let patched = api
        .patch_status(name(&object), &by_us(), &Patch::Merge(change))
        .await;
    let written = patched.map_err(Error::WriteStatus)?;
    // The status records what was sent to AWS. An older CRD drops fields that it does not know, and without
    // them the same write would be sent again and again.
    if of(&written)? == after {
        Ok(trimmed(written))
    } else {
        Err(Error::StatusNotKept)
    }
}

/// Adds the operator's finalizer or takes it away, and leaves those of others. `None` when the object is gone.
///
/// # Errors
/// The API server refused it, or somebody else wrote meanwhile.
pub(crate) async fn finalizer<K>(api: &Api<K>, object: &K, held: bool) -> Result<Option<K>, Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|each| each == FINALIZER) == held {
        return Ok(Some(object.clone()));
    }
    finalizers.retain(|each| each != FINALIZER);
    finalizers.extend(held.then(|| FINALIZER.to_owned()));
    let change = json!({"metadata": {
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
    }});
    match api.patch(name(object), &by_us(), &Patch::Merge(change)).await {
        Ok(changed) => Ok(Some(trimmed(changed))),
        Err(error) if has_code(&error, 404) => Ok(None),
        Err(error) => Err(Error::Finalizer(error)),
    }
}

fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// A part of an object as JSON.
pub(super) fn encode(what: &str, part: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(part).map_err(|source| Error::Encode {
        what: what.to_owned(),
        source,
    })
}

/// The JSON merge patch (RFC 7396) that leaves exactly `after`: what is there no more has to be named as null.
pub(super) fn merge_patch(before: &Value, after: Value) -> Value {
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
