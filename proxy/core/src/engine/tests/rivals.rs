//! An owner and a stranger who both log in as one user, with a text that anybody could type: from the same or the other
//! domain controller, whatever the directory changes from one try to the next.

use super::group::Group;
use super::world::World;
use crate::factor::{Factor, Verdict};
use crate::record::LoginResult;
use crate::testing::client::Build;
use crate::testing::{SECRET, approval, config_with};

const TIMEOUT: u64 = 20_000;
const TRIES: u8 = 2;
const FIRST: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// What a directory changes from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Retry {
    Nothing,
    Authenticator,
    PortAndIdentifier,
}

/// Somebody who logs in.
#[derive(Debug, Clone, Copy)]
struct Person {
    start: u64,
    from: &'static str,
    /// Tells ports, identifiers and authenticators of one from the other's.
    number: u8,
}

struct Sent {
    at: u64,
    stranger: bool,
    from: String,
    bytes: Vec<u8>,
}

fn tries(person: Person, stranger: bool, retry: Retry, interval: u64, text: &str) -> Vec<Sent> {
    (0..TRIES)
        .map(|n| {
            let moves = if retry == Retry::PortAndIdentifier { n } else { 0 };
            let identifier = person.number + moves;
            let authenticator = person.number + if retry == Retry::Nothing { 0 } else { n };
            let request = Build::access(identifier, authenticator, SECRET)
                .user("jane")
                .pap(text);
            Sent {
                at: person.start + interval * u64::from(n),
                stranger,
                from: format!("{}:{}", person.from, 4000 + u16::from(identifier)),
                bytes: request.bytes(),
            }
        })
        .collect()
}

fn who(sent: &Sent) -> &'static str {
    if sent.stranger { "stranger" } else { "owner" }
}

/// Who gets the Accept when the push is approved at a time: the owner, the stranger, or nobody.
fn play(mut sent: Vec<Sent>, approved: u64, name: &str) -> Option<&'static str> {
    sent.sort_by_key(|sent| sent.at);
    let mut world = World::new(config_with("", "directory = true"));
    let mut login = None;
    let (mut accepted, mut records, mut pushes) = (None, 0, 0);
    let mut next = sent.iter().peekable();
    while world.now <= 90_000 {
        world.out.clear();
        while let Some(packet) = next.next_if(|sent| sent.at <= world.now) {
            if accepted == Some(who(packet)) {
                continue;
            }
            let (now, from) = (world.now(), packet.from.parse().unwrap());
            let socket = crate::outputs::SocketId(3);
            world
                .engine
                .receive(now, from, socket, &packet.bytes, &mut world.out);
        }
        world.engine.tick(world.now(), &mut world.out);
        if let Some(ask) = world.out.asks.pop() {
            pushes += 1;
            login = login.or(Some(ask.login));
        }
        if world.now == approved {
            let verdict = Verdict::Approved(approval(Factor::Push));
            world
                .engine
                .verdict(world.now(), login.unwrap(), verdict, &mut world.out);
        }
        records += world.out.records.len();
        let accepts = world.out.records.iter();
        assert!(
            accepts
                .filter(|record| record.result == LoginResult::Accept)
                .count()
                <= 1
        );
        for datagram in world.out.datagrams().filter(|datagram| datagram.bytes[0] == 2) {
            // Ports are each person's own.
            let packet = sent.iter().find(|sent| sent.from == datagram.to.to_string());
            accepted = packet.map(who);
        }
        world.now += 50;
    }
    // A stranger's retry that comes sooner than the configured timeout is a login of its own when the push is over.
    let hasty = name.contains("every 10000 ms");
    assert!(pushes == 1 || hasty, "{name}: {pushes} pushes");
    assert!((2..=4).contains(&records), "{name}: {records} records");
    assert_eq!(world.engine.logins.len(), 0, "{name}");
    accepted
}

fn every_case(mut each: impl FnMut(&str, &dyn Fn(bool) -> Vec<Sent>, u64)) {
    for retry in [Retry::Nothing, Retry::Authenticator, Retry::PortAndIdentifier] {
        for text in ["push", ""] {
            for apart in [100, 2_000, 19_500, 20_000] {
                for (interval, at) in [
                    (TIMEOUT, FIRST),
                    (TIMEOUT, OTHER),
                    (TIMEOUT * 19 / 20, FIRST),
                    (TIMEOUT / 2, OTHER),
                ] {
                    let owner = Person {
                        start: 0,
                        from: FIRST,
                        number: 10,
                    };
                    let stranger = Person {
                        start: apart,
                        from: at,
                        number: 100,
                    };
                    let name = format!(
                        "{retry:?} {text:?} {apart} ms apart every {interval} ms, stranger from {at}"
                    );
                    let sent = |stranger_first: bool| {
                        let mut sent = tries(owner, false, retry, interval, text);
                        sent.extend(tries(stranger, true, retry, interval, text));
                        if stranger_first {
                            sent.rotate_left(usize::from(TRIES));
                        }
                        sent
                    };
                    each(&name, &sent, apart);
                }
            }
        }
    }
}

#[test]
fn a_stranger_who_types_what_anybody_could_never_gets_the_accept() {
    let mut owners = (0, 0);
    every_case(|name, sent, apart| {
        let times = [
            apart + 50,
            10_000,
            19_950,
            20_000,
            20_050,
            20_500,
            21_000,
            25_000,
            39_000,
        ];
        // Before the stranger comes, it would be a login of its own.
        for approved in times.into_iter().filter(|approved| *approved >= apart) {
            for stranger_first in [false, true] {
                let name =
                    format!("{name}, approved at {approved}, stranger handled first: {stranger_first}");
                let accepted = play(sent(stranger_first), approved, &name);
                assert_ne!(accepted, Some("stranger"), "{name}");
                owners.0 += usize::from(accepted == Some("owner"));
                owners.1 += 1;
            }
        }
    });
    assert_eq!(owners.0, owners.1, "the owner gets it");
}

/// The other domain controller asks the other proxy; the owner's retry comes as the same packet or as a new one.
#[test]
fn nor_at_another_proxy() {
    for text in ["push", ""] {
        for (apart, from) in [
            (1_000, FIRST),
            (2_000, OTHER),
            (19_500, OTHER),
            (20_000, FIRST),
            (20_000, OTHER),
        ] {
            for (retry, retry_at) in [
                (Retry::Nothing, 0),
                (Retry::PortAndIdentifier, 0),
                (Retry::PortAndIdentifier, 1),
            ] {
                for owner_first in [true, false] {
                    let name = format!("{text:?} {apart} ms apart, {retry:?} at {retry_at}, {owner_first}");
                    let mut group = Group::of(2, "directory = true");
                    group.packet(0, "jane", text, FIRST);
                    let first = group.last_packet.clone();
                    group.wait(apart, |group| group.settle(&[]));
                    let retries = |group: &mut Group| match retry {
                        Retry::PortAndIdentifier => group.packet(retry_at, "jane", text, FIRST),
                        _ => group.again(0, &first),
                    };
                    if apart == 20_000 && owner_first {
                        retries(&mut group);
                        group.settle(&[]);
                    }
                    group.packet(1, "jane", text, from);
                    let mut strangers = vec![group.last_packet.1[1]];
                    group.settle(&[]);
                    if apart < 20_000 || !owner_first {
                        let left = 20_000 - apart;
                        group.wait(left, |group| group.settle(&[]));
                        retries(&mut group);
                        group.settle(&[]);
                    }
                    if apart < 19_000 {
                        // The stranger's retry goes to where the owner's does not.
                        group.wait(apart, |group| group.settle(&[]));
                        group.packet(1 - retry_at, "jane", text, from);
                        strangers.push(group.last_packet.1[1]);
                    }
                    group.wait(5_000, |group| group.settle(&[]));
                    for node in [1, 0, 1] {
                        group.approve_at(node);
                        group.settle(&[]);
                    }
                    group.wait(60_000, |group| group.settle(&[]));
                    let accepts = group.accepts.values().flatten();
                    for (_, _, bytes) in accepts {
                        assert!(!strangers.contains(&bytes[1]), "{name}");
                    }
                }
            }
        }
    }
}
