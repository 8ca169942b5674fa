//! Pods that admission refuses to create: a quota, a LimitRange, a Pod Security level, a wrong name in the spec.

use std::time::Duration;

use super::upgrade::{is_over, other_image, other_template, ready};
use super::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn serving(world: &World) -> usize {
    let serves = |pod: &&super::world::Pod| pod.state.containers_ready && pod.state.deleted.is_none();
    world.pods.iter().filter(serves).count()
}

#[test]
fn pods_that_were_never_created_come_from_the_mended_template() {
    let mut world = World::new();
    world.refused_memory.push("900Mi".to_owned());
    other_template(&mut world, "900Mi");
    world.run_for(HOUR);
    assert!(world.pods.is_empty());
    other_template(&mut world, "100Mi");
    world.run_for(Duration::from_secs(60));
    assert!(is_over(&world));
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn lost_pods_that_are_refused_come_from_the_mended_template() {
    let mut world = World::new();
    other_template(&mut world, "200Mi");
    world.run_until(World::is_ready);
    world.refused_memory.push("200Mi".to_owned());
    world.kill_pod(0);
    world.kill_pod(1);
    world.run_for(HOUR);
    assert!(world.pods.is_empty());
    other_template(&mut world, "100Mi");
    world.run_for(Duration::from_secs(60));
    assert_eq!(serving(&world), 2);
    world.run_until(is_over);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn a_surge_comes_to_its_end_though_a_lost_pod_is_refused() {
    for replicas in [2, 3] {
        let mut world = World::new();
        world.proxy.spec.replicas = replicas;
        other_template(&mut world, "200Mi");
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(120));
        world.refused_memory.push("200Mi".to_owned());
        world.kill_pod(replicas as usize - 1);
        world.run_for(Duration::from_secs(60));
        other_template(&mut world, "100Mi");
        world.run_for(Duration::from_secs(900));
        assert!(is_over(&world), "{replicas}: {:#?}", world.status());
    }
}

#[test]
fn a_pod_on_the_new_template_is_registered_when_no_registered_server_lives() {
    let mut world = World::new();
    other_template(&mut world, "200Mi");
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(120));
    // Only one of the new pods ever starts, so that the surge cannot go on.
    world.lame.push("mfa-3".to_owned());
    other_template(&mut world, "100Mi");
    world.run_until(|w| {
        w.pods
            .iter()
            .any(|pod| pod.state.name == "mfa-2" && pod.state.containers_ready)
    });
    world.refused_memory.push("200Mi".to_owned());
    world.lame.extend(["mfa-0".to_owned(), "mfa-1".to_owned()]);
    world.kill_pod(0);
    world.kill_pod(1);
    world.run_for(Duration::from_secs(60));
    let new = world.pods.iter().find(|pod| pod.state.name == "mfa-2").unwrap();
    let address = new.state.ips[0].to_string();
    assert!(world.aws.settings.as_ref().unwrap().servers.contains(&address));
    assert_eq!(world.aws.writes.len(), 2);
    // It stays until the others serve.
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 2, "{:#?}", world.aws.writes);
    world.lame.clear();
    for index in 0..world.pods.len() {
        world.kill_pod(index);
    }
    world.run_until(is_over);
}

#[test]
fn a_template_that_is_refused_takes_no_lost_pod_with_it() {
    for replicas in [1, 2, 3] {
        let mut world = World::new();
        world.proxy.spec.replicas = replicas;
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(120));
        world.refused_memory.push("900Mi".to_owned());
        other_template(&mut world, "900Mi");
        world.run_for(Duration::from_secs(60));
        for _ in 0..4 {
            world.kill_pod(0);
            world.run_for(Duration::from_secs(90));
            assert_eq!(serving(&world), replicas as usize);
        }
        other_template(&mut world, "100Mi");
        world.run_until(is_over);
    }
}

#[test]
fn a_pod_that_is_lost_while_a_new_image_does_not_start_comes_back_on_the_old_one() {
    let mut world = ready();
    world.bad_images.push("proxy:bad".to_owned());
    other_image(&mut world, "proxy:bad");
    world.run_for(Duration::from_secs(120));
    for _ in 0..4 {
        let index = world
            .pods
            .iter()
            .position(|pod| pod.running == "proxy:1")
            .unwrap();
        world.kill_pod(index);
        world.run_for(Duration::from_secs(90));
        assert_eq!(serving(&world), 2);
    }
}
