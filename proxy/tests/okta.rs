//! The Okta provider against a server that says what each test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

#[path = "support/okta.rs"]
mod okta;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use okta::{Call, Okta, Reply, fail, ok, with};
use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};
use proxy_core::factor::{
    Basis, Credential, Factor, FactorRequest, Keyword, KeywordFactor, LoginId, RefusalReason, UserName,
    Verdict,
};
use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::{self, Answer, Asking, Finding, Provider, Pushed, Shared};
use serde_json::Value;
use support::Lab;

const TOKEN: &str = "token]\ntoken_file = \"token\"";
const OAUTH: &str = "oauth]\nclient_id = \"0oa1\"\nprivate_key_file = \"key\"\nkey_id = \"k1\"";

const USER: &str = r#"{"id":"00u1","status":"ACTIVE","profile":{"login":"jane@example.com"}}"#;
const FACTORS: &str = r#"[
    {"id":"psh1","factorType":"push","provider":"OKTA","status":"ACTIVE","profile":{"name":"Phone"}},
    {"id":"otp1","factorType":"token:software:totp","provider":"OKTA","status":"ACTIVE"},
    {"id":"otp2","factorType":"token:software:totp","provider":"GOOGLE","status":"ACTIVE"},
    {"id":"sms1","factorType":"sms","provider":"OKTA","status":"ACTIVE","profile":{"phoneNumber":"+1 XXX-4788"}}]"#;
const SUCCESS: &str = r#"{"factorResult":"SUCCESS"}"#;

fn waiting() -> String {
    transaction(
        "WAITING",
        "ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1",
        "",
    )
}

fn transaction(result: &str, poll: &str, embedded: &str) -> String {
    format!(
        r#"{{"factorResult":"{result}","expiresAt":"2026-01-01T00:05:00.000Z","_links":{{
            "poll":{{"href":"{poll}","hints":{{"allow":["GET"]}}}},
            "cancel":{{"href":"ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1","hints":{{"allow":["DELETE"]}}}}
        }}{embedded}}}"#
    )
}

/// A login that goes well.
fn well(call: &Call, before: usize) -> Reply {
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

fn granted(token: &str, typ: &str) -> Reply {
    ok(&format!(
        r#"{{"access_token":"{token}","token_type":"{typ}","expires_in":3600}}"#
    ))
}

/// Like [`well`], with one operation answered otherwise.
fn except(operation: &'static str, reply: Reply) -> impl Fn(&Call, usize) -> Reply + Send + Sync + 'static {
    move |call, before| {
        if call.operation() == operation {
            reply.clone()
        } else {
            well(call, before)
        }
    }
}

#[derive(Default)]
struct Pushes(AtomicUsize);

impl Pushed for Pushes {
    fn pushed(&self, _: LoginId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Asked {
    provider: Arc<dyn Provider>,
    config: Config,
    pushes: Arc<Pushes>,
}

impl Asked {
    fn new(config: &str) -> Self {
        Self::with_key(config, "")
    }

    fn with_key(config: &str, key: &str) -> Self {
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
            config,
            pushes: Arc::default(),
        }
    }

    fn request(&self, credential: Credential) -> FactorRequest {
        FactorRequest {
            login: LoginId(1),
            user: UserName::normalise("LAB\\jane", &self.config.policy.user_names).unwrap(),
            user_as_sent: "LAB\\jane".to_owned(),
            credential,
            client: self.config.clients[0].name.clone(),
            source: IpAddr::from([10, 0, 0, 7]),
            user_address: None,
            budget: Duration::from_secs(60),
            may_push: true,
            attributes: Vec::new(),
        }
    }

    fn ask(&self, request: FactorRequest) -> provider::BoxFuture<Verdict> {
        let told: Arc<dyn Pushed> = Arc::clone(&self.pushes) as Arc<dyn Pushed>;
        match Arc::clone(&self.provider).ask(request, Asking::new(SystemTime::now(), LoginId(1), told)) {
            Answer::Now(verdict) => Box::pin(async move { verdict }),
            Answer::Later(future) => future,
        }
    }

    async fn login(&self, credential: Credential) -> Verdict {
        self.ask(self.request(credential)).await
    }

    /// With so little time that nothing is waited out.
    async fn hurried(&self, credential: Credential) -> Verdict {
        let mut request = self.request(credential);
        request.budget = Duration::from_secs(3);
        self.ask(request).await
    }
}

fn code(text: &str) -> Credential {
    Credential::Passcode(Secret::new(text.as_bytes().to_vec()))
}

fn sms() -> Credential {
    Credential::Keyword(Keyword {
        factor: KeywordFactor::Sms,
        device: None,
    })
}

fn reason(verdict: Verdict) -> RefusalReason {
    match verdict {
        Verdict::Refused(refusal) => refusal.reason,
        Verdict::Approved(_) => panic!("approved"),
    }
}

fn approved(verdict: Verdict) -> (Factor, Basis) {
    match verdict {
        Verdict::Approved(approval) => (approval.factor, approval.basis),
        Verdict::Refused(refusal) => panic!("{:?} {:?}", refusal.reason, refusal.message),
    }
}

#[tokio::test]
async fn a_push_is_followed_by_its_own_link_to_its_approval() {
    let okta = Okta::start(well).await;
    let asked = Asked::new(&okta.config(TOKEN, "login_suffix = \"@example.com\""));
    assert_eq!(
        approved(asked.login(Credential::Default).await),
        (Factor::Push, Basis::Factor)
    );
    assert_eq!(asked.pushes.0.load(Ordering::SeqCst), 1);
    let whats: Vec<_> = okta.calls().into_iter().map(|call| call.what).collect();
    assert_eq!(
        whats,
        [
            "GET /api/v1/users/jane@example.com",
            "GET /api/v1/users/00u1/factors",
            "POST /api/v1/users/00u1/factors/psh1/verify",
            "GET /api/v1/users/00u1/factors/psh1/transactions/v2m.1",
            "GET /api/v1/users/00u1/factors/psh1/transactions/v2m.1",
        ]
    );
    for call in okta.calls() {
        assert_eq!(call.header("authorization"), "SSWS 00aBcToken");
        assert!(call.header("user-agent").starts_with("radius-proxy/"));
    }
}

#[tokio::test]
async fn each_end_of_a_push_has_its_reason() {
    let number = |result: &str| {
        let poll = "ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1";
        transaction(result, poll, r#","_embedded":{"challenge":{"correctAnswer":92}}"#)
    };
    for (answer, expected, cancelled) in [
        (transaction("REJECTED", "", ""), RefusalReason::Denied, false),
        (transaction("TIMEOUT", "", ""), RefusalReason::TimedOut, false),
        (number("WAITING"), RefusalReason::NumberChallenge, true),
        (
            transaction("PERHAPS", "", ""),
            RefusalReason::ProviderMalformed,
            false,
        ),
    ] {
        let okta = Okta::start(except("poll", ok(&answer))).await;
        let asked = Asked::new(&okta.config(TOKEN, ""));
        assert_eq!(reason(asked.login(Credential::Default).await), expected);
        if cancelled {
            okta.has_seen("cancel", 1).await;
        } else {
            assert_eq!(okta.of("cancel").len(), 0, "{answer}");
        }
    }
    let okta = Okta::start(except("verify", ok(&number("WAITING")))).await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::NumberChallenge
    );
    okta.has_seen("cancel", 1).await;
}

#[tokio::test]
async fn a_poll_link_of_another_origin_is_not_followed() {
    let other = Okta::start(well).await;
    let port = other.address.port();
    for link in [
        format!("https://localhost:{port}/api/v1/users/00u1/factors/psh1/transactions/v2m.1"),
        "http://ORIGINAL/x".to_owned(),
        "https://user@localhost/x".to_owned(),
        "/api/v1/relative".to_owned(),
    ] {
        let okta = Okta::start(except("verify", ok(&transaction("WAITING", &link, "")))).await;
        let asked = Asked::new(&okta.config(TOKEN, ""));
        assert_eq!(
            reason(asked.login(Credential::Default).await),
            RefusalReason::ProviderMalformed,
            "{link}"
        );
        okta.has_seen("cancel", 1).await;
    }
    assert_eq!(other.calls().len(), 0);
}

#[tokio::test]
async fn a_push_that_is_given_up_is_taken_back() {
    let okta = Okta::start(except("poll", ok(&waiting()))).await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    let login = tokio::spawn(asked.ask(asked.request(Credential::Default)));
    okta.has_seen("poll", 1).await;
    login.abort();
    okta.has_seen("cancel", 1).await;
    assert_eq!(
        okta.of("cancel")[0].what,
        "DELETE /api/v1/users/00u1/factors/psh1/transactions/v2m.1"
    );
    // Also when the budget ends first.
    assert_eq!(
        reason(asked.hurried(Credential::Default).await),
        RefusalReason::TimedOut
    );
    okta.has_seen("cancel", 2).await;
}

#[tokio::test]
async fn a_code_is_tried_at_one_factor_after_the_other_and_starts_no_push() {
    let okta = Okta::start(|call, before| match (call.operation(), call.body.as_str()) {
        ("verify", r#"{"passCode":"123456"}"#) if call.what.contains("otp2") => ok(SUCCESS),
        ("verify", _) => fail(403, "E0000068"),
        _ => well(call, before),
    })
    .await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(
        approved(asked.login(code("123456")).await),
        (Factor::Passcode, Basis::Factor)
    );
    assert_eq!(okta.of("verify").len(), 2);
    assert_eq!(
        reason(asked.login(code("654321")).await),
        RefusalReason::WrongPasscode
    );
    assert_eq!(asked.pushes.0.load(Ordering::SeqCst), 0);
    for (error, expected) in [
        ("E0000082", RefusalReason::PasscodeReplayed),
        ("E0000069", RefusalReason::LockedOut),
        ("E0000119", RefusalReason::LockedOut),
        ("E0000038", RefusalReason::LockedOut),
        ("E0000079", RefusalReason::FactorUnavailable),
        ("E0000006", RefusalReason::ProviderCredentials),
    ] {
        okta.answers(except("verify", fail(403, error)));
        assert_eq!(reason(asked.login(code("123456")).await), expected, "{error}");
    }
}

#[tokio::test]
async fn an_sms_code_is_sent_and_the_next_passcode_tried_there_first() {
    let okta = Okta::start(|call, before| match (call.operation(), call.body.as_str()) {
        ("verify", "") => ok(r#"{"factorResult":"CHALLENGE"}"#),
        _ => well(call, before),
    })
    .await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(reason(asked.login(sms()).await), RefusalReason::CodesSent);
    assert_eq!(asked.pushes.0.load(Ordering::SeqCst), 1);
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    let verified = okta.of("verify");
    assert_eq!(verified.len(), 2);
    assert!(verified.iter().all(|call| call.what.contains("/sms1/")));
    okta.answers(except("verify", fail(429, "E0000109")));
    assert_eq!(reason(asked.login(sms()).await), RefusalReason::ProviderThrottled);
    assert_eq!(okta.of("verify").len(), 3);
}

#[tokio::test]
async fn who_is_not_known_locked_or_somebody_else_is_refused_in_the_first_step() {
    let user = |status: &str, login: &str| {
        ok(&format!(
            r#"{{"id":"00u1","status":"{status}","profile":{{"login":"{login}"}}}}"#
        ))
    };
    for (reply, expected) in [
        (fail(404, "E0000007"), RefusalReason::UnknownUser),
        (user("ACTIVE", "admin@example.com"), RefusalReason::UnknownUser),
        (user("SUSPENDED", "jane@example.com"), RefusalReason::LockedOut),
        (
            user("DEPROVISIONED", "jane@example.com"),
            RefusalReason::LockedOut,
        ),
        (user("LOCKED_OUT", "jane@example.com"), RefusalReason::LockedOut),
    ] {
        let okta = Okta::start(except("user", reply)).await;
        let asked = Asked::new(&okta.config(TOKEN, "fail_mode = \"safe\""));
        assert_eq!(reason(asked.login(Credential::Default).await), expected);
        assert_eq!(okta.of("verify").len(), 0);
    }
    let okta = Okta::start(except("factors", ok("[]"))).await;
    let asked = Asked::new(&okta.config(TOKEN, "fail_mode = \"safe\""));
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::NotEnrolled
    );
}

/// What the server does, whether `fail_mode = "safe"` opens for it, and the reason otherwise.
fn faults() -> Vec<(Reply, bool, RefusalReason)> {
    let text = |status, text: &str| Reply::Answer(status, Vec::new(), text.to_owned());
    vec![
        (text(503, "<html>"), true, RefusalReason::ProviderError),
        (fail(500, "E0000009"), true, RefusalReason::ProviderError),
        (text(200, "<html>"), true, RefusalReason::ProviderMalformed),
        (text(302, ""), true, RefusalReason::ProviderMalformed),
        (Reply::Close, true, RefusalReason::ProviderUnreachable),
        (Reply::Never, true, RefusalReason::ProviderUnreachable),
        (
            with(fail(429, "E0000047"), "retry-after", "3600"),
            false,
            RefusalReason::ProviderThrottled,
        ),
        (fail(400, "E0000001"), false, RefusalReason::ProviderError),
        (fail(401, "E0000011"), false, RefusalReason::ProviderCredentials),
        (fail(403, "E0000006"), false, RefusalReason::ProviderCredentials),
    ]
}

#[tokio::test]
async fn a_failed_look_up_opens_only_in_safe_mode_and_only_for_absence() {
    for operation in ["user", "factors"] {
        for (at, (fault, opens, expected)) in faults().into_iter().enumerate() {
            for mode in ["safe", "secure"] {
                let okta = Okta::start(except(operation, fault.clone())).await;
                let asked = Asked::new(&okta.config(TOKEN, &format!("fail_mode = \"{mode}\"")));
                let verdict = asked.hurried(Credential::Default).await;
                if opens && mode == "safe" {
                    assert_eq!(approved(verdict).1, Basis::FailOpen, "{operation} {at}");
                } else {
                    assert_eq!(reason(verdict), expected, "{operation} {at} {mode}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_failed_verification_never_opens_and_never_pushes_twice() {
    for (at, (fault, _, expected)) in faults().into_iter().enumerate() {
        let okta = Okta::start(except("verify", fault)).await;
        let asked = Asked::new(&okta.config(TOKEN, "fail_mode = \"safe\""));
        assert_eq!(reason(asked.hurried(Credential::Default).await), expected, "{at}");
        assert_eq!(okta.of("verify").len(), 1, "{at}");
    }
}

#[tokio::test]
async fn a_push_is_followed_through_failures_while_it_is_on_the_phone() {
    let okta = Okta::start(|call, before| match (call.operation(), before) {
        ("poll", 0) => Reply::Answer(502, Vec::new(), String::new()),
        ("poll", 1) => Reply::Close,
        ("poll", 2) => with(fail(429, "E0000047"), "retry-after", "1"),
        ("poll", 3) => ok(&waiting()),
        ("poll", _) => ok(SUCCESS),
        _ => well(call, before),
    })
    .await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(approved(asked.login(Credential::Default).await).0, Factor::Push);
    assert_eq!(okta.of("verify").len(), 1);
    // What Okta refuses again and again is given up, and nobody is let in.
    okta.answers(except("poll", fail(401, "E0000011")));
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::ProviderCredentials
    );
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_until_its_reset() {
    let okta = Okta::start(|call, before| match (call.operation(), before) {
        ("user", 0) => {
            let limited = with(fail(429, "E0000047"), "date", "Tue, 14 Nov 2023 22:13:20 GMT");
            with(limited, "x-rate-limit-reset", "1700000000")
        }
        _ => well(call, before),
    })
    .await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    assert_eq!(okta.of("user").len(), 2);
}

/// A service app's key: in PEM, and its public half.
fn app_key() -> (String, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
}

fn form(call: &Call, name: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(call.body.as_bytes());
    pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn claims(jwt: &str) -> Value {
    let part = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn an_access_token_is_fetched_once_for_many_logins_and_anew_when_it_is_refused() {
    let okta = Okta::start(well).await;
    let (pem, public) = app_key();
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &pem);
    let logins: Vec<_> = (0..20)
        .map(|_| tokio::spawn(asked.ask(asked.request(code("123456")))))
        .collect();
    for login in logins {
        assert_eq!(approved(login.await.unwrap()).0, Factor::Passcode);
    }
    let tokens = okta.of("token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(form(&tokens[0], "grant_type"), "client_credentials");
    assert_eq!(form(&tokens[0], "scope"), "okta.users.read okta.users.manage");
    let assertion = form(&tokens[0], "client_assertion");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    key.verify(signed.as_bytes(), &signature).unwrap();
    let url = format!("https://localhost:{}/oauth2/v1/token", okta.address.port());
    assert_eq!(claims(&assertion)["aud"], Value::from(url));
    assert!(
        okta.of("user")
            .iter()
            .all(|call| call.header("authorization") == "Bearer access0")
    );

    okta.answers(|call, before| match call.header("authorization") {
        "Bearer access0" => fail(401, "E0000011"),
        _ => well(call, before),
    });
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    assert_eq!(okta.of("token").len(), 2);
}

#[tokio::test]
async fn a_proof_of_possession_is_made_where_it_is_demanded() {
    let okta = Okta::start(|call, before| {
        let refuse = |error: &str| Reply::Answer(400, Vec::new(), format!(r#"{{"error":"{error}"}}"#));
        match call.operation() {
            "token" if call.header("dpop").is_empty() => refuse("invalid_dpop_proof"),
            "token" if claims(call.header("dpop"))["nonce"] != "n1" => {
                with(refuse("use_dpop_nonce"), "dpop-nonce", "n1")
            }
            "token" => granted("bound", "DPoP"),
            _ if call.header("authorization") != "DPoP bound" => fail(401, "E0000011"),
            _ => {
                let proof = claims(call.header("dpop"));
                let (method, path) = call.what.split_once(' ').unwrap();
                assert_eq!(proof["htm"], method);
                assert!(proof["htu"].as_str().unwrap().ends_with(path));
                assert!(proof["ath"].is_string());
                well(call, before)
            }
        }
    })
    .await;
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &app_key().0);
    assert_eq!(approved(asked.login(Credential::Default).await).0, Factor::Push);
    assert_eq!(okta.of("token").len(), 3);
}

#[tokio::test]
async fn a_wrong_clock_is_put_right_and_a_refused_app_is_told_once_to_all_who_wait() {
    let ahead = SystemTime::now() + Duration::from_secs(4000);
    let date = httpdate(ahead);
    let refuse = with(
        Reply::Answer(
            401,
            Vec::new(),
            r#"{"error":"invalid_client","error_description":"expired"}"#.to_owned(),
        ),
        "date",
        &date,
    );
    let refused = refuse.clone();
    let okta = Okta::start(move |call, before| match (call.operation(), before) {
        ("token", 0) => refused.clone(),
        _ => well(call, before),
    })
    .await;
    let (pem, _) = app_key();
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &pem);
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    let tokens = okta.of("token");
    let issued = |call: &Call| claims(&form(call, "client_assertion"))["iat"].as_i64().unwrap();
    assert!(issued(&tokens[1]) - issued(&tokens[0]) > 3900);

    let okta = Okta::start(except("token", refuse)).await;
    let asked = Asked::with_key(&okta.config(OAUTH, "fail_mode = \"safe\""), &pem);
    assert_eq!(
        reason(asked.login(code("123456")).await),
        RefusalReason::ProviderCredentials
    );
    let findings = Arc::clone(&asked.provider).rehearse().await;
    let told = matches!(&findings[..], [Finding::Problem(text)] if text.contains("invalid_client") && text.contains("scopes"));
    assert!(told, "{findings:?}");
}

fn httpdate(time: SystemTime) -> String {
    let seconds = i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let time = jiff::Timestamp::from_second(seconds).unwrap();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn a_rehearsal_and_the_check_command_say_what_is_wrong() {
    let okta = Okta::start(except("user", ok("[{}]"))).await;
    let asked = Asked::new(&okta.config(TOKEN, ""));
    assert!(
        matches!(&Arc::clone(&asked.provider).rehearse().await[..], [Finding::Good(text)] if text.contains("credentials are right"))
    );
    okta.answers(except("user", fail(401, "E0000011")));
    assert!(
        matches!(&Arc::clone(&asked.provider).rehearse().await[..], [Finding::Problem(text)] if text.contains("E0000011"))
    );

    let lab = Lab::new(&okta.config(OAUTH, ""));
    lab.write("key", r#"{"kty":"RSA","d":"very-secret"}"#);
    let output = lab.run(&["check"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        text.contains("provider.okta.credentials.oauth.private_key_file: holds no private key in PEM"),
        "{text}"
    );
    assert!(!text.contains("very-secret"));
}
