//! What is observed of a directory: it is counted whatever becomes of the request, and bounded whatever comes.

use std::net::IpAddr;

use proxy_config::observed::{MAX_ADDRESSES, ObservedAddress};

use super::world::{HERE, World, pap};
use crate::factor::{Factor, RefusalReason, Verdict};
use crate::testing::client::Build;
use crate::testing::{SECRET, TOTP, UPSTREAM, approval, at, config, config_with, refusal, settings};

const THERE: &str = "192.0.2.2:41000";
const DIRECTORY: &str = "directory = true";

fn directory(provider: &str) -> World {
    World::new(config_with(provider, DIRECTORY))
}

impl World {
    fn send(&mut self, milliseconds: u64, from: &str, request: &Build) {
        self.now = milliseconds;
        self.receive(from, &request.bytes());
    }

    fn address(&self, from: &str) -> ObservedAddress {
        let address: IpAddr = from.split(':').next().unwrap().parse().unwrap();
        let mut observed = self.engine.observed();
        observed.addresses.remove(&address).unwrap_or_default()
    }

    fn notable(&self) -> u64 {
        self.engine.observed_changes().notable
    }
}

fn seconds(milliseconds: u64) -> u64 {
    at(milliseconds).unix.as_secs()
}

fn retries(address: &ObservedAddress) -> (u32, u32, u32, Option<u32>) {
    (
        address.same_packet,
        address.new_authenticator,
        address.new_identifier,
        address.retry_interval_ms,
    )
}

#[test]
fn other_clients_are_not_observed() {
    let mut world = World::new(config(""));
    world.asked(&pap(1, "jane", "push"));
    assert!(world.engine.observed().is_empty());
    assert_eq!(world.engine.observed_changes(), crate::ObservedChanges::default());
}

#[test]
fn each_address_has_its_last_request_and_how_it_signs() {
    let mut world = directory(TOTP);
    world.send(0, HERE, &pap(1, "jane", "123456"));
    world.send(1_000, THERE, &pap(2, "joe", "123456").unsigned());
    world.send(
        2_000,
        THERE,
        &Build::access(3, 3, SECRET).user("ann").chap("123456").unsigned(),
    );
    world.send(3_000, "192.0.2.3:40000", &Build::status(4, SECRET));
    let here = world.address(HERE);
    assert_eq!((here.signed, here.unsigned), (1, 0));
    assert_eq!(
        (here.last_request, here.last_authenticated),
        (seconds(0), Some(seconds(0)))
    );
    let there = world.address(THERE);
    assert_eq!((there.signed, there.unsigned), (0, 2));
    assert_eq!(there.last_request, seconds(2_000));
    assert_eq!(
        there.last_authenticated,
        Some(seconds(1_000)),
        "CHAP proves nothing"
    );
    let third = world.address("192.0.2.3:40000");
    assert_eq!(
        (third.signed, third.unsigned),
        (0, 0),
        "Status-Server must be signed anyway"
    );
    assert_eq!(third.last_authenticated, Some(seconds(3_000)));
}

#[test]
fn requests_without_a_demanded_signature_are_unsigned_ones_and_no_wrong_secret() {
    let mut world = World::new(config_with(
        "",
        "directory = true\nmessage_authenticator = \"always\"",
    ));
    world.send(0, HERE, &pap(1, "jane", "push").unsigned());
    let here = world.address(HERE);
    assert_eq!(
        (here.unsigned, here.failed, here.last_request),
        (1, 0, seconds(0))
    );
}

#[test]
fn a_wrong_secret_is_seen_until_a_request_authenticates_itself_again() {
    let mut world = directory("");
    let wrong = |i: u8| Build::access(i, i, "another secret").user("jane").pap("push");
    world.send(0, HERE, &pap(1, "jane", "push"));
    world.send(10_000, HERE, &wrong(2));
    world.send(20_000, HERE, &wrong(3).unsigned());
    world.send(30_000, HERE, &Build::status(4, "another secret"));
    let here = world.address(HERE);
    assert_eq!(here.failed, 3);
    assert_eq!(
        (here.failing_since, here.last_failed),
        (Some(seconds(10_000)), Some(seconds(30_000)))
    );
    assert_eq!(here.last_authenticated, Some(seconds(0)));
    assert_eq!(here.last_request, seconds(30_000));
    assert_eq!(
        (here.signed, here.unsigned),
        (1, 0),
        "forged packets sign nothing"
    );
    world.send(40_000, HERE, &pap(5, "joe", "push"));
    let here = world.address(HERE);
    assert_eq!((here.failed, here.failing_since), (0, None));
    assert_eq!(here.last_failed, Some(seconds(30_000)));
}

#[test]
fn retries_are_told_apart_whatever_the_provider_and_the_text() {
    for provider in ["", TOTP, UPSTREAM] {
        for text in ["push", "123456", "Winter2026!"] {
            if provider == TOTP && text != "123456" {
                continue;
            }
            let first = pap(1, "jane", text);
            let mut same = directory(provider);
            for time in [0, 5_000, 12_000] {
                same.send(time, HERE, &first);
            }
            assert_eq!(retries(&same.address(HERE)), (2, 0, 0, Some(5_000)));

            let mut new_authenticator = directory(provider);
            new_authenticator.send(0, HERE, &first);
            new_authenticator.send(20_000, HERE, &Build::access(1, 9, SECRET).user("jane").pap(text));
            assert_eq!(retries(&new_authenticator.address(HERE)), (0, 1, 0, Some(20_000)));

            let mut new_identifier = directory(provider);
            new_identifier.send(0, HERE, &first);
            new_identifier.send(20_000, HERE, &pap(2, "jane", text));
            new_identifier.send(39_000, "192.0.2.1:40001", &pap(3, "jane", text));
            assert_eq!(retries(&new_identifier.address(HERE)), (0, 0, 2, Some(19_000)));
            assert_eq!(new_identifier.engine.observed().longest_wait_ms, Some(39_000));
        }
    }
}

#[test]
fn retries_of_chap_and_ms_chap_are_seen_signed_or_not() {
    type Method = fn(Build) -> Build;
    let methods: [Method; 3] = [
        |build| build.chap("push"),
        |build| build.mschapv1("push"),
        |build| build.mschapv2("jane", "push"),
    ];
    for method in methods {
        for signed in [true, false] {
            let mut world = World::new(config_with("", "directory = true\nunauthenticated_push = true"));
            for (i, time) in [(1, 0), (2, 20_000)] {
                let request = method(Build::access(i, i, SECRET).user("jane"));
                let request = if signed { request } else { request.unsigned() };
                world.send(time, HERE, &request);
            }
            assert_eq!(retries(&world.address(HERE)), (0, 0, 1, Some(20_000)));
        }
    }
}

#[test]
fn what_comes_after_an_answer_or_with_another_text_is_no_retry() {
    let mut world = directory("");
    let first = pap(1, "jane", "push");
    let ask = world.asked(&first);
    world.verdict(
        ask.login,
        Verdict::Refused(refusal(RefusalReason::Denied)),
        &first,
    );
    world.send(20_000, HERE, &pap(2, "jane", "push"));
    assert_eq!(retries(&world.address(HERE)), (0, 0, 0, None));
    world.send(40_000, HERE, &pap(3, "jane", "another text"));
    world.send(41_000, HERE, &pap(4, "joe", "push"));
    assert_eq!(retries(&world.address(HERE)), (0, 0, 0, None));
    assert_eq!(world.engine.observed().longest_wait_ms, None);
}

#[test]
fn the_answer_to_a_stranger_does_not_end_what_is_observed_of_the_login() {
    let mut world = directory("");
    let first = pap(1, "jane", "push");
    world.asked(&first);
    world.send(100, HERE, &pap(2, "jane", "push"));
    world.send(20_000, HERE, &pap(3, "jane", "push"));
    assert_eq!(retries(&world.address(HERE)), (0, 0, 1, Some(20_000)));
}

#[test]
fn a_login_that_goes_on_at_another_address_has_moved_once() {
    let mut world = directory("");
    world.send(0, HERE, &pap(1, "jane", "push"));
    world.send(100, THERE, &pap(2, "jane", "push"));
    assert_eq!(world.engine.observed().moved, 0, "both addresses at once");
    let mut world = directory("");
    world.send(0, HERE, &pap(1, "jane", "push"));
    world.send(20_000, THERE, &pap(2, "jane", "push"));
    world.send(39_000, THERE, &pap(2, "jane", "push"));
    let observed = world.engine.observed();
    assert_eq!((observed.moved, observed.longest_wait_ms), (1, Some(39_000)));
}

#[test]
fn a_login_that_is_too_long_ago_is_not_gone_on_with() {
    let mut world = directory("");
    world.drain();
    world.send(0, HERE, &pap(1, "jane", "push"));
    world.send(61_000, HERE, &pap(2, "jane", "push"));
    assert_eq!(retries(&world.address(HERE)), (0, 0, 0, None));
}

#[test]
fn probes_are_named_with_their_last_time() {
    let mut world = directory("");
    world.send(0, HERE, &pap(1, "CORP\\FakeUserName", "x"));
    let before = world.notable();
    world.send(9_000, THERE, &pap(2, "fakeusername", "x").unsigned());
    assert!(world.notable() > before);
    let probes = world.engine.observed().probes;
    assert_eq!(
        probes.into_iter().collect::<Vec<_>>(),
        [("fakeusername".to_owned(), seconds(9_000))]
    );
}

#[test]
fn only_what_somebody_would_want_to_know_at_once_is_notable() {
    let mut world = directory(TOTP);
    let wrong = |i: u8| Build::access(i, i, "another secret").user("jane").pap("123456");
    let mut notable = |i: u8, from: &str, request: &Build| {
        let before = world.engine.observed_changes();
        world.send(u64::from(i) * 1_000, from, request);
        let after = world.engine.observed_changes();
        assert!(after.any > before.any);
        after.notable > before.notable
    };
    assert!(notable(1, HERE, &pap(1, "jane", "123456")), "a first request");
    assert!(!notable(2, HERE, &pap(2, "joe", "123456")));
    assert!(notable(3, THERE, &pap(3, "ann", "123456")), "of another address");
    assert!(notable(4, HERE, &wrong(4)), "the secret begins to fail");
    assert!(!notable(5, HERE, &wrong(5)));
    assert!(notable(6, HERE, &pap(6, "jim", "123456")), "and works again");
    assert!(
        notable(7, HERE, &pap(7, "tom", "123456").unsigned()),
        "signed sometimes"
    );
    assert!(!notable(8, HERE, &pap(8, "tim", "123456").unsigned()));
}

#[test]
fn forged_addresses_push_out_none_that_has_authenticated_itself() {
    let mut world = directory("");
    for i in 1..=3 {
        world.send(0, &format!("192.0.2.{i}:4000"), &pap(i, "jane", "push"));
    }
    for i in 10..=250u64 {
        let forged = Build::access(1, 1, "guess").user("jane").pap("x");
        world.send(i * 1_000, &format!("192.0.2.{i}:4000"), &forged);
    }
    let observed = world.engine.observed();
    assert_eq!(observed.addresses.len(), MAX_ADDRESSES);
    for i in 1..=3 {
        assert!(
            world
                .address(&format!("192.0.2.{i}"))
                .last_authenticated
                .is_some()
        );
    }
    assert!(observed.addresses.contains_key(&"192.0.2.250".parse().unwrap()));
}

#[test]
fn a_reload_forgets_addresses_and_names_that_are_a_directorys_no_more() {
    let mut world = directory("");
    world.send(0, HERE, &pap(1, "fakeusername", "x"));
    world.engine.reconfigure(settings(config_with("", DIRECTORY)));
    assert_eq!(world.engine.observed().addresses.len(), 1);
    let before = world.engine.observed_changes();
    let mut other = config_with("[policy]\nprobe_users = [\"other\"]\n", DIRECTORY);
    other.clients[0].networks = vec!["192.0.2.77/32".parse().unwrap()];
    world.engine.reconfigure(settings(other));
    assert!(world.engine.observed().is_empty());
    // Otherwise it would be reported with the next request only, and there may be none.
    assert_ne!(world.engine.observed_changes(), before);
}

#[test]
fn an_accepted_login_is_answered_and_the_next_one_begins_anew() {
    let mut world = directory(TOTP);
    let first = pap(1, "jane", "123456");
    let ask = world.asked(&first);
    world.verdict(ask.login, Verdict::Approved(approval(Factor::Passcode)), &first);
    world.send(5_000, HERE, &first);
    world.send(10_000, HERE, &pap(2, "jane", "123456"));
    assert_eq!(world.address(HERE).new_identifier, 0);
}

#[test]
fn no_fuzz_makes_the_report_longer_than_its_bounds() {
    bolero::check!()
        .with_type::<Vec<(u8, u8, u8, u16)>>()
        .for_each(|script| {
            let mut world = directory(TOTP);
            let mut now = 0;
            for (kind, address, user, pause) in script {
                now += u64::from(*pause);
                let secret = if kind & 1 == 0 { SECRET } else { "another" };
                let request = Build::access(*user, kind / 8, secret)
                    .user(if kind & 2 == 0 { "fakeusername" } else { "jane" })
                    .pap(&user.to_string());
                let request = if kind & 4 == 0 {
                    request
                } else {
                    request.unsigned()
                };
                world.send(now, &format!("192.0.2.{address}:4000"), &request);
                let (observed, changes) = (world.engine.observed(), world.engine.observed_changes());
                assert!(observed.addresses.len() <= MAX_ADDRESSES && observed.probes.len() <= 1);
                assert!(observed.longest_wait_ms.is_none_or(|wait| wait <= 60_000));
                assert!(changes.notable <= changes.any);
            }
        });
}
