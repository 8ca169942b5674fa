//! DirectoryRegistrations: what this process remembers of them, and how they are read and written.

mod gather;
mod round;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PostParams};
use operator_core::api::{DirectoryRegistration, DirectoryRegistrationSpec};
use operator_core::input::WriteOutcome;
use operator_core::names::{FIELD_MANAGER, FINALIZER};
use operator_core::outcomes::LastingFailure;
use operator_core::registration::TagFailure;
use serde_json::json;

use crate::apply::{by_us, merge_patch};
use crate::context::Context;
use crate::error::Error;
use crate::key::RegistrationKey;
pub(crate) use round::run;

/// What this process remembers of one registration. All of it can be lost: the status holds what must not be.
#[derive(Debug, Default)]
struct Memory {
    /// The registration as this process last read it live or wrote it: an older one from the watch is not used.
    newest: Option<DirectoryRegistration>,
    /// How the last write to AWS ended.
    outcome: Option<WriteOutcome>,
    /// How the last tag write failed.
    tag_failure: Option<TagFailure>,
    /// Since when no grant allows the holder the directory.
    grant_missing_since: Option<Timestamp>,
    /// How its rounds fail.
    failure: Option<LastingFailure>,
    /// How old the directory's description may be.
    describe_after: Option<Duration>,
    /// Whether the tags were asked for.
    reads_tags: bool,
}

/// What this process remembers of registrations, by name.
#[derive(Debug, Default)]
pub(crate) struct Registrations(Mutex<HashMap<RegistrationKey, Memory>>);

impl Registrations {
    /// The registration is gone.
    pub(crate) fn forget(&self, key: &RegistrationKey) {
        self.lock().remove(key);
    }

    /// How the rounds of the registration fail.
    pub(crate) fn failure(&self, key: &RegistrationKey) -> Option<LastingFailure> {
        self.lock().get(key)?.failure.clone()
    }

    /// A round failed. Returns whether it is the first one.
    fn failed(&self, key: &RegistrationKey, message: String) -> bool {
        self.with(key, |memory| {
            let before = memory.failure.take();
            memory.failure = Some(LastingFailure {
                since: before.as_ref().map_or_else(Timestamp::now, |before| before.since),
                message,
            });
            before.is_none()
        })
    }

    /// A round did all that it had to. Returns whether the one before failed.
    fn succeeded(&self, key: &RegistrationKey) -> bool {
        let mut all = self.lock();
        all.get_mut(key)
            .is_some_and(|memory| memory.failure.take().is_some())
    }

    fn with<T>(&self, key: &RegistrationKey, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.lock().entry(key.clone()).or_default())
    }

    /// Keeps what was read or written, unless something newer is known.
    fn know(&self, key: &RegistrationKey, registration: DirectoryRegistration) {
        self.with(key, |memory| {
            if memory
                .newest
                .as_ref()
                .is_none_or(|newest| !is_older(&registration, newest))
            {
                memory.newest = Some(trimmed(registration));
            }
        });
    }

    /// What was planned from may be old.
    fn doubt(&self, key: &RegistrationKey) {
        self.with(key, |memory| memory.newest = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RegistrationKey, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a version is known to be older than another.
fn is_older(one: &DirectoryRegistration, other: &DirectoryRegistration) -> bool {
    let version =
        |object: &DirectoryRegistration| object.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    version(one)
        .zip(version(other))
        .is_some_and(|(one, other)| one < other)
}

fn trimmed(mut registration: DirectoryRegistration) -> DirectoryRegistration {
    registration.metadata.managed_fields = None;
    registration
}

fn api(ctx: &Context) -> Api<DirectoryRegistration> {
    Api::all(ctx.client.clone())
}

/// The registration, at least as new as what this process last wrote; `None` when there is none.
///
/// # Errors
/// It can't be read.
pub(crate) async fn current(
    ctx: &Context,
    key: &RegistrationKey,
) -> Result<Option<DirectoryRegistration>, Error> {
    let newest = ctx.registrations.with(key, |memory| memory.newest.clone());
    if let (Some(seen), Some(newest)) = (ctx.cluster.registration(key), newest) {
        return Ok(Some(if is_older(&seen, &newest) { newest } else { seen }));
    }
    let read = api(ctx).get_opt(key.as_str()).await;
    let read = read.map_err(|source| Error::Read {
        what: format!("DirectoryRegistration {key}"),
        source,
    })?;
    match &read {
        Some(found) => ctx.registrations.know(key, found.clone()),
        None => ctx.registrations.forget(key),
    }
    Ok(read.map(trimmed))
}

/// Writes what the rollout wants of the registration, at the resource version that it was planned from.
///
/// # Errors
/// The API server refused it, or somebody else wrote meanwhile.
pub(crate) async fn apply_spec(
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
            api(ctx).create(&params, &registration).await
        }
        Some(before) => {
            let encode = |spec: &DirectoryRegistrationSpec| {
                serde_json::to_value(spec).map_err(|source| Error::Encode {
                    what: format!("DirectoryRegistration {name}"),
                    source,
                })
            };
            let change = json!({
                "metadata": {"resourceVersion": before.metadata.resource_version},
                "spec": merge_patch(&encode(&before.spec)?, encode(spec)?),
            });
            api(ctx).patch(&name, &by_us(), &Patch::Merge(change)).await
        }
    };
    match result {
        Ok(written) => {
            ctx.registrations.know(key, written);
            Ok(())
        }
        Err(source) => {
            ctx.registrations.doubt(key);
            Err(Error::Apply {
                what: format!("DirectoryRegistration/{name}"),
                source,
            })
        }
    }
}
