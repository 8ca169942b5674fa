//! Calls that fail.

use std::sync::Arc;

use proxy_core::factor::{Basis, Credential, Factor, RefusalReason};
use radius_proxy::provider::Finding;

use crate::harness::{Asked, OAUTH, SUCCESS, TOKEN, approved, code, except, reason, waiting, well};
use crate::oauth::app_key;
use crate::stub::{Okta, Reply, fail, ok, with};
use crate::support::Lab;

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
                // Whoever knows the user is not away.
                if opens && mode == "safe" && operation == "user" {
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

#[tokio::test]
async fn a_rehearsal_and_the_check_command_say_what_is_wrong() {
    let okta = Okta::start(except("user", fail(404, "E0000007"))).await;
    // An assertion of the service app is only as good as the clock; an API token does not care.
    let app = Asked::with_key(&okta.config(OAUTH, ""), &app_key().0);
    assert!(
        matches!(&Arc::clone(&app.provider).rehearse().await[..], [Finding::Good(text), Finding::Good(clock)] if text.contains("credentials are right") && clock.contains("this host's clock is"))
    );
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
