//! The Secrets that a spec names, read: what is missing or wrong, and what goes into the pods.
//!
//! The pods mount copies that the operator makes of valid content. So a Secret that is deleted or invalid
//! takes no pod down: those that run and those that start keep the last good one.

mod references;
mod seeds;

use std::collections::BTreeMap;

use proxy_config::file::UserNames;
use proxy_config::{CaseRule, Secret, SharedSecret, UserNameRule};

use crate::api::{PasswordKeyRef, RadiusProxySpec, SecretKeyRef, SeedsSecretRef, TotpSpec};
use crate::conditions::Reason;
use crate::names::ObjectNames;
use crate::observed::RolloutInput;
use references::proxy_secret;
use seeds::SeedSource;

pub use references::{named_by, seeds_selector};

/// Files of a folder: name and content.
pub(crate) type Files = BTreeMap<String, Secret>;

/// The content of the Secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResolvedSecrets {
    /// The secret shared with the directory; `None` when it is to be generated or there is no directory.
    pub(crate) directory: Option<SharedSecret>,
    /// The provider's credentials by file name.
    pub(crate) provider: Files,
    /// Seed files.
    pub(crate) seeds: Files,
    /// Seed files by label: one entry for each Secret, empty ones too.
    pub(crate) seed_shards: Vec<Files>,
    /// Whether a user has two seeds.
    pub(crate) twice: bool,
    /// Whether no user can log in by the seeds.
    pub(crate) no_user: bool,
    /// The clients' secrets, by client name.
    pub(crate) clients: BTreeMap<String, SharedSecret>,
    /// Problems of lines of the seeds, without their text. Only the users of these lines can't log in.
    pub(crate) warnings: Vec<String>,
}

/// What is wrong with a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretProblem {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Reads every Secret of the spec.
///
/// # Errors
/// Everything that is missing or wrong, never empty.
pub(crate) fn read(input: &RolloutInput) -> Result<ResolvedSecrets, Vec<SecretProblem>> {
    let spec = &input.proxy.spec;
    let names = ObjectNames::new(input.proxy.metadata.name.as_deref().unwrap_or_default());
    let mut reader = Reader {
        input,
        reserved: names.owned_secrets(),
        problems: Vec::new(),
    };
    let mut sources = ResolvedSecrets::default();
    if spec.directory.is_some()
        && let Some(reference) = &spec.shared_secret_ref
    {
        sources.directory = reader.shared("spec.sharedSecretRef", reference);
    }
    for (i, client) in spec.clients.iter().enumerate() {
        let secret = reader.shared(&format!("spec.clients[{i}].secretRef"), &client.secret_ref);
        sources
            .clients
            .extend(secret.map(|secret| (client.name.clone(), secret)));
    }
    reader.provider(spec, &mut sources);
    if sources.seed_shards.is_empty() && input.has_seed_shards {
        // Who asks for none any more must not leave those of before to the pods.
        sources.seed_shards = seeds::no_shards();
    }
    if reader.problems.is_empty() {
        return Ok(sources);
    }
    reader.problems.sort();
    reader.problems.dedup();
    Err(reader.problems)
}

struct Reader<'a> {
    input: &'a RolloutInput,
    reserved: Vec<String>,
    problems: Vec<SecretProblem>,
}

impl Reader<'_> {
    fn problem(&mut self, reason: Reason, message: String) {
        self.problems.push(SecretProblem { reason, message });
    }

    /// All of a Secret.
    fn whole(&mut self, field: &str, name: &str) -> Option<Files> {
        if self.reserved.iter().any(|reserved| reserved == name) {
            let message =
                format!("{field} names Secret {name}, which is the operator's own copy; name another Secret");
            self.problem(Reason::SecretReserved, message);
            return None;
        }
        if let Some(words) = self.input.unreadable_secrets.get(name) {
            let message = format!("{field} names Secret {name}, which the operator can't read: {words}");
            self.problem(Reason::ApiServerErrors, message);
            return None;
        }
        match self.input.secrets.get(name) {
            Some(content) => Some(content.data.clone()),
            None => {
                let namespace = self.input.proxy.metadata.namespace.as_deref().unwrap_or_default();
                let message = format!(
                    "{field} names Secret {name}, which is not in namespace {namespace}; create it there"
                );
                self.problem(Reason::SecretMissing, message);
                None
            }
        }
    }

    /// One key of a Secret.
    fn key(&mut self, field: &str, name: &str, key: &str) -> Option<Secret> {
        let files = self.whole(field, name)?;
        let found = files.get(key).cloned();
        if found.is_none() {
            let keys: Vec<_> = files.keys().map(String::as_str).collect();
            let has = if keys.is_empty() {
                "it is empty".to_owned()
            } else {
                format!("it has {}", keys.join(", "))
            };
            let message = format!("Secret {name} ({field}) has no key {key:?}; {has}. Add the key");
            self.problem(Reason::SecretKeyMissing, message);
        }
        found
    }

    /// A key that must hold something.
    fn filled(&mut self, field: &str, name: &str, key: &str) -> Option<Secret> {
        let secret = self.key(field, name, key)?.trim_end();
        if secret.expose().is_empty() {
            let message = format!("key {key:?} of Secret {name} ({field}) is empty; fill it in");
            self.problem(Reason::SecretKeyEmpty, message);
            return None;
        }
        Some(secret)
    }

    fn shared(&mut self, field: &str, reference: &SecretKeyRef) -> Option<SharedSecret> {
        let SecretKeyRef { name, key } = reference;
        let content = self.key(field, name, key)?;
        match SharedSecret::parse(content.expose()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                let message = format!("key {key:?} of Secret {name} ({field}): {error}");
                self.problem(Reason::SharedSecretInvalid, message);
                None
            }
        }
    }

    fn provider(&mut self, spec: &RadiusProxySpec, sources: &mut ResolvedSecrets) {
        let provider = &spec.provider;
        let mut files: Vec<(String, Option<Secret>)> = Vec::new();
        if let Some(duo) = &provider.duo {
            let reference = &duo.credentials_secret_ref;
            for (file, key) in [("ikey", &reference.keys.ikey), ("skey", &reference.keys.skey)] {
                let secret = self.filled("spec.provider.duo.credentialsSecretRef", &reference.name, key);
                files.push((file.to_owned(), secret));
            }
        }
        if let Some(okta) = &provider.okta {
            let file = okta.credentials.default_key();
            let reference = &okta.credentials_secret_ref;
            let key = reference.key.as_deref().unwrap_or(file);
            let secret = self.filled("spec.provider.okta.credentialsSecretRef", &reference.name, key);
            files.push((file.to_owned(), secret));
        }
        files.extend(self.proxy_login(spec));
        if let Some(radius) = &provider.radius {
            for (i, server) in radius.servers.iter().enumerate() {
                let field = format!("spec.provider.radius.servers[{i}].secretRef");
                let secret = self.shared(&field, &server.secret_ref);
                let secret = secret.map(|s| Secret::new(s.expose().to_vec()));
                files.push((upstream_file(&server.address), secret));
            }
        }
        if let Some(totp) = &provider.totp {
            self.seeds(totp, sources);
            let redis = totp.used_codes.redis.as_ref();
            if let Some(PasswordKeyRef { name, key }) = redis.and_then(|r| r.password_secret_ref.as_ref()) {
                let field = "spec.provider.totp.usedCodes.redis.passwordSecretRef";
                let secret = self.filled(field, name, key);
                files.push((REDIS_PASSWORD_FILE.to_owned(), secret));
            }
        }
        sources.provider = files
            .into_iter()
            .filter_map(|(name, secret)| Some((name, secret?)))
            .collect();
    }

    /// What the HTTP proxy in front of the provider asks for.
    fn proxy_login(&mut self, spec: &RadiusProxySpec) -> Vec<(String, Option<Secret>)> {
        let Some((provider, reference)) = proxy_secret(spec) else {
            return Vec::new();
        };
        let field = format!("spec.provider.{provider}.httpProxySecretRef");
        let keys = &reference.keys;
        [(PROXY_USERNAME, &keys.username), (PROXY_PASSWORD, &keys.password)]
            .map(|(file, key)| (file.to_owned(), self.filled(&field, &reference.name, key)))
            .to_vec()
    }

    /// The keys of `seedsSecretRef`.
    fn seed_files(&mut self, reference: &SeedsSecretRef) -> Files {
        let field = "spec.provider.totp.seedsSecretRef";
        if reference.keys.is_empty() {
            return self.whole(field, &reference.name).unwrap_or_default();
        }
        let keys = reference.keys.iter();
        keys.filter_map(|key| Some((key.clone(), self.key(field, &reference.name, key)?)))
            .collect()
    }

    fn seeds(&mut self, totp: &TotpSpec, sources: &mut ResolvedSecrets) {
        let mut found = Vec::new();
        if let Some(reference) = &totp.seeds_secret_ref {
            sources.seeds = self.seed_files(reference);
            found.push(SeedSource {
                secret: &reference.name,
                files: &sources.seeds,
                merges: false,
            });
        }
        if let Some(selector) = &totp.seeds_selector
            && let Some(words) = &self.input.unreadable_seeds
        {
            let message = format!(
                "spec.provider.totp.seedsSelector means Secrets with the labels {}, which the operator can't list: {words}",
                selector.to_query()
            );
            return self.problem(Reason::ApiServerErrors, message);
        }
        let selected = totp
            .seeds_selector
            .iter()
            .flat_map(|_| &self.input.seeds_by_label);
        found.extend(
            selected
                .filter(|(name, _)| totp.seeds_secret_ref.as_ref().is_none_or(|r| r.name != **name))
                .map(|(name, content)| SeedSource {
                    secret: name,
                    files: &content.data,
                    merges: true,
                }),
        );
        let merged = seeds::merge(&found, &user_names(&self.input.proxy.spec));
        sources.twice = merged.twice;
        sources.no_user = merged.no_user;
        sources.warnings = merged.warnings;
        sources.seed_shards = merged.shards;
        if totp.seeds_selector.is_none() {
            sources.seed_shards.clear();
        }
        // The kubelet and the proxy take a name that begins with a dot for no file of a folder.
        sources.seeds.retain(|key, _| !key.starts_with('.'));
        if let Some(selector) = &totp.seeds_selector
            && self.input.seeds_by_label.is_empty()
        {
            sources.warnings.push(format!(
                "no Secret has the labels {} (spec.provider.totp.seedsSelector)",
                selector.to_query()
            ));
        }
    }
}

/// How the proxies normalise user names.
fn user_names(spec: &RadiusProxySpec) -> UserNameRule {
    let names = &spec.policy.user_names;
    UserNameRule {
        strip_domain: names.strip_domain,
        case: if names.lower_case {
            CaseRule::Lower
        } else {
            CaseRule::Keep
        },
        max_bytes: UserNames::default().max_bytes as usize,
    }
}

/// The files of the user name and the password for the HTTP proxy.
pub(crate) const PROXY_USERNAME: &str = "http-proxy-username";
pub(crate) const PROXY_PASSWORD: &str = "http-proxy-password";

/// The file with the password of the store of used codes.
pub(crate) const REDIS_PASSWORD_FILE: &str = "redis-password";

/// The file with the secret of an upstream server: named after the address, so that another order moves no secret.
pub(crate) fn upstream_file(address: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '_'
        }
    };
    format!("server-{}", address.chars().map(safe).collect::<String>())
}
