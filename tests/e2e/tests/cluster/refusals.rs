//! Pods that admission refuses: the RadiusProxy says why, and a mended spec is enough to get them.

use e2e::until;
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::settling::serves_since;
use crate::site::{Site, proxy_without_directory};
use crate::told::{event_with, until_its_pods_are_registered};
use crate::world::{PATIENCE, World};

/// Requests and limits that every quota and limit of these tests admits.
const SMALL: &str = r#"{"spec":{"resources":{"requests":{"cpu":"50m","memory":"32Mi"},"limits":{"cpu":"500m","memory":"96Mi"}}}}"#;

/// Waits until a RadiusProxy says in the refuser's words why its pods are not created, in its condition and in an Event.
fn pods_are_refused(world: &World, namespace: &str, name: &str, words: &str) {
    until(&format!("{name} to say {words:?}"), PATIENCE, || {
        let condition = world.condition(namespace, name, "Ready");
        let message = condition["message"].as_str().unwrap_or_default();
        let told = condition["reason"] == "PodsRefused" && message.contains(words);
        Ok(if told && condition["status"] == "False" {
            Ok(())
        } else {
            Err(condition.to_string())
        })
    })
    .unwrap();
    let event = event_with(world, namespace, name, &[words]);
    assert_eq!(event["type"], "Warning", "{event}");
}

/// From now on containers of the namespace may have 100 MiB at most.
fn limit_memory(site: &Site, namespace: &str) {
    let range = json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "memory", "namespace": namespace},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "100Mi"}}]},
    });
    site.apply(namespace, &range.to_string());
}

#[test]
fn pods_that_were_refused_from_the_start_come_once_the_spec_is_mended() {
    let namespace = "refused-at-once";
    let site = Site::in_namespace("d-9067000101", namespace);
    let world = site.world;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "cpu", "namespace": namespace},
        "spec": {"hard": {"requests.cpu": "4", "limits.cpu": "4"}},
    });
    site.apply(namespace, &quota.to_string());
    site.apply(namespace, &totp_proxy("quota", namespace, site.directory));
    let typo = r#"{"spec":{"scheduling":{"priorityClassName":"high-priorty"}}}"#;
    site.apply(namespace, &proxy_without_directory("typo", namespace));
    world.patch_in(namespace, "typo", SMALL).unwrap();
    world.patch_in(namespace, "typo", typo).unwrap();

    pods_are_refused(world, namespace, "quota", "must specify limits.cpu");
    pods_are_refused(
        world,
        namespace,
        "typo",
        "no PriorityClass with name high-priorty",
    );
    let right = typo.replace("\"high-priorty\"", "null");
    world.patch_in(namespace, "typo", &right).unwrap();
    world.patch_in(namespace, "quota", SMALL).unwrap();
    for name in ["quota", "typo"] {
        world.ready(namespace, name).unwrap();
    }
    until_its_pods_are_registered(&site, namespace, "quota", 1);
}

#[test]
fn pods_that_are_lost_and_refused_come_once_the_spec_is_mended() {
    let (namespace, name) = ("refused-later", "lost");
    let site = Site::in_namespace("d-9067000102", namespace);
    let world = site.world;
    site.apply(namespace, &totp_proxy(name, namespace, site.directory));
    world.ready(namespace, name).unwrap();
    limit_memory(&site, namespace);
    world.kill_pod_in(namespace, "lost-0");
    pods_are_refused(world, namespace, name, "maximum memory usage");
    world.patch_in(namespace, name, SMALL).unwrap();
    world.ready(namespace, name).unwrap();
    until_its_pods_are_registered(&site, namespace, name, 1);
}

#[test]
#[ignore = "takes two minutes: `make test-long` runs it"]
fn a_surge_goes_on_where_a_lost_pod_is_refused_and_its_serving_pods_are_registered() {
    let (namespace, name) = ("refused-half", "half");
    let site = Site::in_namespace("d-9067000103", namespace);
    let world = site.world;
    let two = totp_proxy(name, namespace, site.directory).replace("replicas: 1", "replicas: 2");
    site.apply(namespace, &two);
    world.ready(namespace, name).unwrap();
    limit_memory(&site, namespace);
    world.kill_pod_in(namespace, "half-1");
    pods_are_refused(world, namespace, name, "maximum memory usage");
    world.patch_in(namespace, name, SMALL).unwrap();
    // The other pod of the old template is lost while the surge is under way. What serves by then is registered.
    until("a pod with the mended template to serve", PATIENCE, || {
        let pods = world.kubectl.get(&["-n", namespace, "pods"])?;
        let mended = |pod: &Value| {
            let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
            limits["memory"] == "96Mi" && serves_since(pod).is_some()
        };
        let all = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(if all.iter().any(mended) {
            Ok(())
        } else {
            Err(format!("{} pods", all.len()))
        })
    })
    .unwrap();
    world.kill_pod_in(namespace, "half-0");
    world.ready(namespace, name).unwrap();
    until_its_pods_are_registered(&site, namespace, name, 2);
}
