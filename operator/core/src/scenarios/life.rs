//! From the first apply to the deletion.

use std::time::Duration;

use super::world::{Pod, World};
use crate::api::RadiusProxyStatus;
use crate::observed::RadiusStatus;

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

fn writes(world: &World) -> usize {
    world.aws.writes.len()
}

#[test]
fn two_pods_are_registered_with_one_write_and_become_ready() {
    let world = ready();
    assert_eq!(writes(&world), 1);
    assert_eq!(world.aws.writes[0].servers, ["10.88.0.1", "10.88.0.2"]);
    assert_eq!(world.servers(), "2/2");
    assert!(world.pods.iter().all(Pod::is_ready));
    assert_eq!(
        world.aws.tags["radius-mfa.dev/owner/eu-central-1"],
        "test/auth/mfa"
    );
    assert_eq!(world.record().applied.unwrap().settings.display_label, "MFA");
}

#[test]
fn at_rest_nothing_is_written_and_nothing_told_twice() {
    let mut world = ready();
    let events = world.events.clone();
    let without_time = |world: &World| RadiusProxyStatus {
        last_refresh_time: None,
        ..world.status()
    };
    let status = without_time(&world);
    world.run_for(Duration::from_secs(7200));
    assert_eq!(writes(&world), 1);
    assert_eq!(world.events, events);
    assert_eq!(without_time(&world), status);
}

#[test]
fn a_lost_pod_is_replaced_with_one_write() {
    let mut world = ready();
    world.kill_pod(0);
    world.run_until(|w| writes(w) == 2);
    assert_eq!(world.aws.writes[1].servers, ["10.88.0.3", "10.88.0.2"]);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(writes(&world), 2);
    assert!(world.is_ready());
}

#[test]
fn pods_learn_of_each_other_and_registration_does_not_care() {
    let mut world = ready();
    let digest = world.status().config_digest;
    let set = world.objects[&("StatefulSet".to_owned(), "mfa".to_owned())].clone();
    world.kill_pod(0);
    world.run_until(|w| writes(w) == 2);
    let old = "10.88.0.1:1814\n10.88.0.2:1814\n";
    let late = world.pods.iter().find(|pod| pod.state.name == "mfa-1").unwrap();
    assert_eq!(
        late.peers(),
        old,
        "its kubelet takes its time, and nobody waits for it"
    );
    world.run_for(Duration::from_secs(60));
    for pod in &world.pods {
        assert_eq!(
            pod.peers(),
            "10.88.0.2:1814\n10.88.0.3:1814\n",
            "{}",
            pod.state.name
        );
    }
    assert_eq!(
        (world.status().config_digest, world.status().configured_replicas),
        (digest, 2)
    );
    assert_eq!(world.objects[&("StatefulSet".to_owned(), "mfa".to_owned())], set);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(writes(&world), 2);
    assert!(world.is_ready());
}

#[test]
fn pods_learn_of_each_other_also_while_no_configuration_can_be_made() {
    let mut world = ready();
    world.secrets.remove("duo");
    world.kill_pod(0);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.condition("SecretsReady").0, "False");
    for pod in &world.pods {
        assert_eq!(pod.peers(), "10.88.0.2:1814\n10.88.0.3:1814\n");
    }
}

#[test]
fn a_container_that_restarts_keeps_its_place_and_costs_no_write() {
    let mut world = ready();
    world.pods[0].sound = false;
    world.restart_container(0);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(writes(&world), 1);
    assert_eq!(world.aws.status, Some(RadiusStatus::Completed));
    assert_eq!(world.condition("Available").1, "SomeProxiesServe");
}

#[test]
fn a_pod_that_is_gone_for_good_is_removed_after_ten_minutes_while_another_lives() {
    let mut world = ready();
    // Its successor never gets ready.
    world.kill_pod(0);
    world.run_until(|w| w.pods.iter().any(|p| p.state.uid == "pod-3"));
    world
        .pods
        .iter_mut()
        .find(|p| p.state.uid == "pod-3")
        .unwrap()
        .sound = false;
    let gone = world.now;
    world.run_until(|w| writes(w) == 2);
    assert_eq!(world.aws.writes[1].servers, ["10.88.0.2"]);
    let waited = world.now.duration_since(gone).as_secs();
    assert!((595..=660).contains(&waited), "{waited}");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.condition("Registered").1, "Registering");
}

#[test]
fn when_nobody_registered_answers_the_first_that_does_is_registered_at_once() {
    let mut world = ready();
    world.kill_pod(0);
    world.kill_pod(1);
    world.run_until(|w| w.pods.iter().any(|p| p.state.uid == "pod-4"));
    world
        .pods
        .iter_mut()
        .find(|p| p.state.uid == "pod-4")
        .unwrap()
        .sound = false;
    let lost = world.now;
    world.run_until(|w| writes(w) == 2);
    assert!(world.now.duration_since(lost).as_secs() < 8);
    assert_eq!(world.aws.writes[1].servers.len(), 1);
}

#[test]
fn scaling_down_is_one_write_when_the_pod_has_gone() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.replicas = 3);
    world.run_until(|w| writes(w) == 2);
    assert_eq!(world.aws.writes[1].servers.len(), 3);
    world.edit(|proxy| proxy.spec.replicas = 2);
    world.run_until(|w| writes(w) == 3);
    world.run_for(Duration::from_secs(3600));
    assert_eq!((writes(&world), world.aws.writes[2].servers.len()), (3, 2));
}

#[test]
fn other_settings_are_one_update_and_no_pod_is_touched() {
    let mut world = ready();
    let pods: Vec<String> = world.pods.iter().map(|p| p.state.uid.clone()).collect();
    world.edit(|proxy| "VPN".clone_into(&mut proxy.spec.directory.as_mut().unwrap().display_label));
    world.run_until(|w| writes(w) == 2 && w.is_ready());
    let last = world.status().last_write.unwrap();
    assert_eq!(
        (last.operation.as_str(), last.reason.as_str()),
        ("UpdateRadius", "settings changed: label from \"MFA\" to \"VPN\"")
    );
    world.run_until(World::is_ready);
    assert_eq!(
        pods,
        world.pods.iter().map(|p| p.state.uid.clone()).collect::<Vec<_>>()
    );
}

#[test]
fn a_domain_controller_that_is_added_becomes_a_client_without_a_write() {
    let mut world = ready();
    let before = world.status().config_digest;
    world.aws.clients.insert("10.0.0.11".parse().unwrap());
    world.run_for(Duration::from_secs(240));
    assert_ne!(world.status().config_digest, before);
    assert_eq!(world.status().configured_replicas, 2);
    assert!(world.is_ready() && writes(&world) == 1);
    let policy = &world.objects[&("NetworkPolicy".to_owned(), "mfa".to_owned())];
    assert!(policy.to_string().contains("10.0.0.11/32"));
}

#[test]
fn deletion_leaves_the_settings_unless_disable_is_written() {
    let mut world = ready();
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(
        (writes(&world), world.aws.status),
        (1, Some(RadiusStatus::Completed))
    );

    let mut world = ready();
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.deletion_policy = crate::api::DeletionPolicy::Disable;
    });
    world.run_for(Duration::from_secs(5));
    // A namespace that is deleted takes its objects at once, and its Secrets first.
    world.objects.clear();
    world.secrets.clear();
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!((writes(&world), world.aws.status), (2, None));
    assert_eq!(world.events.last().map(String::as_str), Some("DirectoryReleased"));
}

#[test]
fn deletion_does_not_disable_what_is_somebody_elses_by_now() {
    let mut world = ready();
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.deletion_policy = crate::api::DeletionPolicy::Disable;
        directory.drift_policy = crate::api::DriftPolicy::Report;
    });
    world.run_for(Duration::from_secs(5));
    world.foreign_write("THEIRS");
    world.delete();
    world.run_until(World::has_ended);
    assert_eq!(
        (writes(&world), world.aws.status),
        (1, Some(RadiusStatus::Completed))
    );
}

#[test]
fn a_deletion_that_aws_blocks_can_be_ended_by_a_person() {
    let mut world = ready();
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.deletion_policy = crate::api::DeletionPolicy::Disable;
    });
    world.run_for(Duration::from_secs(5));
    world.aws.status = Some(RadiusStatus::Creating);
    world.delete();
    world.run_for(Duration::from_secs(600));
    assert!(!world.gone);
    assert!(world.condition("Ready").2.contains("abandon-directory"));
    world.edit(|proxy| {
        let annotation = (crate::names::ABANDON_ANNOTATION.to_owned(), "true".to_owned());
        proxy.metadata.annotations = Some([annotation].into());
    });
    world.run_until(World::has_ended);
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("DirectoryAbandoned")
    );
}

#[test]
fn a_deletion_that_cannot_ask_aws_says_why_and_how_to_end_it() {
    let mut world = ready();
    world.edit(|proxy| {
        let directory = proxy.spec.directory.as_mut().unwrap();
        directory.deletion_policy = crate::api::DeletionPolicy::Disable;
    });
    world.run_for(Duration::from_secs(5));
    world.aws.blind = Some(crate::aws::AwsErrorClass::AccessDenied);
    world.delete();
    world.run_for(Duration::from_secs(60));
    let (_, reason, message) = world.condition("Ready");
    assert_eq!(reason, "AwsAccessDenied");
    assert!(
        message.contains("kubectl annotate -n auth rp mfa radius-mfa.dev/abandon-directory=true"),
        "{message}"
    );
    world.aws.blind = Some(crate::aws::AwsErrorClass::NotFound);
    world.run_until(World::has_ended);
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("DirectoryAbandoned")
    );
}

#[test]
fn without_a_directory_the_proxies_serve_their_clients() {
    let mut world = World::with(&serde_json::json!({
        "replicas": 2,
        "clients": [{"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": super::world::SECRET}}],
        "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}},
    }));
    let seed = "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
    world
        .secrets
        .insert("seeds".to_owned(), super::world::data(&[("bob", seed)]));
    world.run_until(World::is_ready);
    assert_eq!(world.condition("Registered").1, "NoDirectory");
    assert!(world.pods.iter().all(Pod::is_ready));
    assert!(world.proxy.metadata.finalizers.is_none());
}

#[test]
fn a_load_balancer_is_registered_once_it_has_an_address_and_somebody_answers() {
    let mut world = World::new();
    world.proxy.spec.addresses.source = crate::api::AddressSource::LoadBalancer;
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.condition("Registered").1, "WaitingForAddresses");
    assert!(world.pods.iter().all(Pod::is_ready));
    world.balance(&["10.1.1.1"]);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes[0].servers, ["10.1.1.1"]);
    world.kill_pod(0);
    world.run_for(Duration::from_secs(1200));
    assert_eq!(writes(&world), 1);
}

#[test]
fn a_pod_on_a_lost_node_is_deleted_by_force_and_its_successor_registered() {
    let mut world = ready();
    let now = world.now;
    let pod = &mut world.pods[0].state;
    pod.node_ready = false;
    pod.deleted = Some(now);
    world.run_until(|w| writes(w) == 2);
    assert_eq!(world.aws.writes[1].servers, ["10.88.0.3", "10.88.0.2"]);
    let took = world.now.duration_since(now).as_secs();
    assert!(took < 120, "{took} s, though no kubelet will confirm anything");
}

#[test]
fn a_dual_stack_directory_gets_both_addresses_however_it_writes_them() {
    let mut world = World::new();
    world.aws.network = crate::observed::NetworkType::DualStack;
    world.run_until(World::is_ready);
    let settings = world.aws.settings.clone().unwrap();
    assert_eq!(settings.servers, ["10.88.0.1", "10.88.0.2"]);
    assert_eq!(settings.servers_ipv6, ["fd00::ab:1", "fd00::ab:2"]);
    assert_eq!(world.servers(), "2/2");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(writes(&world), 1);
}

#[test]
fn one_of_two_pods_is_one_server_however_many_addresses_it_has() {
    let mut world = World::new();
    world.aws.network = crate::observed::NetworkType::DualStack;
    world.run_until(World::is_ready);
    let settings = world.aws.settings.as_mut().unwrap();
    settings.servers.truncate(1);
    settings.servers_ipv6.truncate(1);
    world.edit(|proxy| {
        proxy.spec.directory.as_mut().unwrap().drift_policy = crate::api::DriftPolicy::Report;
    });
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.servers(), "1/2");
}

#[test]
fn listed_addresses_that_the_directory_has_no_family_for_are_told() {
    let mut world = World::new();
    world.proxy.spec.addresses.source = crate::api::AddressSource::Static;
    world.proxy.spec.addresses.fixed = vec!["10.1.1.1".to_owned(), "fd00::1".to_owned()];
    world.run_until(World::is_ready);
    assert_eq!(world.servers(), "1/1");
    let (_, reason, message) = world.condition("Accepted");
    assert_eq!(reason, "AcceptedWithWarnings");
    assert!(
        message.contains("has fd00::1, which is not registered"),
        "{message}"
    );
}

#[test]
fn a_change_is_over_when_every_proxy_runs_it() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.policy.limits.pushes_per_user_per_minute = 7);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.status().configured_replicas, 1);
    assert_eq!(world.condition("Ready").1, "SomeProxiesServe");
    world.run_until(World::is_ready);
    assert_eq!((world.status().configured_replicas, writes(&world)), (2, 1));
}

#[test]
fn pods_that_start_one_after_the_other_are_one_write() {
    let mut world = ready();
    world.edit(|proxy| proxy.spec.replicas = 4);
    world.run_until(|w| w.condition("Registered").1 == "Settling");
    world.run_until(|w| writes(w) == 2 && w.is_ready());
    assert_eq!(world.aws.writes[1].servers.len(), 4);
}
