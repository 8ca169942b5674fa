//! The shipped binary with TOTP, on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use support::{Answer, Lab, Proxy, SECRET, SEED_TEXT, TOTP, binary, code, config, eventually, status_server};

#[test]
fn a_code_is_accepted_once_and_nothing_typed_is_written_down() {
    let lab = Lab::totp();
    let mut proxy = Proxy::start(&lab);
    let right = code(0);
    assert_eq!(proxy.login("LAB\\Jane", &right), Answer::Accept);
    let replayed = proxy.login("jane", &right);
    assert!(
        matches!(&replayed, Answer::Reject(text) if text.contains("used before")),
        "{replayed:?}"
    );
    let wrong = proxy.login("jane", "hunter2hunter2");
    assert!(
        matches!(&wrong, Answer::Reject(text) if text.contains("authenticator app")),
        "{wrong:?}"
    );
    assert!(matches!(proxy.login("nobody", "000000"), Answer::Reject(_)));
    proxy.signal("TERM");
    assert!(proxy.wait().success());

    let records = lab.read("records.jsonl");
    let reasons: Vec<_> = records
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| {
            (
                record["user"].clone(),
                record["result"].clone(),
                record["reason"].clone(),
            )
        })
        .collect();
    let row = |user: &str, result: &str, reason: Option<&str>| (user.into(), result.into(), reason.into());
    assert_eq!(
        reasons,
        [
            row("jane", "accept", None),
            row("jane", "reject", Some("passcode_replayed")),
            row("jane", "reject", Some("nothing_matched")),
            row("nobody", "reject", Some("unknown_user")),
        ]
    );
    let written = records + &proxy.log();
    for secret in [right.as_str(), "hunter2", SEED_TEXT, SECRET] {
        assert!(!written.contains(secret), "{secret} was written down:\n{written}");
    }
}

#[test]
fn a_directorys_probe_is_rejected_at_once_and_counted_apart() {
    let lab = Lab::totp();
    lab.write("config.toml", &(config(TOTP) + "directory = true\n"));
    let mut proxy = Proxy::start(&lab);
    for name in ["fakeusername", "LAB\\FakeUserName", "fakeusername@lab.example"] {
        assert!(matches!(proxy.login(name, "fakepassword"), Answer::Reject(text) if text.is_empty()));
    }
    assert_eq!(proxy.login("jane", &code(0)), Answer::Accept);
    eventually("the probes are counted", || {
        (proxy.metric("radius_proxy_events_total{event=\"probe\"}") == 3.0).then_some(())
    });
    assert_eq!(proxy.metric("radius_proxy_events_total{event=\"rejected\"}"), 0.0);
    let (_, metrics) = proxy.get("/metrics");
    let logins: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("radius_proxy_logins_total{"))
        .collect();
    assert!(
        matches!(logins[..], [login] if login.contains("result=\"accept\"")),
        "{logins:?}"
    );
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    let records = lab.read("records.jsonl");
    let probes = records
        .lines()
        .filter(|line| line.contains(r#""result":"reject","reason":"probe""#));
    assert_eq!(probes.count(), 3, "{records}");
}

#[test]
fn a_new_user_can_log_in_without_a_restart_and_a_used_code_stays_used() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    let right = code(0);
    assert_eq!(proxy.login("jane", &right), Answer::Accept);
    lab.write("seeds/joe", &format!("otpauth://totp/joe?secret={SEED_TEXT}\n"));
    let (_, before) = proxy.get("/config-digest");
    eventually("the new seed runs", || {
        (proxy.get("/config-digest").1 != before).then_some(())
    });
    assert_eq!(proxy.login("joe", &code(0)), Answer::Accept);
    assert!(matches!(proxy.login("jane", &right), Answer::Reject(text) if text.contains("used before")));
    assert_eq!(proxy.metric("radius_proxy_config_reloads_total"), 1.0);
}

#[test]
fn a_bad_configuration_is_told_and_the_old_one_runs_on() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    let (_, before) = proxy.get("/config-digest");
    lab.write(
        "config.toml",
        &config("[provider.totp]\nseed_folders = [\"seeds\"]\nskew = 1\n"),
    );
    proxy.signal("HUP");
    eventually("the failure is counted", || {
        (proxy.metric("radius_proxy_config_reload_failures_total") >= 1.0).then_some(())
    });
    let (status, text) = proxy.get("/readyz");
    assert!(
        status == 200 && text.contains("not taken over; see the log") && !text.contains("skew"),
        "{text}"
    );
    assert_eq!(proxy.metric("radius_proxy_config_current"), 0.0);
    assert_eq!(proxy.get("/config-digest").1, before);
    assert_eq!(proxy.login("jane", &code(0)), Answer::Accept);

    lab.write("config.toml", &config(TOTP));
    proxy.signal("HUP");
    eventually("it heals", || (proxy.get("/readyz").1 == "ok\n").then_some(()));
    assert_eq!(proxy.get("/config-digest").1, before);
}

#[test]
fn a_configuration_that_listens_elsewhere_is_not_said_to_run() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    let (_, before) = proxy.get("/config-digest");
    let elsewhere = config(TOTP).replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    assert_ne!(elsewhere, config(TOTP));
    lab.write("config.toml", &elsewhere);
    proxy.signal("HUP");
    eventually("the failure is counted", || {
        (proxy.metric("radius_proxy_config_reload_failures_total") >= 1.0).then_some(())
    });
    let (status, text) = proxy.get("/readyz");
    assert!(
        status == 200 && text.contains("not taken over; see the log"),
        "{text}"
    );
    assert_eq!(proxy.get("/config-digest").1, before);
    assert_eq!(proxy.login("jane", &code(0)), Answer::Accept);
}

#[test]
fn another_file_of_records_is_taken_over_without_a_signal() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    lab.write(
        "config.toml",
        &config(TOTP).replace("records.jsonl", "others.jsonl"),
    );
    eventually("the new file", || lab.path("others.jsonl").exists().then_some(()));
    assert!(matches!(proxy.login("somebody", "000000"), Answer::Reject(_)));
    eventually("its record", || {
        support::holds(&lab.path("others.jsonl"), "somebody").then_some(())
    });
}

#[test]
fn a_rotated_file_of_records_is_opened_anew() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    assert!(matches!(proxy.login("nobody", "000000"), Answer::Reject(_)));
    eventually("the first record", || {
        support::holds(&lab.path("records.jsonl"), "nobody").then_some(())
    });
    std::fs::rename(lab.path("records.jsonl"), lab.path("records.1")).unwrap();
    proxy.signal("HUP");
    eventually("a new file", || lab.path("records.jsonl").exists().then_some(()));
    assert!(matches!(proxy.login("somebody", "000000"), Answer::Reject(_)));
    eventually("its record", || {
        support::holds(&lab.path("records.jsonl"), "somebody").then_some(())
    });
    assert!(!support::holds(&lab.path("records.1"), "somebody"));
}

#[test]
fn random_bytes_are_dropped_and_counted() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 19, 20, 4096, 9000] {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).unwrap();
        client.send_to(&bytes, proxy.radius).unwrap();
    }
    let dropped = || -> f64 {
        let (_, metrics) = proxy.get("/metrics");
        let values = metrics
            .lines()
            .filter(|line| line.starts_with("radius_proxy_drops_total{"));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    eventually("all six are counted", || (dropped() >= 6.0).then_some(()));
    assert_eq!(proxy.login("jane", &code(0)), Answer::Accept);
    eventually("all seven are the client's", || {
        let asked = proxy.metric("radius_proxy_requests_total{client=\"lab\",code=\"access_request\"}");
        let (_, metrics) = proxy.get("/metrics");
        let all = metrics
            .lines()
            .filter(|line| line.starts_with("radius_proxy_requests_total{client=\"lab\""))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum::<f64>();
        (asked >= 1.0 && all == 7.0).then_some(())
    });
}

#[test]
fn after_a_reload_every_thread_takes_the_new_secret_and_none_the_old_one() {
    // A socket holds some 270 small datagrams until it is read: more answers than that are lost when this thread has to
    // wait for a processor.
    const SOCKETS: usize = 3;
    const EACH: usize = 100;
    const BURST: usize = SOCKETS * EACH;
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    let burst = |secret: &str| {
        let request = status_server(secret);
        let clients: [UdpSocket; SOCKETS] = std::array::from_fn(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(proxy.radius).unwrap();
            client
        });
        for client in clients.iter().cycle().take(BURST) {
            client.send(&request).unwrap();
        }
        clients
    };
    let all_answered = |clients: &[UdpSocket]| {
        for client in clients {
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            for _ in 0..EACH {
                client.recv(&mut [0; 64]).unwrap();
            }
        }
    };
    let dropped = || proxy.metric("radius_proxy_drops_total{reason=\"bad_message_authenticator\"}");
    // So many at once bring in every thread; afterwards all but one of them rest with what they know.
    all_answered(&burst(SECRET));
    let (_, before) = proxy.get("/config-digest");
    lab.write("secret", "another-shared-secret");
    eventually("the new secret runs", || {
        (proxy.get("/config-digest").1 != before).then_some(())
    });
    all_answered(&burst("another-shared-secret"));
    assert_eq!(dropped(), 0.0);
    let refused = burst(SECRET);
    eventually("all under the old secret are dropped", || {
        (dropped() == BURST as f64).then_some(())
    });
    for client in refused {
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut [0; 64]).is_err());
    }
}

#[test]
fn the_admin_port_says_how_it_is() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    assert_eq!(proxy.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(proxy.get("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(proxy.get("/config-digest").1.trim_end().len(), 64);
    assert_eq!(proxy.get("/secrets").0, 404);
    let (status, metrics) = proxy.get("/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("radius_proxy_info{") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    for series in [
        "radius_proxy_requests_total{client=\"lab\",code=\"status_server\"} 0\n",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
}

#[test]
fn what_keeps_it_from_starting_is_told_in_one_line_that_says_what_to_do() {
    let lab = Lab::totp();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = config(TOTP).replace("[\"127.0.0.1:0\"]", &format!("[\"127.0.0.1:{port}\"]"));
    for (config, words) in [
        (text, [port.as_str(), "ss -lnp"]),
        ("[server]\nlisten = 5\n".to_owned(), ["line 2", "config.toml"]),
        (
            config(
                "[provider.duo]\napi_host = \"localhost\"\nintegration_key_file = \"secret\"\nsecret_key_file = \"secret\"\n\
                 ca_bundle = \"-----BEGIN CERTIFICATE-----\"\n",
            ),
            ["trusted certificates", "ca_bundle"],
        ),
        (
            config(TOTP).replace("\"secret\"", "\"none\""),
            ["clients[0].secret_files", "\"none\" cannot be read: there is no "],
        ),
    ] {
        lab.write("config.toml", &config);
        let output = lab.run(&["serve"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?}: {error}"
        );
        assert!(!error.contains(SECRET) && !error.contains(SEED_TEXT), "{error}");
    }
    let usage = binary().args(["serve", "--nonsense"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn check_tells_each_problem_on_a_line_of_its_own() {
    let lab = Lab::totp();
    let good = lab.run(&["check"]);
    assert!(good.status.success(), "{good:?}");
    assert!(
        String::from_utf8(good.stdout)
            .unwrap()
            .contains("ok: totp: 1 user(s) can log in")
    );
    lab.write(
        "seeds/more",
        "otpauth://totp/joe?secret=1\notpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\n",
    );
    let bad = lab.run(&["check"]);
    let problems = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        problems.contains("problem: seeds/more: line 1 has a secret that is not base32"),
        "{problems}"
    );
    assert!(
        problems.contains("problem: seeds/more: line 2 is one more seed of user \"jane\""),
        "{problems}"
    );
}

#[test]
fn check_says_so_when_nobody_takes_what_it_prints() {
    let lab = Lab::totp();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = binary()
        .args(["check", "--config"])
        .arg(lab.path("config.toml"))
        .stdout(full)
        .output()
        .unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("radius-proxy: writing: No space left"), "{told}");
}

#[test]
fn an_enrolled_user_can_log_in() {
    let lab = Lab::totp();
    let enrolled = binary()
        .args(["totp", "enrol", "--user", "kim", "--qr", "always"])
        .output()
        .unwrap();
    let shown = String::from_utf8(enrolled.stdout).unwrap();
    assert!(shown.contains('█'), "{shown}");
    lab.write("seeds/kim", shown.lines().next().unwrap());
    let checked = lab.run(&["check"]);
    assert!(String::from_utf8(checked.stdout).unwrap().contains("2 user(s)"));
    let manifest = binary()
        .args([
            "totp",
            "enrol",
            "--user",
            "kim",
            "--secret-name",
            "seeds",
            "--namespace",
            "mfa",
        ])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(manifest.stdout)
            .unwrap()
            .starts_with("apiVersion: v1\nkind: Secret\n")
    );
}
