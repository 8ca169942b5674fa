//! A load balancer's addresses are followed, with as few writes as can be.

use std::time::Duration;

use proptest::prelude::*;

use super::disturbances::cases;
use super::ownership::policy;
use super::world::World;
use crate::api::{AddressSource, AdoptionPolicy, DriftPolicy};
use crate::dns::{Answer, NoAddress};
use crate::observed::NetworkType;

const HOUR: Duration = Duration::from_secs(3600);
const LB: &str = "nlb-1.example.com";
const A: &str = "10.1.0.1";
const B: &str = "10.1.0.2";
const C: &str = "10.1.0.3";
const D: &str = "10.1.0.4";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn unregistered(ingress: &[&str], addresses: &[&str]) -> World {
    let mut world = World::new();
    world.proxy.spec.addresses.source = AddressSource::LoadBalancer;
    world.answer(LB, addresses);
    world.balance(ingress);
    world
}

fn named(addresses: &[&str]) -> World {
    let mut world = unregistered(&[LB], addresses);
    world.run_until(World::is_ready);
    world
}

fn servers(world: &World) -> Vec<Vec<String>> {
    let writes = world.aws.writes.iter();
    writes.map(|write| write.servers.clone()).collect()
}

/// Lets time pass until `world` has been written to so often; how many seconds it took.
fn until_writes(world: &mut World, writes: usize) -> i64 {
    let begun = world.now;
    world.run_until(|world| world.aws.writes.len() == writes);
    world.now.duration_since(begun).as_secs()
}

/// Lets time pass until the name has been looked up once more.
fn look(world: &mut World) {
    let before = world.next_look(LB);
    world.run_until(|world| world.next_look(LB) != before);
}

#[test]
fn the_addresses_of_a_name_are_registered_and_neither_their_order_nor_the_names_spelling_is_a_change() {
    let mut world = named(&[B, A]);
    assert_eq!(servers(&world), [[A, B]]);
    world.answer(LB, &[A, B]);
    // Written in another way, or not there for a while.
    for ingress in [&["NLB-1.example.com."][..], &[]] {
        world.balance(ingress);
        world.run_for(HOUR);
        assert_eq!(world.aws.writes.len(), 1);
    }
    assert_eq!(world.condition("Registered").1, "WaitingForAddresses");
    world.balance(&[LB]);
    world.run_until(World::is_ready);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn a_name_that_has_other_addresses_costs_one_write_once_a_second_answer_says_so() {
    let mut world = named(&[A, B]);
    world.answer(LB, &[B, C]);
    let took = until_writes(&mut world, 2);
    assert_eq!(servers(&world)[1], [B, C]);
    // The interval, and what settles.
    assert!((30..=95).contains(&took), "{took} s");
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 2);
    assert!(world.is_ready());
}

#[test]
fn another_name_costs_one_write_and_none_before_it_has_an_address() {
    let mut world = named(&[A]);
    world.balance(&["nlb-2.example.com"]);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 1);
    world.answer("nlb-2.example.com", &[C]);
    until_writes(&mut world, 2);
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(servers(&world), [[A], [C]]);
}

#[test]
fn an_address_that_is_gone_leaves_after_ten_minutes_and_one_that_returns_before_costs_nothing() {
    let mut world = named(&[A, B]);
    for _ in 0..3 {
        world.answer(LB, &[A]);
        world.run_for(minutes(8));
        let (status, reason, message) = world.condition("Registered");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ServersMissing"));
        assert!(message.contains(B) && message.contains("removed"), "{message}");
        world.answer(LB, &[A, B]);
        world.run_for(minutes(61));
        assert!(world.is_ready());
    }
    assert_eq!(world.aws.writes.len(), 1);
    world.answer(LB, &[A]);
    let took = until_writes(&mut world, 2);
    assert!((600..=661).contains(&took), "{took} s");
    assert_eq!(servers(&world)[1], [A]);
}

#[test]
fn a_short_absence_is_not_even_told() {
    let mut world = named(&[A, B]);
    world.run_for(minutes(5));
    for gone in [[A], [B]] {
        world.answer(LB, &gone);
        look(&mut world);
        world.answer(LB, &[A, B]);
        world.run_for(minutes(5));
        assert!(world.is_ready());
    }
    assert_eq!(world.events.iter().filter(|event| *event == "Ready").count(), 1);
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn an_address_of_one_answer_alone_is_never_registered() {
    let mut world = named(&[A, B]);
    for _ in 0..20 {
        world.answer(LB, &[A, B, C]);
        look(&mut world);
        world.answer(LB, &[A, B]);
        world.run_for(minutes(3));
    }
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn answers_that_are_one_address_of_many_in_turn_make_no_write() {
    let mut world = named(&[A, B, C, D]);
    for turn in (0..120).map(|n| n % 4) {
        world.answer(LB, &[[A, B, C, D][turn]]);
        look(&mut world);
    }
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn answers_that_are_parts_of_a_longer_list_come_to_rest_with_all_of_it() {
    let mut world = named(&[A, B]);
    // A fixed sequence without a rhythm.
    let mut state = 7_u32;
    let mut parts = |world: &mut World, looks: u32| {
        for _ in 0..looks {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let first = usize::try_from((state >> 16) % 4).unwrap();
            let second = (first + 1 + usize::try_from((state >> 20) % 3).unwrap()) % 4;
            let all = [A, B, C, D];
            world.answer(LB, &[all[first], all[second]]);
            look(world);
        }
    };
    parts(&mut world, 200);
    let writes = world.aws.writes.len();
    assert!(writes <= 6, "{:?}", servers(&world));
    assert_eq!(servers(&world).last().unwrap(), &[A, B, C, D]);
    parts(&mut world, 1000);
    assert_eq!(world.aws.writes.len(), writes, "{:?}", servers(&world));
}

#[test]
fn a_name_that_is_not_resolved_keeps_what_is_registered_and_is_told_once_with_the_next_step() {
    let whys = [
        NoAddress::NoSuchName,
        NoAddress::NoRecord,
        NoAddress::NoAnswer,
        NoAddress::ServerError,
    ];
    for why in whys {
        let mut world = named(&[A, B]);
        world.fail(LB, why);
        world.run_for(minutes(2));
        assert_eq!(world.condition("Registered").1, "Registered");
        world.run_for(HOUR);
        let (status, reason, message) = world.condition("Registered");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "NameNotResolved"));
        assert!(
            message.contains(LB) && message.contains("mfa-radius-lb"),
            "{message}"
        );
        assert!(world.is_ready());
        let told = world.events.iter().filter(|event| *event == "NameNotResolved");
        assert_eq!(told.count(), 1);
        world.answer(LB, &[A, B]);
        world.run_for(minutes(2));
        assert_eq!(world.condition("Registered").1, "Registered");
        assert_eq!(world.aws.writes.len(), 1);
    }
}

#[test]
fn a_name_that_never_had_an_address_is_waited_for_and_then_told() {
    let mut world = unregistered(&[LB], &[]);
    world.run_for(minutes(2));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "WaitingForAddresses");
    assert!(message.contains("no address for it"), "{message}");
    world.run_for(minutes(3));
    assert_eq!(world.condition("Registered").1, "NameNotResolved");
    world.answer(LB, &[A]);
    world.run_until(World::is_ready);
    assert_eq!(servers(&world), [[A]]);
}

#[test]
fn another_leader_that_knows_nothing_yet_takes_nothing_away() {
    let mut world = named(&[A, B]);
    world.answer(LB, &[A]);
    world.run_for(minutes(8));
    for _ in 0..4 {
        world.answer(LB, &[A, B]);
        world.run_for(minutes(2));
        world.crash_after = Some(0);
        world.fail(LB, NoAddress::NoAnswer);
        world.wake();
        world.run_for(minutes(30));
        world.answer(LB, &[A]);
        world.run_for(minutes(5));
    }
    assert_eq!(world.aws.writes.len(), 1);
}

#[test]
fn servers_of_others_are_not_kept_while_the_name_has_no_address() {
    let taken_over: [fn(&mut World); 2] = [
        |world| policy(world, AdoptionPolicy::Adopt, DriftPolicy::Repair),
        |world| {
            let owner = "radius-mfa.dev/owner/eu-central-1".to_owned();
            world.aws.tags.insert(owner, "test/auth/mfa".to_owned());
        },
    ];
    for take_over in taken_over {
        let mut world = unregistered(&[LB], &[]);
        world.somebody_elses();
        take_over(&mut world);
        world.fail(LB, NoAddress::NoSuchName);
        world.run_for(HOUR);
        assert_eq!(world.condition("Registered").1, "NameNotResolved");
        assert!(world.aws.writes.is_empty(), "{:?}", servers(&world));
        world.answer(LB, &[A, B]);
        world.run_until(World::is_ready);
        world.run_for(HOUR);
        assert_eq!(servers(&world), [[A, B]]);
    }
}

#[test]
fn servers_that_somebody_put_in_are_not_taken_for_its_own_by_a_leader_that_knows_nothing_yet() {
    let mut world = named(&[A, B]);
    world.run_for(HOUR);
    world.aws.settings.as_mut().unwrap().servers = vec!["10.9.9.9".to_owned()];
    world.fail(LB, NoAddress::NoAnswer);
    world.crash_after = Some(0);
    world.wake();
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 1);
    world.answer(LB, &[A, B]);
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(servers(&world), [[A, B], [A, B]]);
}

#[test]
fn the_first_list_is_what_a_second_answer_has_too() {
    let mut world = unregistered(&[LB], &[A]);
    world.run_until(|world| world.next_look(LB).is_some_and(|at| at > world.now));
    world.answer(LB, &[A, B]);
    world.run_until(World::is_ready);
    world.run_for(HOUR);
    assert_eq!(servers(&world), [[A, B]]);

    // One family alone is better than none.
    let mut world = unregistered(&[LB], &[A]);
    world.aws.network = NetworkType::DualStack;
    let half = Answer {
        v4: Ok([A.parse().unwrap()].into()),
        v6: Err(NoAddress::NoAnswer),
    };
    world.dns.insert(LB.to_owned(), half);
    world.run_until(World::is_ready);
    assert_eq!(servers(&world), [[A]]);

    // Of a name that never answers the same twice, something is registered.
    let mut world = unregistered(&[LB], &[A]);
    let begun = world.now;
    for turn in 0.. {
        if !world.aws.writes.is_empty() {
            break;
        }
        assert!(turn < 20, "{:#?}", world.status());
        world.answer(LB, &[[A, B, C, D][turn % 4]]);
        look(&mut world);
    }
    assert!(world.now.duration_since(begun).as_secs() <= 120);
}

#[test]
fn many_addresses_of_the_other_family_leave_room_for_those_of_the_directorys() {
    let many: Vec<String> = (0..16).map(|n| format!("10.1.1.{n}")).collect();
    let mut all: Vec<&str> = many.iter().map(String::as_str).collect();
    all.push("fd00::1:1");
    let mut world = unregistered(&[LB], &all);
    world.aws.network = NetworkType::Ipv6;
    world.run_until(World::is_ready);
    assert_eq!(world.aws.settings.clone().unwrap().servers_ipv6, ["fd00::1:1"]);
}

#[test]
fn each_family_goes_where_the_directory_has_it() {
    let (v6, other) = ("fd00::1:1", "fd00::1:2");
    for (network, want_v4, want_v6) in [
        (NetworkType::Ipv4, &[A][..], &[][..]),
        (NetworkType::Ipv6, &[], &[v6]),
        (NetworkType::DualStack, &[A], &[v6]),
    ] {
        let mut world = unregistered(&[LB], &[v6, A]);
        world.aws.network = network;
        world.run_until(World::is_ready);
        let settings = world.aws.settings.clone().unwrap();
        assert_eq!(settings.servers, want_v4);
        assert_eq!(settings.servers_ipv6, want_v6);
        world.answer(LB, &[other, A]);
        world.run_for(HOUR);
        let expected = if want_v6.is_empty() { 1 } else { 2 };
        assert_eq!(world.aws.writes.len(), expected);
        assert!(world.is_ready());
    }
    let mut world = unregistered(&[LB], &[v6]);
    world.run_for(minutes(2));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!(reason, "WaitingForAddresses");
    assert!(message.contains("family"), "{message}");
}

#[test]
fn addresses_in_the_service_itself_are_registered_at_once_and_names_beside_them_count_too() {
    let mut world = unregistered(&[A], &[]);
    world.run_until(World::is_ready);
    world.balance(&[B]);
    until_writes(&mut world, 2);
    world.run_until(World::is_ready);
    world.answer(LB, &[C]);
    world.balance(&[B, LB]);
    until_writes(&mut world, 3);
    world.run_until(World::is_ready);
    assert_eq!(servers(&world), [vec![A], vec![B], vec![B, C]]);
    world.run_for(HOUR);
    assert_eq!(world.aws.writes.len(), 3);
}

/// What happens to a load balancer and its names.
#[derive(Debug, Clone)]
enum Disturbance {
    Wait(u64),
    /// DNS has these of the four addresses, by their bits, for one of two names.
    Answer(usize, u8),
    Fail(usize, usize),
    /// What the Service has, by bits: two names and an address.
    Ingress(u8),
    KillPod(usize),
    Crash(usize),
}

const NAMES: [&str; 2] = [LB, "nlb-2.example.com"];
const WHYS: [NoAddress; 4] = [
    NoAddress::NoSuchName,
    NoAddress::NoRecord,
    NoAddress::NoAnswer,
    NoAddress::ServerError,
];

fn disturbance() -> impl Strategy<Value = Disturbance> {
    use Disturbance as H;
    prop_oneof![
        8 => (1_u64..120).prop_map(H::Wait),
        1 => (600_u64..2000).prop_map(H::Wait),
        8 => (0_usize..2, 0_u8..16).prop_map(|(name, bits)| H::Answer(name, bits)),
        3 => (0_usize..2, 0_usize..4).prop_map(|(name, why)| H::Fail(name, why)),
        3 => (0_u8..8).prop_map(H::Ingress),
        1 => (0_usize..2).prop_map(H::KillPod),
        2 => (0_usize..28).prop_map(H::Crash),
    ]
}

fn chosen<'a>(all: &[&'a str], bits: u8) -> Vec<&'a str> {
    let each = all.iter().enumerate();
    each.filter(|(n, _)| bits >> n & 1 == 1)
        .map(|(_, one)| *one)
        .collect()
}

fn disturb(world: &mut World, disturbance: &Disturbance) {
    match *disturbance {
        Disturbance::Wait(seconds) => world.run_for(Duration::from_secs(seconds)),
        Disturbance::Answer(name, bits) => world.answer(NAMES[name], &chosen(&[A, B, C, D], bits)),
        Disturbance::Fail(name, why) => world.fail(NAMES[name], WHYS[why]),
        Disturbance::Ingress(bits) => world.balance(&chosen(&[NAMES[0], NAMES[1], "10.1.0.9"], bits)),
        Disturbance::KillPod(index) => world.kill_pod(index),
        Disturbance::Crash(steps) => {
            world.crash_after = Some(steps);
            world.wake();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dns_answers_the_last_list_that_stays_is_registered_and_then_nothing_is_written(
        happenings in prop::collection::vec(disturbance(), 1..60),
        last in 1_u8..16,
    ) {
        let mut world = named(&[A]);
        for disturbance in &happenings {
            disturb(&mut world, disturbance);
        }
        world.crash_after = None;
        let last = chosen(&[A, B, C, D], last);
        world.balance(&[LB]);
        world.answer(LB, &last);
        world.run_for(2 * HOUR);
        prop_assert!(world.is_ready(), "{:#?}", world.status());
        let settings = world.aws.settings.clone().unwrap();
        prop_assert_eq!(settings.servers, last);
        let writes = world.aws.writes.len();
        world.run_for(2 * HOUR);
        prop_assert_eq!(world.aws.writes.len(), writes);
        prop_assert!(world.aws.writes.iter().all(|write| !write.needless));
    }
}
