//! What happens where this proxy is busy and Duo is not: nothing opens, and nothing waits for a push.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::factor::{Basis, Credential, RefusalReason, Verdict};

use crate::duo::{Duo, Reply, ok};
use crate::harness::{ALLOWED, Asked, TXID, basis, reason, well};
use crate::support::{self, Answer, Lab, Login, Proxy, eventually};

pub fn served(duo: &Duo, more: &str) -> (Lab, Proxy) {
    let lab = Lab::new(&duo.config(more));
    lab.write("ikey", "DISIMULATOR000000001\n");
    lab.write("skey", "simulatorsimulatorsimulatorsimulator0000\n");
    let proxy = Proxy::start(&lab);
    (lab, proxy)
}

/// Passcodes are never answered; pushes are approved at once.
fn slow_passcodes(
    endpoint: &str,
    before: usize,
    parameters: &std::collections::BTreeMap<String, String>,
) -> Reply {
    match endpoint {
        "auth" if parameters.contains_key("passcode") => Reply::Never,
        "auth_status" => ok(ALLOWED),
        _ => well(endpoint, before, parameters),
    }
}

#[test]
fn a_full_connection_of_our_own_opens_nothing_and_others_get_another() {
    let runtime = support::runtime();
    let duo = runtime.block_on(Duo::start_with_streams(1, slow_passcodes));
    let (lab, proxy) = served(&duo, "fail_mode = \"safe\"\nfactors = [\"push\"]");
    let stuck = Login::new("jane", "123456").send(proxy.radius);
    eventually("the passcode is asked about", || {
        (duo.count("auth") > 0).then_some(())
    });
    let begun = Instant::now();
    assert_eq!(proxy.login("john", "push"), Answer::Accept);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    let records = lab.read("records.jsonl");
    assert!(!records.contains("fail_open"), "{records}");
    assert_eq!(duo.count("auth_status"), 1, "john's push was followed");
    drop(stuck);
}

#[test]
fn a_pending_push_delays_no_other_login_where_the_server_allows_one_stream() {
    let runtime = support::runtime();
    let duo = runtime.block_on(Duo::start_with_streams(1, |endpoint, before, parameters| match (
        endpoint,
        parameters.get("txid").map(String::as_str),
    ) {
        ("auth", _) if parameters["username"] == "jane" => ok(r#"{"txid":"pending"}"#),
        ("auth", _) => ok(TXID),
        ("auth_status", Some("pending")) => Reply::Never,
        ("auth_status", _) => ok(ALLOWED),
        _ => well(endpoint, before, parameters),
    }));
    let (_lab, proxy) = served(&duo, "fail_mode = \"safe\"\nfactors = [\"push\"]");
    let pending = Login::new("jane", "push").send(proxy.radius);
    eventually("the push is followed", || {
        (duo.count("auth_status") > 0).then_some(())
    });
    for (user, seconds) in [("john", 5), ("joan", 3)] {
        let begun = Instant::now();
        assert_eq!(proxy.login(user, "push"), Answer::Accept);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(seconds), "{user}: {took:?}");
    }
    assert_eq!(duo.count("preauth"), 3);
    drop(pending);
}

#[tokio::test]
async fn a_provider_that_answers_others_is_not_away() {
    let duo = Duo::start(|endpoint, before, parameters| match endpoint {
        "preauth" if parameters["username"] == "jane" && before > 0 => Reply::Text(503, ""),
        "auth_status" => ok(ALLOWED),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Asked::new(&duo.config("fail_mode = \"safe\"\nfactors = [\"push\"]"));
    assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::ProviderError
    );
}

#[tokio::test]
async fn a_busy_processor_of_our_own_opens_nothing() {
    // Duo runs elsewhere, and answers at once.
    let (started, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        support::runtime().block_on(async move {
            let _ = started.send(Duo::start(well).await);
            std::future::pending::<()>().await;
        });
    });
    let duo = address.recv().unwrap();
    let asked = Asked::new(&duo.config("fail_mode = \"safe\""));
    let hog = tokio::spawn(async {
        loop {
            std::thread::sleep(Duration::from_millis(700));
            tokio::task::yield_now().await;
        }
    });
    let mut request = asked.request(Credential::Default);
    (request.answer_within, request.of_use) = (Duration::from_secs(4), Duration::from_secs(4));
    match asked.ask(request).await {
        Verdict::Approved(approval) => assert_ne!(approval.basis, Basis::FailOpen),
        // Where preauth came through, the push had no time left.
        Verdict::Refused(refusal) => assert!(
            matches!(refusal.reason, RefusalReason::Throttled | RefusalReason::TimedOut),
            "{:?}",
            refusal.reason
        ),
    }
    hog.abort();
}

#[tokio::test]
async fn many_logins_that_wait_for_a_connection_take_the_failure_of_the_one_that_opens_it() {
    // Takes connections, and never speaks TLS.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let duo = Duo::start(well).await;
    let config = duo
        .config("fail_mode = \"safe\"")
        .replace(&duo.address.port().to_string(), &port.to_string());
    let asked = Arc::new(Asked::new(&config));
    let logins: Vec<_> = (0..20)
        .map(|_| {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move { basis(asked.login(Credential::Default).await) })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), Basis::FailOpen);
    }
}

#[tokio::test]
async fn pushes_that_wait_for_their_owners_open_further_connections_and_each_is_followed() {
    let duo = Duo::start_with_streams(2, |endpoint, before, parameters| match endpoint {
        // The eighth to be asked about is the first to be approved.
        "auth_status" if before < 7 => Reply::Never,
        "auth_status" => ok(ALLOWED),
        "auth" => ok(TXID),
        _ => well(endpoint, before, parameters),
    })
    .await;
    let asked = Arc::new(Asked::new(&duo.config("factors = [\"push\"]")));
    for _ in 0..7 {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move { asked.login(Credential::Default).await });
    }
    while duo.count("auth_status") < 7 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
}
