//! What is believed: descriptions, clocks, and the operator's own memory.

use std::time::Duration;

use super::world::{Answer, World};
use crate::observed::RadiusStatus;

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

#[test]
fn descriptions_that_are_one_write_old_in_between_are_nobodys_change() {
    let mut world = ready();
    world.run_for(Duration::from_secs(600));
    world.aws.alternates = Duration::from_secs(1800);
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 2);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    let events = world.events.clone();
    for _ in 0..6 {
        world.describe();
        world.wake_registration();
        world.run_for(Duration::from_secs(1));
        assert!(world.is_ready(), "{:?}", world.condition("Registered"));
    }
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 2);
    assert_eq!(world.record().drift, None);
    assert_eq!(world.events, events, "nothing is reported by one description");
    assert!(world.is_ready());
}

#[test]
fn a_change_from_outside_is_repaired_within_a_poll_and_a_few_seconds() {
    let mut world = ready();
    world.run_for(Duration::from_secs(600));
    world.foreign_write("THEIRS");
    let changed = world.now;
    world.run_until(|w| w.aws.writes.len() == 2);
    let took = world.now.duration_since(changed).as_secs();
    assert!(took < 90 + 10, "{took}");
}

#[test]
fn a_status_without_settings_is_a_registration_that_aws_forgot() {
    let mut world = World::new();
    world.aws.answers.push_back(Answer::Fails);
    world.run_until(|w| w.aws.status == Some(RadiusStatus::Failed));
    world.aws.settings = None;
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn a_leader_whose_clock_is_behind_or_ahead_registers_as_soon_as_another() {
    for ahead in [-240, 240] {
        let mut world = ready();
        world.kill_pod(0);
        world.run_until(|w| w.aws.writes.len() == 2);
        world.crash_after = Some(0);
        world.clock_ahead = ahead;
        world.wake();
        world.run_for(Duration::from_secs(60));
        world.kill_pod(1);
        let lost = world.now;
        world.run_until(|w| w.aws.writes.len() == 3);
        let took = world.now.duration_since(lost).as_secs();
        assert!(took < 120, "{ahead}: {took}");
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 3, "{ahead}");
        assert_eq!(world.record().drift, None, "{ahead}");
    }
}

#[test]
fn the_operators_own_secret_can_be_deleted_without_a_login_lost_or_a_write() {
    let mut world = World::new();
    world.proxy.spec.shared_secret_ref = None;
    world.run_until(World::is_ready);
    let secret = world.aws.secret.clone();
    let key = ("Secret".to_owned(), "mfa-radius-secrets".to_owned());
    let content = world.objects.remove(&key).unwrap();
    world.wake();
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.objects[&key]["data"], content["data"]);
    assert_eq!((world.aws.writes.len(), &world.aws.secret), (1, &secret));
    assert!(world.is_ready());
}

#[test]
fn the_operators_own_secret_is_restored_also_while_no_configuration_can_be_rendered() {
    let mut world = ready();
    world.secrets.remove(super::world::SECRET);
    let key = ("Secret".to_owned(), "mfa-radius-secrets".to_owned());
    let content = world.objects.remove(&key).unwrap();
    world.wake();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.objects[&key]["data"], content["data"]);
}

#[test]
fn a_registration_that_is_read_late_is_written_by_nobody_who_read_the_old_one() {
    let mut world = ready();
    world.stale_reads = 20;
    world.set_secret("the second secret");
    world.run_for(Duration::from_secs(5));
    world.stale_reads = 20;
    world.set_secret("the third secret!");
    world.run_until(|w| w.aws.secret == b"the third secret!" && w.is_ready());
    assert!(world.aws.writes.iter().all(|write| !write.needless));
}
