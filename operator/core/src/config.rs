//! The proxies' configuration, rendered from the spec, and the digest by which a pod says that it runs it.

mod client;
mod problems;
mod provider;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_config::file::{self, ConfigFile};
use proxy_config::{Config, ConfigDigest, Contents, DigestKey, Secret};

use crate::api::RadiusProxySpec;
use crate::conditions::Reason;
use crate::names::{ADMIN_PORT, HEALTH_PORT, PEERS_KEY, peer_port};
use crate::rotation::SecretPair;
use crate::secrets::{Files, ResolvedSecrets};
use client::{client, client_key, directory_client};
use problems::in_terms_of_the_spec;
use provider::provider;

/// Where the ConfigMap is mounted.
pub(crate) const CONFIG_FOLDER: &str = "/etc/radius-proxy/config";
/// Where the operator's own Secret is mounted.
pub(crate) const RADIUS_FOLDER: &str = "/etc/radius-proxy/radius";
/// Where the provider's credentials are mounted.
pub(crate) const PROVIDER_FOLDER: &str = "/etc/radius-proxy/provider";
/// Where the seeds are mounted.
pub(crate) const SEEDS_FOLDER: &str = "/etc/radius-proxy/seeds";
/// Where the seeds that were found by label are mounted.
pub(crate) const SEEDS_BY_LABEL_FOLDER: &str = "/etc/radius-proxy/seeds-by-label";
/// Key of the owned Secret: the secret that AWS is to have.
pub(crate) const CURRENT_KEY: &str = "directory";
/// Key of the owned Secret: the secret that is accepted beside it, equal to it when nothing rotates.
pub(crate) const PREVIOUS_KEY: &str = "directory-previous";
/// Key of the owned Secret: the key of all digests.
pub(crate) const DIGEST_KEY: &str = "digest-key";
/// Key of the owned Secret: the key by which the pods tell each other about pending pushes.
pub(crate) const PEER_KEY: &str = "peer-key";
/// Maximum time for a stopping proxy to answer pending logins, in seconds.
const MAX_DRAIN: u32 = 600;

/// Everything that the pods get to read.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    /// The configuration file.
    pub(crate) text: String,
    /// The files of the owned Secret.
    pub(crate) radius: Files,
    /// The files of the provider's Secret.
    pub(crate) provider: Files,
    /// The files of the seeds' Secret.
    pub(crate) seeds: Files,
    /// The files of the Secrets of seeds by label.
    pub(crate) seed_shards: Vec<Files>,
    /// What a pod reports that runs all of it.
    pub(crate) digest: ConfigDigest,
}

/// The input of the rendering in addition to the spec.
#[derive(Debug)]
pub(crate) struct ConfigInput<'a> {
    pub(crate) spec: &'a RadiusProxySpec,
    /// The RadiusProxy's name, which the users see when there is no directory and no application.
    pub(crate) name: &'a str,
    /// Where the directory's requests come from.
    pub(crate) directory_clients: &'a BTreeSet<IpAddr>,
    pub(crate) sources: &'a ResolvedSecrets,
    /// The secrets shared with the directory; none without one.
    pub(crate) pair: Option<&'a SecretPair>,
    /// The content of the digest key's file.
    pub(crate) digest_key: &'a Secret,
    pub(crate) provider_host_suffixes: Option<&'a [String]>,
}

/// A configuration that the proxy would refuse, reported before the proxy starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Renders the configuration and checks it as the proxy would.
///
/// # Errors
/// The proxy would refuse it.
pub(crate) fn render(from: &ConfigInput<'_>) -> Result<Rendered, ConfigProblem> {
    let file = config_file(from);
    let text = toml::to_string(&file).map_err(|error| ConfigProblem {
        reason: Reason::ConfigInvalid,
        message: format!("the configuration cannot be written as TOML: {error}"),
    })?;
    let mut radius = Files::new();
    radius.insert(DIGEST_KEY.to_owned(), from.digest_key.clone());
    radius.insert(PEER_KEY.to_owned(), peer_key(from.digest_key));
    if let Some(pair) = from.pair {
        let previous = pair.previous.as_ref().unwrap_or(&pair.current);
        for (key, secret) in [(CURRENT_KEY, &pair.current), (PREVIOUS_KEY, previous)] {
            radius.insert(key.to_owned(), Secret::new(secret.expose().to_vec()));
        }
    }
    for (name, secret) in &from.sources.clients {
        radius.insert(client_key(name), Secret::new(secret.expose().to_vec()));
    }
    let mut contents = Contents::new();
    for (folder, files) in [
        (RADIUS_FOLDER, &radius),
        (PROVIDER_FOLDER, &from.sources.provider),
        (SEEDS_FOLDER, &from.sources.seeds),
    ]
    .into_iter()
    .chain(
        from.sources
            .seed_shards
            .iter()
            .map(|shard| (SEEDS_BY_LABEL_FOLDER, shard)),
    ) {
        contents.extend(
            files
                .iter()
                .map(|(name, content)| (format!("{folder}/{name}"), content.clone())),
        );
    }
    Config::check(&file, &contents).map_err(|problems| in_terms_of_the_spec(&problems.0, from.spec))?;
    let digest = digest(&text, &file, &contents, from.digest_key);
    Ok(Rendered {
        text,
        radius,
        provider: from.sources.provider.clone(),
        seeds: from.sources.seeds.clone(),
        seed_shards: from.sources.seed_shards.clone(),
        digest,
    })
}

/// The digest over the file and every file that it names and that counts.
fn digest(text: &str, file: &ConfigFile, contents: &Contents, key: &Secret) -> ConfigDigest {
    let named = file.named_files();
    let is_named = |path: &str| {
        named.iter().any(|name| match name {
            file::NamedFile::File(file) => file == path,
            file::NamedFile::Folder(folder) => path
                .strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.starts_with('/')),
        })
    };
    let parts = contents
        .iter()
        .filter(|(path, _)| is_named(path) && file.is_digested(path))
        .map(|(path, content)| (path.as_str(), content.expose()));
    ConfigDigest::compute(&key_of(key), std::iter::once(("", text.as_bytes())).chain(parts))
}

/// The digest key as operator and proxy use it: the file's content without white space at its end.
pub(crate) fn key_of(content: &Secret) -> DigestKey {
    DigestKey::new(content.trim_end().expose().to_vec())
}

/// The key that the pods share, derived from the digest key. It exists as long as the digest key does.
fn peer_key(digest_key: &Secret) -> Secret {
    let purpose: (&str, &[u8]) = ("purpose", b"pending pushes between the pods");
    let derived = ConfigDigest::compute(&key_of(digest_key), [purpose]);
    Secret::new(derived.as_str().as_bytes().to_vec())
}

/// Time for a stopping proxy to answer pending logins, in seconds: as long as a client may wait.
pub(crate) fn drain_seconds(spec: &RadiusProxySpec) -> u32 {
    let budget = |timeout: u32, retries: u32| timeout.saturating_mul(retries.saturating_add(1));
    let clients = spec.clients.iter().map(|c| budget(c.timeout_seconds, c.retries));
    let directory = spec
        .directory
        .iter()
        .map(|d| budget(d.timeout_seconds, d.retries));
    clients.chain(directory).max().unwrap_or_default().min(MAX_DRAIN)
}

fn config_file(from: &ConfigInput<'_>) -> ConfigFile {
    let spec = from.spec;
    let application = spec.application.clone().or_else(|| {
        let directory = spec.directory.as_ref()?;
        Some(format!("{} ({})", directory.display_label, directory.id))
    });
    ConfigFile {
        server: file::Server {
            listen: vec![format!("[::]:{}", spec.port)],
            admin: Some(format!("[::]:{ADMIN_PORT}")),
            health: Some(format!("[::]:{HEALTH_PORT}")),
            records: "stdout".to_owned(),
            application: Some(application.unwrap_or_else(|| from.name.to_owned())),
            drain_seconds: drain_seconds(spec),
            digest_key_file: Some(format!("{RADIUS_FOLDER}/{DIGEST_KEY}")),
            provider_host_suffixes: from.provider_host_suffixes.map(<[String]>::to_vec),
            // Whatever the provider is: another one comes without a new pod, and a socket only with one.
            peers: Some(file::Peers {
                listen: format!("[::]:{}", peer_port(spec.port)),
                addresses: Vec::new(),
                addresses_file: Some(format!("{CONFIG_FOLDER}/{PEERS_KEY}")),
                key_file: format!("{RADIUS_FOLDER}/{PEER_KEY}"),
            }),
        },
        provider: provider(from),
        policy: policy(spec),
        clients: directory_client(from)
            .into_iter()
            .chain(spec.clients.iter().map(client))
            .collect(),
    }
}

fn policy(spec: &RadiusProxySpec) -> file::Policy {
    let policy = &spec.policy;
    let limits = &policy.limits;
    file::Policy {
        user_names: file::UserNames {
            strip_domain: policy.user_names.strip_domain,
            lower_case: policy.user_names.lower_case,
            ..file::UserNames::default()
        },
        typed_text: file::TypedText {
            delimiter: policy.typed_text.delimiter.clone(),
            passcode_suffix_length: policy.typed_text.passcode_suffix_length,
        },
        exempt_users: policy.exempt_users.clone(),
        probe_users: policy.probe_users.clone(),
        login_seconds: policy.login_seconds,
        limits: file::Limits {
            pushes_per_user_per_minute: limits.pushes_per_user_per_minute,
            logins_per_user_per_minute: limits.logins_per_user_per_minute,
            requests_per_client_per_second: limits.requests_per_client_per_second,
            pending: limits.pending,
            push_cool_down_seconds: limits.push_cool_down_seconds,
        },
    }
}

#[cfg(test)]
mod tests;
