//! Two proxies as processes, one push: it outlives the proxy that started it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test ends where it finds something wrong, and uses its part of what all share"
)]

#[path = "../support/duo.rs"]
mod duo;
#[path = "../okta/stub.rs"]
mod okta;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ports::free_port;
use support::{Answer, Lab, Login, Proxy, eventually};

/// What the client waits before it tries the next server.
const TIMEOUT: Duration = Duration::from_secs(4);
const KEY: &str = "6a0e3d5c1b2f47988d7c6b5a49382716";

/// The proxies of one group, each with its folder.
struct Pair {
    labs: Vec<Lab>,
    proxies: Vec<Proxy>,
    approved: Arc<AtomicBool>,
}

/// `addresses` is the line that says where the others are.
fn lab(provider: &str, port: u16, addresses: &str, key: &str) -> Lab {
    let lab = Lab::new(provider);
    let peers = format!("\n[server.peers]\nlisten = \"127.0.0.1:{port}\"\n{addresses}\nkey_file = \"key\"\n");
    let text = lab.read("config.toml").replace(
        "timeout_seconds = 20\nretries = 1",
        &format!("timeout_seconds = {}\nretries = 10", TIMEOUT.as_secs()),
    );
    lab.write(
        "config.toml",
        &text.replace("\n[[clients]]", &format!("{peers}\n[[clients]]")),
    );
    lab.write("key", key);
    lab.write("ikey", "DISIMULATOR000000001\n");
    lab.write("skey", "simulatorsimulatorsimulatorsimulator0000\n");
    lab.write("token", "00aBcToken\n");
    lab
}

impl Pair {
    fn start(provider: &str, approved: Arc<AtomicBool>, keys: [&str; 2]) -> Self {
        let ports = [free_port(), free_port()];
        let addresses = ports.map(|port| format!("\"localhost:{port}\"")).join(", ");
        let addresses = format!("addresses = [{addresses}]");
        let labs: Vec<_> = ports
            .iter()
            .zip(keys)
            .map(|(port, key)| lab(provider, *port, &addresses, key))
            .collect();
        let proxies = labs.iter().map(Proxy::start).collect();
        Self {
            labs,
            proxies,
            approved,
        }
    }

    fn know_each_other(&self) {
        for proxy in &self.proxies {
            eventually("the other proxy is heard", || {
                (proxy.metric("radius_proxy_peers") > 0.0).then_some(())
            });
        }
    }

    fn event(&self, proxy: usize, event: &str) -> u32 {
        let name = format!("radius_proxy_events_total{{event=\"{event}\"}}");
        let value = self.proxies[proxy].metric(&name);
        format!("{value}").parse().unwrap()
    }

    /// A login at the first proxy, whose push the second has confirmed to know; and when it was sent.
    fn pending(&self) -> (Login, Instant) {
        self.know_each_other();
        let login = Login::new("jane", "Directory-Passw0rd!").send(self.proxies[0].radius);
        let sent = Instant::now();
        // The announcement was seen, and the list of members has come.
        eventually("the push is known to the other proxy", || {
            (self.proxies[0].metric("radius_proxy_peer_messages_received_total") >= 2.0).then_some(())
        });
        (login, sent)
    }

    /// The client has waited in vain and tries the second proxy, from the same address.
    fn next_try(&self, sent: Instant) -> Login {
        eventually("the client's timeout", || {
            (sent.elapsed() >= TIMEOUT).then_some(())
        });
        let login = Login::new("jane", "Directory-Passw0rd!").send(self.proxies[1].radius);
        eventually("the second proxy goes on with the push", || {
            (self.event(1, "adopted") == 1).then_some(())
        });
        login
    }

    /// The first proxy is killed while its push is on the phone; how the login ends at the second.
    fn outlive_the_first(&mut self) -> Answer {
        let (_first, sent) = self.pending();
        self.proxies[0].signal("KILL");
        self.proxies[0].wait();
        let second = self.next_try(sent);
        self.approve();
        second.answer()
    }

    fn approve(&self) {
        self.approved.store(true, Ordering::SeqCst);
    }

    /// The record of the one login that a proxy had.
    fn record(&self, proxy: usize) -> serde_json::Value {
        eventually("the record is written", || {
            let text = self.labs[proxy].read("records.jsonl");
            let line = text.lines().next()?;
            serde_json::from_str(line).ok()
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap()
}

fn duo(runtime: &tokio::runtime::Runtime) -> (duo::Duo, Arc<AtomicBool>) {
    let approved = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&approved);
    let script = move |endpoint: &str, _: usize, _: &BTreeMap<String, String>| match endpoint {
        "preauth" => duo::ok(
            r#"{"result":"auth","status_msg":"Account is active","devices":[
                {"device":"DPONE","type":"phone","capabilities":["auto","push"]}]}"#,
        ),
        "auth" => duo::ok(r#"{"txid":"45f7c92b-f45f-4862-8545-e0f58e78075a"}"#),
        "auth_status" if told.load(Ordering::SeqCst) => {
            duo::ok(r#"{"result":"allow","status":"allow","status_msg":"Success."}"#)
        }
        "auth_status" => {
            std::thread::sleep(Duration::from_millis(50));
            duo::ok(r#"{"result":"waiting","status":"pushed","status_msg":"Pushed."}"#)
        }
        _ => duo::ok(r#"{"time":0}"#),
    };
    (runtime.block_on(duo::Duo::start(script)), approved)
}

fn okta(runtime: &tokio::runtime::Runtime) -> (okta::Okta, Arc<AtomicBool>) {
    let approved = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&approved);
    let link = "ORIGIN/api/v1/users/00u1/factors/psh1/transactions/v2m.1";
    let waiting = format!(
        r#"{{"factorResult":"WAITING","_links":{{"poll":{{"href":"{link}"}},"cancel":{{"href":"{link}"}}}}}}"#
    );
    let script = move |call: &okta::Call, _: usize| match call.operation() {
        "user" => okta::ok(r#"{"id":"00u1","status":"ACTIVE","profile":{"login":"jane@example.com"}}"#),
        "factors" => okta::ok(r#"[{"id":"psh1","factorType":"push","provider":"OKTA","status":"ACTIVE"}]"#),
        "verify" => okta::Reply::Answer(201, Vec::new(), waiting.clone()),
        "poll" if told.load(Ordering::SeqCst) => okta::ok(r#"{"factorResult":"SUCCESS"}"#),
        _ => okta::ok(&waiting),
    };
    (runtime.block_on(okta::Okta::start(script)), approved)
}

#[test]
fn a_duo_push_outlives_its_proxy_and_is_approved_once() {
    let runtime = runtime();
    let (duo, approved) = duo(&runtime);
    let mut pair = Pair::start(&duo.config("factors = [\"push\"]"), approved, [KEY, KEY]);
    assert_eq!(pair.outlive_the_first(), Answer::Accept);
    assert_eq!((duo.count("preauth"), duo.count("auth")), (1, 1), "one push");
    let record = pair.record(1);
    assert_eq!(
        (&record["result"], &record["followed"]),
        (&"accept".into(), &true.into())
    );
    // The approval is used up: the next login is asked anew.
    let _third = Login::new("jane", "Directory-Passw0rd!").send(pair.proxies[1].radius);
    eventually("another push", || (duo.count("auth") == 2).then_some(()));
    let written = pair.proxies[0].log() + &pair.proxies[1].log();
    for secret in [KEY, "45f7c92b", "Passw0rd"] {
        assert!(!written.contains(secret), "{secret} was written down");
    }
}

#[test]
fn a_proxy_that_is_stopped_while_the_other_starts_a_push_costs_no_login() {
    let runtime = runtime();
    let (duo, approved) = duo(&runtime);
    let mut pair = Pair::start(&duo.config("factors = [\"push\"]"), approved, [KEY, KEY]);
    pair.know_each_other();
    let login = Login::new("jane", "Directory-Passw0rd!").send(pair.proxies[0].radius);
    // The announcement and the list of members may be on their way.
    eventually("a push", || (duo.count("auth") == 1).then_some(()));
    pair.proxies[1].signal("TERM");
    assert!(pair.proxies[1].wait().success());
    pair.approve();
    assert_eq!(login.answer(), Answer::Accept);
}

#[test]
fn an_okta_push_goes_to_the_other_proxy_on_sigterm_and_is_not_taken_back() {
    let runtime = runtime();
    let (okta, approved) = okta(&runtime);
    let mut pair = Pair::start(
        &okta.config("token]\ntoken_file = \"token\"", ""),
        approved,
        [KEY, KEY],
    );
    let (_first, sent) = pair.pending();
    pair.proxies[0].signal("TERM");
    let second = pair.next_try(sent);
    // The first one has nothing left to wait for.
    assert!(pair.proxies[0].wait().success());
    let record = pair.record(0);
    assert_eq!(
        (&record["result"], &record["reason"]),
        (&"silent".into(), &"handed_over".into())
    );
    pair.approve();
    assert_eq!(second.answer(), Answer::Accept);
    assert_eq!(okta.of("verify").len(), 1, "one push");
    assert_eq!(okta.of("cancel").len(), 0, "it was not taken back");
}

#[test]
fn an_okta_push_outlives_its_proxy() {
    let runtime = runtime();
    let (okta, approved) = okta(&runtime);
    let mut pair = Pair::start(
        &okta.config("token]\ntoken_file = \"token\"", ""),
        approved,
        [KEY, KEY],
    );
    assert_eq!(pair.outlive_the_first(), Answer::Accept);
    assert_eq!(okta.of("verify").len(), 1, "one push");
}

#[test]
fn the_first_proxy_accepts_with_the_others_word_and_a_stranger_is_not_heard() {
    let runtime = runtime();
    let (duo, approved) = duo(&runtime);
    let pair = Pair::start(&duo.config("factors = [\"push\"]"), approved, [KEY, KEY]);
    let (first, _) = pair.pending();
    pair.approve();
    assert_eq!(first.answer(), Answer::Accept);
    eventually("it has asked the other", || {
        (pair.event(0, "claimed") == 1).then_some(())
    });
    assert_eq!(pair.event(1, "adopted"), 0);

    let (duo, approved) = self::duo(&runtime);
    let other = "another key, of 32 characters or more";
    let strangers = Pair::start(&duo.config("factors = [\"push\"]"), approved, [KEY, other]);
    for proxy in &strangers.proxies {
        eventually("datagrams are refused", || {
            (proxy.metric("radius_proxy_peer_rejects_total{reason=\"unauthentic\"}") > 0.0).then_some(())
        });
        assert!(proxy.metric("radius_proxy_peers") < 1.0);
    }
    // And each serves by itself.
    strangers.approve();
    let login = Login::new("jane", "Directory-Passw0rd!").send(strangers.proxies[0].radius);
    assert_eq!(login.answer(), Answer::Accept);
}

#[test]
fn proxies_learn_of_each_other_from_a_file_while_they_run() {
    let runtime = runtime();
    let (duo, approved) = duo(&runtime);
    let provider = duo.config("factors = [\"push\"]");
    let ports = [free_port(), free_port(), free_port()];
    let labs: Vec<_> = ports
        .iter()
        .map(|port| lab(&provider, *port, "addresses_file = \"peers\"", KEY))
        .collect();
    let list = |of: &[u16]| {
        of.iter()
            .map(|port| format!("127.0.0.1:{port}\n"))
            .collect::<String>()
    };
    let mut proxies: Vec<_> = labs[..2].iter().map(Proxy::start).collect();
    let digests = || {
        proxies
            .iter()
            .map(|p| p.get("/config-digest").1)
            .collect::<Vec<_>>()
    };
    let before = digests();
    // Without the file each is alone, and serves.
    approved.store(true, Ordering::SeqCst);
    let alone = Login::new("joe", "Directory-Passw0rd!").send(proxies[0].radius);
    assert_eq!(alone.answer(), Answer::Accept);
    assert!(proxies[0].metric("radius_proxy_peers") < 1.0);
    approved.store(false, Ordering::SeqCst);

    for lab in &labs[..2] {
        lab.write("peers", &list(&ports[..2]));
    }
    for proxy in &proxies {
        eventually("the other proxy is heard", || {
            (proxy.metric("radius_proxy_peers") > 0.0).then_some(())
        });
    }
    assert_eq!(digests(), before, "it is the same configuration still");

    // The first one is replaced. Its successor begins with the list of before and has the next push.
    proxies[0].signal("KILL");
    proxies[0].wait();
    labs[2].write("peers", &list(&ports[..2]));
    proxies.push(Proxy::start(&labs[2]));
    for lab in &labs[1..] {
        lab.write("peers", &list(&ports[1..]));
    }
    let mut pair = Pair {
        labs: labs.into_iter().skip(1).rev().collect(),
        proxies: proxies.into_iter().skip(1).rev().collect(),
        approved,
    };
    assert_eq!(pair.outlive_the_first(), Answer::Accept);
    assert_eq!(duo.count("auth"), 2, "one push for each login");
}
