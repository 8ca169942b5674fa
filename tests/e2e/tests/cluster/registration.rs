//! What AWS is told, when, and that nobody notices.

use std::time::{Duration, Instant};

use e2e::{CONNECTOR_DIRECTORY, DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};

use crate::site::Site;
use crate::traffic::{assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, world};

#[test]
fn what_is_registered_is_the_pods_and_the_settings_that_were_asked_for() {
    let world = world();
    world.both_ready().unwrap();
    let pods = world.pods(DuoProxy::NAME).unwrap();
    let mut addresses: Vec<String> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["status"]["podIP"].as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    let mut registered = world
        .simulators
        .directory()
        .registered(MICROSOFT_DIRECTORY)
        .unwrap();
    registered.sort();
    assert_eq!(registered, addresses);
    let state = world.simulators.directory().state(MICROSOFT_DIRECTORY).unwrap();
    let settings = &state["radius"]["eu-central-1"]["settings"];
    assert_eq!(settings["radius_port"], 1812);
    assert_eq!(settings["radius_timeout"], 5);
    assert_eq!(settings["radius_retries"], 4);
    assert_eq!(settings["authentication_protocol"], "PAP");
    assert_eq!(settings["display_label"], "DUO");
    assert_eq!(settings["use_same_username"], true);
}

#[test]
fn the_two_proxies_are_in_different_zones() {
    let world = world();
    world.both_ready().unwrap();
    let object = world
        .kubectl
        .get(&["-n", NAMESPACE, "rp", DuoProxy::NAME])
        .unwrap();
    let zones: std::collections::BTreeSet<String> = object["status"]["registeredServers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["zone"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(zones.len(), 2, "{object}");
    assert_eq!(object["status"]["registeredCount"], 2);
    assert_eq!(object["status"]["desiredCount"], 2);
}

#[test]
fn a_pod_is_lost_and_its_successor_registered_with_one_write_and_no_login_lost() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    let old = directory.registered(MICROSOFT_DIRECTORY).unwrap();
    let (took, reports) = with_logins(world, || {
        world
            .kubectl
            .run(&["-n", NAMESPACE, "delete", "pod", "workspaces-0", "--wait=false"])
            .unwrap();
        let deleted = Instant::now();
        until("the new address to be registered", PATIENCE, || {
            let now = directory.registered(MICROSOFT_DIRECTORY)?;
            let status = directory.radius_status(MICROSOFT_DIRECTORY)?;
            let done = now != old && now.len() == 2 && status.as_deref() == Some("Completed");
            Ok(if done {
                Ok(())
            } else {
                Err(format!("{now:?} {status:?}"))
            })
        })
        .unwrap();
        deleted.elapsed()
    });
    println!(
        "from the pod's deletion to the new address registered: {:.1} s",
        took.as_secs_f64()
    );
    assert_nobody_noticed(&reports);
    let writes = directory.settings_writes(before, MICROSOFT_DIRECTORY).unwrap();
    assert_eq!(writes.len(), 1, "{writes:?}");
    world.both_ready().unwrap();
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    // A touched resource, a touched Secret, a killed operator: none of them is a change.
    world
        .kubectl
        .run(&[
            "-n",
            NAMESPACE,
            "annotate",
            "--overwrite",
            "rp",
            "--all",
            "example.com/touched=yes",
        ])
        .unwrap();
    world
        .kubectl
        .run(&[
            "-n",
            NAMESPACE,
            "label",
            "--overwrite",
            "secret",
            "duo",
            "touched=yes",
        ])
        .unwrap();
    let reads = |w: &World| w.simulators.directory().state(CONNECTOR_DIRECTORY).map(drop);
    reads(world).unwrap();
    world
        .kubectl
        .run(&[
            "-n",
            e2e::OPERATOR_NAMESPACE,
            "delete",
            "pods",
            "--all",
            "--grace-period=0",
            "--force",
        ])
        .unwrap();
    world
        .kubectl
        .run(&[
            "-n",
            e2e::OPERATOR_NAMESPACE,
            "rollout",
            "status",
            "deployment",
            "--timeout=120s",
        ])
        .unwrap();
    // The new leader has looked at both once it has acted on a change that needs no write.
    let limits = r#"{"spec":{"policy":{"limits":{"pushesPerUserPerMinute":7}}}}"#;
    world.patch(DuoProxy::NAME, limits).unwrap();
    world.both_ready().unwrap();
    let writes = directory.settings_writes(before, MICROSOFT_DIRECTORY).unwrap();
    assert!(writes.is_empty(), "{writes:?}");
    assert!(
        directory
            .settings_writes(before, CONNECTOR_DIRECTORY)
            .unwrap()
            .is_empty()
    );
}

/// More domain controllers than two; two again when this goes, also when a test fails.
struct DomainControllers<'a>(&'a World);

impl<'a> DomainControllers<'a> {
    fn scale(world: &'a World, replicas: u8) -> Self {
        Self::replicas(world, replicas).unwrap();
        Self(world)
    }

    fn replicas(world: &World, replicas: u8) -> anyhow::Result<()> {
        let replicas = format!("--replicas={replicas}");
        let scale = ["-n", e2e::SIMULATED, "scale", "statefulset", "dc", &replicas];
        world.kubectl.run(&scale).map(drop)
    }
}

impl Drop for DomainControllers<'_> {
    fn drop(&mut self) {
        if let Err(error) = Self::replicas(self.0, 2) {
            eprintln!("there are more than two domain controllers still: {error:#}");
        }
    }
}

#[test]
fn a_domain_controller_that_is_added_becomes_a_client() {
    let world = world();
    world.both_ready().unwrap();
    let added = DomainControllers::scale(world, 3);
    until("dc-2 to log somebody in", PATIENCE, || {
        let request = e2e::LoginRequest {
            username: "user1".to_owned(),
            password: "push".to_owned(),
            ..e2e::LoginRequest::default()
        };
        let login = world.simulators.controller("dc-2").login(&request)?;
        Ok(if login.outcome == "accept" {
            Ok(())
        } else {
            Err(login.outcome)
        })
    })
    .unwrap();
    let addresses = world.kubectl.get(&["-n", NAMESPACE, "rp", "workspaces"]).unwrap();
    assert_eq!(
        addresses["status"]["directory"]["clientAddresses"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    drop(added);
    world.both_ready().unwrap();
}

#[test]
fn a_deleted_resource_switches_radius_off_only_where_that_is_written() {
    let id = "d-90670000d1";
    let site = Site::new(id);
    let world = site.world;
    let directory = world.simulators.directory();
    site.grant("deletion", NAMESPACE);
    for (policy, left) in [("Retain", Some("Completed")), ("Disable", None)] {
        site.directory_of_type("MicrosoftAD");
        let manifest = crate::bad_input::totp_proxy("gone", NAMESPACE, id).replace(
            "    retries: 1\n",
            &format!("    retries: 1\n    deletionPolicy: {policy}\n    adoptionPolicy: Adopt\n"),
        );
        site.apply(NAMESPACE, &manifest);
        world.ready(NAMESPACE, "gone").unwrap();
        site.delete(NAMESPACE, "gone");
        let status = directory.radius_status(id).unwrap();
        assert_eq!(status.as_deref(), left, "{policy}");
        until("the pods to be gone", Duration::from_secs(120), || {
            let pods = world.pods("gone")?;
            let n = pods["items"].as_array().map_or(0, Vec::len);
            Ok(if n == 0 { Ok(()) } else { Err(format!("{n} pods")) })
        })
        .unwrap();
    }
}
