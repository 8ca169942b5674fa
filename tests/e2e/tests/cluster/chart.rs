//! The chart: installed in the world's making, upgraded here.

use e2e::{MICROSOFT_DIRECTORY, OPERATOR_NAMESPACE, until};

use crate::world::{PATIENCE, world};

#[test]
fn an_upgrade_of_the_release_changes_nothing_for_the_proxies() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    world
        .install()
        .run(&world.simulators, &["logFormat=json,podAnnotations.upgraded=yes"])
        .unwrap();
    world
        .kubectl
        .run(&[
            "-n",
            OPERATOR_NAMESPACE,
            "rollout",
            "status",
            "deployment",
            "--timeout=120s",
        ])
        .unwrap();
    world.both_ready().unwrap();
    assert!(
        directory
            .settings_writes(before, MICROSOFT_DIRECTORY)
            .unwrap()
            .is_empty()
    );
    let crds = world
        .kubectl
        .run(&["get", "crd", "radiusproxies.radius-mfa.dev", "-o", "yaml"])
        .unwrap();
    assert!(crds.contains("helm.sh/resource-policy: keep"));
}

#[test]
fn the_operator_is_two_pods_and_one_leader() {
    let world = world();
    let args = [
        "-n",
        OPERATOR_NAMESPACE,
        "pods",
        "-l",
        "app.kubernetes.io/name=radius-mfa-operator",
    ];
    // Those of an upgrade a moment ago may still be ending.
    let pods = until("two operators to be there and no third", PATIENCE, || {
        let pods = world.kubectl.get(&args)?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        Ok(if count == 2 {
            Ok(pods)
        } else {
            Err(format!("{count} pods"))
        })
    })
    .unwrap();
    let leases = world.kubectl.get(&["-n", OPERATOR_NAMESPACE, "leases"]).unwrap();
    let holder = leases["items"][0]["spec"]["holderIdentity"].as_str().unwrap();
    assert!(
        pods.to_string().contains(holder),
        "{holder} is no pod of the operator"
    );
}
