//! A real server of Redis' protocol as the store: Valkey or Redis, as Debian packages them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_config::Secret;
use proxy_core::factor::{Basis, RefusalReason};

use radius_proxy::metrics::ProviderMetrics;
use radius_proxy::provider::Shared;
use radius_proxy::provider::totp::store::ledger::Ledger;
use radius_proxy::provider::totp::store::{Claim, Owner};

use crate::pod::{Pod, START, USERS, code_at, config, race, settings, told};
use crate::ports::free_port;
use crate::tls::certificates;

const PROGRAMS: [&str; 2] = ["valkey-server", "redis-server"];

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from))
        .collect();
    PROGRAMS
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "this test needs valkey-server or redis-server: `make test` installs it; by hand it is \
                 `apt-get install --no-install-recommends redis-server`"
            )
        })
}

/// A server on loopback with the password `hunter2`; it is killed when the test ends.
pub struct Server {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
    tls: bool,
    more: &'static [&'static str],
}

impl Server {
    /// With `tls`, over TLS only. The port was free a moment ago; when somebody else got it meanwhile, another is tried.
    fn start(tls: bool) -> Self {
        Self::start_with(tls, &[])
    }

    /// With more settings on its command line.
    pub fn start_with(tls: bool, more: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if tls {
            write_certificates(folder.path());
        }
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = spawn(folder.path(), port, tls, more) {
                return Self {
                    child,
                    port,
                    folder,
                    tls,
                    more,
                };
            }
        }
        panic!("{} does not start", program().display());
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.port, self.tls, self.more).unwrap();
    }

    fn used_codes(&self, outage: &str) -> String {
        self.used_codes_at(self.port, outage)
    }

    /// As if the server were at that port.
    fn used_codes_at(&self, port: u16, outage: &str) -> String {
        let tls = if self.tls {
            let ca = std::fs::read_to_string(self.folder.path().join("ca.pem")).unwrap();
            format!("tls = true\nca_bundle = \"\"\"{ca}\"\"\"")
        } else {
            "tls = false".to_owned()
        };
        format!(
            "[provider.totp.used_codes]\nwhen_unavailable = \"{outage}\"\n[provider.totp.used_codes.redis]\n\
             address = \"localhost:{port}\"\npassword_file = \"password\"\n{tls}"
        )
    }

    pub fn pod(&self, outage: &str) -> Pod {
        Pod::new(&config(&self.used_codes(outage)))
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// What the server answers to commands, as text.
    pub fn ask(&self, commands: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let lines = ["AUTH hunter2"].iter().chain(commands).chain(&["QUIT"]);
        for line in lines {
            stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server that has said that it is ready; `None` when it ended before.
fn spawn(folder: &Path, port: u16, tls: bool, more: &[&str]) -> Option<Child> {
    let port = port.to_string();
    let mut command = Command::new(program());
    command
        .current_dir(folder)
        .args([
            "--bind",
            "127.0.0.1",
            "::1",
            "--save",
            "",
            "--requirepass",
            "hunter2",
            "--masterauth",
            "hunter2",
        ])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if tls {
        command
            .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
            .args([
                "--tls-cert-file",
                "cert.pem",
                "--tls-key-file",
                "key.pem",
                "--tls-ca-cert-file",
                "ca.pem",
            ]);
    } else {
        command.args(["--port", &port]);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections"))) {
        // What it says later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    let _ = child.wait();
    None
}

/// `ca.pem`, and `cert.pem` and `key.pem` of `localhost`.
fn write_certificates(folder: &Path) {
    let made = certificates();
    for (name, text) in [
        ("ca.pem", made.ca),
        ("cert.pem", made.certificate.pem()),
        ("key.pem", made.key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pods_that_get_the_same_code_exactly_one_accepts_in_a_thousand_races() {
    let server = Server::start(false);
    let pods = [server.pod("deny"), server.pod("deny")];
    assert_eq!(race(&pods, 1000).await, vec![1; 1000]);
    let told = server.ask(&["DBSIZE", "RANDOMKEY"]);
    // One key for each user, with the last step.
    assert!(told.contains(&format!(":{USERS}\r\n")), "{told}");
    assert!(
        told.contains("radius-mfa:used:") && !told.contains("user0"),
        "{told}"
    );
    let key = told.lines().find(|line| line.starts_with("radius-mfa:")).unwrap();
    let ttl = server.ask(&[&format!("TTL {key}")]);
    let seconds = ttl.lines().find_map(|line| line.strip_prefix(':')).unwrap();
    assert!((1..=420).contains(&seconds.parse::<i64>().unwrap()), "{ttl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_the_password_are_checked() {
    let server = Server::start(true);
    let now = START;
    let pods = [server.pod("deny"), server.pod("deny")];
    assert_eq!(race(&pods, 10).await, vec![1; 10]);
    // Somebody else's certificate authority.
    let other = tempfile::tempdir().unwrap();
    write_certificates(other.path());
    let theirs = std::fs::read_to_string(other.path().join("ca.pem")).unwrap();
    let ours = std::fs::read_to_string(server.folder.path().join("ca.pem")).unwrap();
    let untrusted = Pod::new(&config(&server.used_codes("deny").replace(&ours, &theirs)));
    let refused = untrusted.login(7, code_at(now + 600), now + 600).await;
    assert_eq!(told(&refused), Err(RefusalReason::StoreUnavailable));
    let nameless = server
        .used_codes("deny")
        .replace("password_file = \"password\"\n", "");
    let refused = Pod::new(&config(&nameless))
        .login(7, code_at(now + 600), now + 600)
        .await;
    assert_eq!(told(&refused), Err(RefusalReason::StoreUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_costs_what_the_setting_says_and_is_used_again_when_it_is_back() {
    let mut server = Server::start(false);
    let (accepting, denying) = (server.pod("accept-once-per-pod"), server.pod("deny"));
    let login = async |pod: &Pod, now| told(&pod.login(1, code_at(now), now).await);
    assert_eq!(login(&accepting, START).await, Ok(Basis::Factor));
    assert_eq!(login(&denying, START).await, Err(RefusalReason::PasscodeReplayed));
    server.stop();
    let (now, begun) = (START + 60, Instant::now());
    assert_eq!(login(&accepting, now).await, Ok(Basis::OncePerPod));
    assert_eq!(login(&accepting, now).await, Err(RefusalReason::PasscodeReplayed));
    assert_eq!(login(&denying, now).await, Err(RefusalReason::StoreUnavailable));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    server.start_again();
    let now = START + 120;
    assert_eq!(login(&denying, now).await, Ok(Basis::Factor));
    assert_eq!(login(&accepting, now).await, Err(RefusalReason::PasscodeReplayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_step_before_a_used_one_is_used_too() {
    let server = Server::start(false);
    let login = async |at: u64| told(&server.pod("deny").login(3, code_at(at), START).await);
    assert_eq!(login(START).await, Ok(Basis::Factor));
    assert_eq!(login(START - 30).await, Err(RefusalReason::PasscodeReplayed));
    assert_eq!(login(START + 30).await, Ok(Basis::Factor));
    assert_eq!(login(START).await, Err(RefusalReason::PasscodeReplayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_history_of_codes_is_decided_as_by_the_other_stores() {
    let server = Server::start(false);
    let config = config(&server.used_codes("deny"));
    let shared = Shared::new(ProviderMetrics::default());
    let store = shared
        .code_stores
        .obtain(&settings(&config), &shared.transports)
        .unwrap();
    let mut ledger = Ledger::default();
    let mut outcomes = std::collections::BTreeMap::new();
    // Any numbers do, as long as they are the same in each run: a clock that goes on, and codes around it.
    let mut state = 1_u64;
    let mut below = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for seed in 0..20_u64 {
        let owner = Owner::of(&Secret::new(b"a key".to_vec()), &[&seed.to_be_bytes()]);
        let mut now = START / 30;
        for _ in 0..60 {
            now += below(8) * below(2) * (1 + 20 * below(2));
            let step = now - 14 + below(29);
            let claim = Claim {
                owner,
                step,
                ceiling: now + 1,
                until: (now + 1_000) * 30,
            };
            let expected = ledger.settle([claim], now * 30)[0];
            assert_eq!(
                Arc::clone(&store).take(claim, now * 30).await.unwrap(),
                expected,
                "{seed} {step}"
            );
            *outcomes.entry(format!("{expected:?}")).or_insert(0) += 1;
        }
    }
    assert!(outcomes.values().all(|count| *count > 100), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_that_the_documentation_names_are_enough() {
    let server = Server::start(false);
    server.ask(&["ACL SETUSER radius on >hunter2 ~radius-mfa:used:* +eval +get +set +hello"]);
    let settings = server
        .used_codes("deny")
        .replace("password_file", "username = \"radius\"\npassword_file");
    let pod = Pod::new(&config(&settings));
    assert!(pod.check().await.iter().all(Result::is_ok));
    assert_eq!(
        told(&pod.login(1, code_at(START), START).await),
        Ok(Basis::Factor)
    );
    server.ask(&["ACL SETUSER radius -set"]);
    let said = pod.check().await;
    assert!(
        said.iter()
            .any(|line| matches!(line, Err(text) if text.contains("cannot be remembered"))),
        "{said:?}"
    );
}
