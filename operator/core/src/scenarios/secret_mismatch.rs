//! Somebody changes nothing but the shared secret at AWS: no description shows it, and every login fails.

use std::net::IpAddr;
use std::time::Duration;

use super::ownership::policy;
use super::world::{Answer, World};
use crate::api::{AdoptionPolicy, DriftPolicy};
use crate::aws::{AwsErrorClass, AwsOperation};

const DC1: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));
const DC2: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));
const HOUR: Duration = Duration::from_secs(3600);

/// Registered, and people have logged in through two domain controllers.
fn working(replicas: u32, drift: DriftPolicy) -> World {
    let mut world = World::new();
    world.proxy.spec.replicas = replicas;
    world.aws.clients.insert(DC2);
    policy(&mut world, AdoptionPolicy::Refuse, drift);
    world.run_until(World::is_ready);
    world.logins_for(Duration::from_secs(180));
    assert!(world.is_ready());
    world
}

fn logins_work(world: &World) -> bool {
    world.aws.secret == b"the first secret"
}

#[test]
fn a_secret_that_was_changed_at_aws_is_told_and_written_back_once() {
    for replicas in [1, 2] {
        for drift in [DriftPolicy::Repair, DriftPolicy::Enforce] {
            let mut world = working(replicas, drift);
            world.change_secret_at_aws();
            let changed = world.now;
            world.traffic = Some(Duration::from_secs(15));
            world.run_until(|w| w.condition("Registered").1 == "SecretMismatch");
            let (status, _, message) = world.condition("Registered");
            assert_eq!(status, "False");
            assert!(
                message.contains("10.0.0.10")
                    && message.contains("10.0.0.11")
                    && message.contains("CloudTrail"),
                "{message}"
            );
            world.run_until(logins_work);
            let took = world.now.duration_since(changed).as_secs();
            assert!((60..300).contains(&took), "{took}");
            assert_eq!(
                world.aws.writes.last().unwrap().operation,
                AwsOperation::UpdateRadius
            );
            // The Event may be made of any of its messages.
            world.run_until(|world| {
                let (_, reason, message) = world.condition("Registered");
                assert!(
                    reason != "SecretMismatch" || message.contains("CloudTrail"),
                    "{message}"
                );
                world.is_ready()
            });
            world.run_for(Duration::from_secs(4200));
            assert!(world.is_ready());
            assert_eq!(world.aws.writes.len(), 2);
            assert!(world.aws.writes.iter().all(|write| !write.needless));
            let told = world.events.iter().filter(|event| *event == "SecretMismatch");
            assert_eq!(told.count(), 1, "{:?}", world.events);
        }
    }
}

#[test]
fn a_changed_secret_is_only_told_where_the_policy_says_so() {
    let mut world = working(2, DriftPolicy::Report);
    world.change_secret_at_aws();
    world.logins_for(HOUR);
    let (status, reason, message) = world.condition("Registered");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SecretMismatch"));
    assert!(message.contains("driftPolicy: Report"), "{message}");
    assert_eq!(world.aws.writes.len(), 1);
    // It stands until a request verifies, and no longer.
    world.run_for(HOUR);
    assert_eq!(world.condition("Registered").1, "SecretMismatch");
    world.aws.secret = b"the first secret".to_vec();
    world.logins_for(Duration::from_secs(30));
    assert!(world.is_ready());
}

#[test]
fn a_secret_that_is_changed_again_and_again_is_written_back_once_an_hour_and_is_no_contest() {
    let mut world = working(2, DriftPolicy::Repair);
    world.traffic = Some(Duration::from_secs(15));
    let begin = world.now;
    while world.now.duration_since(begin).as_secs() < 2 * 3600 {
        let writes = world.aws.writes.len();
        world.change_secret_at_aws();
        world.run_until(|w| w.aws.writes.len() > writes);
        world.run_until(|w| w.record().applied.is_some_and(|a| a.completed_time.is_some()));
    }
    let at: Vec<i64> = world
        .aws
        .writes
        .iter()
        .skip(1)
        .map(|w| w.at.as_second())
        .collect();
    assert!(
        at.windows(2)
            .all(|pair| (3600..4200).contains(&(pair[1] - pair[0]))),
        "{at:?}"
    );
    assert!(!world.events.iter().any(|event| event == "Contended"));
    world.change_secret_at_aws();
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "SecretMismatch");
    assert!(message.contains("next") && message.contains("UTC"), "{message}");
}

#[test]
fn a_flood_of_forged_packets_beside_good_logins_writes_nothing() {
    for (flooded, rounds) in [(0, 4), (1, 15)] {
        let mut world = working(2, DriftPolicy::Enforce);
        for round in 0..150_u64 {
            world.spoof(DC1, flooded);
            world.spoof(DC2, flooded);
            // Good logins go to the other pod, through one domain controller.
            if round % rounds == 0 {
                let registered = world.pods[1 - flooded].state.ips[0].to_string();
                let servers = std::mem::replace(
                    &mut world.aws.settings.as_mut().unwrap().servers,
                    vec![registered],
                );
                world.log_in(DC2);
                world.aws.settings.as_mut().unwrap().servers = servers;
            }
            world.run_for(Duration::from_secs(10));
            assert!(world.is_ready(), "{:?}", world.condition("Registered"));
        }
        assert_eq!(world.aws.writes.len(), 1);
    }
}

#[test]
fn a_rotation_of_the_secret_is_no_mismatch_also_while_everybody_logs_in() {
    let mut world = working(2, DriftPolicy::Enforce);
    world.traffic = Some(Duration::from_secs(5));
    for secret in ["the second secret", "the third secret!"] {
        world.set_secret(secret);
        world.run_until(|w| w.aws.secret == secret.as_bytes());
        world.run_for(Duration::from_secs(900));
    }
    assert_eq!(world.aws.writes.len(), 3);
    assert!(!world.events.iter().any(|event| event == "SecretMismatch"));
}

#[test]
fn a_changed_secret_is_left_while_suspended_or_without_a_grant_or_after_another_took_over() {
    let hands: [fn(&mut World); 3] = [
        |world| world.edit(|proxy| proxy.spec.suspend = true),
        |world| world.grants.clear(),
        |world| {
            let tag = "radius-mfa.dev/owner".to_owned();
            let owner = world
                .aws
                .tags
                .keys()
                .find(|key| key.contains("owner") && !key.contains("uid"));
            let owner = owner.cloned().unwrap_or(tag);
            world.aws.tags.insert(owner, "other/ns/name".to_owned());
        },
    ];
    for hand in hands {
        let mut world = working(2, DriftPolicy::Enforce);
        hand(&mut world);
        world.run_for(Duration::from_secs(120));
        world.change_secret_at_aws();
        world.logins_for(HOUR);
        assert_eq!(world.aws.writes.len(), 1);
        assert!(!world.is_ready());
    }
}

#[test]
fn a_repair_that_aws_refuses_is_tried_again_and_one_without_an_answer_is_not() {
    let mut world = working(2, DriftPolicy::Repair);
    world.change_secret_at_aws();
    world
        .aws
        .answers
        .push_back(Answer::Error(AwsErrorClass::Throttled));
    world.traffic = Some(Duration::from_secs(15));
    let changed = world.now;
    world.run_until(logins_work);
    assert!(world.now.duration_since(changed).as_secs() < 600);
    assert_eq!(world.aws.writes.len(), 2);

    let mut world = working(2, DriftPolicy::Repair);
    world.change_secret_at_aws();
    world.aws.answers.push_back(Answer::Lost);
    world.traffic = Some(Duration::from_secs(15));
    world.run_until(logins_work);
    world.run_for(Duration::from_secs(2 * 3600));
    assert_eq!(world.aws.writes.len(), 2);
    assert!(world.is_ready());
}

#[test]
fn a_leader_that_crashes_after_the_repair_does_not_repeat_it() {
    for replicas in [1, 2] {
        let mut world = working(replicas, DriftPolicy::Repair);
        world.change_secret_at_aws();
        world.crash_after_write = true;
        world.traffic = Some(Duration::from_secs(15));
        world.run_until(logins_work);
        world.run_for(Duration::from_secs(2 * 3600));
        assert_eq!(world.aws.writes.len(), 2);
        assert!(world.is_ready());
    }
}

#[test]
fn clocks_that_differ_by_half_a_minute_neither_hide_nor_invent_a_mismatch() {
    for ahead in [-30, 30] {
        let mut world = working(2, DriftPolicy::Repair);
        world.pods[0].ahead = ahead;
        world.logins_for(Duration::from_secs(1200));
        assert_eq!(world.aws.writes.len(), 1);
        world.change_secret_at_aws();
        world.traffic = Some(Duration::from_secs(15));
        world.run_until(logins_work);
        world.run_for(HOUR);
        assert_eq!(world.aws.writes.len(), 2, "{ahead}");
        assert!(world.is_ready());
    }
}

#[test]
fn a_server_that_changes_at_the_same_time_is_the_same_write() {
    let mut world = working(2, DriftPolicy::Repair);
    world.change_secret_at_aws();
    world.kill_pod(0);
    world.traffic = Some(Duration::from_secs(15));
    world.run_until(logins_work);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 2);
    assert_eq!(world.record().drift, None);
}
