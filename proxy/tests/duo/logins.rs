//! What a login becomes, by what Duo says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proxy_config::Secret;
use proxy_core::factor::{
    Basis, Credential, Factor, Keyword, KeywordFactor, LoginId, RefusalReason, Verdict,
};
use radius_proxy::provider::{Answer, Asking, Pushed};

use crate::duo::{Duo, Reply, ok};
use crate::harness::{ALLOWED, Asked, WAITING, basis, denied, reason, well};
use crate::support::{self, Lab, Login, Proxy, eventually};

#[tokio::test]
async fn a_push_is_followed_to_its_approval_over_a_connection_for_calls_and_one_for_waiting() {
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
    assert_eq!(duo.connections.load(Ordering::SeqCst), 2);
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
async fn a_name_that_duo_does_not_know_is_asked_about_once_a_minute() {
    let duo = Duo::start(|endpoint, before, parameters| match endpoint {
        "preauth" => ok(r#"{"result":"enroll","status_msg":"Enrol first"}"#),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Asked::new(&duo.config(""));
    for _ in 0..40 {
        assert_eq!(
            reason(asked.login(Credential::Default).await),
            RefusalReason::NotEnrolled
        );
    }
    assert_eq!(duo.count("preauth"), 1);
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
