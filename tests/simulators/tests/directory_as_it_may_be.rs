//! Each unknown of AWS is a setting of the simulated directory: every value of it, seen by a RADIUS server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "also in the helpers of tests"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use simulators::{Running, TlsSource, controller, directory};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
};

const ID: &str = "d-0123456789";
const SECRET: &str = "a-shared-secret";
const ACCEPT: u8 = 2;
const REJECT: u8 = 3;

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    from: SocketAddr,
    id: u8,
    authenticator: Vec<u8>,
    bytes: Vec<u8>,
    user: String,
    signed: bool,
    at: Instant,
}

/// A RADIUS server that says `code` to the packet of that number, and nothing to those before it.
struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(address: [u8; 4], port: u16, code: u8, answers_from: usize) -> Self {
        let socket = UdpSocket::bind((IpAddr::from(address), port)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let request = read(from, &buffer[..length]);
                let answer = answer(&request, code);
                let number = {
                    let mut seen = shared.lock().unwrap();
                    seen.push(request);
                    seen.len()
                };
                if number >= answers_from {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { seen, address, task }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(from: SocketAddr, bytes: &[u8]) -> Seen {
    let (mut rest, mut user, mut signed) = (&bytes[20..], String::new(), false);
    while let [kind, length, ..] = rest {
        let (attribute, next) = rest.split_at(usize::from(*length));
        match kind {
            1 => user = String::from_utf8(attribute[2..].to_vec()).unwrap(),
            80 => signed = true,
            _ => {}
        }
        rest = next;
    }
    Seen {
        from,
        id: bytes[1],
        authenticator: bytes[4..20].to_vec(),
        bytes: bytes.to_vec(),
        user,
        signed,
        at: Instant::now(),
    }
}

fn answer(request: &Seen, code: u8) -> Vec<u8> {
    let start = [code, request.id, 0, 20];
    let response = Md5::new()
        .chain_update(start)
        .chain_update(&request.authenticator)
        .chain_update(SECRET)
        .finalize();
    [start.as_slice(), response.as_slice()].concat()
}

/// A directory with domain controllers at these addresses; each entry is one controller.
struct Directory {
    aws: Running,
    controllers: Vec<Running>,
}

impl Directory {
    async fn start(controllers: &[&[[u8; 4]]]) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let spec = directory::DirectorySpec::new(ID, directory::DirectoryType::MicrosoftAD);
        let aws = directory::start(directory::Options {
            listen: any,
            admin: any,
            config: directory::Config {
                directories: vec![spec],
                ..directory::Config::default()
            },
            state: None,
            tls: TlsSource::Plain,
        })
        .await
        .unwrap();
        let mut all = Vec::new();
        for sources in controllers {
            let sources: Vec<IpAddr> = sources.iter().map(|ip| IpAddr::from(*ip)).collect();
            let running = controller::start(controller::Options {
                directory_url: aws.admin_url(),
                directory_id: ID.to_owned(),
                name: String::new(),
                region: String::new(),
                advertise: vec![sources[0]],
                // Only the first may be asked by the other controllers.
                admin: SocketAddr::new(sources[0], 0),
                sources,
            })
            .await
            .unwrap();
            all.push(running);
        }
        let directory = Self {
            aws,
            controllers: all,
        };
        for controller in &directory.controllers {
            until(|| async { call(controller.admin, "GET", "/healthz", &Value::Null).await.0 == 200 }).await;
        }
        directory
    }

    async fn set(&self, settings: Value) {
        let (status, answer) = call(self.aws.admin, "PUT", "/settings", &settings).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// A login of `alice` at the first controller.
    async fn login(&self, servers: &[&Server], timeout_ms: u32, retries: u32, client: Value) -> Value {
        let addresses: Vec<_> = servers.iter().map(|server| server.address.ip()).collect();
        let body = json!({
            "username": "alice", "password": "push", "servers": addresses, "port": servers[0].address.port(),
            "shared_secret": SECRET, "timeout_s": f64::from(timeout_ms) / 1000.0, "retries": retries,
            "radius_client": client,
        });
        let (status, result) = call(self.controllers[0].admin, "POST", "/login", &body).await;
        assert_eq!(status, 200, "{result}");
        result
    }

    async fn stop(self) {
        for controller in self.controllers {
            controller.stop().await;
        }
        self.aws.stop().await;
    }
}

async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "the condition holds");
        tokio::task::yield_now().await;
    }
}

async fn call(admin: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(text).unwrap_or(Value::Null))
}

fn offsets(result: &Value) -> Vec<u64> {
    let packets = result["packets"].as_array().unwrap().iter();
    let sent = packets.filter(|packet| packet["code"] == "Access-Request");
    sent.map(|packet| packet["offset_ms"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_retry_keeps_everything_or_the_identifier_and_port_or_the_port_or_nothing() {
    let directory = Directory::start(&[&[[127, 0, 0, 101]]]).await;
    let server = Server::start([127, 0, 0, 111], 0, ACCEPT, 2).await;
    for (retransmission, port, id, authenticator) in [
        ("same", true, true, true),
        ("new-authenticator", true, true, false),
        ("new-id", true, false, false),
        ("new-port", false, false, false),
    ] {
        server.forget();
        let client = json!({"retransmission": retransmission});
        let result = directory.login(&[&server], 100, 1, client).await;
        assert_eq!(result["outcome"], "accept", "{retransmission}: {result}");
        let [first, second] = &server.seen()[..] else {
            panic!("two packets")
        };
        assert_eq!(first.from.port() == second.from.port(), port, "{retransmission}");
        assert_eq!(
            first.authenticator == second.authenticator,
            authenticator,
            "{retransmission}"
        );
        assert_eq!(first.bytes == second.bytes, authenticator, "{retransmission}");
        assert_eq!(first.id == second.id, id, "{retransmission}");
    }
    directory.stop().await;
}

#[tokio::test]
async fn an_answer_to_the_older_of_two_packets_with_one_identifier_is_late() {
    let directory = Directory::start(&[&[[127, 0, 0, 102]]]).await;
    let server = Server::start([127, 0, 0, 112], 0, ACCEPT, 3).await;
    let client = json!({"retransmission": "new-authenticator", "late_answers": "ignore"});
    let result = directory.login(&[&server], 100, 2, client).await;
    assert_eq!(result["outcome"], "accept", "{result}");
    assert_eq!(server.seen().len(), 3);
    directory.stop().await;
}

#[tokio::test]
async fn a_retry_comes_after_half_most_or_all_of_the_timeout() {
    let directory = Directory::start(&[&[[127, 0, 0, 103]]]).await;
    let server = Server::start([127, 0, 0, 113], 0, ACCEPT, 2).await;
    for (percent, earliest, latest) in [(50, 500, 950), (95, 950, 10_000), (100, 1000, 10_000)] {
        server.forget();
        let client = json!({"retry_interval_percent": percent});
        let result = directory.login(&[&server], 1000, 1, client).await;
        let [_, second] = offsets(&result)[..] else {
            panic!("{result}")
        };
        assert!((earliest..latest).contains(&second), "{percent} %: {result}");
    }
    directory.stop().await;
}

#[tokio::test]
async fn a_login_waits_as_long_as_its_patience_whatever_its_tries() {
    let directory = Directory::start(&[&[[127, 0, 0, 104]]]).await;
    let server = Server::start([127, 0, 0, 114], 0, ACCEPT, usize::MAX).await;
    // Timeout 100 ms and two retries: 300 ms by default, also where the retries come sooner.
    for (client, at_least, packets) in [
        (json!({}), 300, 3),
        (json!({"retry_interval_percent": 50}), 300, 3),
        (json!({"patience_ms": 150}), 150, 2),
        (json!({"patience_ms": 400}), 400, 3),
        (json!({"patience_ms": 600}), 600, 3),
    ] {
        server.forget();
        let result = directory.login(&[&server], 100, 2, client).await;
        assert_eq!(result["outcome"], "timeout");
        assert!(result["duration_ms"].as_u64().unwrap() >= at_least, "{result}");
        assert_eq!(offsets(&result).len(), packets, "{result}");
    }
    directory.stop().await;
}

#[tokio::test]
async fn servers_are_asked_in_a_fixed_order_by_chance_in_turn_or_all_at_once() {
    let directory = Directory::start(&[&[[127, 0, 0, 105]]]).await;
    let first = Server::start([127, 0, 0, 115], 0, ACCEPT, 1).await;
    let second = Server::start([127, 0, 0, 116], first.address.port(), ACCEPT, 1).await;
    for (order, expected) in [
        ("first", vec![(12, 0)]),
        ("round-robin", vec![(6, 6)]),
        // One of 4,096 runs would ask the same server each time.
        ("random", (1..12).map(|count| (count, 12 - count)).collect()),
        ("all-at-once", vec![(12, 12)]),
    ] {
        first.forget();
        second.forget();
        for _ in 0..12 {
            let client = json!({"server_order": order});
            let result = directory.login(&[&first, &second], 2000, 0, client).await;
            assert_eq!(result["outcome"], "accept", "{result}");
        }
        until(|| async { expected.contains(&(first.seen().len(), second.seen().len())) }).await;
    }
    directory.stop().await;
}

#[tokio::test]
async fn the_other_domain_controller_takes_a_login_over() {
    let directory = Directory::start(&[&[[127, 0, 0, 106]], &[[127, 0, 0, 107]]]).await;
    let server = Server::start([127, 0, 0, 117], 0, ACCEPT, 3).await;
    // Each controller learns of the other with its next poll.
    until(|| async {
        server.forget();
        let client = json!({"takeover_after_ms": 50, "patience_ms": 100});
        let result = directory.login(&[&server], 100, 0, client).await;
        result["taken_over_by"] == "127.0.0.107"
    })
    .await;
    server.forget();
    let client = json!({"takeover_after_ms": 150, "patience_ms": 5000});
    let result = directory.login(&[&server], 100, 2, client).await;
    assert_eq!(
        (&result["outcome"], &result["taken_over_by"]),
        (&json!("accept"), &json!("127.0.0.107"))
    );
    assert_eq!(result["attempts"], 3, "{result}");
    let seen = server.seen();
    let sources: Vec<_> = seen.iter().map(|seen| seen.from.ip().to_string()).collect();
    assert_eq!(sources, ["127.0.0.106", "127.0.0.106", "127.0.0.107"]);
    assert_ne!(seen[0].authenticator, seen[2].authenticator);
    let took = seen[2].at.duration_since(seen[0].at);
    assert!(took >= Duration::from_millis(145), "{took:?}");
    directory.stop().await;
}

#[tokio::test]
async fn a_controller_alone_continues_from_its_second_address() {
    let directory = Directory::start(&[&[[127, 0, 0, 108], [127, 0, 0, 109]]]).await;
    let server = Server::start([127, 0, 0, 118], 0, ACCEPT, 2).await;
    let client = json!({"takeover_after_ms": 50});
    let result = directory.login(&[&server], 1000, 0, client).await;
    assert_eq!(
        (&result["outcome"], &result["taken_over_by"]),
        (&json!("accept"), &json!("127.0.0.109"))
    );
    let sources: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.from.ip().to_string())
        .collect();
    assert_eq!(sources, ["127.0.0.108", "127.0.0.109"]);
    directory.stop().await;
}

#[tokio::test]
async fn logins_and_probes_are_signed_always_never_or_the_probe_alone() {
    let directory = Directory::start(&[&[[127, 0, 0, 110]]]).await;
    let server = Server::start([127, 0, 0, 119], 0, REJECT, 1).await;
    for (signs, login, probe) in [
        ("send", true, true),
        ("none", false, false),
        ("probe-only", false, true),
    ] {
        server.forget();
        let client = json!({"message_authenticator": signs});
        directory.login(&[&server], 2000, 0, client.clone()).await;
        let body = json!({
            "servers": [server.address.ip()], "port": server.address.port(), "shared_secret": SECRET,
            "radius_client": client,
        });
        let (_, found) = call(directory.controllers[0].admin, "POST", "/probe", &body).await;
        assert_eq!(found["servers"][0]["outcome"], "reject");
        let seen: Vec<_> = server
            .seen()
            .iter()
            .map(|seen| (seen.user.clone(), seen.signed))
            .collect();
        assert_eq!(
            seen,
            [("alice".to_owned(), login), ("fakeusername".to_owned(), probe)],
            "{signs}"
        );
    }
    directory.stop().await;
}

#[tokio::test]
async fn a_probe_has_a_user_and_its_reject_counts_as_alive_or_as_dead() {
    let directory = Directory::start(&[&[[127, 0, 0, 120]]]).await;
    let server = Server::start([127, 0, 0, 121], 0, REJECT, 1).await;
    let settings = json!({
        "radius_servers": [server.address.ip()], "radius_port": server.address.port(), "radius_timeout": 1,
        "radius_retries": 0, "shared_secret": SECRET, "authentication_protocol": "PAP",
    });
    for (user, answers, status) in [
        ("fakeusername", "any", "Completed"),
        ("another name", "any", "Completed"),
        ("fakeusername", "accept", "Failed"),
        ("another name", "accept", "Failed"),
    ] {
        server.forget();
        directory
            .set(json!({"probe": {"user_name": user, "answers": answers, "min_creating_ms": 1}}))
            .await;
        let body = json!({"status": "Creating", "settings": settings});
        let path = format!("/directories/{ID}/radius");
        let (put, answer) = call(directory.aws.admin, "PUT", &path, &body).await;
        assert_eq!(put, 200, "{answer}");
        until(|| async {
            let (_, radius) = call(directory.aws.admin, "GET", &path, &Value::Null).await;
            radius["status"] == status
        })
        .await;
        assert_eq!(server.seen()[0].user, user);
    }
    directory.stop().await;
}

#[tokio::test]
async fn settings_that_no_directory_could_have_are_refused_in_words() {
    let directory = Directory::start(&[&[[127, 0, 0, 122]]]).await;
    for (settings, word) in [
        (
            json!({"radius_client": {"retry_interval_percent": 0}}),
            "between 1 and 100",
        ),
        (
            json!({"radius_client": {"server_order": "backwards"}}),
            "all-at-once",
        ),
        (
            json!({"radius_client": {"patience_ms": 5, "takeover_after_ms": 5}}),
            "before the end",
        ),
        (json!({"description_lag_ms": 600_001}), "description_lag_ms"),
        (json!({"probe": {"user_name": ""}}), "user_name"),
    ] {
        let (status, answer) = call(directory.aws.admin, "PUT", "/settings", &settings).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(word), "{answer}");
    }
    let body = json!({"username": "alice", "radius_client": {"patience_ms": 1, "budget_ms": 1}});
    let (status, answer) = call(directory.controllers[0].admin, "POST", "/login", &body).await;
    assert_eq!(status, 400, "{answer}");
    directory.stop().await;
}
