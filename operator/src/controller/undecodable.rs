//! Tells people that this version of the operator can't decode an object, in the object's own status.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use operator_core::undecodable::undecodable;
use serde_json::json;

use super::Next;
use crate::apply::by_us;
use crate::error::{Error, has_code};
use crate::events::Events;
use crate::queue::Root;

/// How often an object that can't be decoded is read again. A change of it is noticed at once.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Writes the status and an Event, if the object is still as the watch had it.
pub(super) async fn report<K: Root>(
    client: &Client,
    events: &Events,
    invalid: &InvalidObject,
) -> Result<Next, Error> {
    let name = invalid.metadata.name.as_deref().unwrap_or_default();
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match &invalid.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let read = api.get_opt(name).await.map_err(|source| Error::Read {
        what: format!("{} {name}", K::kind(&())),
        source,
    })?;
    let Some(object) = read else {
        return Ok(Next::Gone);
    };
    let status = object.data.get("status").cloned();
    let (generation, version) = (
        object.metadata.generation,
        object.metadata.resource_version.clone(),
    );
    let Some(invalid) = decode::<K>(object)? else {
        // The watch brings it.
        return Ok(Next::After(INTERVAL));
    };
    let news = undecodable(status.as_ref(), generation, &invalid.error, Timestamp::now());
    if let Some((status, event)) = news {
        tracing::warn!(error = invalid.error, "the object can't be decoded");
        let change = json!({"metadata": {"resourceVersion": version}, "status": status});
        match api.patch_status(name, &by_us(), &Patch::Merge(change)).await {
            Ok(_) => {}
            // Gone meanwhile, or a kind without a status.
            Err(error) if has_code(&error, 404) => {}
            Err(error) => return Err(Error::WriteStatus(error)),
        }
        events.publish(&DeserializeGuard::<K>(Err(invalid)), &event).await;
    }
    Ok(Next::After(INTERVAL))
}

/// Why the object can't be decoded, if it can't.
fn decode<K: Root>(object: DynamicObject) -> Result<Option<InvalidObject>, Error> {
    let decoded = serde_json::to_value(object).and_then(serde_json::from_value::<DeserializeGuard<K>>);
    match decoded {
        Ok(guard) => Ok(guard.0.err()),
        Err(source) => Err(Error::Encode {
            what: K::kind(&()).into_owned(),
            source,
        }),
    }
}
