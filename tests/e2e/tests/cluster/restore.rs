//! What a backup brings back: objects without owners and uids. And what it could be mistaken for: a planted Secret.

use e2e::{CONNECTOR_DIRECTORY, LoginRequest, NAMESPACE, TotpProxy, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::told::{event_with, until_its_pods_are_registered};
use crate::world::{PATIENCE, World, unused_code};

/// The kinds that the operator creates for a RadiusProxy.
const KINDS: &str = "secrets,configmaps,serviceaccounts,roles,rolebindings,services,statefulsets,poddisruptionbudgets,\
                     networkpolicies,leases";

/// What belongs to a RadiusProxy.
fn children(world: &World, namespace: &str, name: &str) -> anyhow::Result<Vec<Value>> {
    let selector = format!("radius-mfa.dev/proxy={name}");
    let list = world.kubectl.get(&["-n", namespace, KINDS, "-l", &selector])?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// An object as a backup keeps it: of its metadata only name, namespace, labels and annotations.
fn backed_up(object: &Value) -> Value {
    let mut kept = object.clone();
    kept.as_object_mut().unwrap().remove("status");
    let metadata = &object["metadata"];
    kept["metadata"] = json!({
        "name": metadata["name"], "namespace": metadata["namespace"],
        "labels": metadata["labels"], "annotations": metadata["annotations"],
    });
    kept
}

/// A digest of the shared secret that AWS has for a directory.
fn secret_at_aws(world: &World, directory: &str) -> Value {
    let mut state = world.simulators.directory().state(directory).unwrap();
    state["radius"]["eu-central-1"]["shared_secret_digest"].take()
}

#[test]
fn restored_objects_without_owners_are_adopted_with_their_shared_secret_and_people_log_in() {
    let name = "restored";
    let site = Site::new("d-9067000121");
    let world = site.world;
    site.directory(&json!({"type": "MicrosoftAD", "name": "restored.example.com"}));
    site.domain_controllers("restored-dc");
    site.namespace(name);
    site.grant(name, name);
    let manifest = totp_proxy(name, name, site.directory);
    site.apply(name, &manifest);
    world.ready(name, name).unwrap();

    let backup: Vec<Value> = children(world, name, name)
        .unwrap()
        .iter()
        .map(backed_up)
        .collect();
    let secret = secret_at_aws(world, site.directory);
    assert!(backup.len() >= 8 && secret.is_string(), "{backup:?} {secret}");
    site.delete(name, name);
    until("everything to be gone", PATIENCE, || {
        let left = children(world, name, name)?.len();
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} objects"))
        })
    })
    .unwrap();

    let list = json!({"apiVersion": "v1", "kind": "List", "items": backup}).to_string();
    world
        .kubectl
        .run_with(&["-n", name, "create", "-f", "-"], Some(&list))
        .unwrap();
    site.apply(name, &manifest);
    event_with(world, name, name, &["adopted", "StatefulSet"]);
    world.ready(name, name).unwrap();
    until_its_pods_are_registered(&site, name, name, 1);
    assert_eq!(secret_at_aws(world, site.directory), secret);
    let unowned: Vec<Value> = children(world, name, name)
        .unwrap()
        .iter()
        .filter(|object| object["metadata"]["ownerReferences"][0]["kind"] != "RadiusProxy")
        .map(|object| object["metadata"]["name"].clone())
        .collect();
    assert!(unowned.is_empty(), "{unowned:?}");
    let request = LoginRequest {
        username: "bob".to_owned(),
        password: unused_code(),
        ..LoginRequest::default()
    };
    let controller = world.simulators.controller("restored-dc-0");
    let login = controller.login(&request).unwrap();
    assert_eq!(login.outcome, "accept", "{login:?}");
}

#[test]
fn a_secret_that_somebody_planted_under_our_labels_is_never_the_shared_secret() {
    let name = "planted";
    let site = Site::in_namespace("d-9067000122", name);
    let world = site.world;
    world.both_ready().unwrap();
    // One that is well-formed and that the planter knows.
    let known = format!("{}-radius-secrets", TotpProxy::NAME);
    let known = world.kubectl.get(&["-n", NAMESPACE, "secret", &known]).unwrap();
    let mut planted = backed_up(&known);
    planted["metadata"]["namespace"] = json!(name);
    planted["metadata"]["name"] = json!(format!("{name}-radius-secrets"));
    for (_, label) in planted["metadata"]["labels"].as_object_mut().unwrap() {
        if *label == TotpProxy::NAME {
            *label = json!(name);
        }
    }
    site.apply(name, &planted.to_string());
    site.apply(name, &totp_proxy(name, name, site.directory));
    world.ready(name, name).unwrap();
    let of_its_own = secret_at_aws(world, site.directory);
    assert!(of_its_own.is_string(), "{of_its_own}");
    assert_ne!(of_its_own, secret_at_aws(world, CONNECTOR_DIRECTORY));
}
