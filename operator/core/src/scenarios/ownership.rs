//! Whose a directory's settings are: rivals, other hands, tags, and who lets go.

use std::time::Duration;

use super::world::{Answer, World};
use crate::api::{
    AdoptionPolicy, DeletionPolicy, DirectoryClaim, DirectoryRegistration, DirectoryRegistrationSpec,
    DriftPolicy,
};
use crate::observed::RadiusStatus;
use crate::registration::Candidate;

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

pub(super) fn policy(world: &mut World, adoption: AdoptionPolicy, drift: DriftPolicy) {
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.adoption_policy = adoption;
        directory.drift_policy = drift;
    });
}

/// Another RadiusProxy that names the directory.
pub(super) fn rival() -> Candidate {
    Candidate {
        namespace: "other".to_owned(),
        name: "old".to_owned(),
        uid: "uid-0".to_owned(),
        created: "2025-01-01T00:00:00Z".parse().unwrap(),
        granted: true,
        suspended: false,
        deletion_policy: DeletionPolicy::Retain,
        adopts: false,
        deleted: None,
        abandons: false,
    }
}

/// A world in which the rival was first.
fn held_by_rival() -> World {
    let mut world = World::new();
    world.rivals = vec![rival()];
    let spec = DirectoryRegistrationSpec {
        directory_id: "d-1234567890".to_owned(),
        region: "eu-central-1".to_owned(),
        claimed_by: DirectoryClaim {
            namespace: "other".to_owned(),
            name: "old".to_owned(),
            uid: "uid-0".to_owned(),
        },
        desired: None,
    };
    let mut registration = DirectoryRegistration::new("d-1234567890.eu-central-1", spec);
    registration.metadata.resource_version = Some("0".to_owned());
    registration.metadata.finalizers = Some(vec![crate::names::FINALIZER.to_owned()]);
    world.registration = Some(registration);
    world.wake_registration();
    world
}

#[test]
fn whoever_claims_a_directory_first_keeps_it_whoever_is_older() {
    let mut world = World::new();
    world.rivals = vec![rival()];
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
    let mut world = held_by_rival();
    world.rivals[0].created = "2026-06-01T00:00:00Z".parse().unwrap();
    world.run_for(Duration::from_secs(60));
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "DirectoryConflict");
    assert!(message.contains("other/old"));
}

#[test]
fn a_directory_moves_to_another_radius_proxy_without_a_hole() {
    let mut world = held_by_rival();
    world.somebody_elses();
    world.aws.tags = [(
        "radius-mfa.dev/owner/eu-central-1".to_owned(),
        "test/other/old".to_owned(),
    )]
    .into();
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.adoption_policy = AdoptionPolicy::Adopt;
    });
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.condition("Accepted").1, "DirectoryConflict");
    assert!(world.pods.len() == 2 && world.pods.iter().all(|pod| pod.state.containers_ready));
    assert!(world.aws.writes.is_empty());
    world.rivals[0].suspended = true;
    world.wake_registration();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
    assert_eq!(
        world.aws.tags["radius-mfa.dev/owner/eu-central-1"],
        "test/auth/mfa"
    );
    // Reverted in Git: the old one is back, and the directory stays where its pods are.
    world.rivals[0].suspended = false;
    world.rivals[0].adopts = true;
    world.wake_registration();
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
}

#[test]
fn settings_of_others_stay_until_the_policy_adopts_them() {
    let mut world = World::new();
    world.somebody_elses();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.condition("Registered").1, "UnmanagedSettings");
    assert!(world.aws.writes.is_empty() && world.aws.tags.is_empty());
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
    assert_eq!(world.aws.writes[0].servers.len(), 2);
}

#[test]
fn tags_give_a_rebuilt_cluster_its_directory_back_and_keep_others_out() {
    let mut world = World::new();
    world.somebody_elses();
    world.aws.tags.insert(
        "radius-mfa.dev/owner/eu-central-1".to_owned(),
        "prod/a/b".to_owned(),
    );
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "DirectoryConflict");
    assert!(message.contains("prod/a/b"));
    world.aws.tags.insert(
        "radius-mfa.dev/owner/eu-central-1".to_owned(),
        "test/auth/mfa".to_owned(),
    );
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn a_rebuilt_cluster_takes_back_what_it_applied_and_not_what_somebody_made_of_it() {
    let mut world = ready();
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.forget();
    world.run_for(Duration::from_secs(60));
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 3);
    world.forget();
    world.foreign_write("THEIRS");
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "UnmanagedSettings");
    assert!(message.contains("not those that it applied"), "{message}");
    assert_eq!(world.aws.writes.len(), 3);
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 4);
}

#[test]
fn a_tag_that_an_older_version_left_out_is_added_without_a_write() {
    let mut world = ready();
    let applied = world.aws.tags.remove("radius-mfa.dev/applied/eu-central-1");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(
        world.aws.tags.get("radius-mfa.dev/applied/eu-central-1"),
        applied.as_ref()
    );
    assert!(applied.is_some());
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn the_owner_of_another_region_stands_in_nobodys_way_and_keeps_its_tag() {
    let mut world = World::new();
    let other = (
        "radius-mfa.dev/owner/us-east-1".to_owned(),
        "test/auth/us".to_owned(),
    );
    world.aws.tags.extend([other.clone()]);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.tags[&other.0], other.1);
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
}

/// Somebody changes the settings of a world that was written to once; that is repaired, and the second time a contest.
pub(super) fn contend(world: &mut World) {
    world.foreign_write("THEIRS");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    assert!(world.events.iter().any(|e| e == "ChangedFromOutside"));
    world.foreign_write("THEIRS");
    world.run_until(|w| w.condition("Registered").1 == "Contended");
}

#[test]
fn a_change_from_outside_is_repaired_once_and_a_second_one_is_a_contest() {
    let mut world = ready();
    contend(&mut world);
    world.run_for(Duration::from_secs(40_000));
    assert_eq!(world.aws.writes.len(), 2);
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 3);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn a_contest_is_over_when_the_settings_are_as_they_were() {
    let mut world = ready();
    world.foreign_write("THEIRS");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.foreign_write("THEIRS");
    world.run_until(|w| w.condition("Registered").1 == "Contended");
    world.foreign_write("MFA");
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn radius_switched_off_from_outside_is_undone_only_by_enforce() {
    let mut world = ready();
    world.aws.status = None;
    world.aws.settings = None;
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.condition("Ready").1, "RadiusDisabled");
    assert_eq!(world.aws.writes.len(), 1);
    policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Enforce);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn radius_switched_off_stays_off_also_after_failed_and_while_aws_was_at_it() {
    let is = |status| move |world: &World| world.aws.status == Some(status);
    for status in [RadiusStatus::Failed, RadiusStatus::Creating] {
        let mut world = World::new();
        world.aws.answers.push_back(Answer::Fails);
        world.run_until(is(status));
        world.run_for(Duration::from_secs(10));
        world.switch_off();
        world.run_for(Duration::from_secs(20_000));
        assert_eq!(world.condition("Ready").1, "RadiusDisabled", "{status:?}");
        assert_eq!(world.aws.writes.len(), 1, "{status:?}");
        policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Enforce);
        world.run_until(World::is_ready);
        assert_eq!(world.aws.writes.len(), 2, "{status:?}");
    }
}

#[test]
fn drift_is_only_told_where_the_policy_says_so() {
    let mut world = ready();
    policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Report);
    world.foreign_write("THEIRS");
    world.run_for(Duration::from_secs(3600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "Drifted");
    assert!(message.contains("label from \"MFA\" to \"THEIRS\""), "{message}");
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn suspend_stops_writes_and_nothing_else() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.suspend = true);
    world.run_for(Duration::from_secs(5));
    assert!(world.is_ready());
    world.kill_pod(0);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(
        (world.aws.writes.len(), world.condition("Ready").1.as_str()),
        (1, "Suspended")
    );
    world.edit(|proxy| proxy.spec.suspend = false);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn the_way_back_from_an_adoption_is_a_persons_write_and_none_of_ours() {
    let mut world = World::new();
    world.somebody_elses();
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Enforce);
    world.run_until(World::is_ready);
    world.edit(|proxy| {
        proxy.spec.suspend = true;
        proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable;
    });
    world.run_for(Duration::from_secs(5));
    world.somebody_elses();
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.condition("Registered").1, "Suspended");
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(world.aws.writes.len(), 1);
    assert_eq!(world.aws.settings.unwrap().servers, ["10.7.7.7"]);
}

#[test]
fn a_deletion_that_leaves_the_servers_that_end_with_it_at_aws_is_a_warning() {
    let mut world = World::new();
    policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Report);
    world.edit(|proxy| {
        proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable;
    });
    world.run_until(World::is_ready);
    world.foreign_write("THEIRS");
    world.run_until(|w| w.condition("Registered").1 == "Drifted");
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(world.aws.writes.len(), 1);
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("DirectoryAbandoned")
    );
}
