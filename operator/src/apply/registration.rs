//! Writes the spec of a DirectoryRegistration.

use kube::api::{Patch, PostParams};
use operator_core::api::{DirectoryRegistration, DirectoryRegistrationSpec};
use operator_core::names::{FIELD_MANAGER, FINALIZER};
use serde_json::json;

use super::by_us;
use super::root_object::{encode, merge_patch};
use crate::context::Context;
use crate::error::Error;
use crate::object_keys::RegistrationKey;

/// Writes what the rollout wants of the registration, at the resource version that it was planned from.
///
/// # Errors
/// The API server refused it, or somebody else wrote meanwhile.
pub(crate) async fn registration_spec(
    ctx: &Context,
    before: Option<&DirectoryRegistration>,
    spec: &DirectoryRegistrationSpec,
) -> Result<(), Error> {
    if before.is_some_and(|before| before.spec == *spec) {
        return Ok(());
    }
    let name = DirectoryRegistration::name_of(&spec.directory_id, &spec.region);
    let key = &RegistrationKey::new(&name);
    let result = match before {
        None => {
            let mut registration = DirectoryRegistration::new(&name, spec.clone());
            registration.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            ctx.registration_api().create(&params, &registration).await
        }
        Some(before) => {
            let what = format!("DirectoryRegistration {name}");
            let change = json!({
                "metadata": {"resourceVersion": before.metadata.resource_version},
                "spec": merge_patch(&encode(&what, &before.spec)?, encode(&what, spec)?),
            });
            ctx.registration_api()
                .patch(&name, &by_us(), &Patch::Merge(change))
                .await
        }
    };
    match result {
        Ok(written) => {
            ctx.registration_states.know(key, written);
            Ok(())
        }
        Err(source) => {
            ctx.registration_states.doubt(key);
            Err(Error::Apply {
                what: format!("DirectoryRegistration/{name}"),
                source,
            })
        }
    }
}
