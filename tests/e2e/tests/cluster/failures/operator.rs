//! The operator dies while there is work to do; the other replica takes over.

use anyhow::Result;
use e2e::{MICROSOFT_DIRECTORY, OPERATOR_NAMESPACE, until};
use serde_json::json;

use super::aws::Behaviour;
use super::{delete_pod, full_set, kill_process_of, nobody_notices, ready_addresses};
use crate::bad_input::Faults;
use crate::world::{PATIENCE, World};

#[test]
fn the_operator_is_killed_while_a_pod_is_replaced() {
    nobody_notices("pod deleted, all operators killed meanwhile", 1, |world| {
        delete_pod(world, "workspaces-0");
        world.kill_operators();
    });
}

/// A step of the work for a lost pod, and whether it is reached.
type Step = (&'static str, fn(&World) -> Result<bool>);

/// As they follow each other. Of a write that AWS takes its time for, what it shows is long enough to be seen.
const STEPS: [Step; 5] = [
    ("the pod is lost", |world| Ok(ready_addresses(world)?.len() < 2)),
    ("its successor serves", |world| {
        Ok(ready_addresses(world)?.len() == 2 && !everybody_is_registered(world)?)
    }),
    ("the write is remembered, and under way", |world| {
        let name = format!("{MICROSOFT_DIRECTORY}.eu-central-1");
        let object = world.kubectl.get(&["dreg", &name])?;
        Ok(!object["status"]["pendingWrite"].is_null())
    }),
    ("AWS changes the settings", |world| {
        Ok(everybody_is_registered(world)? && radius_status(world)?.as_deref() == Some("Creating"))
    }),
    ("AWS has changed the settings", |world| {
        Ok(everybody_is_registered(world)? && radius_status(world)?.as_deref() == Some("Completed"))
    }),
];

fn everybody_is_registered(world: &World) -> Result<bool> {
    let registered = world.simulators.directory().registered(MICROSOFT_DIRECTORY)?;
    let have = ready_addresses(world)?;
    Ok(have.len() == 2 && registered.into_iter().collect::<std::collections::BTreeSet<_>>() == have)
}

fn radius_status(world: &World) -> Result<Option<String>> {
    world.simulators.directory().radius_status(MICROSOFT_DIRECTORY)
}

#[test]
#[ignore = "takes some minutes: `make failures` runs it"]
fn the_leading_operator_is_killed_at_every_step_of_a_pods_replacement() {
    nobody_notices(
        "five pods deleted one after another, the leading operator killed at another step of each one's replacement",
        STEPS.len(),
        |world| {
            let slow = json!([{"operation": "UpdateRadius", "kind": "delay", "delay_ms": 4000}]);
            let _faults = Faults::set(world, &slow);
            let usual = json!({"probe": {"min_creating_ms": 500}});
            let _behaviour = Behaviour::set(world, &json!({"probe": {"min_creating_ms": 6000}}), usual);
            for (step, reached) in STEPS {
                let leader = world.leader();
                let pod = world
                    .kubectl
                    .get(&["-n", OPERATOR_NAMESPACE, "pod", &leader])
                    .unwrap();
                delete_pod(world, "workspaces-0");
                until(step, PATIENCE, || {
                    Ok(if reached(world)? {
                        Ok(())
                    } else {
                        Err("not yet".to_owned())
                    })
                })
                .unwrap();
                kill_process_of(pod["metadata"]["uid"].as_str().unwrap(), "radius-mfa-operator");
                full_set(world);
            }
        },
    );
}
