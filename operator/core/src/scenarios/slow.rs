//! AWS takes long for each answer.

use std::time::Duration;

use super::ownership::{contend, policy};
use super::world::World;
use crate::api::{AdoptionPolicy, DriftPolicy};

fn slow(seconds: u64) -> World {
    let mut world = World::new();
    world.aws.slow = Duration::from_secs(seconds);
    world
}

#[test]
fn an_aws_that_takes_long_is_written_to_once_for_each_change() {
    for seconds in [4, 9, 12, 20, 29] {
        let mut world = slow(seconds);
        let mut writes = 0;
        let mut settles_with_one_write = |world: &mut World| {
            world.run_for(Duration::from_secs(300));
            writes += 1;
            let told = world.condition("Registered");
            assert!(world.is_ready(), "{seconds} s: {told:?}");
            assert_eq!(world.aws.writes.len(), writes, "{seconds} s");
        };
        settles_with_one_write(&mut world);
        world.kill_pod(0);
        settles_with_one_write(&mut world);
        world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 3);
        settles_with_one_write(&mut world);
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 3, "{seconds} s");
    }
}

#[test]
fn a_change_from_outside_is_repaired_once_and_then_a_contest_however_long_aws_takes() {
    for seconds in [12, 20] {
        let mut world = slow(seconds);
        world.run_until(World::is_ready);
        contend(&mut world);
        world.run_for(Duration::from_secs(7200));
        assert_eq!(world.aws.writes.len(), 2);
    }
}

#[test]
fn a_change_from_outside_since_the_last_look_is_seen_before_a_write() {
    for seconds in [0, 12, 20] {
        let mut world = slow(seconds);
        policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Report);
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(60));
        world.kill_pod(0);
        world.foreign_write("THEIRS");
        world.run_until(|w| w.condition("Registered").1 == "Drifted");
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 1, "{seconds} s");
    }
}

#[test]
fn an_answer_that_took_longer_than_a_call_may_decides_nothing() {
    let mut world = slow(31);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.aws.writes.len(), 0);
    assert_eq!(world.condition("Registered").1, "Settling");
}
