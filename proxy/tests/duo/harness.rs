//! The provider by itself, and a Duo where all is well.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};
use proxy_core::factor::{Basis, Credential, FactorRequest, LoginId, RefusalReason, Verdict};
use proxy_core::peers::PushHandle;
use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::{self, Answer, Asking, Provider, Pushed, Shared};

use crate::duo::{Reply, ok};
use crate::request::request;
use crate::support;
use tokio::sync::watch;

pub(crate) const DEVICES: &str = r#"{"result":"auth","status_msg":"Account is active","devices":[
    {"device":"DPONE","type":"phone","capabilities":["auto","push","sms","phone","mobile_otp"]},
    {"device":"DHTOKEN","type":"token","name":"20361492"}]}"#;
pub(crate) const TXID: &str = r#"{"txid":"45f7c92b-f45f-4862-8545-e0f58e78075a"}"#;
pub(crate) const WAITING: &str =
    r#"{"result":"waiting","status":"pushed","status_msg":"Pushed a login request to your phone..."}"#;
pub(crate) const ALLOWED: &str =
    r#"{"result":"allow","status":"allow","status_msg":"Success. Logging you in..."}"#;

pub(crate) fn denied(status: &str) -> Reply {
    ok(&format!(
        r#"{{"result":"deny","status":"{status}","status_msg":"No."}}"#
    ))
}

/// A login that goes well.
pub(crate) fn well(endpoint: &str, before: usize, _: &BTreeMap<String, String>) -> Reply {
    match (endpoint, before) {
        ("preauth", _) => ok(DEVICES),
        ("auth", _) => ok(TXID),
        ("auth_status", 0) => ok(WAITING),
        ("auth_status", _) => ok(ALLOWED),
        _ => ok(&format!(r#"{{"time":{}}}"#, unix_now())),
    }
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(crate) struct Asked {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) config: Config,
    pub(crate) pushes: Arc<Pushes>,
    /// Whether the provider's credentials are reported as refused.
    pub(crate) refused: watch::Receiver<bool>,
}

#[derive(Default)]
pub(crate) struct Pushes(pub(crate) AtomicUsize);

impl Pushed for Pushes {
    fn pushed(&self, _: LoginId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn announce(&self, _: LoginId, _: PushHandle) {}
}

impl Asked {
    pub(crate) fn new(config: &str) -> Self {
        let file = ConfigFile::parse(&support::config(config)).unwrap();
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let contents = [
            ("secret".to_owned(), secret(support::SECRET)),
            ("ikey".to_owned(), secret("DISIMULATOR000000001")),
            ("proxy-user".to_owned(), secret("radius\n")),
            ("proxy-password".to_owned(), secret("hunter2:%6fp%n\n")),
            (
                "skey".to_owned(),
                secret("simulatorsimulatorsimulatorsimulator0000"),
            ),
        ];
        let config = Config::check(&file, &contents.into()).unwrap();
        let metrics = ProviderMetrics::default();
        let refused = metrics.watch_refused();
        let shared = Shared::new(metrics);
        Self {
            refused,
            provider: provider::build(&config, &shared).unwrap(),
            config,
            pushes: Arc::default(),
        }
    }

    pub(crate) fn request(&self, credential: Credential) -> FactorRequest {
        FactorRequest {
            user_as_sent: "LAB\\jane\u{202e}".to_owned(),
            user_address: Some(IpAddr::from([203, 0, 113, 9])),
            answer_within: Duration::from_secs(30),
            of_use: Duration::from_secs(30),
            ..request(&self.config, "LAB\\jane", credential)
        }
    }

    pub(crate) async fn ask(&self, request: FactorRequest) -> Verdict {
        let told: Arc<dyn Pushed> = Arc::clone(&self.pushes) as Arc<dyn Pushed>;
        match Arc::clone(&self.provider).ask(request, Asking::new(SystemTime::now(), LoginId(1), told)) {
            Answer::Now(verdict) => verdict,
            Answer::Later(future) => future.await,
        }
    }

    pub(crate) async fn login(&self, credential: Credential) -> Verdict {
        self.ask(self.request(credential)).await
    }
}

pub(crate) fn reason(verdict: Verdict) -> RefusalReason {
    match verdict {
        Verdict::Refused(refusal) => refusal.reason,
        Verdict::Approved(_) => panic!("approved"),
    }
}

pub(crate) fn basis(verdict: Verdict) -> Basis {
    match verdict {
        Verdict::Approved(approval) => approval.basis,
        Verdict::Refused(refusal) => panic!("{:?} {:?}", refusal.reason, refusal.message),
    }
}
