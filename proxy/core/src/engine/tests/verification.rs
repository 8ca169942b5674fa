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

#[test]
fn what_must_be_signed_anyway_does_not_make_logins_signed() {
    let eap = Build::access(1, 1, SECRET)
        .user("jane")
        .with(79, b"\x02\x00\x00\x04");
    let before = [
        Build::status(1, SECRET),
        Build::status(1, SECRET).with(33, b"state"),
        eap.clone(),
        eap.clone().pap("123456"),
        eap.with(33, b"state"),
        Build::access(1, 1, SECRET).user("jane").with(6, &[0, 0, 0, 17]),
    ];
    for signed in before {
        for login in [plain(2), plain(2).with(33, b"state")] {
            let mut world = World::new(config(TOTP));
            world.receive(HERE, &signed.bytes());
            world.asked(&login);
        }
    }
}

#[test]
fn an_empty_password_of_no_octets_is_the_empty_text() {
    for (signed, more) in [(true, ""), (false, "unauthenticated_push = true")] {
        let mut world = World::new(config_with("", &format!("directory = true\n{more}")));
        let request = Build::access(1, 1, SECRET).user("jane").with(2, b"");
        let request = if signed { request } else { request.unsigned() };
        let ask = world.asked(&request);
        assert_eq!(word(&ask.credential), "default");
        let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &request);
        assert_eq!(answer.code, 2);
        assert_eq!(world.record().method.name(), "pap");
    }
    // It proves no secret: without a signature it starts no push by itself.
    let mut world = World::new(config_with("", "directory = true"));
    let unsigned = Build::access(1, 1, SECRET).user("jane").with(2, b"").unsigned();
    assert_eq!(world.answer(&unsigned).code, 3);
    assert_eq!(world.reason(), "unproven");
    let exempt = "[policy]\nexempt_users = [\"robot\"]\n";
    let mut world = World::new(config(exempt));
    let robot = Build::access(1, 1, SECRET).user("robot").with(2, b"");
    assert_eq!(world.answer(&robot).code, 2);
}

#[test]
fn a_signed_password_without_padding_is_understood() {
    let mut world = World::new(config(""));
    for (id, octets) in [(1, &[7; 6][..]), (3, &[7; 17]), (5, &[7; 127])] {
        let user = format!("user{id}");
        let of = |id| Build::access(id, id, SECRET).user(&user).with(2, octets);
        world.asked(&of(id));
        assert_eq!(
            world.dropped(&of(id + 1).unsigned()),
            DropReason::BadAttribute,
            "it shows nothing of the secret"
        );
    }
    let longer = Build::access(7, 7, SECRET).user("jane").with(2, &[7; 129]);
    assert_eq!(world.dropped(&longer), DropReason::BadAttribute);
}

#[test]
fn a_packet_has_two_hundred_attributes_at_most() {
    let with = |count: usize| {
        // Message-Authenticator, User-Name and User-Password are three of them.
        (3..count).fold(pap(1, "jane", "123456"), |build, _| build.with(18, b"x"))
    };
    let mut world = World::new(config(TOTP));
    assert_eq!(world.dropped(&with(201)), DropReason::TooManyAttributes);
    assert_eq!(
        world.dropped(&with(202).unsigned()),
        DropReason::TooManyAttributes
    );
    world.asked(&with(200));
}

#[test]
fn what_proves_no_secret_has_a_limit_of_its_own_whatever_the_clients() {
    let mut world = World::new(config_with(TOTP, "requests_per_second = 100000"));
    let chap = |i: u16| {
        let [high, low] = i.to_be_bytes();
        Build::access(low, high, SECRET)
            .user("jane")
            .chap("123456")
            .unsigned()
    };
    for i in 0..1_000 {
        let from = format!("192.0.2.1:{}", 40_000 + i);
        world.receive(&from, &chap(i).bytes());
    }
    assert_eq!(world.engine.counters().drops(DropReason::Throttled), 900);
    assert_eq!(world.count(Event::ThrottledClient), 900);
    // Who proves the secret is not among them.
    for i in 0..1_000 {
        let [high, low] = u16::to_be_bytes(i);
        let from = format!("192.0.2.1:{}", 50_000 + i);
        let request = Build::access(low, high, SECRET)
            .user(&format!("user{i}"))
            .pap("123456")
            .unsigned();
        world.receive(&from, &request.bytes());
        assert_eq!(world.out.asks.len(), 1);
    }
}

#[test]
fn what_may_start_no_push_is_refused_before_anything_is_guessed_of_it() {
    let mut world = World::new(config(""));
    for request in [
        Build::access(1, 1, SECRET).user("jane").chap("push"),
        Build::access(2, 2, SECRET).user("jane").mschapv1("push"),
        Build::access(3, 3, SECRET).user("jane").mschapv2("jane", "push"),
    ] {
        assert_eq!(world.answer(&request.unsigned()).code, 3);
        assert_eq!(world.reason(), "unproven");
        assert_eq!(
            world.record().credential,
            crate::record::CredentialKind::None,
            "nothing was looked at"
        );
    }
}

#[test]
fn unsigned_passwords_that_are_not_utf8_are_text_that_is_no_code() {
    let passwords: [&[u8]; 5] = [
        b"Gr\xfcn24",
        b"\xcf\xe0\xf0\xee\xeb\xfc2024",
        b"\xcf\xe0\xf0\xee\xeb\xfc2024\xcc\xee\xf1\xea\xe2\xe0",
        b"\x83p\x83X\x83\x8f\x81[\x83h1",
        b"G\0r\0\xfc\0n\x002\x004\0",
    ];
    for password in passwords {
        for secret in [SECRET, OLD_SECRET] {
            let mut world = World::new(config_with("", "directory = true"));
            let request = Build::access(1, 1, secret)
                .user("jane")
                .pap_octets(password)
                .unsigned();
            let bytes = request.bytes();
            assert!(world.receive(HERE, &bytes).is_empty());
            let ask = world.out.asks.remove(0);
            assert_eq!(word(&ask.credential), "default", "{}", password.escape_ascii());
            world.out.clear();
            let verdict = Verdict::Approved(approval(Factor::Push));
            world
                .engine
                .verdict(world.now(), ask.login, verdict, &mut world.out);
            assert_eq!(Answer::read(&world.sent()[0], &bytes, secret).code, 2);
        }
    }
}

#[test]
fn a_text_that_a_wrong_secret_could_have_made_is_no_wrong_secret_and_proves_nothing() {
    // Katakana in Shift-JIS that fill their block.
    let password = b"\x83p\x83X\x83\x8f\x81[\x83h\x83p\x83X\x83\x8f";
    let request = |i: u8| {
        Build::access(i, i, SECRET)
            .user("jane")
            .pap_octets(password)
            .unsigned()
    };
    let mut world = World::new(config_with("", "directory = true"));
    assert_eq!(world.answer(&request(1)).code, 3);
    assert_eq!(world.reason(), "unproven");
    assert_eq!(
        world
            .engine
            .observed()
            .addresses
            .values()
            .next()
            .unwrap()
            .last_authenticated,
        None
    );
    let mut world = World::new(config_with("", "directory = true\nunauthenticated_push = true"));
    assert_eq!(word(&world.asked(&request(1)).credential), "default");
}
