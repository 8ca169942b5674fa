//! Conversations in which Okta says something about the user.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use proxy_core::factor::{Basis, Credential, Factor, RefusalReason, Verdict};

use crate::harness::{
    Asked, SUCCESS, TOKEN, approved, code, except, reason, sms, transaction, waiting, well,
};
use crate::stub::{Okta, fail, ok};

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
async fn a_reload_keeps_for_whom_a_code_was_sent() {
    let okta = Okta::start(|call, before| match (call.operation(), call.body.as_str()) {
        ("verify", "") => ok(r#"{"factorResult":"CHALLENGE"}"#),
        _ => well(call, before),
    })
    .await;
    let mut asked = Asked::new(&okta.config(TOKEN, ""));
    assert_eq!(reason(asked.login(sms()).await), RefusalReason::CodesSent);
    asked.reload();
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    let verified = okta.of("verify");
    assert!(
        verified.iter().all(|call| call.what.contains("/sms1/")),
        "the code was tried elsewhere first"
    );
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

#[tokio::test]
async fn what_is_said_to_a_typed_code_does_not_tell_who_is_at_okta() {
    let suspended = r#"{"id":"00u1","status":"SUSPENDED","profile":{"login":"jane@example.com"}}"#;
    let only_push = r#"[{"id":"psh1","factorType":"push","provider":"OKTA","status":"ACTIVE"}]"#;
    let mut told = BTreeSet::new();
    for (operation, reply) in [
        ("user", fail(404, "E0000007")),
        ("user", ok(suspended)),
        ("factors", ok("[]")),
        ("factors", ok(only_push)),
        ("verify", fail(403, "E0000068")),
        ("verify", fail(403, "E0000069")),
    ] {
        let okta = Okta::start(except(operation, reply)).await;
        let asked = Asked::new(&okta.config(TOKEN, ""));
        match asked.login(code("123456")).await {
            Verdict::Refused(refusal) => told.insert(refusal.message),
            Verdict::Approved(_) => panic!("approved"),
        };
    }
    assert_eq!(told.len(), 1, "{told:?}");
}
