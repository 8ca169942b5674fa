use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proxy_config::{CaseRule, Secret, SharedSecret, UserNameRule};
use proxy_core::factor::{Continues, LoginId, UserName};

use super::health::{Intervals, State};
use super::stub::{Reply, SECRET, Seen, Stub, accept};
use super::*;
use crate::provider::Pushed;

mod answers;
mod servers;

struct Nobody;

impl Pushed for Nobody {
    fn pushed(&self, _: LoginId) {}

    fn announce(&self, _: LoginId, _: proxy_core::peers::PushHandle) {}
}

/// A provider of the given servers that gives up fast.
struct Setting {
    config: proxy_config::Upstream,
    shared: Shared,
    pace: Pace,
}

impl Setting {
    fn new(servers: &[&Stub]) -> Self {
        let servers = servers
            .iter()
            .map(|stub| proxy_config::UpstreamServer {
                host: stub.address.ip().to_string(),
                port: stub.address.port(),
                secret: SharedSecret::parse(SECRET.as_bytes()).unwrap(),
            })
            .collect();
        let short = Duration::from_millis(100);
        Self {
            config: proxy_config::Upstream {
                servers,
                timeout: short,
                tries: 2,
                require_message_authenticator: true,
                status_server: false,
                forward_attributes: Vec::new(),
                return_attributes: vec!["Class".into(), "Reply-Message".into()],
            },
            shared: Shared::new(ProviderMetrics::default()),
            pace: Pace {
                status_timeout: short,
                status_tries: 3,
                suspicion: short,
                intervals: Intervals {
                    watch: short,
                    revive: short,
                    confirm: short,
                    trial: Duration::from_secs(3600),
                    zombie: Duration::from_secs(3600),
                },
            },
        }
    }

    fn build(&self) -> Arc<Upstream> {
        Arc::new(Upstream::paced(&self.config, &self.shared, self.pace).unwrap())
    }
}

fn pap(text: &str) -> Credential {
    Credential::Forward(Forwarded::Pap(Secret::new(text.as_bytes().to_vec())))
}

fn named(user: &str) -> UserName {
    let rule = UserNameRule {
        strip_domain: true,
        case: CaseRule::Lower,
        max_bytes: 64,
    };
    UserName::normalise(user, &rule).unwrap()
}

fn request(credential: Credential) -> FactorRequest {
    FactorRequest {
        login: LoginId(1),
        user: named("LAB\\jane"),
        user_as_sent: "LAB\\jane".into(),
        credential,
        client: crate::testing::client_name(),
        source: IpAddr::from([192, 0, 2, 1]),
        user_address: None,
        answer_within: Duration::from_secs(60),
        of_use: Duration::from_secs(60),
        proved: true,
        continues: Continues::Untold,
        may_push: true,
        attributes: vec![(31, b"203.0.113.9".to_vec())],
    }
}

async fn ask(provider: &Arc<Upstream>, request: FactorRequest) -> Verdict {
    let asking = Asking::new(SystemTime::UNIX_EPOCH, LoginId(1), Arc::new(Nobody));
    match Arc::clone(provider).ask(request, asking) {
        Answer::Now(verdict) => verdict,
        Answer::Later(future) => future.await,
    }
}

async fn login(provider: &Arc<Upstream>, text: &str) -> Verdict {
    ask(provider, request(pap(text))).await
}

/// A login of a user who does not pick up the phone.
async fn ignored(provider: &Arc<Upstream>, user: &str) -> RefusalReason {
    let mut request = request(pap("x"));
    request.user = named(user);
    request.answer_within = Duration::from_millis(400);
    request.of_use = request.answer_within;
    reason(ask(provider, request).await)
}

/// Waits until a server is held for this.
async fn becomes(provider: &Upstream, server: usize, expected: State) {
    let mut state = provider.servers[server].peer.state();
    state.wait_for(|state| *state == expected).await.unwrap();
}

fn approved(verdict: Verdict) -> Approval {
    match verdict {
        Verdict::Approved(approval) => approval,
        Verdict::Refused(refusal) => panic!("{:?} {:?}", refusal.reason, refusal.message),
    }
}

fn refusal_of(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Approved(_) => panic!("approved"),
    }
}

fn reason(verdict: Verdict) -> RefusalReason {
    refusal_of(verdict).reason
}

fn never(_: &Seen, _: usize) -> Reply {
    Reply::Silence
}

fn always(_: &Seen, _: usize) -> Reply {
    accept()
}
