//! What goes wrong, what is told, and that it heals.

use std::time::Duration;

use super::ownership::policy;
use super::world::{Answer, Pod, World, data};
use crate::api::{AdoptionPolicy, DriftPolicy};
use crate::aws::AwsErrorClass;
use crate::observed::{DirectoryKind, ReportedProblem};

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

#[test]
fn without_a_grant_nothing_is_started_and_with_one_it_heals() {
    let mut world = World::new();
    let grants = std::mem::take(&mut world.grants);
    world.run_for(Duration::from_secs(60));
    let (status, reason, message) = world.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoGrant"));
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
        let (status, reason, message) = world.condition("Accepted");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "DirectoryTypeUnsupported")
        );
        assert!(message.contains(words), "{message}");
        assert!(world.aws.writes.is_empty() && world.aws.tags.is_empty() && world.pods.is_empty());
    }
}

#[test]
fn a_directory_that_is_not_described_is_told_by_the_kind_of_failure() {
    for (class, status, reason) in [
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
        assert_eq!((told.0.as_str(), told.1.as_str()), (status, reason));
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
    assert!(world.pods.iter().all(Pod::is_ready));
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
        world.run_until(|w| w.condition("Registered").1 == expected);
        let (status, _, message) = world.condition("Registered");
        assert_eq!(status, "False", "{class:?}");
        let record = world.record();
        assert_eq!(record.last_failure.unwrap().kind, format!("{class:?}"));
        assert!(
            record
                .writes
                .iter()
                .all(|write| write.reason.starts_with(char::is_uppercase))
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
fn an_http_proxy_that_wants_a_password_gets_it_from_a_secret() {
    let mut world = ready();
    world.edit(|proxy| {
        let duo = proxy.spec.provider.duo.as_mut().unwrap();
        duo.http_proxy = Some("http://proxy.example:3128".to_owned());
        duo.http_proxy_secret_ref =
            Some(serde_json::from_value(serde_json::json!({"name": "proxy"})).unwrap());
    });
    world.run_until(|world| world.condition("SecretsReady").1 == "SecretMissing");
    world.secrets.insert(
        "proxy".to_owned(),
        data(&[("username", "radius\n"), ("password", "hunter2\n")]),
    );
    world.wake();
    world.run_until(World::is_ready);
    let folder = "/etc/radius-proxy/provider";
    let mounted = world.mountable();
    assert_eq!(
        mounted[&format!("{folder}/http-proxy-username")].expose(),
        b"radius"
    );
    assert_eq!(
        mounted[&format!("{folder}/http-proxy-password")].expose(),
        b"hunter2"
    );
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

#[test]
fn radius_is_not_switched_on_while_the_provider_refuses_the_credentials() {
    let mut world = World::new();
    world.reported_problem = Some(ReportedProblem::ProviderCredentials);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.aws.writes.len(), 0);
    let (status, reason, message) = world.condition("Registered");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Blocked"));
    assert!(message.contains("no user could log in"), "{message}");
    world.reported_problem = None;
    world.wake();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}
