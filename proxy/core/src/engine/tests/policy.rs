//! User names, typed text, exempt users, limits, challenges, drain.

use super::world::{HERE, World, pap, word};
use crate::counters::{DropReason, Event};
use crate::factor::{Continues, Credential, Factor, Forwarded, RefusalReason, Verdict};
use crate::record::LoginResult;
use crate::testing::client::Build;
use crate::testing::{SECRET, TOTP, UPSTREAM, approval, config, config_with, refusal};

#[test]
fn what_was_typed_is_classified_and_a_password_goes_nowhere() {
    for (text, meaning) in [
        ("", "default"),
        ("push", "push"),
        (" Phone2 ", "phone2"),
        ("123456", "123456"),
        ("Winter2026!", "default"),
        ("Winter2026!,push", "default"),
    ] {
        let mut world = World::new(config(""));
        let ask = world.asked(&pap(1, "jane", text));
        assert_eq!(word(&ask.credential), meaning, "{text:?}");
    }
}

#[test]
fn a_code_in_groups_is_the_code_for_every_provider() {
    for provider in ["", TOTP, UPSTREAM] {
        for text in ["123 456", "123-456", "123\u{a0}456"] {
            let mut world = World::new(config(provider));
            let ask = world.asked(&pap(1, "jane", text));
            let code = match &ask.credential {
                Credential::Passcode(code) | Credential::Forward(Forwarded::Pap(code)) => code.expose(),
                other => panic!("{}", word(other)),
            };
            assert_eq!(code, b"123456", "{text:?}");
        }
    }
}

#[test]
fn the_name_of_another_products_factor_is_answered_in_words_and_starts_nothing() {
    for (provider, told) in [("", "Type push, phone or sms"), (TOTP, "Type the code")] {
        let mut world = World::new(config(provider));
        let answer = world.answer(&pap(1, "jane", "EMAIL"));
        assert_eq!(
            (answer.code, world.reason(), world.out.asks.len()),
            (3, "unknown_factor", 0)
        );
        let message = answer.message();
        assert!(message.contains(told) && !message.contains("EMAIL"), "{message}");
    }
    let mut world = World::new(config(UPSTREAM));
    match &world.asked(&pap(1, "jane", "EMAIL")).credential {
        Credential::Forward(Forwarded::Pap(text)) => assert_eq!(text.expose(), b"EMAIL"),
        other => panic!("{}", word(other)),
    }
    let mut world = World::new(config("[policy]\nexempt_users = [\"jane\"]\n"));
    assert_eq!(world.answer(&pap(1, "jane", "EMAIL")).code, 2);
}

#[test]
fn names_that_cannot_be_one_are_refused_with_a_record() {
    let mut world = World::new(config(""));
    let long = "x".repeat(129);
    let names: [&[u8]; 4] = [b"", b"  ", b"j\xffne", long.as_bytes()];
    for (i, name) in (1..).zip(names) {
        let request = Build::access(i, i, SECRET).with(1, name).pap("push");
        assert_eq!(world.answer(&request).code, 3);
        assert_eq!(world.reason(), "bad_user_name");
    }
    assert_eq!(world.answer(&Build::access(9, 9, SECRET).pap("push")).code, 3);
}

#[test]
fn exempt_users_are_accepted_without_a_question_and_counted() {
    let mut world = World::new(config("[policy]\nexempt_users = [\"Robot\"]\n"));
    let answer = world.answer(&pap(1, "robot@corp.example", "anything"));
    assert_eq!(answer.code, 2);
    let record = world.record();
    assert_eq!(record.basis.unwrap().name(), "exempt");
    assert_eq!(record.factor, Factor::None);
    assert_eq!(world.count(Event::Exempt), 1);
    let v2 = Build::access(2, 2, SECRET)
        .user("robot")
        .mschapv2("robot", "anything");
    assert_eq!(world.answer(&v2).code, 3);
    let found = Build::access(3, 3, SECRET).user("robot").mschapv2("robot", "");
    assert_eq!(world.answer(&found).code, 2);
}

#[test]
fn a_users_limit_refuses_and_never_locks_out() {
    let limits = "[policy.limits]\nlogins_per_user_per_minute = 3\n";
    let mut world = World::new(config_with(&format!("{limits}{TOTP}"), "directory = true"));
    for i in 0..3 {
        world.asked(&pap(i, "jane", "123456"));
    }
    assert_eq!(world.answer(&pap(3, "CORP\\Jane", "123456")).code, 3);
    assert_eq!(world.reason(), "throttled");
    world.asked(&pap(4, "joe", "123456"));
    world.now += 20_000;
    world.asked(&pap(5, "jane", "654321"));
}

#[test]
fn the_text_that_a_user_was_let_in_with_last_passes_the_limit_that_others_have_used_up() {
    let limits = "[policy.limits]\nlogins_per_user_per_minute = 3\n";
    let mut world = World::new(config(limits));
    let request = pap(1, "jane", "own text");
    let ask = world.asked(&request);
    let approved = Verdict::Approved(approval(Factor::Push));
    world.verdict(ask.login, approved, &request);
    world.now += 60_000;
    for i in 2..5 {
        let guess = pap(i, "jane", "guess");
        let ask = world.asked(&guess);
        world.verdict(
            ask.login,
            Verdict::Refused(refusal(RefusalReason::TimedOut)),
            &guess,
        );
    }
    assert_eq!(world.answer(&pap(5, "jane", "guess")).code, 3);
    let request = pap(6, "jane", "own text");
    let ask = world.asked(&request);
    assert_eq!(world.count(Event::KnownText), 1);
    world.verdict(
        ask.login,
        Verdict::Refused(refusal(RefusalReason::TimedOut)),
        &request,
    );
    // Once in a cool-down.
    assert_eq!(world.answer(&pap(7, "jane", "own text")).code, 3);
    assert_eq!(world.reason(), "throttled");
}

#[test]
fn a_clients_limit_refuses_and_pushes_no_answer_out() {
    let limits = "[policy.limits]\nrequests_per_client_per_second = 2\n";
    let mut world = World::new(config(&format!("{limits}{TOTP}")));
    world.asked(&pap(1, "jane", "123456"));
    world.asked(&pap(2, "joe", "123456"));
    assert_eq!(world.answer(&pap(3, "ann", "123456")).code, 3);
    assert_eq!(world.count(Event::ThrottledClient), 1);
    assert_eq!(world.engine.duplicates.held(), (2, 0));
    assert_eq!(world.dropped(&Build::status(4, SECRET)), DropReason::Throttled);
    assert!(
        world
            .receive("192.0.2.2:4000", &pap(1, "ann", "123456").bytes())
            .is_empty()
    );
    assert_eq!(world.out.asks.len(), 1, "another address has its own");
}

#[test]
fn a_client_can_have_a_limit_of_its_own() {
    let limits = "[policy.limits]\nrequests_per_client_per_second = 1\n";
    let mut world = World::new(config_with(&format!("{limits}{TOTP}"), "requests_per_second = 2"));
    world.asked(&pap(1, "jane", "123456"));
    world.asked(&pap(2, "joe", "123456"));
    assert_eq!(world.answer(&pap(3, "ann", "123456")).code, 3);
    assert_eq!(world.count(Event::ThrottledClient), 1);
}

#[test]
fn beyond_its_limit_what_proves_nothing_is_dropped_and_a_directory_still_answered() {
    let limits = "[policy.limits]\nrequests_per_client_per_second = 1\n";
    for (client, answers) in [("", 0), ("directory = true", 1)] {
        let mut world = World::new(config_with(&format!("{limits}{TOTP}"), client));
        let request = |i: u8| Build::access(i, i, SECRET).user("jane").chap("123456").unsigned();
        world.asked(&request(1));
        assert_eq!(world.receive(HERE, &request(2).bytes()).len(), answers);
        assert!(world.out.records.is_empty() && world.out.asks.is_empty());
        assert_eq!(world.count(Event::ThrottledClient), 1);
        let dropped = world.engine.counters().drops(DropReason::Throttled);
        assert_eq!(dropped, 1 - answers as u64);
    }
}

#[test]
fn the_global_limit_refuses_what_cannot_wait() {
    let mut world = World::new(config("[policy.limits]\npending = 2\n"));
    world.asked(&pap(1, "jane", "push"));
    let ask = world.asked(&pap(2, "joe", "push"));
    assert_eq!(world.answer(&pap(3, "ann", "push")).code, 3);
    assert_eq!(world.count(Event::ThrottledPending), 1);
    world.verdict(
        ask.login,
        Verdict::Refused(refusal(RefusalReason::UnknownUser)),
        &pap(2, "joe", "push"),
    );
    world.asked(&pap(4, "ann", "push"));
}

#[test]
fn a_cool_down_stops_pushes_and_not_passcodes() {
    let mut world = World::new(config_with("", "directory = true"));
    let request = pap(1, "jane", "push");
    let ask = world.asked(&request);
    world.engine.pushed(world.now(), ask.login);
    world.verdict(
        ask.login,
        Verdict::Refused(refusal(RefusalReason::Denied)),
        &request,
    );
    world.now += 9_000;
    assert_eq!(world.answer(&pap(2, "jane", "push")).code, 3);
    assert_eq!(world.count(Event::CoolDown), 1);
    let passcode = world.asked(&pap(3, "jane", "123456"));
    assert!(!passcode.may_push);
    world.now += 1_000;
    assert!(world.asked(&pap(4, "jane", "push")).may_push);
}

#[test]
fn pushes_have_a_limit_that_only_started_ones_use_up() {
    let mut world = World::new(config("[policy.limits]\npushes_per_user_per_minute = 2\n"));
    for (i, started) in [(1, false), (2, true), (3, false), (4, true)] {
        let request = pap(i, "jane", "push");
        let ask = world.asked(&request);
        if started {
            world.engine.pushed(world.now(), ask.login);
        }
        world.verdict(
            ask.login,
            Verdict::Refused(refusal(RefusalReason::TimedOut)),
            &request,
        );
    }
    assert_eq!(world.answer(&pap(5, "jane", "push")).code, 3);
    assert_eq!(world.count(Event::ThrottledPush), 1);
}

#[test]
fn sent_codes_are_asked_for_where_the_client_can_ask() {
    let mut world = World::new(config_with("", "challenge = true"));
    let request = pap(1, "jane", "sms");
    let ask = world.asked(&request);
    assert_eq!(ask.continues, Continues::Nothing);
    let sent = Verdict::Refused(refusal(RefusalReason::CodesSent));
    let answer = world.verdict(ask.login, sent, &request);
    assert_eq!(answer.code, 11);
    assert_eq!(world.record().result, LoginResult::Challenge);
    let state = answer.all(24)[0].to_vec();
    let next = pap(2, "jane", "654321").with(24, &state);
    let ask = world.asked(&next);
    assert_eq!(word(&ask.credential), "654321");
    assert_eq!(ask.continues, Continues::State);
    assert_eq!(world.answer(&pap(3, "jane", "654321").with(24, &state)).code, 3);
    assert_eq!(world.reason(), "stale_state");
}

#[test]
fn sent_codes_are_a_reject_where_it_cannot() {
    for client in ["directory = true", ""] {
        let mut world = World::new(config_with("", client));
        let request = pap(1, "jane", "sms");
        let ask = world.asked(&request);
        let sent = Verdict::Refused(refusal(RefusalReason::CodesSent));
        assert_eq!(world.verdict(ask.login, sent, &request).code, 3);
        // A State that nobody gave is passed over untouched.
        let ask = world.asked(&pap(2, "jane", "123456").with(24, b"foreign"));
        assert_eq!(ask.continues, Continues::Untold);
    }
}

#[test]
fn a_code_is_asked_for_when_only_a_code_will_do() {
    let mut world = World::new(config_with(TOTP, "challenge = true"));
    let answer = world.answer(&pap(1, "jane", "Winter2026!"));
    assert_eq!(
        (answer.code, answer.message().as_str()),
        (11, "Enter your passcode.")
    );
    let state = answer.all(24)[0].to_vec();
    world.asked(&pap(2, "jane", "123456").with(24, &state));
    world.asked(&pap(3, "jane", "123456"));
}

#[test]
fn a_draining_engine_answers_passcodes_finishes_pushes_and_starts_none() {
    let mut world = World::new(config_with("", "directory = true"));
    let waiting = pap(1, "jane", "push");
    let push = world.asked(&waiting);
    world.drain();
    assert!(world.receive(HERE, &pap(2, "joe", "push").bytes()).is_empty());
    assert_eq!(
        (world.reason(), world.record().result),
        ("draining", LoginResult::Silent)
    );
    assert!(world.out.asks.is_empty());
    assert_eq!(world.dropped(&pap(2, "joe", "push")), DropReason::DuplicateSilent);
    assert_eq!(world.dropped(&Build::status(3, SECRET)), DropReason::Draining);
    let code = pap(4, "joe", "123456");
    let ask = world.asked(&code);
    assert_eq!(world.engine.pending(), 2);
    world.verdict(ask.login, Verdict::Approved(approval(Factor::Passcode)), &code);
    let answer = world.verdict(push.login, Verdict::Approved(approval(Factor::Push)), &waiting);
    assert_eq!((answer.code, world.engine.pending()), (2, 0));
}

#[test]
fn the_users_address_is_read_from_its_attribute() {
    let mut world = World::new(config_with("", "user_address_attribute = \"Calling-Station-Id\""));
    let request = pap(1, "jane", "push").with(31, b"203.0.113.5");
    assert_eq!(
        world.asked(&request).user_address,
        Some("203.0.113.5".parse().unwrap())
    );
    assert_eq!(
        world
            .asked(&pap(2, "joe", "push").with(31, b"mobile"))
            .user_address,
        None
    );
}

#[test]
fn an_exempt_monitor_is_accepted_as_often_as_it_asks() {
    type Request = fn(u8) -> Build;
    let requests: [Request; 3] = [
        |i| pap(i, "monitor", "whatever"),
        |i| pap(i, "monitor", "whatever").unsigned(),
        |i| {
            Build::access(i, i, SECRET)
                .user("monitor")
                .chap("whatever")
                .unsigned()
        },
    ];
    let exempt = "[policy]\nexempt_users = [\"monitor\"]\n";
    for (provider, client) in [("", ""), (TOTP, "directory = true")] {
        for request in requests {
            let mut world = World::new(config_with(&format!("{exempt}{provider}"), client));
            for i in 0..120 {
                world.now += 1_500;
                assert_eq!(world.answer(&request(i)).code, 2);
            }
        }
    }
    let limits = format!("{exempt}[policy.limits]\nrequests_per_client_per_second = 5\n");
    let mut world = World::new(config(&limits));
    let accepted = (0..40).filter(|i| world.answer(&pap(*i, "monitor", "x")).code == 2);
    assert_eq!(accepted.count(), 5, "the rate of its address holds");
}

#[test]
fn vendor_attributes_by_number_go_into_the_accept_and_to_the_upstream_server() {
    let client = "accept_attributes = [{ name = \"26.2636.1\", value = \"super-user\" }, \
                  { name = \"Attr-26.2636.5\", value = \"0x0a01\" }, { name = \"25\", value = \"mfa\" }]";
    let mut world = World::new(config_with("", client));
    let request = pap(1, "jane", "push");
    let ask = world.asked(&request);
    let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &request);
    assert_eq!(
        answer.all(26),
        [
            &b"\0\0\x0a\x4c\x01\x0csuper-user"[..],
            b"\0\0\x0a\x4c\x05\x04\x0a\x01"
        ]
    );
    assert_eq!(answer.all(25), [b"mfa"]);

    let forward = UPSTREAM.replacen(
        "[provider.radius]\n",
        "[provider.radius]\nforward_attributes = [\"26.2636.7\", \"Vendor-9-Attr-2\", \"31\"]\n",
        1,
    );
    let mut world = World::new(config_with(&forward, "user_address_attribute = \"26.2636.7\""));
    let juniper = [&[0, 0, 0x0a, 0x4c, 7, 11][..], b"192.0.2.9"].concat();
    let request = pap(1, "jane", "push")
        .with(26, &juniper)
        .with(26, b"\0\0\x0a\x4c\x08\x03x")
        .with(31, b"station");
    let ask = world.asked(&request);
    assert_eq!(ask.attributes, [(26, juniper), (31, b"station".to_vec())]);
    assert_eq!(ask.user_address, Some("192.0.2.9".parse().unwrap()));
}
