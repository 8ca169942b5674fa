//! Other images and other templates. That no more registered servers are down than allowed is checked by the world in
//! each step.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::world::{Answer, Pod, World};
use crate::api::AddressSource;
use crate::aws::AwsErrorClass;
use crate::observed::SurgePhase;

pub(super) fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    // AWS has no list before the present one any more.
    world.run_for(Duration::from_secs(120));
    world
}

pub(super) fn other_image(world: &mut World, image: &str) {
    world.edit(|proxy| proxy.spec.image = Some(image.to_owned()));
}

/// Something that no kubelet can change in a running pod.
pub(super) fn other_template(world: &mut World, limit: &str) {
    let resources: ResourceRequirements =
        serde_json::from_value(serde_json::json!({"limits": {"memory": limit}})).unwrap();
    world.edit(|proxy| proxy.spec.resources = Some(resources));
}

pub(super) fn is_over(world: &World) -> bool {
    let new = &world.revisions.update;
    world.is_ready()
        && world.status().observed_generation == world.proxy.metadata.generation
        && world.pods.len() == world.proxy.spec.replicas as usize
        && world
            .pods
            .iter()
            .all(|pod| pod.state.revision.as_ref() == Some(new))
        && world.revisions.current == *new
}

fn addresses(world: &World) -> Vec<String> {
    world
        .pods
        .iter()
        .map(|pod| pod.state.ips[0].to_string())
        .collect()
}

#[test]
fn another_image_is_changed_in_place_one_pod_after_the_other_without_a_write() {
    let mut world = ready();
    let before = addresses(&world);
    world.most_down = Some(1);
    other_image(&mut world, "proxy:2");
    world.run_until(|w| w.condition("Available").1 == "Upgrading");
    assert!(!world.is_ready());
    world.run_until(is_over);
    assert_eq!(addresses(&world), before);
    assert!(world.pods.iter().all(|pod| pod.state.image == "proxy:2"));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 1);
    let told = |reason: &str| world.events.iter().filter(|e| *e == reason).count();
    assert_eq!((told("UpgradeStarted"), told("UpgradeCompleted")), (1, 1));
}

#[test]
fn an_image_that_does_not_start_touches_no_registered_pod_and_the_next_one_mends_it() {
    let mut world = ready();
    world.most_down = Some(0);
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    world.run_for(Duration::from_secs(3600));
    let images: Vec<&str> = world.pods.iter().map(|pod| pod.state.image.as_str()).collect();
    assert_eq!(images, ["proxy:1", "proxy:1", "proxy:bad"]);
    let (status, reason, message) = world.condition("Available");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Upgrading"));
    assert!(message.contains("mfa-2 is not ready"), "{message}");
    assert!(
        world.may_be_evicted(0),
        "a pod that does not start blocks no drain"
    );
    world.most_down = Some(1);
    other_image(&mut world, "proxy:3");
    world.run_until(is_over);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn an_image_that_does_not_start_can_be_taken_back() {
    let mut world = ready();
    world.most_down = Some(0);
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    world.run_for(Duration::from_secs(600));
    world.edit(|proxy| proxy.spec.image = None);
    world.run_until(is_over);
    assert!(world.pods.iter().all(|pod| pod.state.image == "proxy:1"));
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn an_image_is_changed_while_writes_are_suspended() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.suspend = true);
    world.most_down = Some(1);
    other_image(&mut world, "proxy:2");
    world.run_until(is_over);
}

#[test]
fn a_pod_that_is_lost_in_the_middle_comes_back_and_the_rest_follows() {
    let mut world = ready();
    other_image(&mut world, "proxy:2");
    world.run_until(|w| w.pods.iter().any(|pod| pod.state.image == "proxy:2"));
    world.kill_pod(0);
    world.run_until(is_over);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn a_template_that_needs_new_pods_is_two_writes_and_no_registered_server_is_down() {
    for replicas in [1, 2, 3] {
        let mut world = World::new();
        world.proxy.spec.replicas = replicas;
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(120));
        world.most_down = Some(0);
        other_template(&mut world, "300Mi");
        world.run_until(|w| w.surge().is_some_and(|s| s.phase == SurgePhase::Moved));
        assert_eq!(world.status().replicas, replicas);
        world.run_until(is_over);
        assert_eq!(world.surge(), None);
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 3, "{:#?}", world.aws.writes);
        let mut servers = world.aws.writes[2].servers.clone();
        servers.sort();
        assert_eq!(servers, addresses(&world));
    }
}

#[test]
fn when_an_image_may_not_be_changed_in_place_new_pods_are_made() {
    let mut world = ready();
    world.refuses_patches = true;
    world.most_down = Some(0);
    other_image(&mut world, "proxy:2");
    world.run_until(|w| w.surge().is_some());
    // Another leader does not begin anew.
    world.crash_after = Some(1);
    world.run_until(is_over);
    assert!(world.pods.iter().all(|pod| pod.state.image == "proxy:2"));
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn a_template_that_does_not_start_takes_nothing_down_and_can_be_taken_back() {
    let mut world = ready();
    let before = addresses(&world);
    world.most_down = Some(0);
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    // In one round with the image, so that it is new pods.
    other_template(&mut world, "300Mi");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.surge().unwrap().phase, SurgePhase::Starting);
    assert_eq!((world.pods.len(), world.aws.writes.len()), (4, 1));
    world.edit(|proxy| {
        proxy.spec.image = None;
        proxy.spec.resources = None;
    });
    world.run_until(is_over);
    assert_eq!((addresses(&world), world.aws.writes.len()), (before, 1));
}

#[test]
fn a_second_template_in_the_middle_costs_no_third_write() {
    let mut world = ready();
    world.most_down = Some(0);
    other_template(&mut world, "300Mi");
    world.run_until(|w| w.aws.writes.len() == 2);
    other_template(&mut world, "400Mi");
    world.run_until(is_over);
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn pods_are_not_replaced_while_aws_may_not_be_written_to() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.suspend = true);
    world.most_down = Some(0);
    other_template(&mut world, "300Mi");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.pods.len(), 2);
    assert!(!world.is_upgrading(), "it takes no place of another one's");
    world.edit(|proxy| proxy.spec.suspend = false);
    world.run_until(World::is_upgrading);
    world.run_until(is_over);
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn pods_that_never_served_are_replaced_at_once() {
    let mut world = World::new();
    world.bad_images.push("proxy:1".to_owned());
    world.run_for(Duration::from_secs(60));
    world.edit(|proxy| proxy.spec.image = Some("proxy:2".to_owned()));
    other_template(&mut world, "300Mi");
    world.run_until(is_over);
    assert_eq!((world.aws.writes.len(), world.surge()), (1, None));
}

#[test]
fn behind_a_load_balancer_pods_are_replaced_one_by_one_without_a_write() {
    let mut world = World::new();
    world.proxy.spec.addresses.source = AddressSource::LoadBalancer;
    world.balance(&["lb.example.com"]);
    world.answer("lb.example.com", &["10.1.1.1"]);
    world.run_until(World::is_ready);
    other_template(&mut world, "300Mi");
    let mut least = usize::MAX;
    while !is_over(&world) {
        world.run_for(Duration::from_secs(1));
        let alive = world
            .pods
            .iter()
            .filter(|pod| pod.state.containers_ready && pod.state.deleted.is_none());
        least = least.min(alive.count());
    }
    assert_eq!((least, world.aws.writes.len()), (1, 1));
}

#[test]
fn a_surge_survives_errors_and_crashes() {
    for crash in (0..30).step_by(4) {
        let mut world = ready();
        world.most_down = Some(0);
        other_template(&mut world, "300Mi");
        world.run_until(|w| w.surge().is_some());
        world.crash_after = Some(crash);
        world
            .aws
            .answers
            .push_back(Answer::Error(AwsErrorClass::Throttled));
        world.run_until(|w| w.surge().is_some_and(|s| s.phase == SurgePhase::Moved));
        world.crash_after = Some(crash);
        world.run_until(|w| w.surge().is_some_and(|s| s.phase == SurgePhase::Returning));
        world.crash_after = Some(crash);
        world.run_until(is_over);
        assert_eq!(world.aws.writes.len(), 3, "{crash}");
    }
}

#[test]
fn an_eviction_is_possible_while_new_pods_do_not_start() {
    let mut world = ready();
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    other_template(&mut world, "300Mi");
    world.run_for(Duration::from_secs(600));
    let budget = |world: &World| {
        let budget = &world.objects[&("PodDisruptionBudget".to_owned(), "mfa".to_owned())];
        budget["spec"]["maxUnavailable"].as_u64()
    };
    // Two that are not ready and not registered, and one more.
    assert_eq!(budget(&world), Some(3));
    world.edit(|proxy| proxy.spec.image = Some("proxy:3".to_owned()));
    world.run_until(is_over);
    world.run_for(Duration::from_secs(5));
    assert_eq!(budget(&world), Some(1));
}

#[test]
fn a_new_image_is_ready_once_in_an_unregistered_pod_before_a_registered_one_is_touched() {
    for replicas in [1, 2, 3] {
        let mut world = World::new();
        world.proxy.spec.replicas = replicas;
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(120));
        let before = addresses(&world);
        world.most_down = Some(0);
        other_image(&mut world, "proxy:2");
        let name = format!("mfa-{replicas}");
        let is_ready = |w: &World| {
            w.pods
                .iter()
                .any(|pod| pod.state.name == name && pod.running == "proxy:2" && pod.state.containers_ready)
        };
        world.run_until(is_ready);
        world.most_down = Some(1);
        world.run_until(is_over);
        assert_eq!((addresses(&world), world.aws.writes.len()), (before, 1));
    }
}

#[test]
fn a_pod_that_does_not_run_gets_the_new_image_at_once() {
    let mut world = World::new();
    world.bad_images.push("proxy:1".to_owned());
    world.run_for(Duration::from_secs(60));
    other_image(&mut world, "proxy:2");
    world.run_for(Duration::from_secs(2));
    assert!(world.pods.len() == 2 && world.pods.iter().all(|pod| pod.state.image == "proxy:2"));
    world.run_until(is_over);
}

#[test]
fn behind_a_load_balancer_a_template_that_does_not_start_replaces_no_pod() {
    for replicas in [1, 2] {
        let mut world = World::new();
        world.proxy.spec.replicas = replicas;
        world.proxy.spec.addresses.source = AddressSource::LoadBalancer;
        world.balance(&["lb.example.com"]);
        world.answer("lb.example.com", &["10.1.1.1"]);
        world.run_until(World::is_ready);
        world.bad_images.push("proxy:bad".to_owned());
        other_image(&mut world, "proxy:bad");
        other_template(&mut world, "300Mi");
        for _ in 0..3 {
            world.run_for(Duration::from_secs(120));
            let old = |pod: &&Pod| pod.running == "proxy:1" && pod.state.containers_ready;
            assert_eq!(world.pods.iter().filter(old).count(), replicas as usize);
            world.kill_pod(0);
        }
        world.edit(|proxy| proxy.spec.image = None);
        world.run_until(is_over);
    }
}

#[test]
fn an_image_that_a_policy_puts_back_is_no_upgrade_that_is_over() {
    let mut world = ready();
    world.reverts_images = true;
    world.most_down = Some(0);
    other_image(&mut world, "proxy:2");
    world.run_until(is_over);
    assert!(world.pods.iter().all(|pod| pod.running == "proxy:2"));
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn a_second_image_while_the_container_drains_is_over_when_it_runs() {
    let mut world = ready();
    world.drain = Duration::from_secs(20);
    other_image(&mut world, "proxy:2");
    world.run_until(|w| w.pods.iter().any(|pod| pod.state.in_place.is_some()));
    world.run_for(Duration::from_secs(5));
    other_image(&mut world, "proxy:3");
    // The world compares label and image in each step.
    world.run_until(is_over);
    assert!(world.pods.iter().all(|pod| pod.running == "proxy:3"));
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn an_upgrade_that_leaves_too_few_proxies_for_a_while_is_told_once() {
    let mut world = World::new();
    world.proxy.spec.replicas = 1;
    world.run_until(World::is_ready);
    other_image(&mut world, "proxy:2");
    world.run_until(is_over);
    let told = |world: &World, reason: &str| world.events.iter().filter(|e| *e == reason).count();
    assert_eq!(
        (told(&world, "UpgradeStarted"), told(&world, "UpgradeCompleted")),
        (1, 1)
    );
    // Over while both proxies are away: the end is told, too.
    let mut world = ready();
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    world.run_for(Duration::from_secs(60));
    world.restart_container(0);
    world.restart_container(1);
    world.edit(|proxy| proxy.spec.image = None);
    world.run_until(is_over);
    assert_eq!(
        (told(&world, "UpgradeStarted"), told(&world, "UpgradeCompleted")),
        (1, 1)
    );
}

#[test]
fn a_rollout_waits_for_its_turn_and_one_that_is_under_way_goes_on() {
    for template in [false, true] {
        let mut world = ready();
        let uids = |world: &World| world.pods.iter().map(|p| p.state.uid.clone()).collect::<Vec<_>>();
        let before = uids(&world);
        world.may_begin = false;
        other_image(&mut world, "proxy:2");
        if template {
            other_template(&mut world, "300Mi");
        }
        world.run_for(Duration::from_secs(900));
        assert_eq!(uids(&world), before);
        assert!(world.pods.iter().all(|pod| pod.running == "proxy:1"));
        let (_, reason, message) = world.condition("Available");
        assert!(reason == "Upgrading" && message.contains("waits"), "{message}");
        assert!(!world.events.iter().any(|event| event == "UpgradeStarted"));
        world.may_begin = true;
        world.run_until(|w| w.pods.len() > 2);
        world.may_begin = false;
        world.run_until(is_over);
        assert!(world.pods.iter().all(|pod| pod.running == "proxy:2"));
    }
}
