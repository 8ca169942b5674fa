use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proxy_config::{CaseRule, Secret, SharedSecret, UserNameRule};
use proxy_core::factor::{Continues, LoginId, UserName};

use super::health::Intervals;
use super::stub::{Reply, SECRET, Seen, Stub, accept};
use super::*;
use crate::provider::Pushed;

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

fn request(credential: Credential) -> FactorRequest {
    let rule = UserNameRule {
        strip_domain: true,
        case: CaseRule::Lower,
        max_bytes: 64,
    };
    FactorRequest {
        login: LoginId(1),
        user: UserName::normalise("LAB\\jane", &rule).unwrap(),
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

#[tokio::test]
async fn a_password_goes_on_under_the_servers_own_secret_and_the_answer_comes_back_by_rule() {
    let attributes = [&[25, 4, 7, 7][..], &[11, 4, b'f', b'i'], &[18, 4, b'h', b'i']].concat();
    let stub = Stub::start(move |_, _| Reply::Answer(2, attributes.clone())).await;
    let approval = approved(login(&Setting::new(&[&stub]).build(), "s3cret text").await);
    assert_eq!(
        (approval.factor, approval.basis),
        (Factor::Upstream, Basis::Factor)
    );
    // Filter-Id is not named, and Reply-Message goes back once, as the message.
    assert_eq!(approval.attributes, [(25, vec![7, 7])]);
    assert_eq!(approval.message.as_deref(), Some("hi"));
    let seen = stub.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].is_signed());
    assert_eq!(seen[0].password(), "s3cret text");
    assert_eq!(seen[0].value(1).unwrap(), b"LAB\\jane");
    assert_eq!(seen[0].value(31).unwrap(), b"203.0.113.9");
    assert_eq!(seen[0].value(32).unwrap(), b"lab");
}

#[tokio::test]
async fn a_reject_is_a_refusal_in_the_servers_own_words() {
    let stub = Stub::start(|_, _| Reply::Answer(3, vec![18, 4, b'n', b'o'])).await;
    let refusal = refusal_of(login(&Setting::new(&[&stub]).build(), "x").await);
    assert_eq!(
        (refusal.reason, refusal.factor),
        (RefusalReason::Denied, Some(Factor::Upstream))
    );
    assert_eq!(refusal.message.as_deref(), Some("no"));
}

#[tokio::test]
async fn a_lost_packet_is_sent_again_as_it_was() {
    let stub = Stub::start(|_, before| if before == 0 { Reply::Silence } else { accept() }).await;
    approved(login(&Setting::new(&[&stub]).build(), "x").await);
    let seen = stub.seen();
    // RFC 5080 section 2.2.1: the same identifier, authenticator and port.
    assert_eq!((&seen[0].packet, seen[0].from), (&seen[1].packet, seen[1].from));
}

#[tokio::test]
async fn where_nothing_listens_the_next_server_is_asked_at_once() {
    let (gone, stub) = (Stub::start(never).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&gone, &stub]);
    // The test would not end before the first server's share of the budget is over, if silence were waited for.
    setting.config.timeout = Duration::from_secs(60);
    setting.config.servers[0].port = 1;
    let provider = setting.build();
    let mut long = request(pap("x"));
    (long.answer_within, long.of_use) = (Duration::from_secs(3600), Duration::from_secs(3600));
    approved(ask(&provider, long).await);
    assert!(!provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn a_silent_server_is_left_after_its_tries_and_then_passed_over() {
    let (silent, stub) = (Stub::start(never).await, Stub::start(always).await);
    let provider = Setting::new(&[&silent, &stub]).build();
    approved(login(&provider, "x").await);
    assert_eq!(silent.seen().len(), 2);
    approved(login(&provider, "x").await);
    assert_eq!(silent.seen().len(), 2);
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn when_every_server_is_silent_the_login_ends_before_its_budget() {
    let silent = Stub::start(never).await;
    let mut setting = Setting::new(&[&silent]);
    setting.config.tries = 1;
    let provider = setting.build();
    assert_eq!(
        reason(login(&provider, "x").await),
        RefusalReason::ProviderUnreachable
    );
    // A server that is down is asked when there is no better one.
    silent.answers(always);
    approved(login(&provider, "x").await);
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn two_silent_servers_share_what_the_client_waits_and_not_what_a_late_approval_is_of_use() {
    let (silent, stub) = (Stub::start(never).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&silent, &stub]);
    setting.config.timeout = Duration::from_secs(3600);
    let provider = setting.build();
    let mut request = request(pap("x"));
    (request.answer_within, request.of_use) = (Duration::from_millis(400), Duration::from_secs(7200));
    // By the longer one the second server would have its turn after an hour.
    approved(ask(&provider, request).await);
    assert_eq!((silent.seen().len(), stub.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_wrong_secret_is_told_from_silence() {
    let liar = Stub::start(|_, _| Reply::Lie).await;
    let provider = Setting::new(&[&liar]).build();
    assert_eq!(
        reason(login(&provider, "x").await),
        RefusalReason::ProviderCredentials
    );
    // The same packet would be answered in the same way: it is not sent again.
    assert_eq!(liar.seen().len(), 1);
    let stub = Stub::start(always).await;
    let provider = Setting::new(&[&liar, &stub]).build();
    approved(login(&provider, "x").await);
}

#[tokio::test]
async fn an_answer_without_message_authenticator_counts_only_from_a_server_that_never_sent_one() {
    let stub = Stub::start(|_, _| Reply::Unsigned).await;
    let mut setting = Setting::new(&[&stub]);
    // It would say the same again: it is not asked again, and not waited for.
    setting.config.timeout = Duration::from_secs(600);
    let refusal = refusal_of(login(&setting.build(), "x").await);
    assert_eq!(refusal.reason, RefusalReason::ProviderMalformed);
    assert_eq!(stub.seen().len(), 1);
    setting.config.require_message_authenticator = false;
    let provider = setting.build();
    approved(login(&provider, "x").await);
    stub.answers(always);
    approved(login(&provider, "x").await);
    stub.answers(|_, _| Reply::Unsigned);
    assert_eq!(
        reason(login(&provider, "x").await),
        RefusalReason::ProviderMalformed
    );
}

#[tokio::test]
async fn a_server_that_stops_to_answer_status_server_is_left_at_once_and_used_again_when_it_is_back() {
    let (first, second) = (Stub::start(always).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&first, &second]);
    setting.config.status_server = true;
    setting.config.timeout = Duration::from_secs(600);
    first.answers_status(always);
    let provider = setting.build();
    approved(login(&provider, "x").await);
    assert!(provider.servers[0].status().await.is_ok());
    first.answers(never);
    first.answers_status(never);
    let mut long = request(pap("x"));
    (long.answer_within, long.of_use) = (Duration::from_secs(3600), Duration::from_secs(3600));
    // Not after 600 s, the time of one try.
    approved(ask(&provider, long).await);
    assert!(!provider.servers[0].peer.is_up());
    assert_eq!((first.seen().len(), second.seen().len()), (2, 1));

    first.answers(always);
    first.answers_status(always);
    let mut up = provider.servers[0].peer.up();
    up.wait_for(|up| *up).await.unwrap();
    approved(login(&provider, "x").await);
    assert_eq!((first.seen().len(), second.seen().len()), (3, 1));
}

#[tokio::test]
async fn a_server_that_is_alive_is_waited_for_until_the_budget_ends() {
    let (alive, dead) = (Stub::start(|_, _| Reply::Hold).await, Stub::start(never).await);
    let mut setting = Setting::new(&[&alive, &dead]);
    setting.config.status_server = true;
    setting.pace.status_timeout = Duration::from_secs(60);
    alive.answers_status(always);
    let provider = setting.build();
    assert!(provider.servers[0].status().await.is_ok());
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "x").await }
    });
    // Every try at both is used up, and then the user picks up the phone.
    let mut up = provider.servers[1].peer.up();
    up.wait_for(|up| !*up).await.unwrap();
    alive.release(&alive.seen()[0]).await;
    approved(waiting.await.unwrap());
    assert_eq!((alive.seen().len(), dead.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_late_answer_of_a_server_that_was_given_up_is_as_good_as_any() {
    let (slow, silent) = (Stub::start(|_, _| Reply::Hold).await, Stub::start(never).await);
    let provider = Setting::new(&[&slow, &silent]).build();
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "x").await }
    });
    silent.has_seen(1).await;
    slow.release(&slow.seen()[0]).await;
    approved(waiting.await.unwrap());
    // And it shows that the server lives.
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn more_than_256_requests_wait_on_several_source_ports() {
    const LOGINS: usize = 700;
    let stub = Stub::start(|_, _| Reply::Hold).await;
    let mut setting = Setting::new(&[&stub]);
    // The socket's buffer does not hold so many: what is lost is sent again.
    setting.config.timeout = Duration::from_millis(500);
    setting.config.tries = 10;
    let provider = setting.build();
    let waiting: Vec<_> = (0..LOGINS)
        .map(|n| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { login(&provider, &n.to_string()).await })
        })
        .collect();
    let places =
        |seen: &[Seen]| -> BTreeSet<_> { seen.iter().map(|one| (one.from, one.packet[1])).collect() };
    let seen = stub.until(|seen| places(seen).len() == LOGINS).await;
    let ports: BTreeSet<_> = seen.iter().map(|one| one.from).collect();
    assert_eq!(ports.len(), 3);
    let texts: BTreeSet<_> = seen.iter().map(Seen::password).collect();
    assert_eq!(texts.len(), LOGINS);
    stub.answers(always);
    for login in waiting {
        approved(login.await.unwrap());
    }
}

#[tokio::test]
async fn a_challenge_is_answered_by_the_next_login_of_the_user_at_the_same_server() {
    let challenge = || {
        Reply::Answer(
            11,
            [&[24, 5, 1, 2, 3][..], &[18, 6, b'c', b'o', b'd', b'e']].concat(),
        )
    };
    let (first, second) = (Stub::start(always).await, Stub::start(always).await);
    let by_state = move |seen: &Seen, _| {
        if seen.value(24).is_some() {
            accept()
        } else {
            challenge()
        }
    };
    first.answers(by_state);
    let setting = Setting::new(&[&first, &second]);
    let provider = setting.build();
    let refusal = refusal_of(login(&provider, "password").await);
    assert_eq!(refusal.reason, RefusalReason::CodesSent);
    assert_eq!(refusal.message.as_deref(), Some("code"));
    // Somebody who types the user's name elsewhere does not answer it.
    let mut elsewhere = request(pap("123456"));
    elsewhere.source = IpAddr::from([192, 0, 2, 2]);
    assert_eq!(reason(ask(&provider, elsewhere).await), RefusalReason::CodesSent);
    // A reload in between changes nothing.
    approved(login(&setting.build(), "123456").await);
    assert_eq!(first.seen()[2].value(24).unwrap(), [1, 2, 3]);
    assert_eq!(second.seen().len(), 0);
    // It was used up.
    assert_eq!(reason(login(&provider, "123456").await), RefusalReason::CodesSent);
}

#[tokio::test]
async fn a_client_with_challenges_answers_one_only_by_its_state() {
    let stub = Stub::start(|seen, _| match seen.value(24) {
        Some(_) => accept(),
        None => Reply::Answer(11, vec![24, 5, 1, 2, 3]),
    })
    .await;
    let provider = Setting::new(&[&stub]).build();
    let by = |continues| {
        let mut request = request(pap("x"));
        request.continues = continues;
        ask(&provider, request)
    };
    assert_eq!(reason(by(Continues::Nothing).await), RefusalReason::CodesSent);
    assert_eq!(reason(by(Continues::Nothing).await), RefusalReason::CodesSent);
    approved(by(Continues::State).await);
}

#[tokio::test]
async fn a_challenge_is_refused_where_no_text_can_answer_it() {
    let stub = Stub::start(|_, _| Reply::Answer(11, vec![24, 3, 1])).await;
    let provider = Setting::new(&[&stub]).build();
    let chap = Credential::Forward(Forwarded::Chap {
        password: Secret::new(vec![0; 17]),
        challenge: vec![0; 16],
    });
    assert_eq!(
        reason(ask(&provider, request(chap)).await),
        RefusalReason::MethodCannotCarry
    );
}

#[tokio::test]
async fn an_ms_chap_success_comes_back_unasked() {
    let success = [26, 11, 0, 0, 1, 55, 26, 5, 1, b'S', b'='];
    let stub = Stub::start(move |_, _| Reply::Answer(2, success.to_vec())).await;
    let provider = Setting::new(&[&stub]).build();
    let parts = vec![(11, Secret::new(vec![1; 16])), (25, Secret::new(vec![2; 50]))];
    let approval = approved(ask(&provider, request(Credential::Forward(Forwarded::MsChap(parts)))).await);
    assert_eq!(approval.attributes, [(26, success[2..].to_vec())]);
    assert!(approved(login(&provider, "x").await).attributes.is_empty());
}

#[tokio::test]
async fn a_reload_keeps_servers_that_stay_what_they_are() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    let before = setting.build();
    assert!(Arc::ptr_eq(&before.servers[0], &setting.build().servers[0]));
    setting.config.servers[0].secret = SharedSecret::parse(b"another one").unwrap();
    assert!(!Arc::ptr_eq(&before.servers[0], &setting.build().servers[0]));
}

#[tokio::test]
async fn a_server_that_a_reload_keeps_speaks_for_the_new_configuration() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    setting.config.status_server = true;
    stub.answers_status(|_, _| Reply::Lie);
    let refused = setting.shared.metrics.watch_refused();
    let old = setting.build();
    setting.shared.metrics = setting.shared.metrics.successor();
    let new = setting.build();
    setting.shared.metrics.put_in_force();
    assert!(Arc::ptr_eq(&old.servers[0], &new.servers[0]) && !*refused.borrow());
    new.rehearse().await;
    assert!(*refused.borrow());
}

#[tokio::test]
async fn a_rehearsal_says_what_is_wrong() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    let finding = |setting: &Setting| {
        let provider = setting.build();
        async move { provider.rehearse().await.remove(0) }
    };
    assert!(matches!(finding(&setting).await, Finding::Good(text) if text.contains("status_server is off")));
    setting.config.status_server = true;
    assert!(matches!(finding(&setting).await, Finding::Problem(text) if text.contains("UDP to that port")));
    stub.answers_status(|_, _| Reply::Lie);
    assert!(
        matches!(finding(&setting).await, Finding::Problem(text) if text.contains("another shared secret"))
    );
    // RFC 5997 asks no Message-Authenticator of the answer.
    stub.answers_status(|_, _| Reply::Unsigned);
    setting.pace.status_timeout = Duration::from_secs(60);
    setting.shared = Shared::new(ProviderMetrics::default());
    assert!(
        matches!(finding(&setting).await, Finding::Good(text) if text.contains("the shared secret is right"))
    );
}
