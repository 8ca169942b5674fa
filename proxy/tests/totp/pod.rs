//! A proxy's provider, as one of several pods that share a store.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proxy_config::file::ConfigFile;
use proxy_config::{CodeStore, Config, Provider as ProviderConfig, Secret};
use proxy_core::factor::{Basis, Credential, LoginId, RefusalReason, Verdict};
use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::totp::store::{Store, Stores};
use radius_proxy::provider::totp::{Algorithm, Code, Digits};
use radius_proxy::provider::{self, Answer, Asking, Finding, Provider, Pushed, Shared};

use crate::request::request;

const SEED: &[u8] = b"12345678901234567890";
const SEED_TEXT: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// The beginning of a time step.
pub const START: u64 = 1_800_000_000;
/// Users of the pods: `user0` and so on.
pub const USERS: usize = 64;

/// The scratch code of each of them.
pub const SCRATCH: &[u8] = b"4829104732";

struct Nobody;

impl Pushed for Nobody {
    fn pushed(&self, _: LoginId) {}

    fn announce(&self, _: LoginId, _: proxy_core::peers::PushHandle) {}
}

/// One pod.
#[derive(Clone)]
pub struct Pod {
    provider: Arc<dyn Provider>,
    config: Arc<Config>,
}

/// The configuration with `[provider.totp.used_codes]` as given.
pub fn config(used_codes: &str) -> Config {
    let text = format!(
        r#"
        [server]
        digest_key_file = "key"
        [provider.totp]
        seed_folders = ["seeds"]
        {used_codes}
        [[clients]]
        name = "lab"
        networks = ["127.0.0.0/8"]
        secret_files = ["secret"]
        "#
    );
    let mut seeds = String::new();
    for user in 0..USERS {
        seeds.push_str(&format!("otpauth://totp/user{user}?secret={SEED_TEXT}\n"));
    }
    for user in 0..USERS {
        seeds.push_str(&format!(
            "scratch:user{user}:{}\n",
            std::str::from_utf8(SCRATCH).unwrap()
        ));
    }
    let contents = [
        ("key", "the digest key"),
        ("secret", "a shared secret"),
        ("password", "hunter2\n"),
        ("seeds/users", &seeds),
    ]
    .map(|(name, text)| (name.to_owned(), Secret::new(text.as_bytes().to_vec())));
    Config::check(&ConfigFile::parse(&text).unwrap(), &contents.into()).unwrap()
}

/// The store's settings of a configuration.
pub fn settings(config: &Config) -> CodeStore {
    match &config.provider {
        ProviderConfig::Totp(totp) => totp.used_codes.store.clone(),
        other => panic!("{}", other.name()),
    }
}

impl Pod {
    /// With the store that its configuration names.
    pub fn new(config: &Config) -> Self {
        Self::build(config, &Shared::new(ProviderMetrics::default()))
    }

    /// With a store of the test's own at the place of the one that the configuration names.
    pub fn with(config: &Config, store: Arc<dyn Store>) -> Self {
        let shared = Shared {
            code_stores: Stores::with(settings(config), store),
            ..Shared::new(ProviderMetrics::default())
        };
        Self::build(config, &shared)
    }

    fn build(config: &Config, shared: &Shared) -> Self {
        Self {
            provider: provider::build(config, shared).unwrap(),
            config: Arc::new(config.clone()),
        }
    }

    /// What `radius-proxy check` says of its provider: what is well, and what is not.
    pub async fn check(&self) -> Vec<Result<String, String>> {
        let findings = Arc::clone(&self.provider).rehearse().await;
        let said = findings.into_iter().map(|finding| match finding {
            Finding::Good(text) | Finding::Note(text) => Ok(text),
            Finding::Problem(text) => Err(text),
        });
        said.collect()
    }

    /// A login of a user with a code, at a time in seconds since the epoch.
    pub async fn login(&self, user: usize, typed: Vec<u8>, now: u64) -> Verdict {
        self.login_within(user, typed, now, Duration::from_secs(60)).await
    }

    /// A login of a client that waits so long.
    pub async fn login_within(&self, user: usize, typed: Vec<u8>, now: u64, within: Duration) -> Verdict {
        let user = format!("user{user}");
        let typed = Credential::Passcode(Secret::new(typed));
        let mut request = request(&self.config, &user, typed);
        request.answer_within = within;
        let now = UNIX_EPOCH + Duration::from_secs(now);
        match Arc::clone(&self.provider).ask(request, Asking::new(now, LoginId(1), Arc::new(Nobody))) {
            Answer::Now(verdict) => verdict,
            Answer::Later(future) => future.await,
        }
    }
}

/// The code of a time.
pub fn code_at(now: u64) -> Vec<u8> {
    Code::at(Algorithm::Sha1, SEED, now / 30, Digits::SIX)
        .as_bytes()
        .to_vec()
}

/// What a verdict rests on, or why it is none.
pub fn told(verdict: &Verdict) -> Result<Basis, RefusalReason> {
    match verdict {
        Verdict::Approved(approval) => Ok(approval.basis),
        Verdict::Refused(refusal) => Err(refusal.reason),
    }
}

/// Races at once; each is about another user.
const AT_ONCE: u64 = 8;

/// Lets every pod have the same code of the same user at the same moment, so many times, and says how many logins of each
/// race were accepted.
pub async fn race(pods: &[Pod], races: u64) -> Vec<usize> {
    let mut accepts = vec![0; usize::try_from(races).unwrap()];
    for first in (0..races).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let now = START + first * 30;
        let code = code_at(now);
        let mut logins = Vec::new();
        for n in first..races.min(first + AT_ONCE) {
            let race = usize::try_from(n).unwrap();
            logins.extend(pods.iter().map(|pod| {
                let (pod, code) = (pod.clone(), code.clone());
                tokio::spawn(async move { (race, told(&pod.login(race % USERS, code, now).await)) })
            }));
        }
        for login in logins {
            match login.await.unwrap() {
                (race, Ok(Basis::Factor | Basis::ScratchCode)) => accepts[race] += 1,
                (_, Err(RefusalReason::PasscodeReplayed)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    accepts
}
