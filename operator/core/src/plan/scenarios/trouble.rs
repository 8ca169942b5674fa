//! What goes wrong, what is told, and that it heals.

use std::time::Duration;

use super::world::{Answer, World, data};
use crate::api::{AdoptionPolicy, DriftPolicy};
use crate::aws::AwsErrorClass;
use crate::input::{DirectoryKind, RadiusStatus, ReportedProblem, Rival};

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

fn policy(world: &mut World, adoption: AdoptionPolicy, drift: DriftPolicy) {
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.adoption_policy = adoption;
        directory.drift_policy = drift;
    });
}

#[test]
fn without_a_grant_nothing_is_started_and_with_one_it_heals() {
    let mut world = World::new();
    let grants = std::mem::take(&mut world.grants);
    world.run_for(Duration::from_secs(60));
    let (truth, reason, message) = world.condition("Accepted");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "NoGrant"));
    assert!(
        message.contains("DirectoryGrant") && message.contains("auth") && message.contains("d-1234567890")
    );
    assert!(world.objects.is_empty() && world.proxy.metadata.finalizers.is_none());
    assert_eq!(world.events, ["NoGrant"]);
    world.grants = grants;
    world.run_until(World::is_ready);
}

#[test]
fn a_grant_that_is_withdrawn_stops_writes_and_no_pod() {
    let mut world = ready();
    world.grants.clear();
    world.kill_pod(0);
    world.run_for(Duration::from_secs(3600));
    assert_eq!((world.aws.writes.len(), world.pods.len()), (1, 2));
    assert_eq!(world.condition("Ready").1, "NoGrant");
}

#[test]
fn the_older_of_two_keeps_the_directory() {
    let mut world = World::new();
    let mut rival = Rival {
        namespace: "other".to_owned(),
        name: "old".to_owned(),
        uid: "uid-0".to_owned(),
        created: "2025-01-01T00:00:00Z".parse().unwrap(),
        granted: false,
        suspended: false,
    };
    world.rivals = vec![rival.clone()];
    world.run_until(World::is_ready);
    rival.granted = true;
    let mut world = World::new();
    world.rivals = vec![rival];
    world.run_for(Duration::from_secs(60));
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "DirectoryTaken");
    assert!(message.contains("other/old"));
}

#[test]
fn a_directory_without_radius_or_of_another_account_is_refused() {
    for (kind, words) in [
        (DirectoryKind::SimpleAd, "SimpleAD, which has no RADIUS"),
        (
            DirectoryKind::SharedMicrosoftAd,
            "belong to account 210987654321. Use the directory there",
        ),
    ] {
        let mut world = World::new();
        world.aws.kind = Some(kind);
        world.aws.owner_account = Some("210987654321".to_owned());
        world.somebody_elses();
        policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Enforce);
        world.run_for(Duration::from_secs(3600));
        let (truth, reason, message) = world.condition("Accepted");
        assert_eq!(
            (truth.as_str(), reason.as_str()),
            ("False", "DirectoryTypeUnsupported")
        );
        assert!(message.contains(words), "{message}");
        assert!(world.aws.writes.is_empty() && world.aws.tags.is_empty() && world.pods.is_empty());
    }
}

#[test]
fn a_directory_that_is_not_described_is_told_by_the_kind_of_failure() {
    for (class, truth, reason) in [
        (AwsErrorClass::NotFound, "False", "DirectoryNotFound"),
        (
            AwsErrorClass::InvalidCredentials,
            "Unknown",
            "AwsCredentialsInvalid",
        ),
        (AwsErrorClass::NoCredentials, "Unknown", "NoAwsCredentials"),
        (AwsErrorClass::AccessDenied, "Unknown", "AwsAccessDenied"),
        (AwsErrorClass::Throttled, "Unknown", "AwsThrottled"),
        (AwsErrorClass::Unreachable, "Unknown", "AwsUnreachable"),
    ] {
        let mut world = World::new();
        world.aws.blind = Some(class);
        world.run_for(Duration::from_secs(60));
        let told = world.condition("Accepted");
        assert_eq!((told.0.as_str(), told.1.as_str()), (truth, reason));
        assert!(told.2.contains("request id r-1"), "{}", told.2);
        world.aws.blind = None;
        world.run_until(World::is_ready);
        assert_eq!(world.aws.writes.len(), 1);
    }
}

#[test]
fn the_pods_go_on_while_aws_is_away_and_its_return_costs_no_write() {
    let mut world = ready();
    world.aws.blind = Some(AwsErrorClass::Unreachable);
    world.run_for(Duration::from_secs(300));
    assert!(world.is_ready(), "a moment of AWS's is nobody's trouble");
    world.run_for(Duration::from_secs(900));
    assert_eq!(world.condition("Ready").1, "AwsUnreachable");
    assert!(world.pods.iter().all(|pod| pod.state.gate == Some(true)));
    world.aws.blind = None;
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn denied_access_names_the_action_and_is_tried_again() {
    let mut world = World::new();
    for _ in 0..3 {
        world
            .aws
            .answers
            .push_back(Answer::Error(AwsErrorClass::AccessDenied));
    }
    world.run_until(|w| w.condition("Registered").1 == "AwsAccessDenied");
    assert!(world.condition("Registered").2.contains("ds:EnableRadius"));
    world.run_until(World::is_ready);
    assert_eq!(world.events.iter().filter(|e| *e == "AwsAccessDenied").count(), 1);
}

#[test]
fn every_refusal_of_a_write_is_told_with_its_request_id_and_ends_in_one_write() {
    for class in AwsErrorClass::ALL {
        let mut world = ready();
        let events = world.events.len();
        world.aws.answers.extend([Answer::Error(class); 3]);
        world.kill_pod(0);
        world.run_until(|w| w.status().trouble.is_some());
        let expected = match class {
            AwsErrorClass::NoCredentials => "NoAwsCredentials",
            AwsErrorClass::InvalidCredentials => "AwsCredentialsInvalid",
            AwsErrorClass::AccessDenied => "AwsAccessDenied",
            AwsErrorClass::Throttled => "AwsThrottled",
            AwsErrorClass::NotFound => "DirectoryNotFound",
            AwsErrorClass::NotSent => "LeaseEnding",
            AwsErrorClass::Service | AwsErrorClass::Unreachable => "AwsUnreachable",
            AwsErrorClass::AlreadyExists
            | AwsErrorClass::InvalidParameter
            | AwsErrorClass::Unsupported
            | AwsErrorClass::Refused => "AwsRefused",
        };
        let (status, reason, message) = world.condition("Registered");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", expected),
            "{class:?}"
        );
        let has_id = message.contains("request id r-1");
        assert!(has_id || class == AwsErrorClass::NotSent, "{class:?}: {message}");
        world.run_until(World::is_ready);
        // Nobody has to act on a lease that ends: the write follows by itself.
        let once = usize::from(class != AwsErrorClass::NotSent);
        let told = world.events.iter().skip(events).filter(|e| *e == expected);
        assert_eq!(told.count(), once, "{class:?}: {:?}", world.events);
        assert!(world.aws.answers.is_empty(), "{class:?}");
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 2, "{class:?}");
        assert!(world.aws.writes.iter().all(|write| !write.needless), "{class:?}");
    }
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

#[test]
fn enable_and_update_stand_in_for_each_other() {
    let mut world = World::new();
    world
        .aws
        .answers
        .push_back(Answer::Error(AwsErrorClass::AlreadyExists));
    world
        .aws
        .answers
        .push_back(Answer::Error(AwsErrorClass::NotFound));
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn failed_is_tried_again_after_5_15_and_60_minutes_and_at_once_when_something_changes() {
    let mut world = World::new();
    for _ in 0..4 {
        world.aws.answers.push_back(Answer::Fails);
    }
    world.run_until(|w| w.aws.writes.len() == 4);
    let at: Vec<i64> = world.aws.writes.iter().map(|w| w.at.as_second()).collect();
    let waits: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, minutes) in waits.iter().zip([5, 15, 60]) {
        assert!((minutes * 60..minutes * 60 + 120).contains(wait), "{waits:?}");
    }
    world.run_until(|w| w.condition("Registered").1 == "RadiusFailed");
    assert!(
        world
            .condition("Registered")
            .2
            .contains("d-1234567890_controllers")
    );
    let before = world.now;
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().retries = 2);
    world.run_until(World::is_ready);
    let took = world.now.duration_since(before).as_secs();
    assert!(took < 90, "{took} {:#?}", world.aws.writes);
}

#[test]
fn settings_of_others_stay_until_the_policy_adopts_them() {
    let mut world = World::new();
    world.somebody_elses();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.condition("Registered").1, "SettingsOfOthers");
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
    assert_eq!(reason, "DirectoryTaken");
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
    world.proxy.status = None;
    world.run_for(Duration::from_secs(60));
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 3);
    world.proxy.status = None;
    world.foreign_write("THEIRS");
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "SettingsOfOthers");
    assert!(message.contains("not those that it applied"), "{message}");
    assert_eq!(world.aws.writes.len(), 3);
    policy(&mut world, AdoptionPolicy::Adopt, DriftPolicy::Repair);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 4);
}

#[test]
fn a_write_that_was_not_sent_is_not_blamed_on_aws_and_follows_soon() {
    let mut world = World::new();
    world.aws.answers.push_back(Answer::Error(AwsErrorClass::NotSent));
    world.run_until(|w| w.condition("Registered").1 == "LeaseEnding");
    let (_, _, message) = world.condition("Registered");
    assert!(
        message.contains("lease") && !message.contains("AWS says"),
        "{message}"
    );
    let told = world.now;
    world.run_until(World::is_ready);
    assert!(world.now.duration_since(told).as_secs() < 60);
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
fn a_change_from_outside_is_repaired_once_and_a_second_one_is_a_contest() {
    let mut world = ready();
    world.foreign_write("THEIRS");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    assert!(world.events.iter().any(|e| e == "ChangedFromOutside"));
    world.foreign_write("THEIRS");
    world.run_until(|w| w.condition("Registered").1 == "Contended");
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
    assert_eq!(world.condition("Ready").1, "SwitchedOff");
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
        assert_eq!(world.condition("Ready").1, "SwitchedOff", "{status:?}");
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
fn a_directory_that_is_not_active_is_waited_for() {
    let mut world = World::new();
    world.aws.stage = Some("Impaired".to_owned());
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.condition("Registered").1, "DirectoryNotActive");
    world.aws.stage = None;
    world.run_until(World::is_ready);
}

#[test]
fn missing_and_empty_keys_are_named_without_a_value() {
    let mut world = World::new();
    world
        .secrets
        .insert("duo".to_owned(), data(&[("ikey", "DI1"), ("other", "hunter2")]));
    world.run_for(Duration::from_secs(20));
    let (_, reason, message) = world.condition("SecretsReady");
    assert_eq!(reason, "SecretKeyMissing");
    assert!(
        message.contains("duo") && message.contains("skey") && !message.contains("hunter2"),
        "{message}"
    );
    world
        .secrets
        .insert("duo".to_owned(), data(&[("ikey", "DI1"), ("skey", " \n")]));
    world.wake();
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.condition("SecretsReady").1, "SecretKeyEmpty");
    world
        .secrets
        .insert("duo".to_owned(), data(&[("ikey", "DI1"), ("skey", "k")]));
    world.wake();
    world.run_until(World::is_ready);
}

#[test]
fn a_provider_outside_the_allowed_hosts_is_told_before_a_pod_starts() {
    let mut world = World::new();
    "evil.example".clone_into(&mut world.proxy.spec.provider.duo.as_mut().unwrap().api_host);
    world.run_for(Duration::from_secs(20));
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "ProviderConfigInvalid");
    assert!(
        message.starts_with("spec.provider.duo.apiHost: is \"evil.example\""),
        "{message}"
    );
    assert!(world.pods.is_empty());
}

#[test]
fn malformed_seeds_are_told_and_the_rest_goes_on() {
    let mut world = World::new();
    world.proxy.spec.provider = serde_json::from_value(serde_json::json!({
        "totp": {"seedsSecretRef": {"name": "seeds"}}
    }))
    .unwrap();
    let good = "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
    world.secrets.insert(
        "seeds".to_owned(),
        data(&[("bob", good), ("eve", "otpauth://totp/eve?secret=N!")]),
    );
    world.run_until(|w| w.condition("Registered").0 == "True");
    let (_, reason, message) = world.condition("Ready");
    assert_eq!(reason, "TotpSeedsMalformed");
    assert!(
        message.contains("\"eve\"") && message.contains("line 1") && !message.contains("N!"),
        "{message}"
    );
    world.secrets.insert("seeds".to_owned(), data(&[("bob", good)]));
    world.wake();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn what_the_api_server_refuses_is_a_condition_and_one_event() {
    let mut world = World::new();
    world.refusal = Some(crate::input::ObjectRefusal {
        object: "StatefulSet/mfa".to_owned(),
        code: 403,
        message: "exceeded quota".to_owned(),
    });
    world.run_for(Duration::from_secs(600));
    let (truth, reason, message) = world.condition("Available");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "ObjectRefused"));
    assert!(
        message.contains("refuses StatefulSet/mfa with status 403: exceeded quota"),
        "{message}"
    );
    assert_eq!(world.events.iter().filter(|e| *e == "ObjectRefused").count(), 1);
    world.refusal = None;
    world.wake();
    world.run_until(World::is_ready);
}

#[test]
fn what_works_less_well_than_people_may_think_is_a_warning() {
    let mut world = World::new();
    world.proxy.spec.replicas = 1;
    world.proxy.spec.directory.as_mut().unwrap().timeout_seconds = 30;
    world.run_until(World::is_ready);
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "AcceptedWithWarnings");
    assert!(
        message.contains("replicas is 1") && message.contains("fail-over is off"),
        "{message}"
    );
}

#[test]
fn credentials_that_the_provider_refuses_are_told_with_their_secret_and_stop_nothing() {
    let mut world = ready();
    let writes = world.aws.writes.len();
    world.reported_problem = Some(ReportedProblem::ProviderCredentials);
    world.wake();
    world.run_for(Duration::from_secs(5));
    let (status, reason, message) = world.condition("SecretsReady");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ProviderCredentialsRefused")
    );
    assert!(
        message.contains("Secret duo") && message.contains("mfa-0"),
        "{message}"
    );
    assert_eq!(world.condition("Registered").0, "True");
    world.reported_problem = None;
    world.wake();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), writes);
}
