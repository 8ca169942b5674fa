//! The proxy under load: the runs, in order.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::freeradius;
use crate::http::put;
use crate::load::{Load, Logins, Outcome, Shape};
use crate::process::{Server, Usage};
use crate::request::{Builder, SECRET};
use crate::seeds::{InTurn, OnceEach, uris};
use crate::summary::{Row, mib};
use crate::{Part, Run};

const IN_FLIGHT: usize = 256;
/// Users' codes are good for a minute and a half; a run takes seconds.
const WARM_UP: usize = 2_000;

/// Runs all of them; the figures by name.
pub(crate) fn run(arguments: &Run) -> Result<BTreeMap<String, f64>> {
    let folder = tempfile::tempdir()?;
    let mut numbers: BTreeMap<&str, f64> = BTreeMap::new();
    let bench = Bench {
        arguments,
        folder: folder.path().to_owned(),
    };

    if arguments.wants(Part::Local) {
        bench.local(&mut numbers)?;
    }
    if arguments.wants(Part::Duo) {
        bench.duo(&mut numbers)?;
    }
    if arguments.wants(Part::Pending) {
        bench.pending(&mut numbers)?;
    }
    Ok(numbers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

struct Bench<'a> {
    arguments: &'a Run,
    folder: PathBuf,
}

fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Another number each time: the time of day in nanoseconds, and the process.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 32 ^ u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()) << 20
}

/// Whether something answers a request there.
fn answers(server: SocketAddr) -> bool {
    let mut packet = Vec::new();
    Builder::new(seed()).pap(0, "nobody", b"000000", &mut packet);
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else {
        return false;
    };
    let wait = socket.set_read_timeout(Some(Duration::from_millis(200)));
    wait.is_ok() && socket.send_to(&packet, server).is_ok() && socket.recv(&mut [0; 4096]).is_ok()
}

fn measure(
    name: &str,
    server: &Server,
    to: SocketAddr,
    logins: &mut impl Logins,
    shape: Shape,
) -> Result<(Row, Outcome)> {
    let before = server.usage()?;
    let mut outcome = Load::new(to, logins, shape)?
        .run()
        .with_context(|| name.to_owned())?;
    let row = Row::new(name, &mut outcome, before, server.usage()?);
    row.print();
    Ok((row, outcome))
}

impl Bench<'_> {
    fn shape(&self) -> Shape {
        Shape {
            in_flight: IN_FLIGHT,
            count: self.arguments.logins,
            rate: None,
        }
    }

    /// Everything that answers by itself, side by side.
    fn local(&self, numbers: &mut BTreeMap<&str, f64>) -> Result<()> {
        let echo = self.echo()?;
        let free = self.freeradius()?;
        let (local, half_load_p99) = self.totp()?;
        numbers.insert("echo_per_second", echo.per_second);
        numbers.insert("freeradius_per_second", free.per_second);
        numbers.insert("local_factor_per_second", local.per_second);
        numbers.insert("local_factor_vs_echo", local.per_second / echo.per_second);
        numbers.insert("local_factor_vs_freeradius", local.per_second / free.per_second);
        numbers.insert("local_factor_p99_ms_half_load", half_load_p99);
        numbers.insert("local_factor_cpu_us", local.cpu_us);
        Ok(())
    }

    fn echo(&self) -> Result<Row> {
        let to = loopback(free_port()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", "--listen", &to.to_string()]);
        let mut server = Server::start("echo", &command, &self.folder)?;
        server.wait(|| answers(to))?;
        let mut users = InTurn {
            users: self.arguments.logins,
            typed: *b"123456",
            at: 0,
        };
        Ok(measure(
            "UDP echo, the machine's limit",
            &server,
            to,
            &mut users,
            self.shape(),
        )?
        .0)
    }

    fn freeradius(&self) -> Result<Row> {
        let program = freeradius::program()?;
        let users = 10_000;
        let port = free_port()?;
        let folder = self.folder.join("freeradius");
        freeradius::configure(&folder, port, users)?;
        let mut command = Command::new(program);
        command
            .arg("-f")
            .arg("-d")
            .arg(&folder)
            .arg("-l")
            .arg(folder.join("radius.log"));
        let mut server = Server::start("freeradius", &command, &self.folder)?;
        server.wait(|| answers(loopback(port)))?;
        let mut logins = InTurn {
            users,
            typed: *b"123456",
            at: 0,
        };
        let shape = Shape {
            count: self.arguments.logins / 2,
            ..self.shape()
        };
        let (row, outcome) = measure(
            "FreeRADIUS, static users",
            &server,
            loopback(port),
            &mut logins,
            shape,
        )?;
        ensure!(
            outcome.accepts == shape.count,
            "FreeRADIUS did not accept everybody: {}",
            row.note
        );
        Ok(row)
    }

    fn proxy(&self, name: &'static str, port: u16, admin: u16, provider: &str) -> Result<Server> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("secret"), SECRET)?;
        let config = format!(
            r#"
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
records = "{records}"
provider_host_suffixes = ["localhost"]
[policy.limits]
requests_per_client_per_second = 1000000
pending = 100000
{provider}
[[clients]]
name = "bench"
networks = ["127.0.0.1"]
secret_files = ["secret"]
timeout_seconds = 20
retries = 1
"#,
            records = folder.join("records.jsonl").display(),
        );
        fs::write(folder.join("radius-proxy.toml"), config)?;
        let mut command = Command::new(&self.arguments.proxy);
        command
            .arg("serve")
            .arg("--config")
            .arg(folder.join("radius-proxy.toml"));
        Server::start(name, &command, &self.folder)
    }

    fn totp(&self) -> Result<(Row, f64)> {
        let count = self.arguments.logins;
        let half = count / 2;
        let folder = self.folder.join("totp/seeds");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("users"), uris(0..WARM_UP + count + half))?;
        let port = free_port()?;
        let mut server = self.proxy(
            "totp",
            port,
            free_port()?,
            "[provider.totp]\nseed_folders = [\"seeds\"]",
        )?;
        let to = loopback(port);
        server.wait(|| answers(to))?;
        let shape = |count, rate| Shape {
            in_flight: IN_FLIGHT,
            count,
            rate,
        };
        Load::new(to, &mut OnceEach::new(0..WARM_UP), shape(WARM_UP, None))?.run()?;
        let mut users = OnceEach::new(WARM_UP..WARM_UP + count);
        let (row, outcome) = measure("proxy, TOTP", &server, to, &mut users, shape(count, None))?;
        ensure!(
            outcome.accepts == count,
            "the proxy did not accept everybody: {}",
            row.note
        );
        let mut users = OnceEach::new(WARM_UP + count..WARM_UP + count + half);
        let at_half = shape(half, Some(row.per_second / 2.0));
        let (paced, outcome) = measure("proxy, TOTP, at half of that", &server, to, &mut users, at_half)?;
        ensure!(
            outcome.accepts == half,
            "the proxy did not accept everybody: {}",
            paced.note
        );
        Ok((row, paced.p99_ms))
    }

    /// The Duo simulator, with users who approve after a while; returns it, its port and its CA.
    fn duo_simulator(&self, users: usize, delay_ms: u32) -> Result<(Server, u16, String)> {
        let folder = self.folder.join(format!("duo-{delay_ms}"));
        fs::create_dir_all(&folder)?;
        let ca = folder.join("ca.pem");
        let mut command = Command::new(&self.arguments.simulators);
        command.args([
            "duo",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--tls-san",
            "localhost",
        ]);
        command.args(["--log", "warn"]).arg("--ca-out").arg(&ca);
        let mut server = Server::start(if delay_ms == 0 { "duo" } else { "duo-slow" }, &command, &folder)?;
        let mut ready = serde_json::Value::Null;
        let log = folder.join(if delay_ms == 0 { "duo.log" } else { "duo-slow.log" });
        server.wait(|| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            ready = text
                .lines()
                .find_map(|l| serde_json::from_str(l).ok())
                .unwrap_or_default();
            ready.get("admin").is_some() && ca.exists()
        })?;
        let port = |name: &str| -> Result<u16> {
            let text = ready
                .get(name)
                .and_then(serde_json::Value::as_str)
                .context("the simulator does not say where it listens")?;
            Ok(text.parse::<SocketAddr>()?.port())
        };
        let body = serde_json::json!({"generate": {"count": users, "prefix": "user", "answer": "approve",
            "delay_ms": delay_ms, "reusable_passcodes": ["424242"]}});
        put(loopback(port("admin")?), "/users", &body.to_string())?;
        Ok((server, port("listen")?, fs::read_to_string(&ca)?))
    }

    fn duo_proxy(&self, name: &'static str, duo: u16, ca: &str) -> Result<(Server, SocketAddr)> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("ikey"), "DISIMULATOR000000001")?;
        fs::write(folder.join("skey"), "simulatorsimulatorsimulatorsimulator0000")?;
        let provider = format!(
            "[provider.duo]\napi_host = \"localhost:{duo}\"\nintegration_key_file = \"ikey\"\nsecret_key_file = \
             \"skey\"\nfactors = [\"push\"]\nca_bundle = '''\n{ca}'''\n"
        );
        let port = free_port()?;
        let mut server = self.proxy(name, port, free_port()?, &provider)?;
        let to = loopback(port);
        server.wait(|| answers(to))?;
        Ok((server, to))
    }

    fn duo(&self, numbers: &mut BTreeMap<&str, f64>) -> Result<()> {
        let count = self.arguments.duo_logins;
        let (simulator, port, ca) = self.duo_simulator(count, 0)?;
        let (server, to) = self.duo_proxy("proxy-duo", port, &ca)?;
        let mut users = InTurn {
            users: count,
            typed: *b"push  ",
            at: 0,
        };
        let shape = Shape {
            in_flight: IN_FLIGHT,
            count,
            rate: None,
        };
        let before = simulator.usage()?;
        let (row, outcome) = measure("proxy, Duo push approved at once", &server, to, &mut users, shape)?;
        ensure!(
            outcome.accepts == count,
            "not every push was accepted: {}",
            row.note
        );
        let own = simulator.usage()?.cpu.saturating_sub(before.cpu);
        println!(
            "{:<44} the simulator's own share: {:.1} µs CPU a login",
            "",
            own.as_secs_f64() * 1e6 / as_f64(count)
        );
        numbers.insert("duo_logins_per_second", row.per_second);
        numbers.insert("duo_cpu_us", row.cpu_us);
        numbers.insert("proxy_rss_mib", row.resident_mib);
        Ok(())
    }

    /// So many logins pending at once on pushes that take ten seconds, and meanwhile passcodes of others.
    fn pending(&self, numbers: &mut BTreeMap<&str, f64>) -> Result<()> {
        let count = self.arguments.pending;
        let others = 1_000;
        let (_simulator, port, ca) = self.duo_simulator(count + others, 10_000)?;
        let (server, to) = self.duo_proxy("proxy-pending", port, &ca)?;
        let before = server.usage()?;
        let shape = Shape {
            in_flight: count,
            count,
            rate: None,
        };
        let (all, peak, mut other) = std::thread::scope(|scope| {
            let pushes = scope.spawn(move || {
                Load::new(
                    to,
                    &mut InTurn {
                        users: count,
                        typed: *b"push  ",
                        at: 0,
                    },
                    shape,
                )?
                .run()
            });
            let other = scope.spawn(move || {
                let mut users = InTurn {
                    users: others,
                    typed: *b"424242",
                    at: 0,
                };
                Load::new(
                    to,
                    &mut users,
                    Shape {
                        in_flight: 64,
                        count: others,
                        rate: Some(100.0),
                    },
                )?
                .run()
            });
            let mut peak = Usage::default();
            while !pushes.is_finished() {
                if let Ok(now) = server.usage() {
                    peak.resident = peak.resident.max(now.resident);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let joined = |handle: std::thread::ScopedJoinHandle<'_, Result<Outcome>>| {
                handle
                    .join()
                    .map_err(|_| anyhow::anyhow!("a load thread panicked"))?
            };
            Ok::<_, anyhow::Error>((joined(pushes)?, peak, joined(other)?))
        })?;
        let mut all = all;
        let row = Row::new(
            &format!("proxy, {count} pushes of 10 s pending at once"),
            &mut all,
            before,
            server.usage()?,
        );
        row.print();
        let row = Row::new("  meanwhile: passcodes of other users", &mut other, before, peak);
        row.print();
        ensure!(
            all.accepts == count,
            "of {count} pending logins {} were accepted",
            all.accepts
        );
        let bytes = as_f64(usize::try_from(peak.resident.saturating_sub(before.resident))?) / as_f64(count);
        println!(
            "{:<44} {bytes:.0} bytes of resident memory a pending login (peak {:.1} MiB)",
            "",
            mib(peak.resident)
        );
        numbers.insert("pending_bytes_per_login", bytes);
        numbers.insert("pending_lost", as_f64(count - all.accepts));
        numbers.insert("pending_others_p99_ms", row.p99_ms);
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(n: usize) -> f64 {
    n as f64
}
