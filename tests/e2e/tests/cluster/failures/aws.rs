//! AWS fails while a pod is replaced: what is registered goes on answering, and the one write comes when AWS takes it.

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};
use serde_json::{Value, json};

use super::{delete_pod, full_set, nobody_notices, ready_addresses, successor_serves};
use crate::bad_input::Faults;
use crate::world::{PATIENCE, World};

/// Replaces a pod while AWS meets every call with that fault: until the successor serves, and then until a write has met it.
/// From then on what is only read is answered, since nothing is written by what is not known.
fn until_a_write_has_met(world: &World, fault: &Value) {
    let faulty = |operation: &str| {
        let mut fault = fault.clone();
        fault["operation"] = json!(operation);
        json!([fault])
    };
    let directory = world.simulators.directory();
    let since = directory.last_write().unwrap();
    let faults = Faults::set(world, &faulty("*"));
    let before = ready_addresses(world).unwrap();
    delete_pod(world, "workspaces-1");
    successor_serves(world, &before);
    faults.change(&faulty("UpdateRadius"));
    until("a write to meet the fault", PATIENCE, || {
        let met = directory.unmade_writes(since, MICROSOFT_DIRECTORY)?;
        Ok(if met.is_empty() {
            Err("none has".to_owned())
        } else {
            Ok(())
        })
    })
    .unwrap();
    drop(faults);
}

/// Settings of the simulated AWS; undone when this goes, also when a test fails.
pub(super) struct Behaviour<'a>(&'a World, Value);

impl<'a> Behaviour<'a> {
    pub(super) fn set(world: &'a World, settings: &Value, undo: Value) -> Self {
        let set = Self(world, undo);
        world.simulators.directory().set_settings(settings).unwrap();
        set
    }
}

impl Drop for Behaviour<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.simulators.directory().set_settings(&self.1) {
            eprintln!("AWS stays as it was made for the test: {error:#}");
        }
    }
}

#[test]
#[ignore = "takes more than a minute: `make failures` runs it"]
fn aws_answers_with_errors_while_a_pod_is_replaced() {
    let fault = json!({"kind": "error", "code": "ServiceException"});
    nobody_notices(
        "AWS answers 500 to everything while a pod is replaced, and to the write",
        1,
        |world| until_a_write_has_met(world, &fault),
    );
}

#[test]
#[ignore = "takes more than a minute: `make failures` runs it"]
fn aws_does_not_answer_while_a_pod_is_replaced() {
    let fault = json!({"kind": "hang"});
    nobody_notices(
        "AWS does not answer while a pod is replaced, nor the write",
        1,
        |world| until_a_write_has_met(world, &fault),
    );
}

#[test]
fn aws_is_slow_while_a_pod_is_replaced() {
    nobody_notices(
        "AWS takes 5 s for each answer and 20 s for each change while a pod is replaced",
        1,
        |world| {
            let fault = json!([{"operation": "*", "kind": "delay", "delay_ms": 5000}]);
            let _faults = Faults::set(world, &fault);
            let usual = json!({"probe": {"min_creating_ms": 500}});
            let _behaviour = Behaviour::set(world, &json!({"probe": {"min_creating_ms": 20000}}), usual);
            delete_pod(world, "workspaces-0");
            full_set(world);
        },
    );
}

#[test]
fn aws_throttles_while_a_pod_is_replaced() {
    nobody_notices("AWS throttles the write while a pod is replaced", 1, |world| {
        let fault = json!([{"operation": "UpdateRadius", "kind": "error", "code": "ThrottlingException", "times": 2}]);
        let _faults = Faults::set(world, &fault);
        delete_pod(world, "workspaces-0");
        full_set(world);
    });
}

#[test]
fn an_answer_of_aws_is_lost_while_a_pod_is_replaced() {
    nobody_notices("AWS's answer to the write is lost", 1, |world| {
        let fault = json!([{"operation": "UpdateRadius", "kind": "lost", "times": 1}]);
        let _faults = Faults::set(world, &fault);
        delete_pod(world, "workspaces-1");
        full_set(world);
    });
}

#[test]
#[ignore = "takes six minutes: `make failures` runs it"]
fn aws_reports_failed_for_a_while() {
    // Each try blocks logins, so the second one comes after five minutes: two writes, and no more.
    nobody_notices(
        "AWS reports Failed for the write after a pod's loss",
        2,
        |world| {
            let usual = json!({"probe": {"mode": "controllers"}});
            let behaviour = Behaviour::set(world, &json!({"probe": {"mode": "fail"}}), usual);
            delete_pod(world, "workspaces-0");
            let told = world.reason(NAMESPACE, DuoProxy::NAME, "Registered", "False", "RadiusFailed");
            assert!(told.contains("The next try is at"), "{told}");
            drop(behaviour);
            full_set(world);
        },
    );
}
