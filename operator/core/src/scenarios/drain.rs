//! Nodes are drained: an eviction waits while the pod is the last one that AWS can reach, and for nothing else.

use std::time::Duration;

use super::world::{Answer, Pod, World, data};
use crate::observed::RadiusStatus;

const HOUR: Duration = Duration::from_secs(3600);

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

/// The one pod that was there before, and the one that came after it.
fn old_and_new(world: &World) -> (usize, usize) {
    let is_new = |pod: &Pod| pod.state.uid == "pod-3";
    let new = world.pods.iter().position(is_new).unwrap();
    (1 - new, new)
}

#[test]
fn a_directory_that_never_completes_or_is_none_holds_up_no_drain() {
    let mut never_completes = World::new();
    never_completes.aws.answers.push_back(Answer::Sticks);
    let mut fails = World::new();
    fails.aws.answers.extend([Answer::Fails; 8]);
    let mut suspended = World::new();
    suspended.edit(|proxy| proxy.spec.suspend = true);
    let mut without = World::with(&serde_json::json!({
        "replicas": 2,
        "clients": [{"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": super::world::SECRET}}],
        "provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}},
    }));
    without
        .secrets
        .insert("duo".to_owned(), data(&[("ikey", "DI1"), ("skey", "k")]));
    for mut world in [never_completes, fails, suspended, without] {
        world.run_for(HOUR);
        assert!(world.pods.len() == 2 && world.pods.iter().all(|pod| pod.state.containers_ready));
        let told = world.condition("Registered");
        assert!(world.may_be_evicted(0) && world.may_be_evicted(1), "{told:?}");
    }
}

#[test]
fn the_last_registered_pod_is_evicted_once_aws_has_its_like() {
    let mut world = ready();
    assert!(world.may_be_evicted(0) && world.may_be_evicted(1));
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    let (old, new) = old_and_new(&world);
    assert_eq!(world.aws.status, Some(RadiusStatus::Creating));
    assert!(!world.may_be_evicted(old) && world.may_be_evicted(new));
    world.run_until(World::is_ready);
    assert!(world.may_be_evicted(old) && world.may_be_evicted(new));
}

#[test]
fn what_was_registered_once_stays_protected_while_writes_are_suspended() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.suspend = true);
    world.kill_pod(0);
    world.run_for(HOUR);
    let (old, new) = old_and_new(&world);
    // Without it nobody could log in: AWS knows no other.
    assert!(!world.may_be_evicted(old) && world.may_be_evicted(new));
    world.edit(|proxy| proxy.spec.suspend = false);
    world.run_until(World::is_ready);
    assert!(world.may_be_evicted(old));
}

#[test]
fn a_pod_that_aws_has_completed_stays_ready_whatever_aws_does_later() {
    let mut world = ready();
    world.aws.answers.extend([Answer::Fails; 8]);
    world.edit(|proxy| "VPN".clone_into(&mut proxy.spec.directory.as_mut().unwrap().display_label));
    world.run_for(HOUR);
    assert_eq!(world.condition("Registered").1, "RadiusFailed");
    assert!(world.pods.iter().all(Pod::is_ready));
    assert!(world.may_be_evicted(0) && world.may_be_evicted(1));
}

#[test]
fn a_pod_that_is_scaled_away_leaves_the_registration_first() {
    for replicas in [1, 2] {
        let mut world = World::new();
        world.proxy.spec.replicas = 3;
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(120));
        world.most_down = Some(0);
        world.edit(|proxy| proxy.spec.replicas = replicas);
        world.run_until(|w| w.pods.len() == replicas as usize && w.is_ready());
        world.run_for(HOUR);
        assert_eq!(world.aws.writes.len(), 2);
        assert_eq!(world.aws.writes[1].servers.len(), replicas as usize);
    }
}

#[test]
fn a_pod_that_is_scaled_away_and_back_costs_no_pod() {
    let mut world = World::new();
    world.proxy.spec.replicas = 3;
    world.run_until(World::is_ready);
    world.most_down = Some(0);
    world.edit(|proxy| proxy.spec.replicas = 2);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_for(Duration::from_secs(20));
    world.edit(|proxy| proxy.spec.replicas = 3);
    world.run_until(World::is_ready);
    assert!(world.pods.iter().all(|pod| pod.state.uid != "pod-4"));
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn what_is_scaled_away_stays_while_nothing_else_serves_or_aws_may_not_be_written_to() {
    let mut world = World::new();
    world.proxy.spec.replicas = 3;
    world.run_until(World::is_ready);
    world.edit(|proxy| proxy.spec.suspend = true);
    world.run_until(World::is_ready);
    world.edit(|proxy| proxy.spec.replicas = 1);
    world.run_for(HOUR);
    assert_eq!(world.pods.len(), 3);
    world.lame.push("mfa-0".to_owned());
    world.kill_pod(0);
    world.edit(|proxy| proxy.spec.suspend = false);
    world.run_for(HOUR);
    assert_eq!(world.pods.len(), 3);
    world.lame.clear();
    world.kill_pod(2);
    world.run_until(|w| w.pods.len() == 1 && w.is_ready());
}

#[test]
fn without_a_directory_a_pod_is_scaled_away_at_once() {
    let mut world = World::with(&serde_json::json!({
        "replicas": 3,
        "clients": [{"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": super::world::SECRET}}],
        "provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}},
    }));
    world.run_until(World::is_ready);
    world.edit(|proxy| proxy.spec.replicas = 2);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.pods.len(), 2);
}

#[test]
fn all_pods_lost_at_once_are_one_write_when_they_start_one_after_the_other() {
    let mut world = ready();
    world.kill_pod(0);
    world.kill_pod(1);
    world.run_until(|w| w.aws.writes.len() == 2);
    let ready = |pod: &&Pod| pod.state.containers_ready;
    assert_eq!(world.pods.iter().filter(ready).count(), 2);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 2);
    // Never longer than a few seconds.
    world.lame.push("mfa-1".to_owned());
    world.kill_pod(0);
    world.kill_pod(1);
    world.run_until(|w| {
        w.pods
            .iter()
            .any(|pod| pod.state.containers_ready && pod.state.deleted.is_none())
    });
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.aws.writes.len(), 3);
}
