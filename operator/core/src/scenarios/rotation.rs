//! The shared secret changes. That no registered proxy ever refuses what AWS may hold is checked by the world in each step.

use std::time::Duration;

use super::world::{Answer, World, data};
use crate::aws::AwsErrorClass;

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world
}

fn secret_of_aws(world: &World) -> String {
    String::from_utf8(world.aws.secret.clone()).unwrap()
}

/// Whether the proxies accept one secret only.
fn settled(world: &World) -> bool {
    let object = &world.objects[&("Secret".to_owned(), "mfa-radius-secrets".to_owned())];
    object["data"]["directory"] == object["data"]["directory-previous"]
}

#[test]
fn a_new_secret_is_one_write_and_the_old_one_goes_after_a_grace() {
    let mut world = ready();
    world.set_secret("the second secret");
    world.run_until(|w| w.aws.writes.len() == 2);
    assert!(!settled(&world));
    world.run_until(|w| settled(w) && w.is_ready());
    assert_eq!(secret_of_aws(&world), "the second secret");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 2);
    assert!(world.events.iter().any(|e| e == "SecretRotationStarted"));
    assert!(world.events.iter().any(|e| e == "SecretRotationCompleted"));
}

#[test]
fn other_credentials_of_the_provider_are_no_write_and_no_restart_and_the_status_tells_when_all_run_them() {
    let mut world = ready();
    let containers = |world: &World| -> Vec<(String, Option<String>)> {
        let of = |pod: &super::world::Pod| (pod.state.uid.clone(), pod.state.container.clone());
        world.pods.iter().map(of).collect()
    };
    let (digest, before) = (world.status().config_digest, containers(&world));
    let keys = data(&[("ikey", "DI2"), ("skey", "another key")]);
    world.secrets.insert("duo".to_owned(), keys);
    world.wake();
    world.run_for(Duration::from_secs(4));
    // One kubelet takes its time.
    assert_ne!(world.status().config_digest, digest);
    assert_eq!((world.status().configured_replicas, world.is_ready()), (1, false));
    assert_eq!(world.condition("Registered").0, "True");
    world.run_until(World::is_ready);
    assert_eq!(world.status().configured_replicas, 2);
    world.run_for(Duration::from_secs(3600));
    assert_eq!((world.aws.writes.len(), containers(&world)), (1, before));
}

#[test]
fn a_second_change_in_the_middle_waits_and_is_then_made() {
    let mut world = ready();
    world.set_secret("the second secret");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.set_secret("the third secret!");
    world.run_until(|w| w.aws.writes.len() == 3);
    assert_eq!(secret_of_aws(&world), "the third secret!");
    world.run_until(|w| settled(w) && w.is_ready());
}

#[test]
fn a_change_that_is_taken_back_before_it_was_sent_is_no_write() {
    let mut world = ready();
    world.pods[0].state.containers_ready = false;
    world.set_secret("the second secret");
    world.run_for(Duration::from_secs(10));
    world.set_secret("the first secret");
    world.run_for(Duration::from_secs(5));
    world.pods[0].state.containers_ready = true;
    world.wake();
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 1);
    assert!(settled(&world));
}

#[test]
fn an_answer_that_is_lost_is_found_in_the_description() {
    let mut world = ready();
    world.aws.answers.push_back(Answer::Lost);
    world.set_secret("the second secret");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 2);
    assert!(settled(&world) && world.is_ready());
}

#[test]
fn a_refused_write_is_repeated_later_with_both_secrets_accepted() {
    let mut world = ready();
    world
        .aws
        .answers
        .push_back(Answer::Error(AwsErrorClass::Throttled));
    world.set_secret("the second secret");
    world.run_until(|w| w.condition("Registered").1 == "AwsThrottled");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(|w| settled(w) && w.is_ready());
}

#[test]
fn a_spoiled_secret_changes_nothing_and_heals() {
    let mut world = ready();
    let before = world.status().config_digest;
    for (text, reason) in [("short", "SharedSecretInvalid"), ("", "SharedSecretInvalid")] {
        world.set_secret(text);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.condition("SecretsReady").1, reason);
    }
    world.secrets.clear();
    world.wake();
    // A pod that is lost meanwhile comes back with the last good secrets and is registered.
    world.kill_pod(1);
    world.run_until(|w| w.aws.writes.len() == 2);
    assert_eq!(world.condition("SecretsReady").1, "SecretMissing");
    assert_eq!(world.status().config_digest, before);
    world.secrets = World::new().secrets;
    world.wake();
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn a_generated_secret_has_48_characters_and_stays() {
    let mut world = World::new();
    world.proxy.spec.shared_secret_ref = None;
    world.run_until(World::is_ready);
    let first = secret_of_aws(&world);
    assert_eq!(first.len(), 48);
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    assert_eq!(secret_of_aws(&world), first);
}

#[test]
fn a_crash_after_a_write_of_the_secret_alone_is_no_second_write_however_late_the_next_leader_is() {
    let mut world = ready();
    world.crash_after_write = true;
    // Long after AWS has completed: nothing but the servers' order tells that the write arrived.
    world.takeover = Duration::from_secs(600);
    world.set_secret("the second secret");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.aws.writes.len(), 2);
    assert!(settled(&world) && world.is_ready());
}

#[test]
fn aws_waits_for_the_slowest_proxy_and_the_status_names_it() {
    let mut world = ready();
    world.set_secret("the second secret");
    world.run_until(|w| {
        w.condition("Registered").1 == "WaitingForConfiguration"
            && w.condition("Registered").2.ends_with("for mfa-1")
    });
    assert_eq!(world.aws.writes.len(), 1);
    world.run_until(|w| settled(w) && w.is_ready());
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn after_a_write_whose_end_nobody_learned_a_second_change_waits_until_a_later_write_was_taken() {
    let mut world = World::new();
    // The list of one server has one order: nothing that AWS describes tells whether the write arrived.
    world.proxy.spec.replicas = 1;
    world.run_until(World::is_ready);
    world.crash_after_write = true;
    world.takeover = Duration::from_secs(300);
    world.set_secret("the second secret");
    world.run_until(|w| w.aws.writes.len() == 2);
    world.set_secret("the third secret!");
    world.run_until(|w| w.record().unconfirmed_secret_digest.is_some());
    world.run_until(|w| secret_of_aws(w) == "the third secret!");
    assert_eq!(world.aws.writes.len(), 4);
    world.run_until(|w| settled(w) && w.is_ready());
    assert_eq!(world.record().unconfirmed_secret_digest, None);
}

#[test]
fn a_secret_is_not_sent_by_the_word_of_proxies_that_report_the_configuration_before_it() {
    // Crashes between the Secret and the status, and the source of the secret is gone when the next leader looks.
    for crash in (0..20).step_by(3) {
        let mut world = ready();
        world.set_secret("the second secret");
        world.crash_after = Some(crash);
        world.run_for(Duration::from_secs(1));
        world.secrets.remove(super::world::SECRET);
        world.wake();
        world.run_for(Duration::from_secs(300));
        world.set_secret("the second secret");
        world.run_until(|w| secret_of_aws(w) == "the second secret" && settled(w) && w.is_ready());
    }
}
