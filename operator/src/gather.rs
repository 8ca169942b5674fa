//! Gather: everything observed about one RadiusProxy, as the plan's input.

mod owners;
mod refused_pods;
mod registration;
mod secrets;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use operator_core::access::{DirectoryAccess, Labels, access, applies_to};
use operator_core::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};
use operator_core::dns::LoadBalancer;
use operator_core::names::ObjectNames;
use operator_core::observed::{Entropy, ObjectId, Report, RolloutInput, SecretContent, ServiceAccountState};

use crate::context::Context;
use crate::error::Error;
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::reconcile_state::{ReconcileState, newer, trimmed};
use crate::watch::decoded;
use crate::watch::owned::Detail;
pub(crate) use registration::registration;
use secrets::Secrets;
pub(crate) use secrets::content;
use stateful_set::stateful_set;

/// The RadiusProxy, at least as new as what this process last wrote; `None` when there is none.
pub(crate) async fn proxy(
    ctx: &Context,
    key: &RadiusProxyKey,
    state: &mut ReconcileState,
) -> Result<Option<RadiusProxy>, Error> {
    if let Some(newer) = newer(ctx.cluster.proxy(key), state.newest.clone()) {
        return Ok(Some(newer));
    }
    let read = ctx.api::<RadiusProxy>(key).get_opt(&key.name).await;
    let found = read.map_err(|source| Error::Read {
        what: format!("RadiusProxy {key}"),
        source,
    })?;
    let found = found.map(trimmed);
    state.newest.clone_from(&found);
    Ok(found)
}

/// The input of a plan, and the names that it needs and that have no object.
pub(crate) struct Gathered {
    pub(crate) input: RolloutInput,
    pub(crate) vacant: BTreeSet<ObjectId>,
}

/// Everything else.
pub(crate) async fn input(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: RadiusProxy,
    state: &mut ReconcileState,
) -> Result<Gathered, Error> {
    let namespace_labels = ctx.cluster.namespace_labels(&key.namespace);
    let grants = for_namespace(
        &decoded(&ctx.cluster.grants()),
        &key.namespace,
        namespace_labels.as_ref(),
    );
    let names = ObjectNames::new(&key.name);
    let secrets = Secrets::read(ctx, key, &proxy, &names).await?;
    let owners = owners::owners(ctx, key, &proxy).await?;
    let stateful_set = stateful_set(ctx, key, &proxy, &owners.vacant, &state.applied).await?;
    let pods = ctx.cluster.pods(key);
    let wanted = stateful_set.as_ref().map_or(0, |set| set.replicas);
    let missing = pods.len() < usize::try_from(wanted).unwrap_or(usize::MAX);
    let outcomes = refused_pods::outcomes(ctx, key, &names, missing, state).await;
    let input = RolloutInput {
        registration: registration_of(ctx, &proxy).await?,
        registration_failure: RegistrationKey::of(&proxy)
            .and_then(|key| ctx.registration_states.failure(&key)),
        successor_waits: successor_waits(ctx, &proxy),
        grants,
        namespace_labels,
        secrets: secrets.named,
        unreadable_secrets: secrets.unreadable,
        unreadable_seeds: secrets.unreadable_seeds,
        has_seed_shards: has_seed_shards(ctx, key, &names),
        seeds_by_label: secrets.seeds_by_label,
        radius_secret_exists: secrets.own.is_some(),
        radius_secret: own_secret(secrets.own, &proxy, state),
        foreign: owners.foreign,
        orphans: owners.orphans,
        stateful_set,
        service_account: service_account(ctx, key, &names, &proxy),
        pods,
        reports: reports(ctx, key),
        load_balancer: load_balancer(ctx, key, &names),
        outcomes,
        // Last, since a place is taken until it is planned.
        may_begin: ctx
            .rollout_limit
            .may_begin(key, &ctx.cluster.upgrading(), Instant::now()),
        settings: ctx.settings.clone(),
        entropy: entropy()?,
        proxy,
    };
    Ok(Gathered {
        input,
        vacant: owners.vacant,
    })
}

/// The registration of the RadiusProxy's directory.
async fn registration_of(ctx: &Context, proxy: &RadiusProxy) -> Result<Option<DirectoryRegistration>, Error> {
    match RegistrationKey::of(proxy) {
        Some(key) => registration(ctx, &key).await,
        None => Ok(None),
    }
}

/// Whether another RadiusProxy that may have the directory waits for it.
fn successor_waits(ctx: &Context, proxy: &RadiusProxy) -> bool {
    ctx.cluster.rivals(proxy).iter().any(|rival| {
        !rival.spec.suspend && rival.metadata.deletion_timestamp.is_none() && access_of(ctx, rival).is_some()
    })
}

/// The content of the operator's own Secret. Of one that somebody deleted it is taken from the state: AWS holds what is in it, and
/// nobody could log in with another.
fn own_secret(
    found: Option<SecretContent>,
    proxy: &RadiusProxy,
    state: &mut ReconcileState,
) -> Option<SecretContent> {
    if let Some(found) = &found {
        state.own_secret = proxy.metadata.uid.clone().map(|uid| (uid, found.clone()));
    }
    let kept = state.own_secret.as_ref();
    let kept = kept.filter(|(uid, _)| Some(uid) == proxy.metadata.uid.as_ref());
    found.or_else(|| kept.map(|(_, kept)| kept.clone()))
}

/// How a RadiusProxy may use its directory.
pub(crate) fn access_of(ctx: &Context, proxy: &RadiusProxy) -> Option<DirectoryAccess> {
    let namespace = proxy.metadata.namespace.as_deref().unwrap_or_default();
    let labels = ctx.cluster.namespace_labels(namespace);
    let grants = for_namespace(&decoded(&ctx.cluster.grants()), namespace, labels.as_ref());
    access(proxy, labels.as_ref(), &grants, &ctx.settings.cluster).ok()
}

/// Grants of other namespaces allow nothing here, and there may be many.
fn for_namespace(
    grants: &[&DirectoryGrant],
    namespace: &str,
    labels: Option<&Labels>,
) -> Vec<DirectoryGrant> {
    grants
        .iter()
        .filter(|grant| applies_to(grant, namespace, labels))
        .map(|grant| (*grant).clone())
        .collect()
}

fn has_seed_shards(ctx: &Context, key: &RadiusProxyKey, names: &ObjectNames) -> bool {
    let first = names.seed_shard(0);
    ctx.cluster
        .owned_of("Secret", key)
        .iter()
        .any(|(name, _)| *name == first)
}

fn service_account(
    ctx: &Context,
    key: &RadiusProxyKey,
    names: &ObjectNames,
    proxy: &RadiusProxy,
) -> Option<ServiceAccountState> {
    let accounts = ctx.cluster.owned_of("ServiceAccount", key);
    let (_, account) = accounts.into_iter().find(|(name, _)| name == names.workload())?;
    match account.detail {
        Detail::ServiceAccount(state) if account.controller == proxy.metadata.uid => Some(state),
        _ => None,
    }
}

fn reports(ctx: &Context, key: &RadiusProxyKey) -> BTreeMap<String, Report> {
    let leases = ctx.cluster.owned_of("Lease", key);
    leases
        .into_iter()
        .filter_map(|(_, lease)| match lease.detail {
            Detail::Report(report) => report,
            _ => None,
        })
        .collect()
}

/// The Service's addresses, and the known addresses of its host names. It doesn't wait for DNS.
fn load_balancer(ctx: &Context, key: &RadiusProxyKey, names: &ObjectNames) -> LoadBalancer {
    let services = ctx.cluster.owned_of("Service", key);
    let wanted = names.load_balancer();
    let service = services.into_iter().find(|(name, _)| *name == wanted);
    let Some(Detail::LoadBalancer(ingress)) = service.map(|(_, row)| row.detail) else {
        ctx.names.observe(key, &[]);
        return LoadBalancer::default();
    };
    let (addresses, hosts): (Vec<_>, Vec<_>) = ingress
        .into_iter()
        .map(|each| each.parse::<IpAddr>().map_err(|_| each))
        .partition(Result::is_ok);
    let hosts: Vec<String> = hosts.into_iter().filter_map(Result::err).collect();
    LoadBalancer {
        addresses: addresses
            .into_iter()
            .flatten()
            .map(|address| address.to_canonical())
            .collect(),
        names: ctx.names.observe(key, &hosts),
    }
}

fn entropy() -> Result<Entropy, Error> {
    let mut bytes = [0; 96];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(Entropy::new(bytes))
}
