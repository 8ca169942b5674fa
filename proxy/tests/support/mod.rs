//! The shipped binary on loopback, a RADIUS client, and what a test asks of them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use radius::core::avp::AVP;
use radius::core::code::Code;
use radius::core::packet::Packet;
use radius::core::rfc2865;
use radius_proxy::provider::totp::{Algorithm, Code as TotpCode, Digits};

pub const SECRET: &str = "a shared secret of the lab";
pub const SEED: &[u8] = b"12345678901234567890";
pub const SEED_TEXT: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// Nothing here takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration.
pub struct Lab {
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(provider: &str) -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lab.write("secret", SECRET);
        fs::create_dir(lab.path("seeds")).unwrap();
        lab.write("config.toml", &config(provider));
        lab
    }

    /// With one user, `jane`.
    pub fn totp() -> Self {
        let lab = Self::new(TOTP);
        lab.write("seeds/jane", &format!("otpauth://totp/jane?secret={SEED_TEXT}\n"));
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file as a whole, as an editor or the kubelet does.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.path("..new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        let config = self.path("config.toml");
        binary()
            .args(arguments)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap()
    }
}

pub const TOTP: &str = "[provider.totp]\nseed_folders = [\"seeds\"]\n";

pub fn config(provider: &str) -> String {
    format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
health = "127.0.0.1:0"
records = "records.jsonl"
application = "The lab"
drain_seconds = 30
provider_host_suffixes = ["localhost"]

{provider}

[[clients]]
name = "lab"
networks = ["127.0.0.0/8"]
secret_files = ["secret"]
timeout_seconds = 20
retries = 1
"#
    )
}

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_radius-proxy"));
    command.env_remove("RUST_LOG").env_remove("RADIUS_PROXY_CONFIG");
    command
}

/// A running proxy; it is killed when the test ends.
pub struct Proxy {
    child: Child,
    log: Arc<Mutex<String>>,
    pub radius: SocketAddr,
    pub admin: SocketAddr,
    pub health: SocketAddr,
}

impl Proxy {
    pub fn start(lab: &Lab) -> Self {
        Self::start_with_log(lab, "debug")
    }

    /// With a log of what a person would be told, for tests that send more than a log should hold.
    pub fn start_quietly(lab: &Lab) -> Self {
        Self::start_with_log(lab, "info")
    }

    fn start_with_log(lab: &Lab, level: &str) -> Self {
        let mut child = binary()
            .args(["serve", "--log-format", "json", "--config"])
            .arg(lab.path("config.toml"))
            .env("RUST_LOG", level)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let serving = eventually("the proxy serves", || {
            let log = log.lock().unwrap();
            let line = log.lines().find(|line| line.contains("\"serving\""))?;
            serde_json::from_str::<serde_json::Value>(line).ok()
        });
        let address = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
        Self {
            radius: address("listen"),
            admin: address("admin"),
            health: address("health"),
            child,
            log,
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the proxy ends", || self.child.try_wait().unwrap())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path)
    }

    /// The value of a metric, 0 when it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn login(&self, user: &str, typed: &str) -> Answer {
        Login::new(user, typed).send(self.radius).answer()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// What a login was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Accept,
    Reject(String),
}

/// A Status-Server request (RFC 5997).
pub fn status_server(secret: &str) -> Vec<u8> {
    let mut packet = Packet::new(Code::StatusServer, secret.as_bytes());
    packet.add(AVP::from_bytes(80, &[0; 16]));
    signed(&packet, secret)
}

/// A packet's bytes, with the Message-Authenticator that is its first attribute computed.
fn signed(packet: &Packet, secret: &str) -> Vec<u8> {
    let mut bytes = packet.encode().unwrap();
    let mac = hmac_md5(secret, &bytes);
    bytes[22..38].copy_from_slice(&mac);
    bytes
}

pub fn hmac_md5(secret: &str, bytes: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// A PAP request with Message-Authenticator.
pub struct Login {
    bytes: Vec<u8>,
    socket: UdpSocket,
    secret: String,
}

impl Login {
    pub fn new(user: &str, typed: &str) -> Self {
        Self::with_secret(user, typed, SECRET)
    }

    pub fn with_secret(user: &str, typed: &str, secret: &str) -> Self {
        let mut packet = Packet::new(Code::AccessRequest, secret.as_bytes());
        packet.add(AVP::from_bytes(80, &[0; 16]));
        rfc2865::add_user_name(&mut packet, user);
        rfc2865::add_user_password(&mut packet, typed.as_bytes()).unwrap();
        let bytes = signed(&packet, secret);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            bytes,
            socket,
            secret: secret.to_owned(),
        }
    }

    pub fn send(self, to: SocketAddr) -> Self {
        self.socket.send_to(&self.bytes, to).unwrap();
        self
    }

    pub fn answer(self) -> Answer {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        let answer = &buffer[..length];
        let secret = self.secret.as_bytes();
        assert!(Packet::is_authentic_response(answer, &self.bytes, secret));
        let packet = Packet::decode(answer, secret).unwrap();
        match packet.get_code() {
            Code::AccessAccept => Answer::Accept,
            Code::AccessReject => {
                let message = rfc2865::lookup_reply_message(&packet).and_then(Result::ok);
                Answer::Reject(message.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The code of now, or of a step away from it. Waits out the end of a step, so that it stays the code of now.
pub fn code(away: i64) -> String {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        if now % 30 < 28 {
            let step = (now / 30).saturating_add_signed(away);
            let code = TotpCode::at(Algorithm::Sha1, SEED, step, Digits::SIX);
            return String::from_utf8(code.as_bytes().to_vec()).unwrap();
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// A runtime for what a test serves beside the proxy.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Looks until there is something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a file holds `text`.
pub fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).unwrap_or_default().contains(text)
}
