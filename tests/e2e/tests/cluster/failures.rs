//! Parts fail while people log in, and nobody notices. Each failure leaves a row of figures in `target/e2e/failures.md`.

mod aws;
mod operator;
mod replaced;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, Report, until};
use serde_json::{Value, json};

use crate::traffic::{Reports, assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, project, world};

/// How long a part of the control plane is away. `make failures` has it for two minutes.
fn away() -> Duration {
    let seconds = std::env::var("E2E_AWAY_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// A node or a part of the control plane that is stopped; it runs again when this goes, also when a test fails.
struct Stopped(String);

impl Stopped {
    fn now(what: &str) -> Self {
        machine(&["stop", what]);
        Self(what.to_owned())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        machine(&["start", &self.0]);
    }
}

/// `cargo xtask cluster …` of the tests' own cluster.
fn machine(args: &[&str]) {
    let program =
        std::env::var_os("E2E_XTASK").expect("E2E_XTASK is not set: run the tests by `cargo xtask e2e`");
    let name = std::env::var("E2E_CLUSTER").expect("E2E_CLUSTER is not set");
    let status = Command::new(program)
        .arg("cluster")
        .args(args)
        .args(["--name", &name])
        .status()
        .unwrap();
    assert!(status.success(), "cluster {}: {status}", args.join(" "));
}

/// As [`nobody_notices`] for a machine that dies without a word. A push whose approval it may have used in its last moment
/// is not accepted a second time by another pod (one approval, at most one accepted login): such a login, at most one
/// at each domain controller, is refused and counted as failed.
fn nearly_nobody_notices(name: &str, writes: usize, fail: impl FnOnce(&World)) {
    let reports = let_fail(name, writes, fail);
    for (controller, report) in &reports {
        println!(
            "{controller}: tried {}, accepted {}",
            report.tried, report.accepted
        );
        assert_eq!(report.failures.len(), 0, "{:?}", report.failures);
        assert!(report.rejections.len() <= 1, "{:?}", report.rejections);
    }
}

/// Lets a part fail by `fail`, which ends when it is repaired, with logins going on; then waits until the full set is
/// registered again. Nobody may notice, and AWS is written to at most `writes` times.
fn nobody_notices(name: &str, writes: usize, fail: impl FnOnce(&World)) {
    assert_nobody_noticed(&let_fail(name, writes, fail));
}

fn let_fail(name: &str, writes: usize, fail: impl FnOnce(&World)) -> Reports {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    let (took, reports) = with_logins(world, || {
        let begun = Instant::now();
        fail(world);
        full_set(world);
        begun.elapsed()
    });
    let written = directory.settings_writes(before, MICROSOFT_DIRECTORY).unwrap();
    let unmade = directory.unmade_writes(before, MICROSOFT_DIRECTORY).unwrap();
    let figures = match unmade.len() {
        0 => written.len().to_string(),
        unmade => format!("{} ({unmade} failed)", written.len()),
    };
    tell(name, &reports.values().collect::<Vec<_>>(), &figures, took);
    assert!(written.len() <= writes, "{written:?}");
    world.both_ready().unwrap();
    reports
}

/// Waits until what AWS has registered, and says is Completed, is the addresses of two pods that are ready.
pub fn full_set(world: &World) {
    let directory = world.simulators.directory();
    until("the full set to be registered", Duration::from_secs(420), || {
        let have = ready_addresses(world)?;
        let registered: BTreeSet<String> = directory.registered(MICROSOFT_DIRECTORY)?.into_iter().collect();
        let status = directory.radius_status(MICROSOFT_DIRECTORY)?;
        Ok(
            if have.len() == 2 && have == registered && status.as_deref() == Some("Completed") {
                Ok(())
            } else {
                Err(format!("ready {have:?}, registered {registered:?}, {status:?}"))
            },
        )
    })
    .unwrap();
}

/// The addresses of the pods of `workspaces` whose containers are ready.
fn ready_addresses(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let pods = world.pods(DuoProxy::NAME)?;
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let is = |c: &Value| c["type"] == "ContainersReady" && c["status"] == "True";
        pod["metadata"]["deletionTimestamp"].is_null() && conditions.is_some_and(|all| all.iter().any(is))
    };
    Ok(pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(ready)
        .filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned))
        .collect())
}

/// Waits until the deleted pod's successor serves, though AWS does not know of it yet.
fn successor_serves(world: &World, before: &BTreeSet<String>) {
    until("the pod's successor to serve", PATIENCE, || {
        let now = ready_addresses(world)?;
        Ok(if now.len() == 2 && now != *before {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        })
    })
    .unwrap();
}

/// Adds a row to the table: what failed, how logins went meanwhile, how often AWS was written to, and how long it took
/// until the full set was registered again.
fn tell(name: &str, reports: &[&Report], writes: &str, took: Duration) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|report| of(report)).sum::<u64>();
    let slowest = reports
        .iter()
        .filter_map(|r| r.slowest_ms)
        .max()
        .unwrap_or_default();
    let unanswered: usize = reports
        .iter()
        .map(|r| r.failures.len() + r.rejections.len())
        .sum();
    add_row(format!(
        "| {name} | {} | {unanswered} | {} | {} | {:.1} | {writes} | {:.0} |",
        sum(|r| r.tried),
        sum(|r| r.failed_over),
        sum(|r| r.would_have_been_refused),
        slowest as f64 / 1000.0,
        took.as_secs_f64(),
    ));
}

/// Writes the table anew with one row more: what ran before a failed test is there, too.
fn add_row(row: String) {
    static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    println!("{row}");
    let mut rows = ROWS.lock().unwrap();
    rows.push(row);
    let folder = project().join("target/e2e");
    std::fs::create_dir_all(&folder).unwrap();
    let head = "| What fails | Logins | Failed | Failed over | While AWS was changing settings | Slowest (s) | Writes to AWS \
                | Full set again after (s) |\n|---|---|---|---|---|---|---|---|\n";
    std::fs::write(folder.join("failures.md"), format!("{head}{}\n", rows.join("\n"))).unwrap();
}

fn pod_node(world: &World, pod: &str) -> String {
    let pod = world.kubectl.get(&["-n", NAMESPACE, "pod", pod]).unwrap();
    pod["spec"]["nodeName"].as_str().unwrap().to_owned()
}

/// A pod of `workspaces` on a node without simulators: its node can be lost without losing who tells of it.
fn expendable(world: &World) -> (String, String) {
    ["workspaces-0", "workspaces-1"]
        .into_iter()
        .map(|pod| (pod.to_owned(), pod_node(world, pod)))
        .find(|(_, node)| *node != world.simulators_node)
        .expect("both pods are on the node of the simulators")
}

pub fn delete_pod(world: &World, pod: &str) {
    world
        .kubectl
        .run(&["-n", NAMESPACE, "delete", "pod", pod])
        .unwrap();
}

#[test]
fn a_pod_is_killed_without_a_farewell() {
    nobody_notices("pod killed (`--force --grace-period=0`)", 1, |world| {
        world.kill_pod("workspaces-1");
    });
}

#[test]
fn a_container_is_killed() {
    let world = world();
    let restarts = || -> anyhow::Result<(String, Value)> {
        let pod = world.kubectl.get(&["-n", NAMESPACE, "pod", "workspaces-0"])?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        Ok((uid, pod["status"]["containerStatuses"][0]["restartCount"].clone()))
    };
    nobody_notices("container killed (SIGKILL)", 0, |_| {
        let (uid, before) = restarts().unwrap();
        kill_process_of(&uid, "radius-proxy");
        until("the container to be started again", PATIENCE, || {
            let (_, now) = restarts()?;
            Ok(if now == before {
                Err(format!("{now} restarts"))
            } else {
                Ok(())
            })
        })
        .unwrap();
    });
}

/// Kills a program's process in a pod: the nodes are on this machine, and so are their processes.
fn kill_process_of(pod_uid: &str, program: &str) {
    // The kernel keeps the first 15 letters.
    let program = program.get(..15).unwrap_or(program);
    let names = [
        format!("pod{pod_uid}"),
        format!("pod{}", pod_uid.replace('-', "_")),
    ];
    let mut found = 0;
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let text = |file| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let groups = text("cgroup");
        if text("comm").trim() == program && names.iter().any(|name| groups.contains(name)) {
            let pid = process.file_name();
            assert!(
                Command::new("kill")
                    .arg("-KILL")
                    .arg(pid)
                    .status()
                    .unwrap()
                    .success()
            );
            found += 1;
        }
    }
    assert_eq!(found, 1, "processes of the pod {pod_uid}");
}

#[test]
fn duo_is_away() {
    let reports = let_fail("Duo answers 503 to everything", 0, |world| {
        let outcome = |wanted: &str| {
            until(&format!("a login to end with {wanted}"), PATIENCE, || {
                let login = world.login("dc-0", "nora", "push");
                Ok(if login.outcome == wanted {
                    Ok(login)
                } else {
                    Err(login.outcome)
                })
            })
            .unwrap()
        };
        world
            .simulators
            .duo()
            .put_user("nora", &json!({"answer": "approve"}))
            .unwrap();
        let faults = DuoAway::now(world);
        let refused = outcome("reject");
        assert!(
            refused
                .reply_message
                .as_deref()
                .is_some_and(|text| text.contains("cannot be checked now")),
            "{refused:?}"
        );
        // The time it is away is the failure itself.
        std::thread::sleep(away());
        drop(faults);
        outcome("accept");
    });
    // Refused, since nobody can be asked (failMode: Secure), but answered: a directory's probe never fails.
    for report in reports.values() {
        assert_eq!(report.failures.len(), 0, "{:?}", report.failures);
        assert!(!report.rejections.is_empty() && report.accepted > 0);
    }
}

/// Duo answers 503; it is back when this goes, also when a test fails.
struct DuoAway<'a>(&'a World);

impl<'a> DuoAway<'a> {
    fn now(world: &'a World) -> Self {
        let faults = json!([{"operation": "*", "kind": "status", "status": 503}]);
        world.simulators.duo().set_faults(&faults).unwrap();
        Self(world)
    }
}

impl Drop for DuoAway<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.simulators.duo().set_faults(&json!([])) {
            eprintln!("Duo stays away: {error:#}");
        }
    }
}

#[test]
fn a_node_is_drained() {
    let world = world();
    world.both_ready().unwrap();
    let (_, node) = expendable(world);
    nobody_notices("node drained", 1, |world| {
        let args = [
            "drain",
            &node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=150s",
        ];
        world.kubectl.run(&args).unwrap();
        full_set(world);
        world.kubectl.run(&["uncordon", &node]).unwrap();
    });
}

#[test]
fn a_node_and_with_it_a_zone_is_lost_and_said_to_be_out_of_service() {
    let world = world();
    world.both_ready().unwrap();
    let (_, node) = expendable(world);
    let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    nearly_nobody_notices("node and zone lost, tainted out-of-service", 1, |world| {
        let stopped = Stopped::now(&node);
        world.kubectl.run(&["taint", "node", &node, taint]).unwrap();
        full_set(world);
        drop(stopped);
        world
            .kubectl
            .run(&["taint", "node", &node, &format!("{taint}-")])
            .unwrap();
    });
}

#[test]
#[ignore = "takes five minutes: `make failures` runs it"]
fn a_node_and_with_it_a_zone_is_lost_and_nobody_says_so() {
    let world = world();
    world.both_ready().unwrap();
    let (pod, node) = expendable(world);
    nearly_nobody_notices("node and zone lost, nothing done by hand", 1, |world| {
        let stopped = Stopped::now(&node);
        until("the pod to be on another node", Duration::from_secs(480), || {
            let now = world.kubectl.get(&["-n", NAMESPACE, "pod", &pod])?;
            let now = now["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
            Ok(if !now.is_empty() && now != node {
                Ok(())
            } else {
                Err(now)
            })
        })
        .unwrap();
        full_set(world);
        drop(stopped);
    });
}

#[test]
fn the_api_server_is_away() {
    nobody_notices("API server away", 0, |_| {
        let _stopped = Stopped::now("kube-apiserver");
        // The time it is away is the failure itself.
        std::thread::sleep(away());
    });
}

#[test]
fn etcd_is_restarted() {
    nobody_notices("etcd restarted", 0, |_| drop(Stopped::now("etcd")));
}
