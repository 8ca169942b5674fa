//! Clients of AWS, one for each region and role, with credentials of their own.

use std::collections::HashMap;
use std::hash::Hash;
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
use operator_core::plan::LONGEST_ANSWER;

use super::failure;
use super::pace::Pace;

/// Credentials are taken anew so long before they expire, and those without an end after so long.
const BEFORE_EXPIRY: Duration = Duration::from_secs(300);
const WITHOUT_EXPIRY: Duration = Duration::from_secs(60);
/// How long credentials may take: the instance metadata service is asked last, and may be unreachable from a pod.
const CREDENTIALS_DEADLINE: Duration = Duration::from_secs(8);
/// Sessions that are kept. Each RadiusProxy with a role has one; what was not used for longest goes first.
const MOST_SESSIONS: usize = 4096;
/// Regions whose configuration is kept; there are fewer.
const MOST_REGIONS: usize = 256;

/// A region, and the ARN of a role.
type RegionAndRole = (String, Option<String>);

/// Makes sessions and keeps them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) calls_per_second: u32,
    kept: Mutex<Recent<Account, Arc<Session>>>,
    paces: Mutex<HashMap<RegionAndRole, Arc<Pace>>>,
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

/// A client with its credentials and its share of calls.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) pace: Arc<Pace>,
    credentials: Arc<Held>,
}

impl Session {
    /// Makes sure that there are credentials, so that a call fails for its own reasons only.
    pub(super) async fn ready(&self, operation: AwsOperation) -> Result<(), AwsFailure> {
        match tokio::time::timeout(CREDENTIALS_DEADLINE, self.credentials.current()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure::from_credentials(operation, &error)),
            Err(_) => Err(failure::own(
                operation,
                AwsErrorClass::NoCredentials,
                format!("no credentials within {} s", CREDENTIALS_DEADLINE.as_secs()),
            )),
        }
    }

    /// Notes how a call ended: credentials that AWS refused are not used again.
    pub(super) async fn ended<T>(&self, result: Result<T, AwsFailure>) -> Result<T, AwsFailure> {
        if let Err(failed) = &result
            && failed.class == AwsErrorClass::InvalidCredentials
        {
            *self.credentials.held.lock().await = None;
        }
        result
    }
}

impl Sessions {
    /// No session yet.
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self {
            calls_per_second,
            kept: Mutex::new(Recent::new(MOST_SESSIONS)),
            paces: Mutex::default(),
            bases: tokio::sync::Mutex::default(),
            http: http_client(),
            #[cfg(test)]
            endpoint: None,
        }
    }

    /// The session for an account.
    pub(super) async fn of(&self, account: &Account) -> Arc<Session> {
        if let Some(session) = lock(&self.kept).used(account) {
            return Arc::clone(session);
        }
        // Two that open the same at once share what the first one keeps. Dropping one costs a new AssumeRole and nothing
        // else: whoever uses it has a clone of the Arc for the time of a call.
        let session = Arc::new(self.open(account).await);
        let mut kept = lock(&self.kept);
        if let Some(first) = kept.used(account) {
            return Arc::clone(first);
        }
        kept.keep(account.clone(), Arc::clone(&session));
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
        let credentials = Arc::new(Held {
            provider,
            held: tokio::sync::Mutex::new(None),
        });
        let config = aws_sdk_directory::config::Builder::from(&base)
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::new(Lent(Arc::clone(&credentials))))
            .build();
        Session {
            client: Client::from_conf(config),
            pace: self.pace(account),
            credentials,
        }
    }

    /// The limit on calls is an account's own: roles of one region share nothing at AWS.
    fn pace(&self, account: &Account) -> Arc<Pace> {
        let key = (
            account.region.clone(),
            account.role.as_ref().map(|role| role.arn.clone()),
        );
        let mut paces = lock(&self.paces);
        if paces.len() >= MOST_SESSIONS && !paces.contains_key(&key) {
            // Those of sessions that were dropped.
            paces.retain(|_, pace| Arc::strong_count(pace) > 1);
        }
        Arc::clone(
            paces
                .entry(key)
                .or_insert_with(|| Arc::new(Pace::new(self.calls_per_second))),
        )
    }

    /// The region is always given: else it would be looked for at the instance metadata service, and STS would be asked
    /// in another partition than the directory's.
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
        if bases.len() >= MOST_REGIONS {
            bases.clear();
        }
        bases.insert(region.to_owned(), base.clone());
        base
    }
}

/// A map of bounded size that forgets what was not used for longest.
#[derive(Debug)]
struct Recent<K, V> {
    most: usize,
    /// Counts uses.
    clock: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self {
            most,
            clock: 0,
            entries: HashMap::new(),
        }
    }

    fn used(&mut self, key: &K) -> Option<&V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.clock += 1;
        *used = self.clock;
        Some(value)
    }

    fn keep(&mut self, key: K, value: V) {
        if self.entries.len() >= self.most {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }
}

/// The HTTP client that the SDK makes by itself, made once: else each of its clients, and so every role, would have a pool
/// of connections and a copy of the trusted certificates (150 KB) of its own.
fn http_client() -> SharedHttpClient {
    // The only way to one that takes proxies from the environment, as the SDK's own does.
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

/// Operation time-outs are unset in the SDK: without them a silent connection would hold a call for ever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_timeout(LONGEST_ANSWER)
        .build()
}

/// `[\w+=,.@-]{2,64}`: what CloudTrail shows, so the RadiusProxy's name is in it as far as it fits.
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

/// Credentials, kept until shortly before they expire.
#[derive(Debug)]
struct Held {
    provider: Option<SharedCredentialsProvider>,
    held: tokio::sync::Mutex<Option<(Credentials, SystemTime)>>,
}

impl Held {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        let mut held = self.held.lock().await;
        let now = SystemTime::now();
        if let Some((credentials, until)) = held.as_ref()
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
                    Some(expiry) => expiry.checked_sub(BEFORE_EXPIRY).unwrap_or(now),
                    None => now + WITHOUT_EXPIRY,
                };
                *held = Some((credentials.clone(), until));
                Ok(credentials)
            }
            // What cannot be renewed is used to its end.
            Err(error) => match held.as_ref().and_then(|(old, _)| Some((old, old.expiry()?))) {
                Some((old, expiry)) if expiry > now => Ok(old.clone()),
                _ => Err(error),
            },
        }
    }
}

/// Gives the SDK what is [`Held`].
#[derive(Debug)]
struct Lent(Arc<Held>);

impl ProvideCredentials for Lent {
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

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut recent = Recent::new(2);
        recent.keep("a", 1);
        recent.keep("b", 2);
        assert_eq!(recent.used(&"a"), Some(&1));
        recent.keep("c", 3);
        assert_eq!(recent.used(&"b"), None);
        assert_eq!(
            (recent.used(&"a").copied(), recent.used(&"c").copied()),
            (Some(1), Some(3))
        );
        assert_eq!(recent.entries.len(), 2);
    }
}
