//! The shipped proxies under every value of what AWS documents nowhere, over real sockets and with short times.
//!
//! In virtual time proxy-core tries the values with the times of reality, and all pairs of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it finds something wrong"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use simulators::{Running, TlsSource, controller, directory, duo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ID: &str = "d-0123456789";
const SECRET: &str = "a shared secret of the test";
/// Of RFC 6238 appendix B.
const SEED: &[u8] = b"12345678901234567890";
const SEED_TEXT: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// RadiusTimeout.
const TIMEOUT_S: u32 = 2;
const RETRIES: u32 = 2;
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A value of an unknown.
struct Unknown {
    name: &'static str,
    client: Value,
    /// The directory that has it: an address that signs is expected to go on with it.
    directory: Signs,
    /// Whether a push that is approved after a retry lets its user in.
    late_push: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signs {
    Always,
    Never,
    ProbeOnly,
}

impl Signs {
    const ALL: [Self; 3] = [Self::Always, Self::Never, Self::ProbeOnly];

    fn setting(self) -> &'static str {
        match self {
            Self::Always => "send",
            Self::Never => "none",
            Self::ProbeOnly => "probe-only",
        }
    }
}

fn unknowns() -> Vec<Unknown> {
    let value = |name, client| Unknown {
        name,
        client,
        directory: Signs::Always,
        late_push: true,
    };
    let signs = |name, directory| Unknown {
        name,
        client: json!({}),
        directory,
        late_push: true,
    };
    let not_late = |name, client| Unknown {
        name,
        client,
        directory: Signs::Always,
        late_push: false,
    };
    vec![
        value("usual", json!({})),
        value("a retry keeps everything", json!({"retransmission": "same"})),
        value(
            "a retry keeps identifier and port",
            json!({"retransmission": "new-authenticator"}),
        ),
        value("a retry keeps the port", json!({"retransmission": "new-id"})),
        value("a retry keeps nothing", json!({"retransmission": "new-port"})),
        value("a retry after 50 %", json!({"retry_interval_percent": 50})),
        value("a retry after 95 %", json!({"retry_interval_percent": 95})),
        value("a retry after 100 %", json!({"retry_interval_percent": 100})),
        value("fixed order", json!({"server_order": "first"})),
        value("random order", json!({"server_order": "random"})),
        value("round robin", json!({"server_order": "round-robin"})),
        value("all servers at once", json!({"server_order": "all-at-once"})),
        value("one server first", json!({"failover": "after-retries"})),
        value(
            "taken over with the second try",
            json!({"takeover_after_ms": 2000}),
        ),
        // Who continues a login between two tries can be a stranger.
        not_late("taken over after 1 s", json!({"takeover_after_ms": 1000})),
        not_late("a patience of 1.5 s", json!({"patience_ms": 1500})),
        value("a patience of 4 s", json!({"patience_ms": 4000})),
        value("a patience of 6 s", json!({"patience_ms": 6000})),
        value("a patience of timeout × (retries + 1)", json!({"patience_ms": 0})),
        signs("always signs", Signs::Always),
        signs("never signs", Signs::Never),
        signs("signs the probe only", Signs::ProbeOnly),
    ]
}

/// The shipped program; the tests of the workspace have built it beside this one.
fn proxy_binary() -> PathBuf {
    if let Some(given) = std::env::var_os("RADIUS_PROXY_BIN") {
        return given.into();
    }
    let folder = std::env::current_exe().unwrap();
    let binary = folder
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("radius-proxy");
    if !binary.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "radius-proxy", "--bin", "radius-proxy"])
            .status()
            .unwrap();
        assert!(built.success());
    }
    binary
}

/// A proxy; it is killed when the test ends.
struct Proxy {
    child: Child,
    folder: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Two proxies of one group, at 127.0.0.1 and 127.0.0.2 and one port.
async fn pair(provider: &str, seeds: &str, suffix: &str) -> (u16, Vec<Proxy>) {
    let (port, peers) = (free_port(), [free_port(), free_port()]);
    let mut proxies = Vec::new();
    let mut admins = Vec::new();
    for number in [1, 2] {
        let folder = std::env::temp_dir().join(format!("reality-{suffix}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(folder.join("seeds")).unwrap();
        let admin = free_port();
        admins.push(SocketAddr::from(([127, 0, 0, 1], admin)));
        let own = peers[number - 1];
        let config = format!(
            "[server]\nlisten = [\"127.0.0.{number}:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nrecords = \"records.jsonl\"\n\
             provider_host_suffixes = [\"localhost\"]\n[server.peers]\nlisten = \"127.0.0.1:{own}\"\n\
             addresses = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nkey_file = \"key\"\n{provider}\n\
             [policy.limits]\nrequests_per_client_per_second = 1000\n\
             [[clients]]\nname = \"directory\"\nnetworks = [\"127.0.0.0/8\"]\nsecret_files = [\"secret\"]\ndirectory = true\n\
             unauthenticated_push = true\ntimeout_seconds = {TIMEOUT_S}\nretries = {RETRIES}\n",
            peers[0], peers[1]
        );
        for (name, text) in [
            ("config.toml", config.as_str()),
            ("secret", SECRET),
            ("key", "6a0e3d5c1b2f47988d7c6b5a49382716"),
            ("ikey", "DISIMULATOR000000001\n"),
            ("skey", "simulatorsimulatorsimulatorsimulator0000\n"),
            ("seeds/all", seeds),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let child = Command::new(proxy_binary())
            .args(["serve", "--config"])
            .arg(folder.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        proxies.push(Proxy { child, folder });
    }
    for admin in admins {
        until("a proxy is ready and hears the other", || async {
            let Ok((_, metrics)) = call(admin, "GET", "/metrics", &Value::Null).await else {
                return false;
            };
            metrics.lines().any(|line| line == "radius_proxy_peers 1")
        })
        .await;
    }
    (port, proxies)
}

/// A port that is free for UDP and TCP.
fn free_port() -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind(ANY).unwrap();
        let port = udp.local_addr().unwrap().port();
        let second = UdpSocket::bind(("127.0.0.2", port));
        if second.is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("a hundred ports are taken");
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "not within a minute: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn call(admin: SocketAddr, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), text.to_owned()))
}

async fn json_of(admin: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let (status, text) = call(admin, method, path, body).await.unwrap();
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The directory and its two domain controllers.
struct Aws {
    directory: Running,
    controllers: Vec<Running>,
    signs: Signs,
}

impl Aws {
    async fn start(signs: Signs, addresses: [u8; 2]) -> Self {
        let spec = directory::DirectorySpec::new(ID, directory::DirectoryType::MicrosoftAD);
        let directory = directory::start(directory::Options {
            listen: ANY,
            admin: ANY,
            config: directory::Config {
                directories: vec![spec],
                ..directory::Config::default()
            },
            state: None,
            tls: TlsSource::Plain,
        })
        .await
        .unwrap();
        let mut controllers = Vec::new();
        for last in addresses {
            let address = IpAddr::from([127, 0, 0, last]);
            let options = controller::Options {
                directory_url: directory.admin_url(),
                directory_id: ID.to_owned(),
                name: String::new(),
                region: String::new(),
                advertise: vec![address],
                sources: Vec::new(),
                admin: SocketAddr::new(address, 0),
            };
            controllers.push(controller::start(options).await.unwrap());
        }
        for controller in &controllers {
            until("a domain controller registers and knows of the other", || async {
                let state = json_of(controller.admin, "GET", "/state", &Value::Null).await;
                state["others"].as_array().is_some_and(|others| others.len() == 1)
            })
            .await;
        }
        Self {
            directory,
            controllers,
            signs,
        }
    }

    async fn login(&self, port: u16, (user, typed): (&str, &str), protocol: &str, client: &Value) -> Value {
        // Other than where a value says so, AWS is as it is assumed to be.
        let mut asked = json!({"message_authenticator": self.signs.setting(), "retransmission": "new-port"});
        for (name, value) in client.as_object().unwrap() {
            asked[name] = value.clone();
        }
        let body = json!({
            "username": user, "password": typed, "protocol": protocol, "servers": ["127.0.0.1", "127.0.0.2"],
            "port": port, "shared_secret": SECRET, "timeout_s": TIMEOUT_S, "retries": RETRIES, "radius_client": asked,
        });
        json_of(self.controllers[0].admin, "POST", "/login", &body).await
    }

    async fn probe(&self, port: u16, user: &str) {
        let body = json!({
            "username": user, "password": user, "servers": ["127.0.0.1", "127.0.0.2"], "port": port,
            "shared_secret": SECRET, "timeout_s": TIMEOUT_S, "retries": RETRIES, "radius_client": {"message_authenticator": self.signs.setting()},
        });
        let probes = self
            .controllers
            .iter()
            .map(|controller| json_of(controller.admin, "POST", "/probe", &body));
        // Both addresses of the directory ask at once.
        for found in futures::future::join_all(probes).await {
            for server in found["servers"].as_array().unwrap() {
                assert_eq!(server["outcome"], "reject", "the probe {user}: {found}");
                let took = server["duration_ms"].as_u64().unwrap();
                assert!(
                    took < u64::from(TIMEOUT_S) * 1000,
                    "the probe {user} is answered at once: {found}"
                );
            }
        }
    }

    async fn stop(self) {
        for controller in self.controllers {
            controller.stop().await;
        }
        self.directory.stop().await;
    }
}

/// The code of now, for so long that a login by it is decided.
async fn code() -> String {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        if now % 30 < 20 {
            return code_of(now / 30);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// RFC 4226 section 5.3.
fn code_of(step: u64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SEED).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let at = usize::from(digest[19] & 15);
    let four: [u8; 4] = digest[at..at + 4].try_into().unwrap();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

const PROTOCOLS: [&str; 2] = ["PAP", "MS-CHAPv2"];

/// A user of their own for each login: no limit and no used code of one is another's.
fn user(kind: &str, value: usize, protocol: usize) -> String {
    format!("{kind}-{value}-{protocol}")
}

fn users(kind: &str) -> Vec<String> {
    let values = 0..unknowns().len();
    values
        .flat_map(|value| (0..PROTOCOLS.len()).map(move |protocol| (value, protocol)))
        .map(|(value, protocol)| user(kind, value, protocol))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_lets_people_in_by_push_and_by_code() {
    let mut all = Vec::new();
    for (signs, addresses) in Signs::ALL.into_iter().zip([[131, 132], [133, 134], [135, 136]]) {
        all.push(Aws::start(signs, addresses).await);
    }
    let enrolled = |kind: &str, delay_ms: u64| -> Vec<duo::User> {
        let all = users(kind).into_iter();
        all.map(|name| serde_json::from_value(json!({"name": name, "delay_ms": delay_ms})).unwrap())
            .collect()
    };
    let vendor = duo::start(duo::Options {
        listen: ANY,
        admin: ANY,
        config: duo::Config {
            users: [enrolled("quick", 300), enrolled("slow", 2600)].concat(),
            ..duo::Config::default()
        },
        tls: TlsSource::Own(vec!["localhost".to_owned()]),
    })
    .await
    .unwrap();
    let provider = format!(
        "[provider.duo]\napi_host = \"localhost:{}\"\nintegration_key_file = \"ikey\"\nsecret_key_file = \"skey\"\nca_bundle = '''\n{}'''\n",
        vendor.listen.port(),
        vendor.ca_pem
    );
    let seed = |user: String| format!("otpauth://totp/{user}?secret={SEED_TEXT}\n");
    let seeds: String = users("code").into_iter().map(seed).collect();
    let (pushing, _pushing) = pair(&provider, "", "duo").await;
    let (coding, _coding) = pair("[provider.totp]\nseed_folders = [\"seeds\"]\n", &seeds, "totp").await;

    for aws in &all {
        for port in [pushing, coding] {
            for name in ["fakeusername", "another name"] {
                aws.probe(port, name).await;
            }
        }
    }
    let code = code().await;
    let begun = Instant::now();
    let mut logins = Vec::new();
    for (value, unknown) in unknowns().into_iter().enumerate() {
        for (protocol, name) in PROTOCOLS.into_iter().enumerate() {
            for (kind, port, typed) in [
                ("quick", pushing, "push"),
                ("slow", pushing, "push"),
                ("code", coding, code.as_str()),
            ] {
                if kind == "slow" && !unknown.late_push {
                    continue;
                }
                let aws = all.iter().find(|aws| aws.signs == unknown.directory).unwrap();
                let (client, unknown) = (unknown.client.clone(), unknown.name);
                logins.push(async move {
                    let user = user(kind, value, protocol);
                    let result = aws.login(port, (&user, typed), name, &client).await;
                    (result["outcome"] != "accept").then(|| format!("{unknown}, {kind} by {name}: {result}"))
                });
            }
        }
    }
    let count = logins.len();
    let wrong: Vec<String> = futures::future::join_all(logins)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {count} logins are not let in:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());

    let counters = json_of(vendor.admin, "GET", "/counters", &Value::Null).await;
    for (value, unknown) in unknowns().iter().enumerate() {
        let at_once = unknown.client["server_order"] == "all-at-once";
        // On a busy machine the second try comes sooner after the first than a timeout, and is a stranger's for the proxy.
        let taken_over = unknown.client["takeover_after_ms"] == 2000;
        let allowed = if at_once || taken_over { 2 } else { 1 };
        let kinds = if unknown.late_push {
            &["quick", "slow"][..]
        } else {
            &["quick"]
        };
        for (kind, protocol) in kinds.iter().flat_map(|kind| [(kind, 0), (kind, 1)]) {
            let pushes = counters["users"][user(kind, value, protocol)]["pushes"]
                .as_u64()
                .unwrap();
            assert!(
                (1..=allowed).contains(&pushes),
                "{}: {pushes} pushes",
                unknown.name
            );
        }
    }
    vendor.stop().await;
    for aws in all {
        aws.stop().await;
    }
}
