//! The cluster's own life on this machine: `cargo test -p local-cluster --features machine`, as root.
//!
//! One test, since each step stands on the one before and a cluster is not worth starting for less.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use local_cluster::{Cluster, Component, Name, Options, Silent};

const NAME: &str = "lifecycle";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  containers: [{name: pause, image: "radius-mfa.local/pause:1", imagePullPolicy: Never}]
"#;

/// Ends the cluster however the test ends.
struct Ended(Name);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(&self.0, &Silent) {
            eprintln!("{error}");
        }
    }
}

#[test]
fn a_cluster_repairs_itself_and_leaves_nothing_behind() {
    let name: Name = NAME.parse().unwrap();
    Cluster::down(&name, &Silent).unwrap();
    let before = Traces::of_this_machine();
    let ended = Ended(name.clone());
    let two = Options {
        name: name.clone(),
        nodes: 2,
    };

    let cluster = Cluster::up(&two, &Silent).unwrap();
    assert!(cluster.status().is_healthy(), "{}", cluster.status());
    let manifest = tempfile::NamedTempFile::new().unwrap();
    fs::write(manifest.path(), POD).unwrap();
    cluster
        .kubectl(&["apply", "-f", &manifest.path().display().to_string()])
        .unwrap();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/waits", "--timeout=60s"])
        .unwrap();
    let pod = || {
        cluster
            .kubectl(&[
                "get",
                "pod",
                "waits",
                "-o",
                "jsonpath={.status.containerStatuses[0]}",
            ])
            .unwrap()
    };
    let container = pod();

    // Everything at once, as when memory runs out; the pod lives on, and is the same one afterwards.
    let killed: Vec<_> = cluster
        .status()
        .parts
        .into_iter()
        .filter_map(|part| part.running)
        .collect();
    assert_eq!(killed.len(), 9);
    for (pid, _, _) in &killed {
        assert!(
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
    await_that(|| cluster.status().parts.iter().all(|part| part.running.is_none()));
    Cluster::up(&two, &Silent).unwrap();
    assert!(cluster.status().is_healthy(), "{}", cluster.status());
    assert_eq!(pod(), container);

    // A second start changes nothing.
    let pids = |cluster: &Cluster| {
        let running = cluster.status().parts.into_iter().filter_map(|part| part.running);
        running.map(|(pid, _, _)| pid).collect::<BTreeSet<_>>()
    };
    let running = pids(&cluster);
    Cluster::up(&two, &Silent).unwrap();
    assert_eq!(pids(&cluster), running);

    cluster.stop_node("node-1").unwrap();
    assert!(!cluster.status().is_healthy());
    assert!(cluster.stop_node("node-3").is_err());
    cluster.start_node("node-1").unwrap();
    cluster.wait_for_node("node-1").unwrap();

    cluster.stop_component(Component::ApiServer).unwrap();
    assert!(
        cluster
            .kubectl(&["--request-timeout=2s", "get", "nodes"])
            .is_err()
    );
    cluster.start_component(Component::ApiServer).unwrap();
    cluster.kubectl(&["get", "nodes"]).unwrap();

    let one = Cluster::up(
        &Options {
            name: name.clone(),
            nodes: 1,
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(
        one.kubectl(&["get", "nodes", "-o", "name"]).unwrap(),
        "node/node-1\n"
    );

    drop(ended);
    assert!(Cluster::open(&name).is_err());
    assert_eq!(Traces::of_this_machine(), before);
}

fn await_that(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came to be");
        std::thread::yield_now();
    }
}

/// What the cluster could leave behind, and what other clusters on the machine have of it meanwhile is left out.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Traces {
    fn of_this_machine() -> Self {
        let own = format!("/var/lib/radius-mfa-operator/{NAME}");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut groups = BTreeSet::new();
        collect(Path::new("/sys/fs/cgroup"), &mut groups, 4);
        groups.retain(|group| group.ends_with(format!("radius-mfa-operator/{NAME}")));
        let folders = [
            "/var/lib/radius-mfa-operator",
            "/var/lib/cni/results",
            "/var/log/containers",
        ];
        let files = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let of_this = |path: &PathBuf| {
            path.ends_with(NAME)
                || fs::read_link(path).is_ok_and(|target| target.starts_with(&own))
                || fs::read_to_string(path).is_ok_and(|text| text.contains(&own))
        };
        Self {
            processes: processes()
                .into_iter()
                .filter(|line| line.contains(&own))
                .collect(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&own))
                .map(str::to_owned)
                .collect(),
            groups,
            files: files.map(|file| file.path()).filter(of_this).collect(),
        }
    }
}

/// The command lines of all processes.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    entries.filter_map(line).collect()
}

fn collect(folder: &Path, found: &mut BTreeSet<PathBuf>, depth: u8) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path());
            collect(&entry.path(), found, depth - 1);
        }
    }
}
