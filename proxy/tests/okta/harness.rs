//! The provider under test, and logins that go well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};
use proxy_core::factor::{
    Basis, Credential, Factor, FactorRequest, Keyword, KeywordFactor, LoginId, RefusalReason, Verdict,
};
use proxy_core::peers::PushHandle;
use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::{self, Answer, Asking, Provider, Pushed, Shared};

use crate::request::request;
use crate::stub::{Call, Reply, ok};
use crate::support;

pub const TOKEN: &str = "token]\ntoken_file = \"token\"";
pub const OAUTH: &str = "oauth]\nclient_id = \"0oa1\"\nprivate_key_file = \"key\"\nkey_id = \"k1\"";

pub const USER: &str = r#"{"id":"00u1","status":"ACTIVE","profile":{"login":"jane@example.com"}}"#;
pub const FACTORS: &str = r#"[
    {"id":"psh1","factorType":"push","provider":"OKTA","status":"ACTIVE","profile":{"name":"Phone"}},
    {"id":"otp1","factorType":"token:software:totp","provider":"OKTA","status":"ACTIVE"},
    {"id":"otp2","factorType":"token:software:totp","provider":"GOOGLE","status":"ACTIVE"},
    {"id":"sms1","factorType":"sms","provider":"OKTA","status":"ACTIVE","profile":{"phoneNumber":"+1 XXX-4788"}}]"#;
pub const SUCCESS: &str = r#"{"factorResult":"SUCCESS"}"#;

pub fn waiting() -> String {
    transaction(
        "WAITING",
        "ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1",
        "",
    )
}

pub fn transaction(result: &str, poll: &str, embedded: &str) -> String {
    format!(
        r#"{{"factorResult":"{result}","expiresAt":"2026-01-01T00:05:00.000Z","_links":{{
            "poll":{{"href":"{poll}","hints":{{"allow":["GET"]}}}},
            "cancel":{{"href":"ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1","hints":{{"allow":["DELETE"]}}}}
        }}{embedded}}}"#
    )
}

/// A login that goes well.
pub fn well(call: &Call, before: usize) -> Reply {
    match (call.operation(), before) {
        ("user", _) => ok(USER),
        ("factors", _) => ok(FACTORS),
        ("verify", _) if call.body.is_empty() => Reply::Answer(201, Vec::new(), waiting()),
        ("verify", _) => ok(SUCCESS),
        ("poll", 0) => ok(&waiting()),
        ("poll", _) => ok(SUCCESS),
        ("cancel", _) => Reply::Answer(204, Vec::new(), String::new()),
        ("token", n) => granted(&format!("access{n}"), "Bearer"),
        (other, _) => panic!("{other}: {}", call.what),
    }
}

pub fn granted(token: &str, typ: &str) -> Reply {
    ok(&format!(
        r#"{{"access_token":"{token}","token_type":"{typ}","expires_in":3600}}"#
    ))
}

/// Like [`well`], with one operation answered otherwise.
pub fn except(
    operation: &'static str,
    reply: Reply,
) -> impl Fn(&Call, usize) -> Reply + Send + Sync + 'static {
    move |call, before| {
        if call.operation() == operation {
            reply.clone()
        } else {
            well(call, before)
        }
    }
}

#[derive(Default)]
pub struct Pushes(pub AtomicUsize);

impl Pushed for Pushes {
    fn pushed(&self, _: LoginId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn announce(&self, _: LoginId, _: PushHandle) {}
}

pub struct Asked {
    pub provider: Arc<dyn Provider>,
    shared: Shared,
    pub config: Config,
    pub pushes: Arc<Pushes>,
}

impl Asked {
    pub fn new(config: &str) -> Self {
        Self::with_key(config, "")
    }

    pub fn with_key(config: &str, key: &str) -> Self {
        let file = ConfigFile::parse(&support::config(config)).unwrap();
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let contents = [
            ("secret".to_owned(), secret(support::SECRET)),
            ("token".to_owned(), secret("00aBcToken\n")),
            ("key".to_owned(), secret(key)),
        ];
        let config = Config::check(&file, &contents.into()).unwrap();
        let shared = Shared::new(ProviderMetrics::default());
        Self {
            provider: provider::build(&config, &shared).unwrap(),
            shared,
            config,
            pushes: Arc::default(),
        }
    }

    /// As a reload of the configuration does.
    pub fn reload(&mut self) {
        self.provider = provider::build(&self.config, &self.shared).unwrap();
    }

    pub fn request(&self, credential: Credential) -> FactorRequest {
        request(&self.config, "LAB\\jane", credential)
    }

    pub fn ask(&self, request: FactorRequest) -> provider::BoxFuture<Verdict> {
        let told: Arc<dyn Pushed> = Arc::clone(&self.pushes) as Arc<dyn Pushed>;
        match Arc::clone(&self.provider).ask(request, Asking::new(SystemTime::now(), LoginId(1), told)) {
            Answer::Now(verdict) => Box::pin(async move { verdict }),
            Answer::Later(future) => future,
        }
    }

    pub async fn login(&self, credential: Credential) -> Verdict {
        self.ask(self.request(credential)).await
    }

    /// With so little time that nothing is waited out.
    pub async fn hurried(&self, credential: Credential) -> Verdict {
        let mut request = self.request(credential);
        (request.answer_within, request.of_use) = (Duration::from_secs(3), Duration::from_secs(3));
        self.ask(request).await
    }
}

pub fn code(text: &str) -> Credential {
    Credential::Passcode(Secret::new(text.as_bytes().to_vec()))
}

pub fn sms() -> Credential {
    Credential::Keyword(Keyword {
        factor: KeywordFactor::Sms,
        device: None,
    })
}

pub fn reason(verdict: Verdict) -> RefusalReason {
    match verdict {
        Verdict::Refused(refusal) => refusal.reason,
        Verdict::Approved(_) => panic!("approved"),
    }
}

pub fn approved(verdict: Verdict) -> (Factor, Basis) {
    match verdict {
        Verdict::Approved(approval) => (approval.factor, approval.basis),
        Verdict::Refused(refusal) => panic!("{:?} {:?}", refusal.reason, refusal.message),
    }
}
