//! The Secrets of a RadiusProxy. One that the API server refuses to show is an input of the plan.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use operator_core::api::RadiusProxy;
use operator_core::names::ObjectNames;
use operator_core::observed::SecretContent;
use operator_core::secrets;

use crate::context::Context;
use crate::error::{Error, message};
use crate::object_keys::RadiusProxyKey;
use crate::watch::row::proxy_label;
use crate::watch::{SeedSecrets, Seeds};

/// Secrets of one answer to a list.
const SECRETS_A_PAGE: u32 = 500;
/// Maximum number of Secrets with seeds; the shards hold fewer users.
const MOST_SECRETS: usize = 100_000;
/// Secrets that are read at once.
const READS_AT_ONCE: usize = 8;

/// The Secrets that a plan needs. They are read when they are needed.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) named: BTreeMap<String, SecretContent>,
    /// Why others can't be read.
    pub(super) unreadable: BTreeMap<String, String>,
    pub(super) seeds_by_label: SeedSecrets,
    /// Why those of the selector can't be listed.
    pub(super) unreadable_seeds: Option<String>,
    pub(super) own: Option<SecretContent>,
}

impl Secrets {
    /// A deletion goes on without them: they may be gone or out of reach, as their namespace may be. Without all of them it
    /// keeps the configuration.
    pub(super) async fn read(
        ctx: &Context,
        key: &RadiusProxyKey,
        proxy: &RadiusProxy,
        names: &ObjectNames,
    ) -> Result<Self, Error> {
        let own = secret(ctx, key, &names.radius_secret()).await;
        let of_spec = Self::of_spec(ctx, key, proxy).await;
        let (own, of_spec) = if proxy.metadata.deletion_timestamp.is_none() {
            (own?, of_spec?)
        } else {
            (own.ok().flatten(), of_spec.unwrap_or_default())
        };
        Ok(Self { own, ..of_spec })
    }

    async fn of_spec(ctx: &Context, key: &RadiusProxyKey, proxy: &RadiusProxy) -> Result<Self, Error> {
        let (named, unreadable) = secrets(ctx, key, proxy).await?;
        let selected = seeds_by_label(&ctx.api(key), &ctx.cluster.seeds, key, proxy).await;
        let (seeds_by_label, unreadable_seeds) = match selected {
            Ok(found) => (found, None),
            Err(error) if error.is_refusal() => (SeedSecrets::new(), Some(message(&error))),
            Err(error) => return Err(error),
        };
        Ok(Self {
            named,
            unreadable,
            seeds_by_label,
            unreadable_seeds,
            own: None,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operator_core::api::RadiusProxySpec;
    use serde_json::json;

    use super::*;
    use crate::fake_api::{Call, FakeApi, list, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    fn proxy() -> RadiusProxy {
        let selector = json!({"provider": {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}}});
        let spec: RadiusProxySpec = serde_json::from_value(selector).unwrap();
        RadiusProxy::new("mfa", spec)
    }

    #[tokio::test]
    async fn secrets_that_a_selector_means_and_nobody_shows_are_told_and_stop_no_plan() {
        let api = FakeApi::new(|call| {
            let list = call.uri.contains("labelSelector");
            Some(refused(
                if list { 403 } else { 404 },
                if list { "Forbidden" } else { "NotFound" },
            ))
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let (key, names) = (RadiusProxyKey::new("auth", "mfa"), ObjectNames::new("mfa"));
        let found = Secrets::read(&ctx, &key, &proxy(), &names).await.unwrap();
        let told = found.unreadable_seeds.unwrap();
        assert!(told.contains("mfa=totp") && told.contains("Forbidden"), "{told}");
    }

    #[tokio::test]
    async fn secrets_of_a_selector_are_listed_once_and_not_at_every_reconciliation() {
        let jane = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "jane", "namespace": "mfa"},
            "data": {"seed": "c2VjcmV0"}});
        let api = FakeApi::new(move |_| Some(list(std::slice::from_ref(&jane))));
        let (proxy, key) = (proxy(), RadiusProxyKey::new("auth", "mfa"));
        let (secrets, seeds) = (Api::namespaced(api.client.clone(), "auth"), Seeds::default());
        for _ in 0..3 {
            let found = seeds_by_label(&secrets, &seeds, &key, &proxy).await.unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["jane"]);
        }
        let lists = |call: &Call| call.uri.contains("labelSelector=mfa%3Dtotp");
        assert_eq!(api.calls(1, lists).await.len(), 1);
    }
}
