//! Everything observed about one DirectoryRegistration, as the plan's input.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use operator_core::access::DirectoryAccess;
use operator_core::api::{AdoptionPolicy, DirectoryRegistration, RadiusProxy};
use operator_core::names::ABANDON_ANNOTATION;
use operator_core::observed::{DirectoryObservation, SecretContent, Settings};
use operator_core::registration::{Candidate, RegistrationInput};

use crate::context::Context;
use crate::error::Error;
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::{gather, second_operator};

/// The time between two checks whether another operator still works.
const SECOND_OPERATOR_INTERVAL: Duration = Duration::from_secs(60);
/// The same where this operator doesn't watch the holder's namespace: there may be many such registrations.
const NOT_WATCHED_INTERVAL: Duration = Duration::from_secs(300);

/// What was gathered, with the RadiusProxy that holds the directory.
pub(super) struct Gathered {
    pub(super) input: RegistrationInput,
    pub(super) holder: Holder,
}

/// The RadiusProxy that holds the directory.
pub(super) struct Holder {
    pub(super) key: RadiusProxyKey,
    /// Absent when it is gone.
    pub(super) proxy: Option<RadiusProxy>,
    pub(super) access: Option<DirectoryAccess>,
}

/// Everything observed; or how long to wait for AWS's answer.
pub(super) async fn observe(
    ctx: &Context,
    key: &RegistrationKey,
    registration: DirectoryRegistration,
) -> Result<Result<Gathered, Duration>, Error> {
    let spec = &registration.spec;
    let holder = RadiusProxyKey::new(&spec.claimed_by.namespace, &spec.claimed_by.name);
    let mut proxies = ctx.cluster.of_directory(key);
    let mut proxy = proxies
        .iter()
        .find(|proxy| RadiusProxyKey::of(proxy) == holder)
        .cloned();
    if proxy.is_none() {
        // A cache that is late must not end a registration.
        let read = ctx.api::<RadiusProxy>(&holder).get_opt(&holder.name).await;
        let read = read.map_err(|source| Error::Read {
            what: format!("RadiusProxy {holder}"),
            source,
        })?;
        proxy = read.filter(|proxy| RegistrationKey::of(proxy).as_ref() == Some(key));
        proxies.extend(proxy.clone());
    }
    let now = Timestamp::now();
    let holder_is_watched = ctx.watches(&holder.namespace);
    if let Some(proxy) = &proxy
        && second_operator::other(ctx, proxy, now).await.is_some()
    {
        // Another release works on it.
        return Ok(Err(if holder_is_watched {
            SECOND_OPERATOR_INTERVAL
        } else {
            NOT_WATCHED_INTERVAL
        }));
    }
    let access = proxy.as_ref().filter(|_| holder_is_watched);
    let access = access.and_then(|proxy| gather::access_of(ctx, proxy));
    let is_missing = proxy.is_some() && access.is_none() && ctx.cluster.knows_grants_of(&holder.namespace);
    let observation = match &access {
        Some(access) => {
            let allowed = ctx.registration_states.with(key, |state| state.describe_after);
            let allowed = allowed
                .unwrap_or(ctx.describe_interval)
                .min(ctx.describe_interval);
            let observed = ctx.directories.observe(key, &holder, access, allowed);
            if let Some(wait) = observed.awaited {
                return Ok(Err(wait));
            }
            observed.observation
        }
        None => {
            ctx.directories.forget(key);
            DirectoryObservation::Unasked
        }
    };
    let candidates = proxies
        .iter()
        .filter_map(|proxy| candidate(proxy, gather::access_of(ctx, proxy).is_some()))
        .collect();
    let secret = match secret(ctx, &holder, &registration).await {
        // A deletion needs none, and the namespace may be out of reach already.
        Err(_) if is_ending(proxy.as_ref()) || !holder_is_watched => None,
        read => read?,
    };
    let (outcome, tag_failure, grant_missing_since) = ctx.registration_states.with(key, |state| {
        state.grant_missing_since = is_missing.then(|| state.grant_missing_since.unwrap_or(now));
        (
            state.outcome.clone(),
            state.tag_failure.clone(),
            state.grant_missing_since,
        )
    });
    let input = RegistrationInput {
        candidates,
        holder_is_watched,
        grant_missing_since,
        secret,
        directory: observation,
        outcome,
        tag_failure,
        settings: Settings {
            cluster_uid: ctx.cluster_uid().await?,
            ..ctx.settings.clone()
        },
        replica: ctx.replica.clone(),
        registration,
    };
    let holder = Holder {
        key: holder,
        proxy,
        access,
    };
    Ok(Ok(Gathered { input, holder }))
}

/// Whether the holder is gone or being deleted.
fn is_ending(holder: Option<&RadiusProxy>) -> bool {
    holder.is_none_or(|holder| holder.metadata.deletion_timestamp.is_some())
}

fn candidate(proxy: &RadiusProxy, granted: bool) -> Option<Candidate> {
    let meta = &proxy.metadata;
    let directory = proxy.spec.directory.as_ref()?;
    let abandons = meta
        .annotations
        .as_ref()
        .and_then(|all| all.get(ABANDON_ANNOTATION));
    Some(Candidate {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        created: meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0),
        granted,
        suspended: proxy.spec.suspend,
        deletion_policy: directory.deletion_policy,
        adopts: directory.adoption_policy == AdoptionPolicy::Adopt,
        deleted: meta.deletion_timestamp.as_ref().map(|time| time.0),
        abandons: abandons.is_some_and(|value| value == "true"),
    })
}

/// The operator's own Secret of the holder.
async fn secret(
    ctx: &Context,
    key: &RadiusProxyKey,
    registration: &DirectoryRegistration,
) -> Result<Option<SecretContent>, Error> {
    let desired = registration.spec.desired.as_ref();
    let Some(source) = desired.and_then(|desired| desired.shared_secret.as_ref()) else {
        return Ok(None);
    };
    let read = ctx.api::<Secret>(key).get_opt(&source.secret_name).await;
    let found = read.map_err(|error| Error::Read {
        what: format!("Secret {}", source.secret_name),
        source: error,
    })?;
    Ok(found.map(gather::content))
}
