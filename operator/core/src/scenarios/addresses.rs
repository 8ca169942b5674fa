//! What is registered, by where addresses come from.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::world::{Pod, World};
use crate::api::AddressSource;
use crate::observed::NetworkType;

const HOUR: Duration = Duration::from_secs(3600);

fn with(source: AddressSource) -> World {
    let mut world = World::new();
    world.proxy.spec.addresses.source = source;
    world
}

fn servers(world: &World) -> Vec<Vec<String>> {
    world
        .aws
        .writes
        .iter()
        .map(|write| write.servers.clone())
        .collect()
}

#[test]
fn a_node_stays_registered_while_its_pod_comes_back_and_another_node_is_one_write() {
    let mut world = with(AddressSource::HostIp);
    world.run_until(World::is_ready);
    assert_eq!(servers(&world), [["10.10.0.0", "10.10.0.1"]]);
    assert!(world.pods.iter().all(Pod::is_ready));
    world.kill_pod(0);
    world.run_for(HOUR);
    assert!(world.is_ready());
    assert_eq!(world.aws.writes.len(), 1);

    let first = |world: &World| {
        let is = |pod: &Pod| pod.state.name == "mfa-0" && pod.state.deleted.is_none();
        world.pods.iter().position(is)
    };
    world.kill_pod(first(&world).unwrap());
    world.run_until(|w| first(w).is_some());
    let moved = first(&world).unwrap();
    let pod = &mut world.pods[moved];
    pod.state.node = Some("node-9".to_owned());
    pod.state.host_ips = vec![Ipv4Addr::new(10, 10, 0, 9).into()];
    world.run_until(|w| w.aws.writes.len() == 2);
    assert_eq!(servers(&world)[1], ["10.10.0.9", "10.10.0.1"]);
    world.run_for(HOUR);
    assert!(world.is_ready());
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn listed_addresses_are_registered_as_listed_and_another_list_is_one_write() {
    let mut world = with(AddressSource::Static);
    world.proxy.spec.addresses.fixed = vec!["10.1.1.1".to_owned(), "10.1.1.2".to_owned()];
    world.run_until(World::is_ready);
    world.kill_pod(0);
    world.run_for(HOUR);
    assert_eq!(servers(&world), [["10.1.1.1", "10.1.1.2"]]);
    world.edit(|proxy| proxy.spec.addresses.fixed = vec!["10.1.1.2".to_owned(), "10.1.1.3".to_owned()]);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(servers(&world)[1..], [["10.1.1.2", "10.1.1.3"]]);
}

#[test]
fn a_list_of_another_family_than_the_directorys_is_told_and_not_written() {
    let mut world = with(AddressSource::Static);
    world.proxy.spec.addresses.fixed = vec!["fd00::1".to_owned()];
    world.run_for(HOUR);
    assert_eq!(world.condition("Registered").1, "WaitingForAddresses");
    assert!(world.aws.writes.is_empty());
}

#[test]
fn a_directory_of_ipv6_alone_gets_the_addresses_of_that_family_alone() {
    let mut world = World::new();
    world.aws.network = NetworkType::Ipv6;
    world.aws.clients = ["fd00::10".parse().unwrap()].into();
    world.run_until(World::is_ready);
    let settings = world.aws.settings.clone().unwrap();
    assert!(settings.servers.is_empty());
    assert_eq!(settings.servers_ipv6, ["fd00::ab:1", "fd00::ab:2"]);
    let policy = &world.objects[&("NetworkPolicy".to_owned(), "mfa".to_owned())];
    assert!(policy.to_string().contains("fd00::10/128"), "{policy}");
    world.kill_pod(0);
    world.run_until(|w| w.aws.writes.len() == 2);
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 2);
}

#[test]
fn only_pods_whose_addresses_are_registered_need_an_operator_to_be_ready() {
    let balanced = {
        let mut world = with(AddressSource::LoadBalancer);
        world.load_balancer = vec!["10.0.9.1".to_owned()];
        world
    };
    let listed = {
        let mut world = with(AddressSource::Static);
        world.proxy.spec.addresses.fixed = vec!["10.1.1.1".to_owned()];
        world
    };
    let clients_only = {
        let mut world = World::new();
        world.proxy.spec.directory = None;
        world.proxy.spec.clients = serde_json::from_value(serde_json::json!(
            [{"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": "shared"}}]
        ))
        .unwrap();
        world
    };
    for (mut world, needs) in [
        (World::new(), true),
        (with(AddressSource::HostIp), false),
        (balanced, false),
        (listed, false),
        (clients_only, false),
    ] {
        world.run_until(World::is_ready);
        world.lose_the_operator(HOUR);
        for index in 0..world.pods.len() {
            world.kill_pod(index);
        }
        world.run_for(HOUR / 2);
        let ready = world.pods.iter().filter(|pod| pod.is_ready()).count();
        assert_eq!(
            ready,
            if needs { 0 } else { 2 },
            "{:?}",
            world.proxy.spec.addresses.source
        );
        world.run_for(HOUR);
        assert!(world.pods.iter().all(Pod::is_ready));
    }
}
