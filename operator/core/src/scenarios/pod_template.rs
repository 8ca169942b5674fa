//! Overrides of the pod template, and what the status says of what runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::upgrade::is_over;
use super::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn override_template(world: &mut World, spec: &Value) {
    let overrides = serde_json::from_value(json!({"spec": spec})).unwrap();
    world.edit(|proxy| proxy.spec.pod_template = Some(overrides));
}

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(120));
    world
}

#[test]
fn overrides_are_rolled_out_without_a_registered_server_being_down() {
    let mut world = ready();
    world.most_down = Some(0);
    override_template(&mut world, &json!({"runtimeClassName": "kata"}));
    world.run_until(is_over);
    let set = &world.objects[&("StatefulSet".to_owned(), "mfa".to_owned())];
    assert_eq!(set["spec"]["template"]["spec"]["runtimeClassName"], "kata");
}

#[test]
fn refused_overrides_start_nothing_and_name_the_field() {
    let mut world = World::new();
    override_template(&mut world, &json!({"hostNetwork": true}));
    world.run_for(HOUR);
    let (status, reason, message) = world.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ConfigInvalid"));
    assert!(
        message.contains("spec.podTemplate.spec.hostNetwork cannot be changed"),
        "{message}"
    );
    assert!(world.pods.is_empty() && world.aws.writes.is_empty());
    override_template(&mut world, &json!({}));
    world.run_until(World::is_ready);
}

#[test]
fn refused_overrides_leave_the_running_pods_and_their_registration_alone() {
    let mut world = ready();
    world.most_down = Some(0);
    let uids =
        |world: &World| -> Vec<String> { world.pods.iter().map(|pod| pod.state.uid.clone()).collect() };
    let before = uids(&world);
    override_template(
        &mut world,
        &json!({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
    );
    // Another image and other resources wait with the rest.
    world.edit(|proxy| proxy.spec.image = Some("proxy:2".to_owned()));
    world.run_for(HOUR);
    assert_eq!((uids(&world), world.aws.writes.len()), (before, 1));
    assert_eq!(world.condition("Ready").1, "ConfigInvalid");
    world.most_down = None;
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_for(HOUR);
    assert_eq!((world.pods.len(), world.aws.writes.len()), (2, 2));
    world.most_down = Some(1);
    override_template(&mut world, &json!({}));
    world.run_until(is_over);
    assert!(world.pods.iter().all(|pod| pod.state.image == "proxy:2"));
}

#[test]
fn the_status_says_which_image_and_version_run_and_keeps_it_while_none_does() {
    let mut world = ready();
    let runs = |world: &World| (world.status().image, world.status().version);
    let of = |tag: &str| (Some(format!("proxy:{tag}")), Some(tag.to_owned()));
    assert_eq!(runs(&world), of("1"));
    assert_eq!(world.status().provider.as_deref(), Some("duo"));
    world.bad_images.push("proxy:bad".to_owned());
    world.edit(|proxy| proxy.spec.image = Some("proxy:bad".to_owned()));
    world.run_for(HOUR);
    assert_eq!(runs(&world), of("1"), "one of the two still runs");
    world.edit(|proxy| proxy.spec.image = Some("proxy:3".to_owned()));
    world.run_until(is_over);
    assert_eq!(runs(&world), of("3"));
}
