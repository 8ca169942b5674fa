//! What the pods have observed of the directory: in the status, and where it disagrees with the spec.

use std::net::IpAddr;
use std::time::Duration;

use proxy_config::observed::ObservedAddress;

use super::world::{Answer, World};
use crate::api::{AuthenticationProtocol, DuoFactor, ObservedDirectory, ObservedRetries, ObservedSigning};

const DC1: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));
const DC2: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));

fn ready() -> World {
    let mut world = World::new();
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(60));
    world
}

fn observed(world: &World) -> ObservedDirectory {
    world.status().directory.unwrap().observed.unwrap_or_default()
}

fn registered(world: &mut World) -> String {
    world.wake();
    world.run_for(Duration::from_secs(1));
    let (status, reason, message) = world.condition("Registered");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "Registered"),
        "{message}"
    );
    message
}

#[test]
fn logins_appear_in_the_status_and_write_it_every_ten_minutes_at_most() {
    let mut world = ready();
    assert_eq!(observed(&world), ObservedDirectory::default());
    world.traffic = Some(Duration::from_secs(15));
    world.run_for(Duration::from_secs(60));
    assert_eq!(observed(&world).signs, Some(ObservedSigning::Always));
    let mut changes = 0;
    let mut before = world.status();
    for _ in 0..240 {
        world.run_for(Duration::from_secs(15));
        let status = world.status();
        changes += usize::from(status != before);
        before = status;
    }
    assert!((4..=7).contains(&changes), "{changes}");
}

#[test]
fn a_status_that_was_observed_outlives_the_pods_that_observed_it() {
    let mut world = ready();
    let seen = world.seen(0, DC1);
    *seen = ObservedAddress {
        last_request: 1,
        unsigned: 1,
        same_packet: 1,
        ..ObservedAddress::default()
    };
    registered(&mut world);
    assert_eq!(observed(&world).retries, Some(ObservedRetries::SamePacket));
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    assert_eq!(observed(&world).signs, Some(ObservedSigning::Never));
}

#[test]
fn a_domain_controller_that_never_asks_is_told_once_others_have_asked_for_a_while() {
    let mut world = ready();
    world.aws.clients.insert(DC2);
    world.run_until(|w| {
        observed(w).addresses.len() == 2 || w.status().directory.unwrap().client_addresses.len() == 2
    });
    world.run_until(World::is_ready);
    let logins = |world: &mut World, count| {
        for _ in 0..count {
            world.log_in(DC1);
            world.run_for(Duration::from_secs(60));
        }
    };
    logins(&mut world, 10);
    assert!(!registered(&mut world).contains("never asked"));
    logins(&mut world, 60);
    let message = registered(&mut world);
    assert!(
        message.contains("10.0.0.11 has never asked") && message.contains("d-1234567890_controllers"),
        "{message}"
    );
    world.log_in(DC2);
    assert!(!registered(&mut world).contains("never asked"));
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn unsigned_requests_that_start_no_push_are_told_with_both_ways_out() {
    let mut world = ready();
    world.edit(|proxy| {
        proxy.spec.directory.as_mut().unwrap().protocol = AuthenticationProtocol::MsChapV2;
    });
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.seen(0, DC1).unsigned = 3;
    let message = registered(&mut world);
    assert!(
        message.contains("MS-CHAPv2") && message.contains("unauthenticatedPush") && message.contains("PAP"),
        "{message}"
    );
    // Duo alone knows its codes, so that the proxies refuse the request whatever the factors are.
    world.edit(|proxy| proxy.spec.provider.duo.as_mut().unwrap().factors = vec![DuoFactor::Passcode]);
    world.run_until(World::is_ready);
    assert!(registered(&mut world).contains("unauthenticatedPush"));
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().unauthenticated_push = true);
    world.run_until(World::is_ready);
    assert!(!registered(&mut world).contains("unauthenticatedPush"));
}

#[test]
fn a_client_that_gives_up_early_is_told() {
    let mut world = ready();
    let seen = world.seen(0, DC1);
    seen.new_identifier = 30;
    seen.retry_interval_ms = Some(5000);
    world.pods[0].observed.longest_wait_ms = Some(10_100);
    let message = registered(&mut world);
    assert!(
        message.contains("timeoutSeconds is 20") && message.contains("11 s"),
        "{message}"
    );
    world.pods[0].observed.longest_wait_ms = Some(39_000);
    assert!(!registered(&mut world).contains("timeoutSeconds"));
}

#[test]
fn failed_although_the_probe_was_answered_says_that_a_reject_counts_as_dead() {
    let mut world = World::new();
    world.aws.answers.push_back(Answer::Fails);
    world.run_until(|w| w.condition("Registered").1 == "RadiusFailed");
    assert!(!world.condition("Registered").2.contains("Access-Reject"));
    // The pod's clock is behind the operator's.
    world.pods[0].ahead = -50;
    world.log_in(DC1);
    let now = u64::try_from(world.now.as_second() - 50).unwrap();
    world.pods[0]
        .observed
        .probes
        .insert("fakeusername".to_owned(), now);
    world.wake();
    world.run_for(Duration::from_secs(1));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "RadiusFailed");
    assert!(
        message.contains("Access-Reject as a server that is dead") && message.contains("log in all the same"),
        "{message}"
    );
    // The next probe is no news, and no write of the status.
    *world.pods[0].observed.probes.get_mut("fakeusername").unwrap() += 1;
    world.wake();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.condition("Registered").2, message);
}
