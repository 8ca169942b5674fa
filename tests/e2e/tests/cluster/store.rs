//! A real server of Redis' protocol, Debian's, as the memory of used codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::{NAMESPACE, TotpProxy, until};
use serde_json::Value;

use crate::world::{PATIENCE, World, code_of_now, unused_code, world};

const PASSWORD: &str = "password-of-the-store";
const PROGRAMS: [&str; 4] = [
    "/usr/bin/valkey-server",
    "/usr/bin/redis-server",
    "/usr/sbin/valkey-server",
    "/usr/local/bin/redis-server",
];

/// On the machine of the nodes, at an address that pods reach; it is killed when this goes.
struct Store {
    child: Child,
    address: String,
}

impl Store {
    fn start(world: &World) -> Self {
        let program = PROGRAMS.iter().map(PathBuf::from).find(|path| path.is_file());
        let program =
            program.expect("valkey-server or redis-server is needed: `cargo xtask test` installs one");
        let host = &address_towards_nodes(world);
        // Below the ports that the system gives out by itself.
        for port in (16379..17379).map(|port: u16| port.to_string()) {
            let mut child = Command::new(&program)
                .args([
                    "--bind",
                    host,
                    "--port",
                    &port,
                    "--save",
                    "",
                    "--requirepass",
                    PASSWORD,
                ])
                .current_dir(std::env::temp_dir())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            if lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections"))) {
                // What it says later must not stop it.
                std::thread::spawn(move || lines.for_each(drop));
                let address = format!("{host}:{port}");
                return Self { child, address };
            }
            child.wait().unwrap();
        }
        panic!("{} does not start", program.display());
    }

    /// How many keys it holds.
    fn keys(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "AUTH {PASSWORD}\r\nDBSIZE\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("+OK"));
        lines.next().unwrap().trim_start_matches(':').parse().unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This machine's own address on the way to the nodes, which pods reach, too.
fn address_towards_nodes(world: &World) -> String {
    let node = world.kubectl.get(&["node", &world.simulators_node]).unwrap();
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let internal = addresses.iter().find(|a| a["type"] == "InternalIP").unwrap();
    // Nothing is sent: the route is all that is asked for.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect((internal["address"].as_str().unwrap(), 9))
        .unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

/// `usedCodes` of the RadiusProxy `vpn`; as before when this goes, also when a test fails.
struct UsedCodes<'a>(&'a World);

impl<'a> UsedCodes<'a> {
    fn kept_at(world: &'a World, address: &str) -> Self {
        let redis = format!(
            r#"{{"redis":{{"address":"{address}","tls":false,"passwordSecretRef":{{"name":"store","key":"password"}}}}}}"#
        );
        Self::patch(world, &redis).unwrap();
        Self(world)
    }

    fn patch(world: &World, used_codes: &str) -> anyhow::Result<()> {
        let patch = format!(r#"{{"spec":{{"provider":{{"totp":{{"usedCodes":{used_codes}}}}}}}}}"#);
        world.patch(TotpProxy::NAME, &patch)
    }
}

impl Drop for UsedCodes<'_> {
    fn drop(&mut self) {
        if let Err(error) = Self::patch(self.0, "null") {
            eprintln!("the used codes are kept in the test's store still: {error:#}");
        }
    }
}

/// Waits until every pod runs the present spec.
fn configured(world: &World) {
    until("every pod to run the new configuration", PATIENCE, || {
        let object = world.kubectl.get(&["-n", NAMESPACE, "rp", TotpProxy::NAME])?;
        let status = &object["status"];
        let conditions = status["conditions"].as_array();
        let seen = conditions.and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
        let done = seen.is_some_and(|ready| ready["observedGeneration"] == object["metadata"]["generation"])
            && status["configuredReplicas"] == 2;
        Ok(if done { Ok(()) } else { Err(status.to_string()) })
    })
    .unwrap();
    world.both_ready().unwrap();
}

/// Waits until a login record has it.
fn recorded(world: &World, what: &str) {
    until(&format!("a record with {what}"), PATIENCE, || {
        let logs = world.proxy_logs(TotpProxy::NAME);
        Ok(if logs.contains(what) { Ok(()) } else { Err(logs) })
    })
    .unwrap();
}

#[test]
fn a_code_works_once_by_a_store_of_redis_protocol_and_once_on_each_pod_without_it() {
    let world = world();
    world.both_ready().unwrap();
    let store = Store::start(world);
    world
        .kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: store, namespace: {NAMESPACE}}}\nstringData:\n  password: \
             {PASSWORD}\n"
        ))
        .unwrap();
    let restarts = || {
        let list = world.pods(TotpProxy::NAME).unwrap();
        let pods = list["items"].as_array().unwrap().clone();
        let told = |pod: &Value| {
            format!(
                "{} {}",
                pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]
            )
        };
        pods.iter().map(told).collect::<Vec<_>>()
    };
    let before = restarts();
    let kept = UsedCodes::kept_at(world, &store.address);
    configured(world);
    assert_eq!(restarts(), before, "another store is no reason for a restart");
    // Good for half a minute yet: what refuses it is not the clock.
    let code = code_of_now();
    let login = world.login("connector-0", "bob", &code);
    assert_eq!(login.outcome, "accept", "{login:?}");
    assert_eq!(store.keys(), 1);
    // The pod that accepted it goes, and the other one knows what it has accepted.
    let list = world.pods(TotpProxy::NAME).unwrap();
    let pods = list["items"].as_array().unwrap();
    let name = |answered: bool| {
        let is = |pod: &&Value| (pod["status"]["podIP"].as_str() == login.server.as_deref()) == answered;
        pods.iter().find(is).unwrap()["metadata"]["name"]
            .as_str()
            .unwrap()
    };
    let (gone, other) = (name(true), name(false));
    let replays = || -> anyhow::Result<usize> {
        let log = world.kubectl.run(&["-n", NAMESPACE, "logs", other])?;
        Ok(log.matches("\"reason\":\"passcode_replayed\"").count())
    };
    let before = replays().unwrap();
    world.kill_pod(gone);
    until("the other pod to refuse the code as replayed", PATIENCE, || {
        let login = world.login("connector-0", "bob", &code);
        assert_eq!(login.outcome, "reject", "{login:?}");
        let now = replays()?;
        Ok(if now > before {
            Ok(())
        } else {
            Err(format!("{login:?}"))
        })
    })
    .unwrap();
    configured(world);
    drop(store);
    let login = world.login("connector-0", "bob", &unused_code());
    assert_eq!(login.outcome, "accept", "{login:?}");
    recorded(world, "\"basis\":\"once_per_pod\"");
    drop(kept);
    configured(world);
}
