//! Which packets are believed: Message-Authenticator, Proxy-State, two secrets, unknown clients.

use super::world::{HERE, World, pap, word};
use crate::counters::{DropReason, Event};
use crate::factor::{Factor, Verdict};
use crate::record::LoginResult;
use crate::testing::client::{Answer, Build};
use crate::testing::{OLD_SECRET, SECRET, TOTP, approval, config, config_with, settings};

fn plain(identifier: u8) -> Build {
    pap(identifier, "jane", "123456").unsigned()
}

#[test]
fn a_wrong_message_authenticator_is_dropped_whatever_else_is_right() {
    let mut world = World::new(config(""));
    let mut bytes = pap(1, "jane", "push").bytes();
    bytes[25] ^= 1;
    assert_eq!(
        world.dropped_from(HERE, &bytes),
        DropReason::BadMessageAuthenticator
    );
    assert_eq!(world.out.notices[0].client.as_deref(), Some("test"));
}

#[test]
fn once_an_address_has_signed_it_must_always_sign() {
    let mut world = World::new(config(""));
    world.asked(&plain(1));
    world.asked(&pap(2, "jane", "123456"));
    assert_eq!(world.dropped(&plain(3)), DropReason::NoMessageAuthenticator);
    // Another address of the same client has not.
    assert!(world.receive("192.0.2.2:40000", &plain(4).bytes()).is_empty());
    assert_eq!(world.out.asks.len(), 1);
}

#[test]
fn a_client_can_be_made_to_sign_or_be_let_alone() {
    let mut always = World::new(config_with("", "message_authenticator = \"always\""));
    assert_eq!(always.dropped(&plain(1)), DropReason::NoMessageAuthenticator);
    let mut never = World::new(config_with("", "message_authenticator = \"never\""));
    never.asked(&pap(1, "jane", "123456"));
    never.asked(&plain(2));
    let mut bytes = pap(3, "jane", "123456").bytes();
    bytes[25] ^= 1;
    assert_eq!(
        never.dropped_from(HERE, &bytes),
        DropReason::BadMessageAuthenticator
    );
}

#[test]
fn proxy_state_without_a_signature_is_refused_from_a_directory_and_from_who_did_without_it() {
    let mut directory = World::new(config_with("", "directory = true"));
    assert_eq!(
        directory.dropped(&plain(1).with(33, b"state")),
        DropReason::UnprovenProxyState
    );
    directory.asked(&pap(2, "jane", "123456").with(33, b"state"));

    let mut world = World::new(config(""));
    world.asked(&plain(1));
    assert_eq!(
        world.dropped(&plain(2).with(33, b"state")),
        DropReason::UnprovenProxyState
    );

    let mut old_proxy = World::new(config(""));
    old_proxy.asked(&plain(1).with(33, b"state"));
    old_proxy.asked(&plain(2));
    old_proxy.asked(&plain(3).with(33, b"state"));
}

#[test]
fn the_secret_that_proves_itself_signs_the_answer() {
    let mut world = World::new(config(TOTP));
    for (identifier, secret) in [(1, SECRET), (2, OLD_SECRET)] {
        for signed in [true, false] {
            let mut request = Build::access(identifier, u8::from(signed), secret)
                .user("jane")
                .pap("123456");
            if !signed {
                request = request.unsigned();
            }
            // An address of its own, since one that has signed must always sign.
            let from = format!("192.0.2.{}:4000", 10 * identifier + u8::from(signed));
            let bytes = request.bytes();
            assert!(world.receive(&from, &bytes).is_empty());
            let ask = world.out.asks.remove(0);
            assert_eq!(word(&ask.credential), "123456");
            world.out.clear();
            let verdict = Verdict::Approved(approval(Factor::Passcode));
            world
                .engine
                .verdict(world.now(), ask.login, verdict, &mut world.out);
            assert_eq!(Answer::read(&world.sent()[0], &bytes, secret).code, 2);
        }
    }
}

#[test]
fn chap_is_answered_under_the_secret_that_the_address_proved_last() {
    let mut world = World::new(config(TOTP));
    let old = Build::access(1, 1, OLD_SECRET)
        .user("jane")
        .pap("123456")
        .unsigned();
    world.asked(&old);
    let chap = Build::access(2, 2, OLD_SECRET)
        .user("jane")
        .chap("123456")
        .unsigned();
    let ask = world.asked(&chap);
    world.out.clear();
    let verdict = Verdict::Approved(approval(Factor::Passcode));
    world
        .engine
        .verdict(world.now(), ask.login, verdict, &mut world.out);
    assert_eq!(Answer::read(&world.sent()[0], &chap.bytes(), OLD_SECRET).code, 2);
}

#[test]
fn pap_that_is_text_under_no_secret_is_dropped() {
    let mut world = World::new(config(""));
    let wrong = Build::access(1, 1, "wrong secret")
        .user("jane")
        .pap("123456")
        .unsigned();
    assert_eq!(world.dropped(&wrong), DropReason::BadSecret);
}

#[test]
fn unknown_clients_are_dropped_and_told_of_at_a_bounded_rate() {
    let mut world = World::new(config(""));
    let mut told = 0;
    for i in 0..10_000u64 {
        world.now = i;
        let from = format!("198.51.100.{}:999", i % 200);
        assert_eq!(
            world.dropped_from(&from, &plain(1).bytes()),
            DropReason::UnknownClient
        );
        told += world.out.notices.len();
    }
    assert!((20..=41).contains(&told), "{told}");
    assert_eq!(world.engine.counters().drops(DropReason::UnknownClient), 10_000);
}

#[test]
fn a_mapped_ipv4_source_is_the_ipv4_client_and_ipv6_works() {
    let mut world = World::new(config(""));
    for from in ["[::ffff:192.0.2.9]:4000", "[2001:db8::9]:4000"] {
        assert!(world.receive(from, &pap(1, "jane", "123456").bytes()).is_empty());
        let ask = world.out.asks.remove(0);
        assert_eq!(ask.source.is_ipv4(), from.contains("192"));
        world.out.clear();
        let verdict = Verdict::Approved(approval(Factor::Passcode));
        world
            .engine
            .verdict(world.now(), ask.login, verdict, &mut world.out);
        let to = world.out.datagrams().next().unwrap().to;
        assert_eq!(to, from.parse().unwrap(), "answered as it came");
    }
}

#[test]
fn status_server_is_answered_with_an_accept_only_when_it_is_signed() {
    let mut world = World::new(config_with("", "message_authenticator = \"never\""));
    let answer = world.answer(&Build::status(7, SECRET).with(33, b"one").with(33, b"two"));
    assert_eq!(answer.code, 2);
    assert_eq!(answer.all(33), [b"one", b"two"]);
    assert!(world.out.records.is_empty() && world.out.asks.is_empty());
    assert_eq!(
        world.dropped(&Build::status(8, SECRET).unsigned()),
        DropReason::NoMessageAuthenticator
    );
    assert_eq!(world.count(Event::StatusServer), 1);
}

#[test]
fn eap_and_a_missing_password_are_refused_when_signed_and_dropped_when_not() {
    let mut world = World::new(config(""));
    let nothing = Build::access(1, 1, SECRET)
        .user("jane")
        .with(79, b"\x02\x00\x00\x04");
    // RFC 3579 section 3.1; whatever else is in it.
    for eap in [nothing.clone(), nothing.clone().pap("123456")] {
        assert_eq!(world.dropped(&eap.unsigned()), DropReason::NoMessageAuthenticator);
    }
    let empty = Build::access(1, 1, SECRET).user("jane").unsigned();
    assert_eq!(world.dropped(&empty), DropReason::NoPassword);
    assert_eq!(world.answer(&nothing).code, 3);
    assert_eq!(world.reason(), "no_password");
    let both = pap(2, "jane", "x").chap("x");
    assert_eq!(world.dropped(&both), DropReason::BadAttribute);
}

#[test]
fn a_reload_changes_secrets_and_keeps_what_waits_and_what_was_answered() {
    let mut world = World::new(config(""));
    let waiting = pap(1, "jane", "push");
    let ask = world.asked(&waiting);
    let mut next = config("");
    next.clients[0].secret = proxy_config::SharedSecret::parse(b"a new secret").unwrap();
    next.clients[0].previous_secret = None;
    world.engine.reconfigure(settings(next));
    let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &waiting);
    assert_eq!(answer.code, 2);
    assert_eq!(world.record().result, LoginResult::Accept);
    assert_eq!(
        world.dropped(&pap(2, "jane", "push")),
        DropReason::BadMessageAuthenticator
    );
}
