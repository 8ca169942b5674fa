//! What is stuck beside the logins stops neither them nor the end of the program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

mod support;

use support::{Answer, Lab, Login, Proxy, binary, code, eventually, get};

/// Of Linux.
const O_NONBLOCK: i32 = 0o4000;

#[test]
fn logins_go_on_while_nobody_reads_the_log() {
    let lab = Lab::totp();
    let mut child = binary()
        .args(["serve", "--log-format", "json", "--config"])
        .arg(lab.path("config.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = child.stderr.take().unwrap();
    rustix::pipe::fcntl_setpipe_size(&log, 4096).unwrap();
    let mut lines = BufReader::new(log);
    let mut serving = String::new();
    while !serving.contains("\"serving\"") {
        serving.clear();
        lines.read_line(&mut serving).unwrap();
    }
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
    let (radius, admin) = (address("listen"), address("admin"));
    // From here on nobody reads. Each of these is worth a line, within the limit of lines in a second.
    eventually("the log is full", || {
        for _ in 0..20 {
            Login::with_secret("jane", "123456", "another secret of the lab").send(radius);
        }
        let (_, metrics) = get(admin, "/metrics");
        let name = "radius_proxy_drops_total{reason=\"bad_message_authenticator\"} ";
        let drops = metrics.lines().find_map(|line| line.strip_prefix(name));
        drops
            .filter(|count| count.parse::<u64>().unwrap() > 2000)
            .map(|_| ())
    });
    assert_eq!(Login::new("jane", &code(0)).send(radius).answer(), Answer::Accept);
    let (_, metrics) = get(admin, "/metrics");
    assert!(
        metrics.contains("radius_proxy_lost_log_lines_total 0"),
        "{metrics}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reload_that_does_not_end_keeps_nobody_from_ending_the_program() {
    let lab = Lab::totp();
    let mut proxy = Proxy::start(&lab);
    // Whoever opens it waits for somebody to write.
    let made = Command::new("mkfifo").arg(lab.path("pipe")).status().unwrap();
    assert!(made.success());
    std::fs::rename(lab.path("pipe"), lab.path("secret")).unwrap();
    // It can be opened for writing, without waiting, once somebody reads it.
    let writer = eventually("the reload reads the pipe", || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).custom_flags(O_NONBLOCK);
        options.open(lab.path("secret")).ok()
    });
    assert_eq!(proxy.login("jane", &code(0)), Answer::Accept);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    drop(writer);
}
