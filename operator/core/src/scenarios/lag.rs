//! AWS describes what was there before a write, for some seconds after it has taken the write.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::World;
use crate::api::DeletionPolicy;

const LAGS: [u64; 4] = [3, 10, 22, 28];

fn lagging(replicas: u32, lag: u64) -> World {
    let mut world = World::new();
    world.proxy.spec.replicas = replicas;
    world.aws.lag = Duration::from_secs(lag);
    world
}

/// Nothing was taken for somebody else's change, and AWS has worked on the last write for as long as it takes.
fn check(world: &World, writes: usize) {
    let context = format!("lag {:?}: {:#?}", world.aws.lag, world.status());
    assert_eq!(world.aws.writes.len(), writes, "{context}");
    assert_eq!(world.record().drift, None, "{context}");
    assert!(
        !world.events.iter().any(|e| e == "ChangedFromOutside"),
        "{context}"
    );
    let completed = world.record().applied.unwrap().completed_time.unwrap().0;
    let sent = world.aws.writes.last().unwrap().at;
    assert!(
        completed.duration_since(sent) >= SignedDuration::from_secs(19),
        "{context}"
    );
}

#[test]
fn servers_that_change_are_one_write_each() {
    for lag in LAGS {
        let mut world = lagging(2, lag);
        world.run_until(World::is_ready);
        check(&world, 1);
        world.kill_pod(0);
        world.run_until(|w| w.aws.writes.len() == 2);
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(600));
        check(&world, 2);
    }
}

#[test]
fn a_secret_that_changes_is_not_completed_before_aws_has_worked_on_it() {
    for replicas in [1, 2] {
        for lag in LAGS {
            let mut world = lagging(replicas, lag);
            world.run_until(World::is_ready);
            world.set_secret("the second secret");
            world.run_until(|w| w.aws.writes.len() == 2);
            world.run_until(|w| w.is_ready() && w.record().applied.unwrap().completed_time.is_some());
            check(&world, 2);
            world.run_for(Duration::from_secs(3600));
            check(&world, 2);
        }
    }
}

#[test]
fn a_repair_is_one_write_and_not_the_beginning_of_a_contest() {
    for lag in LAGS {
        let mut world = lagging(2, lag);
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(600));
        world.foreign_write("THEIRS");
        world.run_until(|w| w.aws.writes.len() == 2);
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 2);
        assert_eq!(world.record().drift.unwrap().times.len(), 1);
    }
}

#[test]
fn a_stale_answer_after_a_newer_one_is_nobodys_change() {
    let mut world = lagging(2, 0);
    world.run_until(World::is_ready);
    // Another of AWS's servers answers, which is behind.
    world.aws.lag = Duration::from_secs(28);
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 2);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(600));
    check(&world, 2);
}

#[test]
fn a_deletion_right_after_a_write_waits_until_aws_describes_it() {
    for writes in [1, 2] {
        for lag in LAGS {
            let mut world = lagging(2, lag);
            world.edit(|proxy| {
                proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable;
            });
            if writes == 2 {
                world.run_until(World::is_ready);
                world.run_for(Duration::from_secs(600));
                world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 2);
            }
            world.run_until(|w| w.aws.writes.len() == writes);
            world.run_for(Duration::from_secs(1));
            world.delete();
            world.run_until(World::has_ended);
            assert_eq!(world.aws.status, None, "lag {lag}: {:?}", world.events);
        }
    }
}
