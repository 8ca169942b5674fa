//! The API server, a quota, a policy or AWS refuses something.

use std::time::Duration;

use super::world::{World, data};
use crate::aws::AwsErrorClass;
use crate::outcomes::{Failure, Step};

fn apply(kind: &'static str, name: &str) -> Step {
    Step::Apply(kind, name.to_owned())
}

fn count(world: &World, reason: &str) -> usize {
    world.events.iter().filter(|event| *event == reason).count()
}

/// The condition as `Status/Reason`.
fn told(world: &World, kind: &str) -> String {
    let (status, reason, _) = world.condition(kind);
    format!("{status}/{reason}")
}

fn is_registered(world: &World) -> bool {
    let settings = world.aws.settings.as_ref();
    let mut servers = settings
        .map(|settings| settings.servers.clone())
        .unwrap_or_default();
    servers.sort();
    let mut addresses: Vec<String> = world
        .pods
        .iter()
        .map(|pod| pod.state.ips[0].to_string())
        .collect();
    addresses.sort();
    servers == addresses && world.aws.status == Some(crate::observed::RadiusStatus::Completed)
}

#[test]
fn a_refused_stateful_set_is_a_condition_and_one_event() {
    let mut world = World::new();
    world.refuse(apply("StatefulSet", "mfa"), 403, "exceeded quota");
    world.run_for(Duration::from_secs(600));
    assert_eq!(told(&world, "Available"), "False/ObjectRefused");
    let (_, _, message) = world.condition("Stalled");
    assert!(
        message.contains("refuses StatefulSet/mfa with status 403: exceeded quota. Raise the quota"),
        "{message}"
    );
    assert_eq!(count(&world, "ObjectRefused"), 1);
    world.refuse_nothing();
    let lifted = world.now;
    world.run_until(World::is_ready);
    assert!(world.now.duration_since(lifted).as_secs() < 120, "{}", world.now);
    assert_eq!(world.condition("Stalled").0, "");
}

#[test]
fn a_refused_object_that_nothing_depends_on_stops_no_registration() {
    for (kind, name) in [
        ("PodDisruptionBudget", "mfa"),
        ("Role", "mfa"),
        ("Service", "mfa"),
        ("ConfigMap", "mfa-radius-config"),
        ("Secret", "mfa-radius-provider"),
        ("StatefulSet", "mfa"),
        ("NetworkPolicy", "mfa"),
    ] {
        let mut world = World::new();
        world.run_until(World::is_ready);
        world.refuse(
            apply(kind, name),
            403,
            "admission webhook \"x\" denied the request: no",
        );
        world.kill_pod(0);
        world.run_for(Duration::from_secs(300));
        assert!(is_registered(&world), "{kind}: {:#?}", world.status());
        assert_eq!(told(&world, "Available"), "True/ProxiesServe", "{kind}");
        assert_eq!(told(&world, "Registered"), "True/Registered", "{kind}");
        assert_eq!(told(&world, "Ready"), "False/ObjectRefused", "{kind}");
        assert!(
            world.condition("Ready").2.contains("denied the request: no"),
            "{kind}"
        );
        assert_eq!(count(&world, "ObjectRefused"), 1, "{kind}");
    }
}

#[test]
fn a_policy_that_refuses_pod_patches_stops_no_registration_and_is_told() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    for pod in ["mfa-0", "mfa-1"] {
        let words = "denied request: annotations of pods are immutable here";
        world.refuse(Step::PodMetadata(pod.to_owned()), 422, words);
        world.refuse(Step::PodGate(pod.to_owned()), 422, words);
    }
    for pod in [0, 1] {
        world.kill_pod(pod);
        world.run_for(Duration::from_secs(180));
    }
    assert!(is_registered(&world), "{:#?}", world.status());
    let (status, reason, message) = world.condition("Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ObjectRefused"));
    assert!(
        message.contains("Pod/mfa-0") && message.contains("immutable here"),
        "{message}"
    );
    assert_eq!(count(&world, "ObjectRefused"), 1);
    world.refuse_nothing();
    let lifted = world.now;
    world.run_until(World::is_ready);
    assert!(world.now.duration_since(lifted).as_secs() <= 60);
}

#[test]
fn refused_pods_are_told_in_the_words_of_whoever_refuses_them() {
    let mut world = World::new();
    world.refused_pods =
        Some("pods \"mfa-0\" is forbidden: violates PodSecurity \"restricted:latest\": hostPort");
    world.run_until(|world| told(world, "Available") == "False/PodsRefused");
    let (_, _, message) = world.condition("Available");
    assert!(
        message.contains("violates PodSecurity") && message.contains("Pod Security level"),
        "{message}"
    );
    assert_eq!(count(&world, "PodsRefused"), 1);
    world.refuse_nothing();
    world.run_until(World::is_ready);
}

#[test]
fn pods_that_are_refused_for_another_reason_are_told_again_and_for_another_amount_are_not() {
    let mut world = World::new();
    let refusals = [
        "exceeded quota: cpu, used: requests.cpu=3900m",
        "exceeded quota: cpu, used: requests.cpu=3800m",
        "no PriorityClass with name high-priorty was found",
    ];
    for refusal in refusals {
        world.refused_pods = Some(refusal);
        world.run_until(|world| world.condition("Available").2.contains(refusal));
    }
    assert_eq!(count(&world, "PodsRefused"), 2);
}

#[test]
fn a_lost_pod_that_is_refused_is_told_while_the_other_serves() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.refused_pods = Some("exceeded quota: pods");
    world.kill_pod(0);
    world.run_until(|world| told(world, "Ready") == "False/PodsRefused");
    assert_eq!(told(&world, "Available"), "True/SomeProxiesServe");
}

#[test]
fn radius_is_not_enabled_before_the_network_policy_is_applied() {
    let mut world = World::new();
    world.refuse(apply("NetworkPolicy", "mfa"), 403, "no");
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.aws.asked, 0);
    assert!(world.record().pending_write.is_none());
    assert_eq!(told(&world, "Registered"), "False/Blocked");
    assert_eq!(told(&world, "Stalled"), "True/ObjectRefused");
    world.refuse_nothing();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn without_its_secret_the_configuration_stays_and_aws_keeps_the_secret_that_pods_accept() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.refuse(apply("Secret", "mfa-radius-secrets"), 403, "no");
    world.set_secret("the second secret");
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.aws.secret, b"the first secret");
    world.kill_pod(1);
    world.run_for(Duration::from_secs(300));
    assert_eq!(told(&world, "Available"), "True/ProxiesServe");
    assert_eq!(world.aws.secret, b"the first secret");
    world.refuse_nothing();
    world.run_until(|world| world.is_ready() && world.aws.secret == b"the second secret");
}

#[test]
fn an_api_server_that_fails_for_moments_is_not_told_and_one_that_goes_on_is() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    let message = "failed calling webhook \"x\"".to_owned();
    world
        .failing
        .insert(apply("Service", "mfa"), Failure::Transient { message });
    world.wake();
    world.run_for(Duration::from_secs(30));
    assert!(world.is_ready());
    world.run_for(Duration::from_secs(120));
    assert_eq!(told(&world, "Ready"), "Unknown/ApiServerErrors");
    assert!(world.condition("Ready").2.contains("failed calling webhook"));
}

#[test]
fn tags_that_aws_refuses_are_a_note_one_event_and_a_try_each_hour() {
    let mut world = World::new();
    world.refused_tags = Some(AwsErrorClass::AccessDenied);
    world.run_until(World::is_ready);
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "Registered");
    assert!(
        message.contains("isn't tagged") && message.contains("ds:AddTagsToResource"),
        "{message}"
    );
    let asked = world.asked_tags;
    world.run_for(Duration::from_secs(3500));
    assert_eq!(world.asked_tags, asked);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.asked_tags, asked + 1);
    assert_eq!(count(&world, "TagsRefused"), 1);
    world.refused_tags = None;
    world.run_for(Duration::from_secs(4000));
    assert!(!world.condition("Registered").2.contains("tagged"));
    assert!(!world.aws.tags.is_empty());
}

#[test]
fn a_status_that_cannot_be_written_is_an_event_and_its_age_is_seen() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.refuse(Step::Status, 403, "no");
    let last = world.status().last_refresh_time.unwrap();
    world.run_for(Duration::from_secs(1800));
    assert_eq!(count(&world, "StatusNotWritten"), 1);
    assert_eq!(world.status().last_refresh_time.unwrap(), last);
    world.refuse_nothing();
    world.run_for(Duration::from_secs(60));
    assert!(
        world
            .now
            .duration_since(world.status().last_refresh_time.unwrap().0)
            .as_secs()
            < 60
    );
}

#[test]
fn a_status_at_rest_is_confirmed_every_ten_minutes() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    for _ in 0..10 {
        world.run_for(Duration::from_secs(300));
        let confirmed = world.status().last_refresh_time.unwrap();
        assert!(world.now.duration_since(confirmed.0).as_secs() <= 610);
    }
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn a_second_operator_holds_and_is_told_until_the_first_one_is_gone() {
    let mut world = World::new();
    let first = world.settings.operator.clone();
    world.run_until(World::is_ready);
    let before = world.objects.clone();
    world.settings.operator = "elsewhere/other".to_owned();
    world.settings.default_image = "proxy:2".to_owned();
    world.wake();
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.objects, before);
    world.settings.operator = first;
    world.settings.default_image = "proxy:1".to_owned();
    world.wake();
    world.run_for(Duration::from_secs(10));
    assert_eq!(told(&world, "Accepted"), "True/OtherOperator");
    assert!(world.condition("Accepted").2.contains("elsewhere/other"));
    assert!(world.is_ready());
    assert_eq!(count(&world, "OtherOperator"), 1);
    world.run_for(Duration::from_secs(1500));
    assert_eq!(told(&world, "Accepted"), "True/Accepted");
    world.settings.operator = "elsewhere/other".to_owned();
    world.wake();
    world.run_until(|world| world.status().operator.as_deref() == Some("elsewhere/other"));
}

/// Restored from a backup: objects without their owner, as another RadiusProxy by uid, without a status.
fn restored(world: &mut World) {
    for object in world.objects.values_mut() {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("ownerReferences");
    }
    world.proxy.metadata.uid = Some("uid-2".to_owned());
    world.proxy.status = None;
    world.wake();
}

#[test]
fn restored_objects_are_adopted_and_the_secret_that_aws_holds_stays() {
    let mut spec = serde_json::to_value(World::new().proxy.spec).unwrap();
    spec.as_object_mut().unwrap().remove("sharedSecretRef");
    let mut world = World::with(&spec);
    world.run_until(World::is_ready);
    let secret = world.aws.secret.clone();
    let pods: Vec<String> = world.pods.iter().map(|pod| pod.state.uid.clone()).collect();
    restored(&mut world);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.secret, secret);
    assert_eq!(count(&world, "ObjectsAdopted"), 1);
    assert!(world.pods.iter().all(|pod| pods.contains(&pod.state.uid)));
    let owner = |object: &serde_json::Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
    assert!(world.objects.values().all(|object| owner(object) == "uid-2"));
}

#[test]
fn a_restored_secret_waits_for_the_tags_that_say_whether_aws_holds_it() {
    for status_is_lost in [true, false] {
        let mut spec = serde_json::to_value(World::new().proxy.spec).unwrap();
        spec.as_object_mut().unwrap().remove("sharedSecretRef");
        let mut world = World::with(&spec);
        world.run_until(World::is_ready);
        let secret = world.aws.secret.clone();
        let status = world.proxy.status.clone();
        restored(&mut world);
        world.proxy.status = status.filter(|_| !status_is_lost);
        world.registration = None;
        world.aws.hides_tags = true;
        world.lose_the_operator(Duration::from_secs(5));
        world.run_for(Duration::from_secs(3600));
        let (_, reason, message) = world.condition("Accepted");
        assert_eq!(reason, "DirectoryUnknown");
        assert!(message.contains("ds:ListTagsForResource"), "{message}");
        assert_eq!(world.aws.writes.len(), 1);
        world.aws.hides_tags = false;
        world.run_until(World::is_ready);
        assert_eq!(world.aws.secret, secret);
    }
}

#[test]
fn a_planted_secret_in_a_fresh_namespace_is_not_used() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    let key = ("Secret".to_owned(), "mfa-radius-secrets".to_owned());
    let mut planted = world.objects[&key].clone();
    planted["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("ownerReferences");
    let mut spec = serde_json::to_value(World::new().proxy.spec).unwrap();
    spec.as_object_mut().unwrap().remove("sharedSecretRef");
    let mut world = World::with(&spec);
    world.objects.insert(key, planted);
    world.run_until(World::is_ready);
    assert_ne!(world.aws.secret, b"the first secret");
    assert!(!world.aws.secret.is_empty());
}

#[test]
fn an_object_of_another_owner_is_a_name_conflict_and_nothing_is_touched() {
    let mut world = World::new();
    let key = ("Service".to_owned(), "mfa".to_owned());
    let service = serde_json::json!({"metadata": {"name": "mfa", "ownerReferences": [{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true}]}});
    world.objects.insert(key.clone(), service.clone());
    world.run_for(Duration::from_secs(60));
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "NameConflict");
    assert!(
        message.contains("Service/mfa (controlled by Deployment/web)"),
        "{message}"
    );
    assert_eq!(world.objects, [(key, service)].into());
}

#[test]
fn every_object_that_is_applied_has_a_name_that_is_looked_for_before() {
    let mut world = World::with(&serde_json::json!({
        "replicas": 2,
        "directory": {"id": "d-1234567890", "region": "eu-central-1"},
        "addresses": {"source": "LoadBalancer"},
        "provider": {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}},
    }));
    let seed = "bob:JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
    world
        .seeds_by_label
        .insert("bob".to_owned(), data(&[("seed", seed)]));
    world.run_for(Duration::from_secs(60));
    let ids = crate::rollout::ownership::object_ids(&world.proxy);
    assert!(world.objects.len() > 20, "{:?}", world.status());
    for (kind, name) in world.objects.keys() {
        assert!(
            ids.iter().any(|id| id.kind == kind && id.name == *name),
            "{kind}/{name}"
        );
    }
}

#[test]
fn a_refused_registration_keeps_back_nothing_but_the_shared_secret_and_the_configuration() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    let secret = |name: &str| ("Secret".to_owned(), name.to_owned());
    let shared = world.objects[&secret("mfa-radius-secrets")].clone();
    let provider = world.objects[&secret("mfa-radius-provider")].clone();
    world.refuse(
        apply("DirectoryRegistration", "d-1234567890.eu-central-1"),
        403,
        "admission webhook \"x\" denied the request: no",
    );
    world
        .secrets
        .insert("duo".to_owned(), data(&[("ikey", "DI2"), ("skey", "k2")]));
    world.set_secret("the second secret");
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.objects[&secret("mfa-radius-secrets")], shared);
    assert_ne!(world.objects[&secret("mfa-radius-provider")], provider);
    assert_eq!(told(&world, "Ready"), "False/ObjectRefused");
    assert_eq!(told(&world, "Available"), "True/ProxiesServe");
    assert!(is_registered(&world));
    world.refuse_nothing();
    world.run_until(|world| world.aws.secret == b"the second secret");
    world.run_until(World::is_ready);
}

#[test]
fn pods_are_not_created_before_their_configuration_whatever_is_refused_with_it() {
    for steps in 0..20 {
        let mut world = World::new();
        world.crash_after = Some(steps);
        world.run_until(|world| world.crash_after.is_none());
        world.refuse(
            apply("DirectoryRegistration", "d-1234567890.eu-central-1"),
            403,
            "no",
        );
        world.refuse(apply("ConfigMap", "mfa-radius-config"), 403, "no");
        world.run_for(Duration::from_secs(300));
        let has = |kind: &str, name: &str| world.objects.contains_key(&(kind.to_owned(), name.to_owned()));
        assert!(
            has("ConfigMap", "mfa-radius-config") || !has("StatefulSet", "mfa"),
            "{steps}"
        );
        let (_, _, message) = world.condition("Stalled");
        for step in ["DirectoryRegistration/", "ConfigMap/mfa-radius-config"] {
            assert!(steps < 5 || message.contains(step), "{steps}: {message}");
        }
    }
}

#[test]
fn a_tag_failure_is_over_when_the_directory_has_the_tags() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    let tags = world.aws.tags.clone();
    let mut world = World::new();
    world.refused_tags = Some(AwsErrorClass::AccessDenied);
    world.run_until(World::is_ready);
    assert!(world.condition("Registered").2.contains("isn't tagged"));
    world.aws.tags.extend(tags);
    world.run_for(Duration::from_secs(1800));
    let (_, _, message) = world.condition("Registered");
    assert!(!message.contains("isn't tagged"), "{message}");
}

#[test]
fn refused_tags_are_one_event_while_registration_is_blocked_too() {
    let mut world = World::new();
    world.refused_tags = Some(AwsErrorClass::AccessDenied);
    world.run_until(World::is_ready);
    world.refuse(Step::Finalizer, 403, "no");
    world.edit(|proxy| {
        proxy.spec.directory.as_mut().unwrap().deletion_policy = crate::api::DeletionPolicy::Disable;
    });
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.record().hold.unwrap().name, "Blocked");
    assert_eq!(count(&world, "TagsRefused"), 1);
}

#[test]
fn without_the_finalizer_nothing_is_written_to_aws_where_a_deletion_has_to_disable_radius() {
    let mut world = World::new();
    world.proxy.spec.directory.as_mut().unwrap().deletion_policy = crate::api::DeletionPolicy::Disable;
    world.refuse(Step::Finalizer, 403, "no finalizers");
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.aws.writes.len(), 0);
    let (_, reason, message) = world.condition("Registered");
    assert!(reason == "Blocked" && message.contains("finalizer"), "{message}");
    assert_eq!(told(&world, "Stalled"), "True/ObjectRefused");
    world.refuse_nothing();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn a_registration_that_cannot_be_worked_on_ends_a_ready_status_after_a_minute() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.refused_registration = Some("admission webhook \"x\" denied the request");
    world.wake_registration();
    world.run_for(Duration::from_secs(50));
    assert!(world.is_ready());
    world.run_for(Duration::from_secs(15));
    assert_eq!(told(&world, "Registered"), "Unknown/ApiServerErrors");
    assert_eq!(told(&world, "Ready"), "Unknown/ApiServerErrors");
    assert!(world.condition("Ready").2.contains("denied the request"));
    world.refused_registration = None;
    world.run_for(Duration::from_secs(40));
    assert!(world.is_ready());
    assert_eq!(world.aws.writes.len(), 1);
}

/// `SecretsReady` says that something can't be read, and a lost pod's successor is registered.
fn is_told_and_the_configuration_stays(mut world: World, words: &str) {
    world.wake();
    world.run_for(Duration::from_secs(60));
    assert_eq!(told(&world, "SecretsReady"), "False/ApiServerErrors");
    assert!(world.condition("SecretsReady").2.contains(words));
    world.kill_pod(0);
    world.run_until(is_registered);
    assert_eq!(told(&world, "Available"), "True/ProxiesServe");
}

#[test]
fn a_secret_that_cannot_be_read_is_named_and_the_configuration_stays() {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
        .unreadable_secrets
        .insert("duo".to_owned(), "secrets \"duo\" is forbidden".to_owned());
    is_told_and_the_configuration_stays(world, "\"duo\" is forbidden");
}

#[test]
fn seeds_that_cannot_be_listed_are_told_and_a_lost_pods_successor_is_registered() {
    let mut world = World::with(&serde_json::json!({
        "replicas": 2,
        "directory": {"id": "d-1234567890", "region": "eu-central-1"},
        "provider": {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}},
    }));
    let seed = data(&[(
        "seed",
        "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    )]);
    world.seeds_by_label.insert("bob".to_owned(), seed);
    world.run_until(World::is_ready);
    world.unreadable_seeds = Some("secrets is forbidden".to_owned());
    is_told_and_the_configuration_stays(world, "mfa=totp");
}
