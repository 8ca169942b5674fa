//! The proxies' configuration, rendered from the spec, and the digest by which a pod says that it runs it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_config::file::{self, ConfigFile};
use proxy_config::{Config, ConfigDigest, Contents, DigestKey, Problem, Secret};

use crate::api::{
    BasicAuthSecretRef, ClientSpec, DuoFactor, DuoSignatureVersion, DuoSpec, FailMode,
    MessageAuthenticatorPolicy, OktaFactor, OktaSpec, OktaTokenKind, RadiusProxySpec, StoreOutage, TotpSpec,
};
use crate::conditions::Reason;
use crate::names::{ADMIN_PORT, HEALTH_PORT, ObjectNames, PEERS_KEY, USED_CODES_MAPS, peer_port};
use crate::rotation::Pair;
use crate::secrets::{Files, PROXY_PASSWORD, PROXY_USERNAME, REDIS_PASSWORD_FILE, Sources, upstream_file};

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
/// The longest that a proxy may take to answer pending logins when it is told to stop, in seconds.
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

/// What the rendering needs beside the spec.
#[derive(Debug)]
pub(crate) struct ConfigInput<'a> {
    pub(crate) spec: &'a RadiusProxySpec,
    /// The RadiusProxy's name, which the users see when there is no directory and no application.
    pub(crate) name: &'a str,
    /// Where the directory's requests come from.
    pub(crate) directory_clients: &'a BTreeSet<IpAddr>,
    pub(crate) sources: &'a Sources,
    /// The secrets shared with the directory; none without one.
    pub(crate) pair: Option<&'a Pair>,
    /// The content of the digest key's file.
    pub(crate) digest_key: &'a Secret,
    pub(crate) provider_host_suffixes: Option<&'a [String]>,
}

/// What the proxy would refuse, told before it starts.
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

/// The key that the pods share, made from the digest key: it is there when that one is, and stays as long.
fn peer_key(digest_key: &Secret) -> Secret {
    let purpose: (&str, &[u8]) = ("purpose", b"pending pushes between the pods");
    let derived = ConfigDigest::compute(&key_of(digest_key), [purpose]);
    Secret::new(derived.as_str().as_bytes().to_vec())
}

/// How long a proxy answers pending logins when it is told to stop, in seconds: as long as a client may wait.
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

/// The one client that no `spec.clients` can be called.
const DIRECTORY_CLIENT: &str = "directory";

fn directory_client(from: &ConfigInput<'_>) -> Option<file::Client> {
    let directory = from.spec.directory.as_ref()?;
    Some(file::Client {
        name: DIRECTORY_CLIENT.to_owned(),
        networks: from.directory_clients.iter().map(IpAddr::to_string).collect(),
        secret_files: [CURRENT_KEY, PREVIOUS_KEY]
            .map(|key| format!("{RADIUS_FOLDER}/{key}"))
            .to_vec(),
        directory: true,
        timeout_seconds: directory.timeout_seconds,
        retries: directory.retries,
        message_authenticator: file::MessageAuthenticator::Auto,
        unauthenticated_push: directory.unauthenticated_push,
        challenge: false,
        requests_per_second: None,
        user_address_attribute: None,
        accept_attributes: Vec::new(),
    })
}

fn client_key(name: &str) -> String {
    format!("client-{name}")
}

fn client(client: &ClientSpec) -> file::Client {
    file::Client {
        name: client.name.clone(),
        networks: client.networks.clone(),
        secret_files: vec![format!("{RADIUS_FOLDER}/{}", client_key(&client.name))],
        directory: false,
        timeout_seconds: client.timeout_seconds,
        retries: client.retries,
        message_authenticator: match client.message_authenticator {
            MessageAuthenticatorPolicy::Auto => file::MessageAuthenticator::Auto,
            MessageAuthenticatorPolicy::Always => file::MessageAuthenticator::Always,
            MessageAuthenticatorPolicy::Never => file::MessageAuthenticator::Never,
        },
        unauthenticated_push: client.unauthenticated_push,
        challenge: client.challenge,
        requests_per_second: client.requests_per_second,
        user_address_attribute: client.user_address_attribute.clone(),
        accept_attributes: client
            .accept_attributes
            .iter()
            .map(|(name, value)| file::Attribute {
                name: name.clone(),
                value: value.clone(),
            })
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

/// The schema lets exactly one provider through; of several, the first would count.
fn provider(from: &ConfigInput<'_>) -> file::Provider {
    let provider = &from.spec.provider;
    if let Some(raw) = &provider.duo {
        return file::Provider::Duo(duo(raw));
    }
    if let Some(raw) = &provider.okta {
        return file::Provider::Okta(okta(raw));
    }
    if let Some(raw) = &provider.radius {
        return file::Provider::Radius(file::Upstream {
            servers: raw
                .servers
                .iter()
                .map(|server| file::UpstreamServer {
                    address: server.address.clone(),
                    secret_file: format!("{PROVIDER_FOLDER}/{}", upstream_file(&server.address)),
                })
                .collect(),
            timeout_seconds: raw.timeout_seconds,
            tries: raw.tries,
            require_message_authenticator: raw.require_message_authenticator,
            status_server: raw.status_server,
            forward_attributes: raw.forward_attributes.clone(),
            return_attributes: raw.return_attributes.clone(),
        });
    }
    file::Provider::Totp(totp(provider.totp.as_ref(), from.name))
}

fn totp(raw: Option<&TotpSpec>, name: &str) -> file::Totp {
    let by_label = raw.is_some_and(|totp| totp.seeds_selector.is_some());
    let used = raw.map(|totp| totp.used_codes.clone()).unwrap_or_default();
    let names = ObjectNames::new(name);
    let kubernetes = used.redis.is_none().then(|| file::KubernetesStore {
        config_maps: (0..USED_CODES_MAPS).map(|map| names.used_codes(map)).collect(),
    });
    file::Totp {
        seed_folders: [SEEDS_FOLDER]
            .into_iter()
            .chain(by_label.then_some(SEEDS_BY_LABEL_FOLDER))
            .map(str::to_owned)
            .collect(),
        skew_steps: raw.map_or(1, |totp| totp.skew_steps),
        used_codes: file::UsedCodes {
            when_unavailable: match used.when_unavailable {
                StoreOutage::AcceptOncePerPod => file::StoreOutage::AcceptOncePerPod,
                StoreOutage::Deny => file::StoreOutage::Deny,
            },
            kubernetes,
            redis: used.redis.map(|redis| file::RedisStore {
                address: redis.address,
                tls: redis.tls,
                ca_bundle: redis.ca_bundle,
                username: redis.username,
                password_file: redis
                    .password_secret_ref
                    .map(|_| format!("{PROVIDER_FOLDER}/{REDIS_PASSWORD_FILE}")),
                database: redis.database,
            }),
        },
    }
}

const fn fail_mode(mode: FailMode) -> file::FailMode {
    match mode {
        FailMode::Secure => file::FailMode::Secure,
        FailMode::Safe => file::FailMode::Safe,
    }
}

/// The path of a file with the HTTP proxy's credentials, if the spec names a Secret with them.
fn proxy_file(secret: Option<&BasicAuthSecretRef>, name: &str) -> Option<String> {
    secret.map(|_| format!("{PROVIDER_FOLDER}/{name}"))
}

fn duo(raw: &DuoSpec) -> file::Duo {
    let factor = |factor: &DuoFactor| match factor {
        DuoFactor::Auto => file::DuoFactor::Auto,
        DuoFactor::Push => file::DuoFactor::Push,
        DuoFactor::Phone => file::DuoFactor::Phone,
        DuoFactor::Passcode => file::DuoFactor::Passcode,
        DuoFactor::Sms => file::DuoFactor::Sms,
    };
    file::Duo {
        api_host: raw.api_host.clone(),
        integration_key_file: format!("{PROVIDER_FOLDER}/ikey"),
        secret_key_file: format!("{PROVIDER_FOLDER}/skey"),
        factors: raw.factors.iter().map(factor).collect(),
        fail_mode: fail_mode(raw.fail_mode),
        signature_version: match raw.signature_version {
            DuoSignatureVersion::V2 => file::SignatureVersion::V2,
            DuoSignatureVersion::V5 => file::SignatureVersion::V5,
        },
        http_proxy: raw.http_proxy.clone().map(Into::into),
        http_proxy_username_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_USERNAME),
        http_proxy_password_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_PASSWORD),
        ca_bundle: raw.ca_bundle.clone(),
    }
}

fn okta(raw: &OktaSpec) -> file::Okta {
    let factor = |factor: &OktaFactor| match factor {
        OktaFactor::Push => file::OktaFactor::Push,
        OktaFactor::Totp => file::OktaFactor::Totp,
        OktaFactor::Hardware => file::OktaFactor::Hardware,
        OktaFactor::Sms => file::OktaFactor::Sms,
        OktaFactor::Call => file::OktaFactor::Call,
    };
    let path = format!("{PROVIDER_FOLDER}/{}", raw.credentials.default_key());
    file::Okta {
        org_url: raw.org_url.clone(),
        credentials: match raw.credentials {
            OktaTokenKind::Token => file::OktaCredentials::Token { token_file: path },
            OktaTokenKind::Oauth => file::OktaCredentials::Oauth {
                client_id: raw.client_id.clone().unwrap_or_default(),
                private_key_file: path,
                key_id: raw.key_id.clone(),
            },
        },
        factors: raw.factors.iter().map(factor).collect(),
        login_suffix: raw.login_suffix.clone(),
        fail_mode: fail_mode(raw.fail_mode),
        http_proxy: raw.http_proxy.clone().map(Into::into),
        http_proxy_username_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_USERNAME),
        http_proxy_password_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_PASSWORD),
        ca_bundle: raw.ca_bundle.clone(),
    }
}

/// Problems of the file, told by the names that the spec has for its fields.
fn in_terms_of_the_spec(problems: &[Problem], spec: &RadiusProxySpec) -> ConfigProblem {
    let of_provider = problems.iter().all(|p| p.field.starts_with("provider."));
    let reason = if of_provider {
        Reason::ProviderConfigInvalid
    } else {
        Reason::ConfigInvalid
    };
    let told = problems.iter().map(|problem| {
        let message = spec_fields_in(&problem.message);
        format!("{}: {message}", spec_field(&problem.field, spec))
    });
    ConfigProblem {
        reason,
        message: told.collect::<Vec<_>>().join("; "),
    }
}

/// `clients[1].networks` of the file is `spec.clients[0].networks` when there is a directory, whose client is the first.
fn spec_field(field: &str, spec: &RadiusProxySpec) -> String {
    let index_and_rest = field
        .strip_prefix("clients[")
        .and_then(|rest| rest.split_once(']'));
    let Some((index, rest)) = index_and_rest else {
        return format!("spec.{}", camel(field));
    };
    let shift = usize::from(spec.directory.is_some());
    match index.parse::<usize>().ok().map(|index| index.checked_sub(shift)) {
        Some(Some(index)) => format!("spec.clients[{index}]{}", camel(rest)),
        _ => format!("spec.directory{}", camel(rest)),
    }
}

/// A message, with the policy's fields as the spec names them.
fn spec_fields_in(message: &str) -> String {
    let word = |word: &str| match word.strip_prefix("policy.") {
        Some(_) => format!("spec.{}", camel(word)),
        None => word.to_owned(),
    };
    message.split_inclusive(' ').map(word).collect()
}

/// `snake_case` to `camelCase`.
fn camel(field: &str) -> String {
    let mut up = false;
    let mut out = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
