//! Reads a DirectoryRegistration.

use operator_core::api::DirectoryRegistration;

use crate::context::Context;
use crate::error::Error;
use crate::object_keys::RegistrationKey;
use crate::reconcile_state::{newer, trimmed};

/// The registration, at least as new as what this process last wrote; `None` when there is none.
///
/// # Errors
/// It can't be read.
pub(crate) async fn registration(
    ctx: &Context,
    key: &RegistrationKey,
) -> Result<Option<DirectoryRegistration>, Error> {
    let stored = ctx.registration_states.with(key, |state| state.newest.clone());
    if let Some(newer) = newer(ctx.cluster.registration(key), stored) {
        return Ok(Some(newer));
    }
    let read = ctx.registration_api().get_opt(key.as_str()).await;
    let read = read.map_err(|source| Error::Read {
        what: format!("DirectoryRegistration {key}"),
        source,
    })?;
    match &read {
        Some(found) => ctx.registration_states.know(key, found.clone()),
        None => ctx.registration_states.forget(key),
    }
    Ok(read.map(trimmed))
}
