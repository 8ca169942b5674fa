//! Who holds a directory: hand-overs, clusters of one name, tags that are read late, one-shot adoption.

use std::time::Duration;

use super::ownership::{policy, rival};
use super::world::{Answer, World};
use crate::api::{AddressSource, AdoptionPolicy, DeletionPolicy, DesiredServer, DriftPolicy, ServerState};
use crate::aws::{AwsErrorClass, AwsOperation};
use crate::observed::{RadiusStatus, ReportedProblem};

const OWNER: &str = "radius-mfa.dev/owner/eu-central-1";
const CLUSTER: &str = "radius-mfa.dev/cluster-uid/eu-central-1";

fn ready() -> World {
    let mut world = World::new();
    world.settings.cluster_uid = "cluster-1".to_owned();
    world.run_until(World::is_ready);
    world
}

fn disable(world: &mut World) {
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable);
    world.run_for(Duration::from_secs(5));
}

/// Another cluster writes settings of its own, with its tags.
fn written_by(world: &mut World, owner: &str, cluster: &str) {
    world.foreign_write("THEIRS");
    world.aws.tags.insert(OWNER.to_owned(), owner.to_owned());
    world.aws.tags.insert(CLUSTER.to_owned(), cluster.to_owned());
}

/// The rival says what it wants: one address of its own.
fn rival_wants(world: &mut World, address: &str) {
    let registration = world.registration.as_mut().unwrap();
    assert_eq!(registration.spec.claimed_by.name, "old");
    let desired = registration.spec.desired.as_mut().unwrap();
    desired.holder_uid = "uid-0".to_owned();
    desired.address_source = AddressSource::Static;
    desired.servers = vec![DesiredServer {
        address: address.to_owned(),
        alive: true,
        state: ServerState::Serves,
        ..DesiredServer::default()
    }];
    world.wake_registration();
}

#[test]
fn a_deletion_hands_the_directory_over_to_a_radius_proxy_that_waits_and_does_not_disable() {
    for policy in [DeletionPolicy::Disable, DeletionPolicy::Retain] {
        let mut world = ready();
        world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().deletion_policy = policy);
        world.rivals = vec![rival()];
        world.wake();
        world.run_for(Duration::from_secs(5));
        world.delete();
        world.run_for(Duration::from_secs(600));
        assert!(
            !world.gone && world.pods.len() == 2,
            "the pods answer until others do"
        );
        assert_eq!(world.aws.writes.len(), 1);
        rival_wants(&mut world, "10.5.5.5");
        world.run_until(|w| w.aws.writes.len() == 2);
        assert_eq!(world.aws.writes[1].servers, ["10.5.5.5"]);
        let written = world.now;
        world.run_until(|w| w.gone);
        assert!(world.now.duration_since(written).as_secs() >= 60);
        assert_eq!(world.aws.status, Some(RadiusStatus::Completed));
        assert!(world.registration.is_some());
        assert!(world.events.iter().any(|event| event == "DirectoryHandedOver"));
    }
}

#[test]
fn a_radius_proxy_that_is_created_again_keeps_its_directory_without_a_write() {
    let mut world = ready();
    world.edit(|proxy| proxy.metadata.uid = Some("uid-2".to_owned()));
    world.rivals = vec![rival()];
    world.run_for(Duration::from_secs(3600));
    let claim = &world.registration.as_ref().unwrap().spec.claimed_by;
    assert_eq!((claim.name.as_str(), claim.uid.as_str()), ("mfa", "uid-2"));
    assert!(world.is_ready() && world.aws.writes.len() == 1);
}

#[test]
fn a_deletion_that_leaves_the_settings_is_a_warning() {
    let mut world = ready();
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("DirectoryAbandoned")
    );
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn after_disable_radius_the_pods_answer_until_every_domain_controller_knows() {
    let mut world = ready();
    disable(&mut world);
    world.delete();
    world.run_until(|w| w.aws.status.is_none());
    world.run_for(Duration::from_secs(50));
    assert!(!world.gone && world.pods.len() == 2);
    world.run_until(World::has_ended);
    assert_eq!(
        world.aws.writes.last().unwrap().operation,
        AwsOperation::DisableRadius
    );
    assert_eq!(world.events.last().map(String::as_str), Some("DirectoryReleased"));
}

#[test]
fn a_deletion_that_waits_follows_the_domain_controllers() {
    let mut world = ready();
    disable(&mut world);
    world.aws.stage = Some("Restoring".to_owned());
    world.delete();
    world.run_for(Duration::from_secs(60));
    world.aws.clients.insert("10.0.0.11".parse().unwrap());
    world.run_for(Duration::from_secs(240));
    let policy = &world.objects[&("NetworkPolicy".to_owned(), "mfa".to_owned())];
    assert!(policy.to_string().contains("10.0.0.11/32"));
    assert!(world.pods.iter().all(|pod| pod.accepts_client("10.0.0.11")));
}

#[test]
fn another_cluster_that_adopts_a_directory_is_left_alone_though_the_tags_were_read_before() {
    let mut world = ready();
    world.run_for(Duration::from_secs(400));
    written_by(&mut world, "prod/a/b", "cluster-2");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.condition("Registered").1, "DirectoryConflict");
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn an_adoption_counts_for_one_takeover_though_the_policy_stays_in_git() {
    let mut world = World::new();
    world.somebody_elses();
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
    written_by(&mut world, "prod/a/b", "cluster-2");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.condition("Registered").1, "DirectoryConflict");
    assert_eq!(world.aws.writes.len(), 1);
    policy(&mut world, AdoptionPolicy::Refuse, DriftPolicy::Repair);
    world.run_for(Duration::from_secs(60));
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn a_cluster_that_is_rebuilt_takes_its_directory_back_once_and_says_so() {
    let mut world = ready();
    world.settings.cluster_uid = "cluster-2".to_owned();
    world.forget();
    world.run_for(Duration::from_secs(5));
    world.run_until(World::is_ready);
    assert_eq!(world.aws.tags[CLUSTER], "cluster-2");
    assert!(world.events.iter().any(|event| event == "DirectoryTakenBack"));
    // The old one was not gone.
    let writes = world.aws.writes.len();
    written_by(&mut world, "test/auth/mfa", "cluster-1");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.condition("Registered").1, "Contended");
    assert_eq!(world.aws.writes.len(), writes);
}

#[test]
fn a_cluster_does_not_fight_another_of_its_name_for_a_directory_that_it_holds() {
    let mut world = ready();
    world.run_for(Duration::from_secs(60));
    written_by(&mut world, "test/auth/mfa", "cluster-2");
    world.kill_pod(0);
    world.run_for(Duration::from_secs(3600));
    let (_, reason, message) = world.condition("Registered");
    assert!(
        reason == "Contended" && message.contains("uid cluster-2"),
        "{message}"
    );
    assert_eq!(world.aws.writes.len(), 1);
    assert_eq!(world.aws.tags[CLUSTER], "cluster-2");
}

fn disables(world: &World) -> usize {
    let disables = |write: &&super::world::Written| write.operation == AwsOperation::DisableRadius;
    world.aws.writes.iter().filter(disables).count()
}

fn has_event(world: &World, reason: &str) -> bool {
    world.events.iter().any(|event| event == reason)
}

#[test]
fn a_directory_that_the_operator_switched_off_is_free_for_the_next_holder() {
    let mut world = ready();
    disable(&mut world);
    world.run_for(Duration::from_secs(600));
    world.delete();
    world.run_until(|w| w.aws.status.is_none());
    world.run_for(Duration::from_secs(20));
    assert!(!has_event(&world, "ChangedFromOutside") && !world.gone);
    world.rivals = vec![rival()];
    world.wake_registration();
    world.run_for(Duration::from_secs(5));
    rival_wants(&mut world, "10.5.5.5");
    world.run_until(|w| w.aws.settings.is_some());
    assert_eq!(world.aws.settings.as_ref().unwrap().servers, ["10.5.5.5"]);
}

#[test]
fn a_takeover_counts_though_the_directory_could_not_be_tagged() {
    let mut adopted = World::new();
    adopted.settings.cluster_uid = "cluster-1".to_owned();
    adopted.somebody_elses();
    adopted.aws.tags.insert(OWNER.to_owned(), "prod/a/b".to_owned());
    policy(&mut adopted, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    let mut rebuilt = ready();
    rebuilt.settings.cluster_uid = "cluster-2".to_owned();
    rebuilt.forget();
    for mut world in [adopted, rebuilt] {
        world.refused_tags = Some(AwsErrorClass::Throttled);
        let writes = world.aws.writes.len() + 1;
        world.run_until(|w| w.aws.writes.len() == writes);
        world.run_until(World::is_ready);
        world.run_for(Duration::from_secs(2000));
        assert!(world.is_ready(), "{:?}", world.condition("Registered"));
        assert!(!has_event(&world, "DirectoryConflict") && !has_event(&world, "Contended"));
        assert!((1..3).contains(&world.asked_tags), "{}", world.asked_tags);
        world.kill_pod(0);
        world.run_until(|w| w.aws.writes.len() == writes + 1);
        world.refused_tags = None;
        world.run_for(Duration::from_secs(7200));
        assert_eq!(world.aws.tags[OWNER], "test/auth/mfa");
        assert_eq!(world.aws.tags[CLUSTER], world.settings.cluster_uid);
        // Once the tags are right, the same owner is another cluster again.
        written_by(&mut world, "prod/a/b", "cluster-3");
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.condition("Registered").1, "DirectoryConflict");
    }
}

#[test]
fn a_deletion_obeys_the_spec_of_the_moment_and_not_what_was_wanted_before() {
    let retain = |world: &mut World| {
        world.proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Retain;
    };
    let suspend = |world: &mut World| world.proxy.spec.suspend = true;
    for change in [&retain as &dyn Fn(&mut World), &suspend] {
        let mut world = ready();
        disable(&mut world);
        world.run_for(Duration::from_secs(60));
        change(&mut world);
        world.delete();
        world.run_until(World::has_ended);
        assert_eq!(disables(&world), 0);
        assert!(has_event(&world, "DirectoryAbandoned"));
    }
}

#[test]
fn a_deletion_is_not_decided_by_one_description() {
    for seconds in [5, 100, 200] {
        let mut world = ready();
        disable(&mut world);
        world.run_for(Duration::from_secs(60));
        world.aws.alternates = Duration::from_secs(1800);
        world.run_for(Duration::from_secs(seconds));
        world.delete();
        world.run_until(World::has_ended);
        assert_eq!(disables(&world), 1, "after {seconds} seconds");
    }
}

#[test]
fn a_directory_that_reports_failed_gets_one_disable_radius_though_aws_lags() {
    let mut world = World::new();
    world.aws.answers.push_back(Answer::Fails);
    disable(&mut world);
    world.run_until(|w| w.condition("Registered").1 == "RadiusFailed");
    world.run_for(Duration::from_secs(60));
    world.aws.lag = Duration::from_secs(25);
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(disables(&world), 1);
}

#[test]
fn a_suspected_change_does_not_hide_that_aws_cannot_be_asked_or_that_the_grant_is_gone() {
    for revokes in [false, true] {
        let mut world = ready();
        world.run_for(Duration::from_secs(600));
        world.foreign_write("THEIRS");
        world.run_until(|w| w.record().drift.is_some());
        if revokes {
            world.grants.clear();
            world.wake();
        } else {
            world.aws.blind = Some(AwsErrorClass::AccessDenied);
        }
        world.run_for(Duration::from_secs(120));
        let wanted = if revokes { "NoGrant" } else { "AwsAccessDenied" };
        let record = world.record();
        let described = record.conditions.iter().find(|c| c.type_ == "Described").unwrap();
        assert_eq!(described.reason, wanted);
    }
}

#[test]
fn the_tag_of_a_former_holder_in_the_same_cluster_is_replaced_and_stops_no_deletion() {
    for uid in ["cluster-1", ""] {
        let mut world = ready();
        uid.clone_into(&mut world.settings.cluster_uid);
        world
            .aws
            .tags
            .insert(OWNER.to_owned(), "test/other/old".to_owned());
        world.refused_tags = Some(AwsErrorClass::AccessDenied);
        let asked = world.asked_tags;
        disable(&mut world);
        world.run_for(Duration::from_secs(600));
        assert_eq!(world.asked_tags, asked + 1, "AWS is asked once an hour");
        let mut deleted = world.clone();
        deleted.delete();
        deleted.run_until(World::has_ended);
        assert_eq!(disables(&deleted), 1);
        world.refused_tags = None;
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.tags[OWNER], "test/auth/mfa");
    }
}

/// A world in which this RadiusProxy has taken over a registration of `old`, and has written nothing yet.
fn handed_over() -> World {
    let mut world = ready();
    let registration = world.registration.as_mut().unwrap();
    let applied = registration.status.as_mut().unwrap().applied.as_mut().unwrap();
    "uid-0".clone_into(&mut applied.holder_uid);
    "another".clone_into(&mut applied.secret_digest);
    world
}

#[test]
fn a_directory_is_not_handed_over_to_proxies_that_can_log_nobody_in() {
    let mut world = handed_over();
    world.reported_problem = Some(ReportedProblem::ProviderCredentials);
    world.wake();
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(
        (reason.as_str(), world.aws.writes.len()),
        ("Blocked", 1),
        "{message}"
    );
    world.reported_problem = None;
    world.wake();
    world.run_until(|w| w.aws.writes.len() == 2);
}

#[test]
fn after_disable_radius_the_pods_answer_also_when_another_replica_with_a_late_clock_leads() {
    let mut world = ready();
    disable(&mut world);
    world.clock_ahead = -100;
    world.lose_the_operator(Duration::from_secs(5));
    world.run_for(Duration::from_secs(600));
    world.delete();
    world.run_until(|w| w.aws.status.is_none());
    world.clock_ahead = 100;
    world.lose_the_operator(Duration::from_secs(5));
    let off = world.now;
    world.run_until(World::has_ended);
    assert!(world.now.duration_since(off).as_secs() >= 50);
}

#[test]
fn two_radius_proxies_of_one_directory_that_are_deleted_together_leave_radius_off() {
    let mut world = ready();
    disable(&mut world);
    // The other one held the directory, and this one waits.
    let registration = world.registration.as_mut().unwrap();
    registration.spec.claimed_by.name = "old".to_owned();
    registration.spec.claimed_by.namespace = "other".to_owned();
    registration.spec.claimed_by.uid = "uid-0".to_owned();
    registration.spec.desired.as_mut().unwrap().holder_uid = "uid-0".to_owned();
    let applied = registration.status.as_mut().unwrap().applied.as_mut().unwrap();
    "uid-0".clone_into(&mut applied.holder_uid);
    world.proxy.metadata.finalizers = None;
    world.rivals = vec![rival()];
    world.wake();
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.condition("Accepted").1, "DirectoryConflict");
    let mut alone = world.clone();
    alone.delete();
    alone.run_until(|w| w.gone);
    assert!(
        alone.now.duration_since(world.now).as_secs() < 30,
        "{}",
        alone.now
    );
    world.rivals[0].deleted = Some(world.now);
    world.wake_registration();
    world.run_until(|w| w.registration.as_ref().unwrap().spec.claimed_by.name == "mfa");
    world.rivals.clear();
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(disables(&world), 1);
}

#[test]
fn a_deletion_that_waits_follows_the_domain_controllers_once_the_secrets_can_be_read() {
    let mut world = ready();
    disable(&mut world);
    world.aws.stage = Some("Restoring".to_owned());
    world.delete();
    let secrets = std::mem::take(&mut world.secrets);
    world.run_for(Duration::from_secs(60));
    world.aws.clients.insert("10.0.0.11".parse().unwrap());
    world.run_for(Duration::from_secs(240));
    world.secrets = secrets;
    world.run_for(Duration::from_secs(240));
    assert!(world.pods.iter().all(|pod| pod.accepts_client("10.0.0.11")));
}

#[test]
fn a_deletion_switches_radius_off_though_the_uid_of_the_cluster_is_unknown() {
    let mut world = ready();
    world.run_for(Duration::from_secs(60));
    disable(&mut world);
    world.settings.cluster_uid.clear();
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(
        world.aws.writes.last().unwrap().operation,
        AwsOperation::DisableRadius
    );
}

#[test]
fn without_the_uid_of_the_cluster_the_directory_is_tagged_once() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(6 * 3600));
    assert_eq!((world.asked_tags, world.aws.writes.len()), (1, 1));
}

#[test]
fn a_grant_that_is_missing_for_less_than_a_minute_moves_no_directory() {
    let mut world = ready();
    world.rivals = vec![rival()];
    let grants = std::mem::take(&mut world.grants);
    world.wake_registration();
    world.run_for(Duration::from_secs(50));
    world.grants = grants;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "mfa");
    world.grants.clear();
    world.wake_registration();
    world.run_for(Duration::from_secs(80));
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "old");
}

#[test]
fn while_a_grant_cannot_be_decoded_a_missing_one_moves_no_directory() {
    let mut world = ready();
    world.rivals = vec![rival()];
    world.undecodable_grant = true;
    world.grants.clear();
    world.wake_registration();
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "mfa");
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn a_directory_is_held_for_a_radius_proxy_whose_namespace_is_not_watched() {
    let mut world = ready();
    world.rivals = vec![rival()];
    world.holder_is_watched = false;
    world.foreign_write("THEIRS");
    world.wake_registration();
    world.run_for(Duration::from_secs(600));
    let hold = world.record().hold.unwrap();
    assert_eq!(
        (hold.name.as_str(), hold.reason.as_str()),
        ("HolderNotWatched", "Blocked")
    );
    assert!(
        hold.message.contains("doesn't watch namespace auth"),
        "{}",
        hold.message
    );
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "mfa");
    assert_eq!(world.aws.writes.len(), 1);
    // It is gone, by a look at the API server.
    world.gone = true;
    world.wake_registration();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "old");
}

#[test]
fn a_radius_proxy_that_gave_its_directory_up_shows_nothing_of_it() {
    let mut world = ready();
    let held = world.status();
    assert!(held.registered_count == 2 && held.last_write.is_some() && held.directory.is_some());
    world.rivals = vec![rival()];
    world.grants.clear();
    world.wake_registration();
    world.run_for(Duration::from_secs(300));
    let status = world.status();
    assert_eq!(world.registration.as_ref().unwrap().spec.claimed_by.name, "old");
    assert_eq!((status.registered_count, status.desired_count), (0, 0));
    assert!(status.registered_servers.is_empty());
    assert!(
        status.last_write.is_none() && status.directory.is_none(),
        "{status:#?}"
    );
    assert!(world.pods.iter().all(|pod| pod.accepts_client("10.0.0.10")));
}
