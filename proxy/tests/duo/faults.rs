//! What a login becomes when Duo fails.

use std::time::Duration;

use proxy_core::factor::{Basis, Credential, RefusalReason};
use radius_proxy::provider::Finding;

use crate::duo::{Duo, Reply, fail, ok};
use crate::harness::{Asked, basis, reason, unix_now, well};

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
    let findings = Asked::new(&untrusted).provider.rehearse().await;
    assert!(
        matches!(&findings[..], [Finding::Problem(text)] if text.contains("put that CA's certificate")),
        "{findings:?}"
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
    assert!(
        !asked.refused.has_changed().unwrap(),
        "a wrong clock is no wrong key"
    );
    let findings = asked.provider.rehearse().await;
    let told = findings
        .iter()
        .any(|f| matches!(f, Finding::Problem(text) if text.contains("behind Duo's")));
    assert!(told, "{findings:?}");
}
