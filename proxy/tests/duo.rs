//! The Duo provider against a server that says what each test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

#[path = "support/duo.rs"]
mod duo;
#[path = "support/request.rs"]
mod request;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use duo::{Duo, Reply, fail, ok};
use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};
use proxy_core::factor::{
    Basis, Credential, Factor, FactorRequest, Keyword, KeywordFactor, LoginId, RefusalReason, Verdict,
};
use proxy_core::peers::PushHandle;
use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::{self, Answer, Asking, Finding, Provider, Pushed, Shared};
use request::request;
use support::{Lab, Login, Proxy, eventually};

const DEVICES: &str = r#"{"result":"auth","status_msg":"Account is active","devices":[
    {"device":"DPONE","type":"phone","capabilities":["auto","push","sms","phone","mobile_otp"]},
    {"device":"DHTOKEN","type":"token","name":"20361492"}]}"#;
const TXID: &str = r#"{"txid":"45f7c92b-f45f-4862-8545-e0f58e78075a"}"#;
const WAITING: &str =
    r#"{"result":"waiting","status":"pushed","status_msg":"Pushed a login request to your phone..."}"#;
const ALLOWED: &str = r#"{"result":"allow","status":"allow","status_msg":"Success. Logging you in..."}"#;

fn denied(status: &str) -> Reply {
    ok(&format!(
        r#"{{"result":"deny","status":"{status}","status_msg":"No."}}"#
    ))
}

/// A login that goes well.
fn well(endpoint: &str, before: usize, _: &BTreeMap<String, String>) -> Reply {
    match (endpoint, before) {
        ("preauth", _) => ok(DEVICES),
        ("auth", _) => ok(TXID),
        ("auth_status", 0) => ok(WAITING),
        ("auth_status", _) => ok(ALLOWED),
        _ => ok(&format!(r#"{{"time":{}}}"#, unix_now())),
    }
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

struct Asked {
    provider: Arc<dyn Provider>,
    config: Config,
    pushes: Arc<Pushes>,
}

#[derive(Default)]
struct Pushes(AtomicUsize);

impl Pushed for Pushes {
    fn pushed(&self, _: LoginId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn announce(&self, _: LoginId, _: PushHandle) {}
}

impl Asked {
    fn new(config: &str) -> Self {
        let file = ConfigFile::parse(&support::config(config)).unwrap();
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let contents = [
            ("secret".to_owned(), secret(support::SECRET)),
            ("ikey".to_owned(), secret("DISIMULATOR000000001")),
            (
                "skey".to_owned(),
                secret("simulatorsimulatorsimulatorsimulator0000"),
            ),
        ];
        let config = Config::check(&file, &contents.into()).unwrap();
        let shared = Shared::new(ProviderMetrics::default());
        Self {
            provider: provider::build(&config, &shared).unwrap(),
            config,
            pushes: Arc::default(),
        }
    }

    fn request(&self, credential: Credential) -> FactorRequest {
        FactorRequest {
            user_as_sent: "LAB\\jane\u{202e}".to_owned(),
            user_address: Some(IpAddr::from([203, 0, 113, 9])),
            answer_within: Duration::from_secs(30),
            of_use: Duration::from_secs(30),
            ..request(&self.config, "LAB\\jane", credential)
        }
    }

    async fn ask(&self, request: FactorRequest) -> Verdict {
        let told: Arc<dyn Pushed> = Arc::clone(&self.pushes) as Arc<dyn Pushed>;
        match Arc::clone(&self.provider).ask(request, Asking::new(SystemTime::now(), LoginId(1), told)) {
            Answer::Now(verdict) => verdict,
            Answer::Later(future) => future.await,
        }
    }

    async fn login(&self, credential: Credential) -> Verdict {
        self.ask(self.request(credential)).await
    }
}

fn reason(verdict: Verdict) -> RefusalReason {
    match verdict {
        Verdict::Refused(refusal) => refusal.reason,
        Verdict::Approved(_) => panic!("approved"),
    }
}

fn basis(verdict: Verdict) -> Basis {
    match verdict {
        Verdict::Approved(approval) => approval.basis,
        Verdict::Refused(refusal) => panic!("{:?} {:?}", refusal.reason, refusal.message),
    }
}

#[tokio::test]
async fn a_push_is_followed_to_its_approval_over_one_connection() {
    let duo = Duo::start(well).await;
    let asked = Asked::new(&duo.config("factors = [\"push\"]"));
    let Verdict::Approved(approval) = asked.login(Credential::Default).await else {
        panic!("refused");
    };
    assert_eq!((approval.factor, approval.basis), (Factor::Push, Basis::Factor));
    assert_eq!(asked.pushes.0.load(Ordering::SeqCst), 1);
    let names: Vec<_> = duo.calls().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["preauth", "auth", "auth_status", "auth_status"]);
    let (_, auth) = duo.calls().swap_remove(1);
    assert_eq!(auth["username"], "jane");
    assert_eq!(auth["device"], "DPONE");
    assert_eq!(auth["async"], "1");
    assert_eq!(auth["ipaddr"], "203.0.113.9");
    assert_eq!(auth["display_username"], "LAB\\jane");
    assert_eq!(
        auth["pushinfo"],
        "Address=203.0.113.9&Client=lab&Login%20to=The%20lab"
    );
    for _ in 0..20 {
        assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
    }
    assert_eq!(duo.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_burst_of_logins_shares_a_connection_instead_of_opening_one_each() {
    let duo = Duo::start(|endpoint, _, parameters| well(endpoint, 1, parameters)).await;
    let asked = Arc::new(Asked::new(&duo.config("factors = [\"push\"]")));
    let burst: Vec<_> = (0..60)
        .map(|_| {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move { basis(asked.login(Credential::Default).await) })
        })
        .collect();
    for login in burst {
        assert_eq!(login.await.unwrap(), Basis::Factor);
    }
    let connections = duo.connections.load(Ordering::SeqCst);
    assert!(connections < 10, "{connections} connections for 60 logins");
}

/// Ten thousand of them wait at once.
#[tokio::test]
async fn a_login_takes_little_room_of_its_own_while_it_waits() {
    let duo = Duo::start(well).await;
    let asked = Asked::new(&duo.config("factors = [\"push\"]"));
    let told: Arc<dyn Pushed> = Arc::clone(&asked.pushes) as Arc<dyn Pushed>;
    let asking = Asking::new(SystemTime::now(), LoginId(1), told);
    let Answer::Later(future) = Arc::clone(&asked.provider).ask(asked.request(Credential::Default), asking)
    else {
        panic!("answered at once");
    };
    let bytes = size_of_val(&*future);
    // 1,192 by today's compiler; whatever was kept by mistake would be hundreds more.
    assert!(bytes <= 1_400, "{bytes} bytes");
}

#[tokio::test]
async fn a_passcode_is_checked_at_once_and_starts_no_push() {
    let duo = Duo::start(|endpoint, before, parameters| match endpoint {
        "auth" if parameters["passcode"] == "123456" => ok(ALLOWED),
        "auth" => denied("deny"),
        _ => well(endpoint, before, parameters),
    })
    .await;
    for version in [2, 5] {
        let asked = Asked::new(&duo.config(&format!("signature_version = {version}")));
        let code = |text: &str| Credential::Passcode(Secret::new(text.as_bytes().to_vec()));
        assert_eq!(basis(asked.login(code("123456")).await), Basis::Factor);
        assert_eq!(
            reason(asked.login(code("000000")).await),
            RefusalReason::WrongPasscode
        );
        assert_eq!(asked.pushes.0.load(Ordering::SeqCst), 0);
    }
    assert_eq!(duo.count("auth_status"), 0);
}

#[tokio::test]
async fn what_preauth_and_auth_say_is_what_the_user_gets() {
    let answers: [(&str, Reply, RefusalReason); 8] = [
        (
            "preauth",
            ok(r#"{"result":"deny","status_msg":"x"}"#),
            RefusalReason::LockedOut,
        ),
        (
            "preauth",
            ok(r#"{"result":"enroll","status_msg":"x"}"#),
            RefusalReason::NotEnrolled,
        ),
        ("auth_status", denied("deny"), RefusalReason::Denied),
        ("auth_status", denied("fraud"), RefusalReason::Fraud),
        ("auth_status", denied("timeout"), RefusalReason::TimedOut),
        ("auth_status", denied("locked_out"), RefusalReason::LockedOut),
        (
            "preauth",
            ok(r#"{"result":"auth","devices":[]}"#),
            RefusalReason::FactorUnavailable,
        ),
        (
            "preauth",
            ok(r#"{"result":"perhaps"}"#),
            RefusalReason::ProviderError,
        ),
    ];
    for (at, reply, expected) in answers {
        let reply = std::sync::Mutex::new(Some(reply));
        let duo = Duo::start(move |endpoint, before, parameters| {
            match reply.lock().unwrap().take_if(|_| endpoint == at) {
                Some(reply) => reply,
                None => well(endpoint, before, parameters),
            }
        })
        .await;
        let asked = Asked::new(&duo.config(""));
        assert_eq!(reason(asked.login(Credential::Default).await), expected, "{at}");
    }
    let bypass = Duo::start(|_, _, _| ok(r#"{"result":"allow","status_msg":"Bypass"}"#)).await;
    let asked = Asked::new(&bypass.config(""));
    assert_eq!(
        basis(asked.login(Credential::Default).await),
        Basis::ProviderBypass
    );
}

#[tokio::test]
async fn sms_codes_are_sent_and_the_user_comes_back_with_one() {
    let duo = Duo::start(|endpoint, before, parameters| match endpoint {
        "auth" => denied("sent"),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Asked::new(&duo.config(""));
    let sms = Credential::Keyword(Keyword {
        factor: KeywordFactor::Sms,
        device: None,
    });
    assert_eq!(reason(asked.login(sms).await), RefusalReason::CodesSent);
}

/// A name, what the server does, whether `fail_mode = "safe"` opens for it, and the reason otherwise.
type Row = (&'static str, fn() -> Reply, bool, RefusalReason);

/// The failures that a server can show, and whether `fail_mode = "safe"` opens for them in preauth.
fn faults() -> Vec<Row> {
    vec![
        (
            "5xx",
            || Reply::Text(503, "<html>"),
            true,
            RefusalReason::ProviderError,
        ),
        (
            "malformed",
            || Reply::Text(200, "{\"stat\":\"OK\""),
            true,
            RefusalReason::ProviderMalformed,
        ),
        (
            "redirect",
            || Reply::Text(302, ""),
            true,
            RefusalReason::ProviderMalformed,
        ),
        (
            "closed",
            || Reply::Close,
            true,
            RefusalReason::ProviderUnreachable,
        ),
        (
            "silent",
            || Reply::Never,
            true,
            RefusalReason::ProviderUnreachable,
        ),
        (
            "429",
            || Reply::RetryAfter(3600, String::new()),
            false,
            RefusalReason::ProviderThrottled,
        ),
        ("4xx", || fail(40002), false, RefusalReason::ProviderError),
        (
            "credentials",
            || fail(40103),
            false,
            RefusalReason::ProviderCredentials,
        ),
        (
            "forbidden",
            || fail(40301),
            false,
            RefusalReason::ProviderCredentials,
        ),
    ]
}

#[tokio::test]
async fn a_failed_preauth_opens_only_in_safe_mode_and_only_for_absence() {
    for (name, fault, opens, expected) in faults() {
        for mode in ["safe", "secure"] {
            let duo = Duo::start(move |_, _, _| fault()).await;
            let asked = Asked::new(&duo.config(&format!("fail_mode = \"{mode}\"")));
            let mut request = asked.request(Credential::Default);
            (request.answer_within, request.of_use) = (Duration::from_secs(2), Duration::from_secs(2));
            let verdict = asked.ask(request).await;
            if opens && mode == "safe" {
                assert_eq!(basis(verdict), Basis::FailOpen, "{name}");
            } else {
                assert_eq!(reason(verdict), expected, "{name} {mode}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_duos_own_opens_nothing_even_if_nobody_knows_what_it_means() {
    let duo = Duo::start(|_, _, _| ok(r#"{"result":"perhaps"}"#)).await;
    let asked = Asked::new(&duo.config("fail_mode = \"safe\""));
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::ProviderError
    );
}

#[tokio::test]
async fn safe_opens_in_time_for_a_client_with_little_patience() {
    let duo = Duo::start(|_, _, _| Reply::Never).await;
    let asked = Asked::new(&duo.config("fail_mode = \"safe\""));
    let mut request = asked.request(Credential::Default);
    // Without the shorter span, preauth would be waited for eight seconds.
    (request.answer_within, request.of_use) = (Duration::from_millis(1500), Duration::from_secs(3600));
    let verdict = tokio::time::timeout(Duration::from_secs(6), asked.ask(request)).await;
    assert_eq!(
        basis(verdict.expect("before eight seconds are over")),
        Basis::FailOpen
    );
}

#[tokio::test]
async fn a_failed_auth_never_opens_and_never_pushes_twice() {
    for (name, fault, _, expected) in faults() {
        let duo = Duo::start(move |endpoint, before, parameters| match endpoint {
            "auth" => fault(),
            _ => well(endpoint, before, parameters),
        })
        .await;
        let asked = Asked::new(&duo.config("fail_mode = \"safe\""));
        let mut request = asked.request(Credential::Default);
        (request.answer_within, request.of_use) = (Duration::from_secs(2), Duration::from_secs(2));
        assert_eq!(reason(asked.ask(request).await), expected, "{name}");
        assert_eq!(duo.count("auth"), 1, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_not_trusted_is_unreachable() {
    let duo = Duo::start(well).await;
    let other = Duo::start(well).await;
    let untrusted = duo.config("fail_mode = \"safe\"").replace(&duo.ca, &other.ca);
    let asked = Asked::new(&untrusted);
    // A certificate that is not trusted is no absence.
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::ProviderUnreachable
    );
    // Nobody listens at port 1.
    let away = duo
        .config("fail_mode = \"safe\"")
        .replace(&duo.address.port().to_string(), "1");
    assert_eq!(
        basis(Asked::new(&away).login(Credential::Default).await),
        Basis::FailOpen
    );
    let findings = Asked::new(&away).provider.rehearse().await;
    assert!(
        matches!(&findings[..], [Finding::Problem(text)] if text.contains("outgoing TCP")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_push_is_followed_through_failures_while_it_is_on_the_phone() {
    let duo = Duo::start(|endpoint, before, parameters| match (endpoint, before) {
        ("auth_status", 0) => Reply::Text(502, ""),
        ("auth_status", 1) => fail(40002),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Asked::new(&duo.config(""));
    assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
    assert_eq!(duo.count("auth"), 1);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_and_a_wrong_clock_put_right() {
    let duo = Duo::start(|endpoint, before, parameters| match (endpoint, before) {
        ("preauth", 0) => fail(40105),
        ("preauth", 1) => Reply::RetryAfter(1, r#"{"stat":"FAIL","code":42901}"#.to_owned()),
        ("ping", _) => ok(&format!(r#"{{"time":{}}}"#, unix_now() + 4000)),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Asked::new(&duo.config(""));
    assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
    assert_eq!((duo.count("ping"), duo.count("preauth")), (1, 3));
    let findings = asked.provider.rehearse().await;
    let told = findings
        .iter()
        .any(|f| matches!(f, Finding::Problem(text) if text.contains("behind Duo's")));
    assert!(told, "{findings:?}");
}

#[test]
fn a_pending_push_is_answered_while_the_program_ends_and_its_keys_are_written_nowhere() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let approve = Arc::new(AtomicUsize::new(0));
    let answer = Arc::clone(&approve);
    let duo = runtime.block_on(Duo::start(move |endpoint, before, parameters| match endpoint {
        "auth_status" if answer.load(Ordering::SeqCst) == 0 => {
            std::thread::sleep(Duration::from_millis(50));
            ok(WAITING)
        }
        "auth_status" => ok(ALLOWED),
        _ => well(endpoint, before, parameters),
    }));
    let lab = Lab::new(&duo.config("factors = [\"push\"]"));
    lab.write("ikey", "DISIMULATOR000000001\n");
    lab.write("skey", "simulatorsimulatorsimulatorsimulator0000\n");
    assert!(lab.run(&["check"]).status.success());
    let mut proxy = Proxy::start(&lab);
    let login = Login::new("jane", "Directory-Passw0rd!").send(proxy.radius);
    eventually("the push is sent", || {
        (duo.count("auth_status") > 0).then_some(())
    });
    proxy.signal("TERM");
    eventually("not ready", || (proxy.get("/readyz").0 == 503).then_some(()));
    approve.store(1, Ordering::SeqCst);
    assert_eq!(login.answer(), support::Answer::Accept);
    assert!(proxy.wait().success());

    let typed = duo
        .calls()
        .iter()
        .any(|(_, p)| p.values().any(|value| value.contains("Passw0rd")));
    assert!(!typed, "typed text was sent to the provider");
    let written = lab.read("records.jsonl") + &proxy.log();
    for secret in ["simulatorsimulator", "DISIMULATOR", "Passw0rd", support::SECRET] {
        assert!(!written.contains(secret), "{secret} was written down:\n{written}");
    }
}
