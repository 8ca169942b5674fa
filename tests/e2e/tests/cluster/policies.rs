//! Admission policies that forbid what the operator would do. Only that is left undone; the rest of the work goes on.

use std::collections::BTreeSet;

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};

use crate::admission::{AdmissionPolicy, Rule};
use crate::bad_input::totp_proxy;
use crate::failures::{delete_pod, full_set};
use crate::site::Site;
use crate::told::{event_with, ready_after_back_off, told, until_its_pods_are_registered};
use crate::traffic::{assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, world};

const NO_ANNOTATIONS: Rule = Rule {
    name: "annotations-of-pods",
    namespaces: &[NAMESPACE],
    resource: ("", "pods"),
    operations: &["UPDATE"],
    demands: "object.metadata.?annotations == oldObject.metadata.?annotations",
    says: "annotations of pods are immutable here",
};

const NO_BUDGETS: Rule = Rule {
    name: "no-budgets",
    namespaces: &["budgets"],
    resource: ("policy", "poddisruptionbudgets"),
    operations: &["CREATE", "UPDATE"],
    demands: "false",
    says: "budgets are for the platform team to create",
};

/// Waits until the status of `workspaces` is of its present spec and has the servers that AWS has.
fn until_status_follows(world: &World) {
    let directory = world.simulators.directory();
    until("the status to follow", PATIENCE, || {
        let proxy = world.kubectl.get(&["-n", NAMESPACE, "rp", DuoProxy::NAME])?;
        let conditions = proxy["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let ready = conditions.find(|condition| condition["type"] == "Ready");
        let current = ready.is_some_and(|c| c["observedGeneration"] == proxy["metadata"]["generation"]);
        let servers = proxy["status"]["registeredServers"]
            .as_array()
            .into_iter()
            .flatten();
        let shown: BTreeSet<String> = servers
            .filter_map(|server| server["address"].as_str().map(str::to_owned))
            .collect();
        let registered: BTreeSet<String> = directory.registered(MICROSOFT_DIRECTORY)?.into_iter().collect();
        Ok(if current && shown == registered {
            Ok(())
        } else {
            Err(format!(
                "current: {current}, {shown:?} shown, {registered:?} registered"
            ))
        })
    })
    .unwrap();
}

#[test]
fn where_pods_may_not_be_annotated_their_successors_are_registered_and_nobody_notices() {
    let world = world();
    world.both_ready().unwrap();
    let annotate = [
        "-n",
        NAMESPACE,
        "annotate",
        "pod",
        "workspaces-0",
        "example.com/probe=yes",
    ];
    let annotate = [&annotate[..], &["--dry-run=server"]].concat();
    let policy = AdmissionPolicy::in_force(world, &NO_ANNOTATIONS, &annotate, None);
    let ((), reports) = with_logins(world, || {
        let limits = r#"{"spec":{"policy":{"limits":{"pushesPerUserPerMinute":8}}}}"#;
        world.patch(DuoProxy::NAME, limits).unwrap();
        let message = told(world, NAMESPACE, DuoProxy::NAME, "ObjectRefused");
        assert!(
            message.contains(NO_ANNOTATIONS.says) && message.contains("workspaces-"),
            "{message}"
        );
        event_with(world, NAMESPACE, DuoProxy::NAME, &[NO_ANNOTATIONS.says]);
        until_status_follows(world);
    });
    assert_nobody_noticed(&reports);
    // One after the other: a login keeps the list that it began with, and ends before the second pod goes.
    for pod in ["workspaces-0", "workspaces-1"] {
        let ((), reports) = with_logins(world, || {
            delete_pod(world, pod);
            full_set(world);
            until_status_follows(world);
        });
        assert_nobody_noticed(&reports);
    }
    drop(policy);
    ready_after_back_off(world, NAMESPACE, DuoProxy::NAME);
}

#[test]
fn where_budgets_are_refused_a_lost_pods_successor_is_registered_all_the_same() {
    let name = "budgets";
    let site = Site::in_namespace("d-9067000111", name);
    let world = site.world;
    site.apply(name, &totp_proxy(name, name, site.directory));
    world.ready(name, name).unwrap();

    let create = [
        "-n",
        name,
        "create",
        "poddisruptionbudget",
        "probe",
        "--selector=app=probe",
    ];
    let create = [&create[..], &["--min-available=1", "--dry-run=server"]].concat();
    let policy = AdmissionPolicy::in_force(world, &NO_BUDGETS, &create, None);
    world
        .kubectl
        .run(&["-n", name, "delete", "poddisruptionbudget", "--all"])
        .unwrap();
    let message = told(world, name, name, "ObjectRefused");
    assert!(
        message.contains(NO_BUDGETS.says) && message.contains("PodDisruptionBudget"),
        "{message}"
    );
    world
        .kubectl
        .run(&["-n", name, "delete", "pod", "budgets-0"])
        .unwrap();
    until_its_pods_are_registered(&site, name, name, 1);
    drop(policy);
    ready_after_back_off(world, name, name);
    until("the budget to be there again", PATIENCE, || {
        let budgets = world.kubectl.get(&["-n", name, "poddisruptionbudgets"])?;
        let count = budgets["items"].as_array().map_or(0, Vec::len);
        Ok(if count == 1 {
            Ok(())
        } else {
            Err(format!("{count} budgets"))
        })
    })
    .unwrap();
}
