//! Gather: everything observed about one RadiusProxy, as the plan's input.

mod owners;
mod refused_pods;
mod registration;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use operator_core::access::{DirectoryAccess, Labels, access, applies_to};
use operator_core::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};
use operator_core::dns::LoadBalancer;
use operator_core::names::ObjectNames;
use operator_core::observed::{Entropy, ObjectId, Report, RolloutInput, SecretContent, ServiceAccountState};
use operator_core::secrets;

use crate::context::Context;
use crate::error::{Error, message};
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::reconcile_state::{ReconcileState, newer, trimmed};
use crate::watch::owned::Detail;
use crate::watch::row::proxy_label;
use crate::watch::{SeedSecrets, Seeds, decoded};
pub(crate) use registration::registration;
use stateful_set::stateful_set;

/// Secrets of one answer to a list.
const SECRETS_A_PAGE: u32 = 500;
/// Maximum number of Secrets with seeds; the shards hold fewer users.
const MOST_SECRETS: usize = 100_000;
/// Secrets that are read at once.
const READS_AT_ONCE: usize = 8;

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

/// The Secrets that a plan needs. They are read when they are needed.
#[derive(Default)]
struct Secrets {
    named: BTreeMap<String, SecretContent>,
    /// Why others can't be read.
    unreadable: BTreeMap<String, String>,
    seeds_by_label: SeedSecrets,
    own: Option<SecretContent>,
}

impl Secrets {
    /// A deletion goes on without them: they may be gone or out of reach, as their namespace may be. Without all of them it
    /// keeps the configuration.
    async fn read(
        ctx: &Context,
        key: &RadiusProxyKey,
        proxy: &RadiusProxy,
        names: &ObjectNames,
    ) -> Result<Self, Error> {
        let own = secret(ctx, key, &names.radius_secret()).await;
        let sources = async {
            let (named, unreadable) = secrets(ctx, key, proxy).await?;
            let by_label = seeds_by_label(&ctx.api(key), &ctx.cluster.seeds, key, proxy).await?;
            Ok((named, unreadable, by_label))
        };
        let (own, sources) = match sources.await {
            sources if proxy.metadata.deletion_timestamp.is_none() => (own?, sources?),
            sources => (own.ok().flatten(), sources.unwrap_or_default()),
        };
        let (named, unreadable, seeds_by_label) = sources;
        Ok(Self {
            named,
            unreadable,
            seeds_by_label,
            own,
        })
    }
}

/// The Secrets that the spec names, and why the API server refuses to show others.
async fn secrets(
    ctx: &Context,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
) -> Result<(BTreeMap<String, SecretContent>, BTreeMap<String, String>), Error> {
    let read: Vec<_> = stream::iter(secrets::named_by(&proxy.spec))
        .map(|name| async move { (secret(ctx, key, &name).await, name) })
        .buffer_unordered(READS_AT_ONCE)
        .collect()
        .await;
    let (mut named, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    for (found, name) in read {
        match found {
            Ok(found) => named.extend(found.map(|content| (name, content))),
            Err(error) if error.is_refusal() => drop(unreadable.insert(name, message(&error))),
            Err(error) => return Err(error),
        }
    }
    Ok((named, unreadable))
}

async fn secret(ctx: &Context, key: &RadiusProxyKey, name: &str) -> Result<Option<SecretContent>, Error> {
    let read = ctx.api::<Secret>(key).get_opt(name).await;
    let found = read.map_err(|source| Error::Read {
        what: format!("Secret {name}"),
        source,
    })?;
    Ok(found.map(content))
}

pub(crate) fn content(secret: Secret) -> SecretContent {
    SecretContent {
        data: secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, bytes)| (key, proxy_config::Secret::new(bytes.0)))
            .collect(),
    }
}

/// The Secrets that the seeds' selector means, listed again only when one of them changed. What the operator made itself is
/// none of them, whatever the selector says.
async fn seeds_by_label(
    api: &Api<Secret>,
    seeds: &Seeds,
    key: &RadiusProxyKey,
    proxy: &RadiusProxy,
) -> Result<SeedSecrets, Error> {
    let Some(selector) = secrets::seeds_selector(&proxy.spec) else {
        seeds.forget(key);
        return Ok(SeedSecrets::new());
    };
    let query = selector.to_query();
    let version = match seeds.current(key, &query) {
        Ok(current) => return Ok(current),
        Err(version) => version,
    };
    let mut params = ListParams::default().labels(&query).limit(SECRETS_A_PAGE);
    let mut found = SeedSecrets::new();
    loop {
        let page = api.list(&params).await.map_err(|source| Error::Read {
            what: format!("the Secrets with labels {query}"),
            source,
        })?;
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        for secret in page {
            if proxy_label(&secret.metadata).is_none()
                && let Some(name) = secret.metadata.name.clone()
            {
                found.insert(name, content(secret));
            }
        }
        match next {
            Some(token) if found.len() < MOST_SECRETS => params = params.continue_token(&token),
            _ => break,
        }
    }
    seeds.keep(key, version, &found);
    Ok(found)
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

#[cfg(test)]
mod tests {
    use operator_core::api::RadiusProxySpec;
    use serde_json::json;

    use super::*;
    use crate::fake_api::{Call, FakeApi, list};

    #[tokio::test]
    async fn secrets_of_a_selector_are_listed_once_and_not_at_every_reconciliation() {
        let jane = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "jane", "namespace": "mfa"},
            "data": {"seed": "c2VjcmV0"}});
        let api = FakeApi::new(move |_| Some(list(std::slice::from_ref(&jane))));
        let spec: RadiusProxySpec = serde_json::from_value(json!({"provider":
            {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}}}))
        .unwrap();
        let (proxy, key) = (RadiusProxy::new("a", spec), RadiusProxyKey::new("mfa", "a"));
        let (secrets, seeds) = (Api::namespaced(api.client.clone(), "mfa"), Seeds::default());
        for _ in 0..3 {
            let found = seeds_by_label(&secrets, &seeds, &key, &proxy).await.unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["jane"]);
        }
        let lists = |call: &Call| call.uri.contains("labelSelector=mfa%3Dtotp");
        assert_eq!(api.calls(1, lists).await.len(), 1);
    }
}
