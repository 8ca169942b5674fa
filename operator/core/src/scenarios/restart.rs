//! Restarts that people ask for.

use super::upgrade::{is_over, ready};
use super::world::World;
use crate::names::RESTARTED_AT_ANNOTATION;

fn uids(world: &World) -> Vec<String> {
    world.pods.iter().map(|pod| pod.state.uid.clone()).collect()
}

#[test]
fn a_rollout_restart_of_the_statefulset_replaces_every_pod_without_a_server_down() {
    let mut world = ready();
    world.most_down = Some(0);
    for times in 1..3 {
        let before = uids(&world);
        world.rollout_restart();
        world.run_until(|w| w.condition("Available").1 == "Upgrading");
        world.run_until(is_over);
        assert!(uids(&world).iter().all(|uid| !before.contains(uid)));
        assert_eq!(world.aws.writes.len(), 1 + 2 * times);
        world.run_for(std::time::Duration::from_secs(600));
    }
}

#[test]
fn another_time_in_the_annotations_of_the_spec_is_a_restart() {
    let mut world = ready();
    world.most_down = Some(0);
    world.rollout_restart();
    world.run_until(is_over);
    let before = uids(&world);
    world.edit(|proxy| {
        let at = "2026-06-01T00:00:00+02:00".to_owned();
        proxy
            .spec
            .annotations
            .insert(RESTARTED_AT_ANNOTATION.to_owned(), at);
    });
    world.run_until(is_over);
    assert!(uids(&world).iter().all(|uid| !before.contains(uid)));
    assert_eq!(world.aws.writes.len(), 5);
}

#[test]
fn the_later_of_two_restarts_counts() {
    let mut world = ready();
    world.edit(|proxy| {
        let at = "2026-01-01T00:00:00Z".to_owned();
        proxy
            .spec
            .annotations
            .insert(RESTARTED_AT_ANNOTATION.to_owned(), at);
    });
    world.run_until(is_over);
    let before = uids(&world);
    world.rollout_restart();
    world.run_until(|w| w.condition("Available").1 == "Upgrading");
    world.run_until(is_over);
    assert!(uids(&world).iter().all(|uid| !before.contains(uid)));
}
