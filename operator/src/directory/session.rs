//! Clients of AWS, one for each region and role, with credentials of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_directory::Client;
use aws_sdk_directory::config::retry::RetryConfig;
use aws_sdk_directory::config::timeout::TimeoutConfig;
use aws_sdk_directory::config::{IdentityCache, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use operator_core::access::{AssumedRole, DirectoryAccess};
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::registration::LONGEST_ANSWER;

use super::failure;
use super::lru_cache::LruCache;
use super::rate_limiter::RateLimiter;

/// Credentials are renewed this long before they expire.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(300);
/// How long credentials without an expiry are used.
const LIFETIME_WITHOUT_EXPIRY: Duration = Duration::from_secs(60);
/// How long obtaining credentials may take: the instance metadata service is tried last, and may be unreachable from a pod.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(8);
/// Each RadiusProxy with a role has a session.
const MAX_SESSIONS: usize = 4096;
/// Regions whose configuration is kept. AWS has fewer.
const MAX_REGIONS: usize = 256;

/// A region, and the ARN of a role.
type RegionAndRole = (String, Option<String>);

/// Opens sessions and keeps them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) calls_per_second: u32,
    kept: Mutex<LruCache<Account, Arc<Session>>>,
    limits: Mutex<HashMap<RegionAndRole, Arc<RateLimits>>>,
    /// One configuration for each region, with the operator's own credentials.
    bases: tokio::sync::Mutex<HashMap<String, SdkConfig>>,
    http: SharedHttpClient,
    #[cfg(test)]
    pub(super) endpoint: Option<(String, Credentials)>,
}

/// A region, and a role in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Account {
    pub(super) region: String,
    pub(super) role: Option<AssumedRole>,
}

impl Account {
    /// The account of an access.
    pub(super) fn of(access: &DirectoryAccess) -> Self {
        Self {
            region: access.region.clone(),
            role: access.role.clone(),
        }
    }
}

/// The limits on calls of one region and role. Writes have their own, so that they never queue behind descriptions.
#[derive(Debug)]
pub(super) struct RateLimits {
    pub(super) reads: RateLimiter,
    pub(super) writes: RateLimiter,
}

/// A client with its credentials and rate limits.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) limits: Arc<RateLimits>,
    credentials: Arc<CachedCredentials>,
}

impl Session {
    /// Obtains credentials, so that a call fails for its own reasons only.
    pub(super) async fn ready(&self, operation: AwsOperation) -> Result<(), AwsFailure> {
        match tokio::time::timeout(CREDENTIALS_TIMEOUT, self.credentials.current()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure::from_credentials(operation, &error)),
            Err(_) => Err(failure::own(
                operation,
                AwsErrorClass::NoCredentials,
                format!("no credentials within {} s", CREDENTIALS_TIMEOUT.as_secs()),
            )),
        }
    }

    /// Drops credentials that AWS has refused.
    pub(super) async fn ended<T>(&self, result: Result<T, AwsFailure>) -> Result<T, AwsFailure> {
        if let Err(failed) = &result
            && failed.class == AwsErrorClass::InvalidCredentials
        {
            *self.credentials.cached.lock().await = None;
        }
        result
    }
}

impl Sessions {
    /// Without any session.
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self {
            calls_per_second,
            kept: Mutex::new(LruCache::new(MAX_SESSIONS)),
            limits: Mutex::default(),
            bases: tokio::sync::Mutex::default(),
            http: http_client(),
            #[cfg(test)]
            endpoint: None,
        }
    }

    /// The session for an account.
    pub(super) async fn of(&self, account: &Account) -> Arc<Session> {
        if let Some(session) = lock(&self.kept).get(account) {
            return Arc::clone(session);
        }
        // Two callers that open the same session at once share the first one. Evicting a session only costs a new AssumeRole:
        // its users have clones of the Arc.
        let session = Arc::new(self.open(account).await);
        let mut kept = lock(&self.kept);
        if let Some(first) = kept.get(account) {
            return Arc::clone(first);
        }
        kept.insert(account.clone(), Arc::clone(&session));
        session
    }

    async fn open(&self, account: &Account) -> Session {
        let base = self.base(&account.region).await;
        let provider = match &account.role {
            None => base.credentials_provider(),
            Some(role) => Some(SharedCredentialsProvider::new(
                AssumeRoleProvider::builder(&role.arn)
                    .external_id(&role.external_id)
                    .session_name(session_name(&role.external_id))
                    .configure(&base)
                    .build()
                    .await,
            )),
        };
        let credentials = Arc::new(CachedCredentials {
            provider,
            cached: tokio::sync::Mutex::new(None),
        });
        let config = aws_sdk_directory::config::Builder::from(&base)
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::new(CredentialsProvider(Arc::clone(
                &credentials,
            ))))
            .build();
        Session {
            client: Client::from_conf(config),
            limits: self.limits(account),
            credentials,
        }
    }

    /// One pair for each region and role: roles of one region share no limit at AWS.
    fn limits(&self, account: &Account) -> Arc<RateLimits> {
        let key = (
            account.region.clone(),
            account.role.as_ref().map(|role| role.arn.clone()),
        );
        let mut limits = lock(&self.limits);
        if limits.len() >= MAX_SESSIONS && !limits.contains_key(&key) {
            // Those of evicted sessions.
            limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        }
        let new = || {
            Arc::new(RateLimits {
                reads: RateLimiter::new(self.calls_per_second),
                writes: RateLimiter::new(self.calls_per_second),
            })
        };
        Arc::clone(limits.entry(key).or_insert_with(new))
    }

    /// The region is always given. Otherwise the SDK would ask the instance metadata service for it, and would call STS in
    /// another partition than the directory's.
    async fn base(&self, region: &str) -> SdkConfig {
        let mut bases = self.bases.lock().await;
        if let Some(base) = bases.get(region) {
            return base.clone();
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts())
            .http_client(self.http.clone());
        if let Ok(name) = AppName::new("radius-mfa-operator") {
            loader = loader.app_name(name);
        }
        #[cfg(test)]
        if let Some((url, credentials)) = &self.endpoint {
            loader = loader.endpoint_url(url).credentials_provider(credentials.clone());
        }
        let base = loader.load().await;
        if bases.len() >= MAX_REGIONS {
            bases.clear();
        }
        bases.insert(region.to_owned(), base.clone());
        base
    }
}

/// The same HTTP client that the SDK creates by default, but shared. Otherwise every client, and so every role, would have
/// its own connection pool and its own copy of the trusted certificates (150 KB).
fn http_client() -> SharedHttpClient {
    // Like the SDK's own client, it uses the proxies of the environment.
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

/// The SDK sets no operation timeout: without one, a silent connection would block a call forever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_timeout(LONGEST_ANSWER)
        .build()
}

/// `[\w+=,.@-]{2,64}`. CloudTrail shows it, so it has as much of the RadiusProxy's name as fits.
fn session_name(external_id: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || "_.-".contains(c) {
            c
        } else {
            '.'
        }
    };
    format!("rmfa.{external_id}").chars().map(fits).take(64).collect()
}

/// Credentials, cached until shortly before they expire.
#[derive(Debug)]
struct CachedCredentials {
    provider: Option<SharedCredentialsProvider>,
    cached: tokio::sync::Mutex<Option<(Credentials, SystemTime)>>,
}

impl CachedCredentials {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        let mut cached = self.cached.lock().await;
        let now = SystemTime::now();
        if let Some((credentials, until)) = cached.as_ref()
            && *until > now
        {
            return Ok(credentials.clone());
        }
        let Some(provider) = &self.provider else {
            return Err(CredentialsError::not_loaded_no_source());
        };
        match provider.provide_credentials().await {
            Ok(credentials) => {
                let until = match credentials.expiry() {
                    Some(expiry) => expiry.checked_sub(RENEW_BEFORE_EXPIRY).unwrap_or(now),
                    None => now + LIFETIME_WITHOUT_EXPIRY,
                };
                *cached = Some((credentials.clone(), until));
                Ok(credentials)
            }
            // Credentials that can't be renewed are used until they expire.
            Err(error) => match cached.as_ref().and_then(|(old, _)| Some((old, old.expiry()?))) {
                Some((old, expiry)) if expiry > now => Ok(old.clone()),
                _ => Err(error),
            },
        }
    }
}

/// Gives the SDK the [`CachedCredentials`].
#[derive(Debug)]
struct CredentialsProvider(Arc<CachedCredentials>);

impl ProvideCredentials for CredentialsProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.0.current())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_sessions_share_one_http_client() {
        let sessions = Sessions::new(4);
        for region in ["eu-central-1", "us-east-1"] {
            assert!(sessions.base(region).await.http_client().is_some());
        }
    }

    #[test]
    fn a_session_name_is_what_sts_takes() {
        assert_eq!(session_name("prod/mfa/workspaces"), "rmfa.prod.mfa.workspaces");
        assert_eq!(session_name(&"x/".repeat(60)).len(), 64);
    }
}
