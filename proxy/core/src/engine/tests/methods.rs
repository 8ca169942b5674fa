//! PAP, CHAP, MS-CHAPv1 and MS-CHAPv2, and what the answers carry.

use super::world::{World, pap, word};
use crate::factor::{Credential, Factor, FactorRequest, Forwarded, RefusalReason, Verdict};
use crate::testing;
use crate::testing::client::Build;
use crate::testing::{SECRET, TOTP, approval, config, config_with, refusal};

type Method = fn(Build, &str) -> Build;

const UNREADABLE: [Method; 3] = [
    |build, text| build.chap(text),
    |build, text| build.mschapv1(text),
    |build, text| build.mschapv2("jane", text),
];

fn access(identifier: u8) -> Build {
    Build::access(identifier, identifier, SECRET).user("jane")
}

fn matches(ask: &FactorRequest, guess: &str) -> bool {
    match &ask.credential {
        Credential::Response(check) => check.matches(guess.as_bytes()),
        _ => false,
    }
}

#[test]
fn keywords_and_the_empty_text_are_found_in_every_method() {
    for method in UNREADABLE {
        for (text, meaning) in [
            ("", "default"),
            ("push", "push"),
            ("PUSH2", "push2"),
            ("Phone", "phone"),
            ("sms3", "sms3"),
            ("auto", "auto"),
            ("Winter2026!", "response"),
            ("123456", "response"),
        ] {
            let mut world = World::new(config(TOTP));
            let ask = world.asked(&method(access(1), text));
            assert_eq!(word(&ask.credential), meaning, "{text:?}");
        }
    }
}

#[test]
fn a_code_is_found_by_the_provider_and_mschapv2_is_answered_with_its_success() {
    for method in UNREADABLE {
        let mut world = World::new(config(TOTP));
        let request = method(access(1), "287082");
        let ask = world.asked(&request);
        assert!(matches(&ask, "287082") && !matches(&ask, "287083"));
        let mut found = approval(Factor::Passcode);
        found.found_text = Some(proxy_config::Secret::new(b"287082".to_vec()));
        let answer = world.verdict(ask.login, Verdict::Approved(found), &request);
        assert_eq!(answer.code, 2);
        let v2 = world.record().method == crate::record::Method::MsChapV2;
        let success = answer.microsoft(26);
        assert_eq!(success.is_some(), v2);
        if let Some((identifier, text)) = success {
            assert_eq!(identifier, 5);
            assert!(text.starts_with("S=") && text.len() == 42, "{text}");
        }
    }
}

#[test]
fn mschapv2_without_the_text_cannot_be_accepted() {
    let mut world = World::new(config(""));
    let request = access(1).mschapv2("jane", "Winter2026!");
    let ask = world.asked(&request);
    let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &request);
    assert_eq!(answer.code, 3);
    assert_eq!(world.reason(), "nothing_matched");
    let (identifier, error) = answer.microsoft(2).unwrap();
    assert_eq!(identifier, 5);
    let challenge = error
        .strip_prefix("E=691 R=0 C=")
        .and_then(|rest| rest.strip_suffix(" V=3"))
        .unwrap();
    assert_eq!(challenge.len(), 32);
}

#[test]
fn mschapv2_with_a_keyword_is_accepted_by_a_push() {
    let mut world = World::new(config(""));
    for (i, user) in [(1, "CORP\\jane"), (2, "joe@corp.example")] {
        let bare = user.rsplit('\\').next().unwrap();
        let request = Build::access(i, i, SECRET).user(user).mschapv2(bare, "push");
        let ask = world.asked(&request);
        let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &request);
        assert_eq!(answer.code, 2);
        assert!(answer.microsoft(26).unwrap().1.starts_with("S="));
    }
}

#[test]
fn a_success_that_is_for_another_response_accepts_nothing() {
    let mut world = World::new(config(testing::UPSTREAM));
    let request = access(1).mschapv2("jane", "pw");
    let ask = world.asked(&request);
    let mut approved = approval(Factor::Upstream);
    approved.attributes = vec![(26, b"\0\0\x01\x37\x1a\x05\x06S=".to_vec())];
    let answer = world.verdict(ask.login, Verdict::Approved(approved), &request);
    assert_eq!((answer.code, world.reason()), (3, "nothing_matched"));
}

#[test]
fn refusals_before_the_policy_have_the_methods_error_too() {
    let limits = "[policy.limits]\nrequests_per_client_per_second = 1\n";
    let mut world = World::new(config(&format!("{limits}{TOTP}")));
    let bad_name = Build::access(1, 1, SECRET).mschapv2("", "123456");
    let answer = world.answer(&bad_name);
    assert_eq!((answer.code, world.reason()), (3, "bad_user_name"));
    assert!(answer.microsoft(2).unwrap().1.starts_with("E=691"));
    let beyond = access(2).mschapv2("jane", "123456");
    let answer = world.answer(&beyond);
    assert_eq!((answer.code, world.reason()), (3, "throttled"));
    assert!(answer.microsoft(2).unwrap().1.starts_with("E=691"));
}

#[test]
fn mschapv1_is_refused_with_its_error() {
    let mut world = World::new(config(TOTP));
    let request = access(1).mschapv1("123456");
    let ask = world.asked(&request);
    let refused = Verdict::Refused(refusal(RefusalReason::WrongPasscode));
    let answer = world.verdict(ask.login, refused, &request);
    let (identifier, error) = answer.microsoft(2).unwrap();
    assert_eq!(identifier, 4);
    assert!(
        error.starts_with("E=691 R=0 C=") && error.ends_with(" V=2"),
        "{error}"
    );
}

#[test]
fn an_accept_carries_message_attributes_and_proxy_state_in_order() {
    let attributes = "accept_attributes = [{ name = \"Class\", value = \"staff\" }, { name = \"Filter-Id\", value = \"vpn\" }]";
    let mut world = World::new(config_with("", attributes));
    let request = pap(1, "jane", "push").with(33, b"first").with(33, b"second");
    let ask = world.asked(&request);
    let mut approved = approval(Factor::Push);
    approved.message = Some(format!("hello\n\u{202e}{}", "ä".repeat(200)));
    approved.attributes = vec![
        (25, b"upstream".to_vec()),
        (33, b"no".to_vec()),
        (80, vec![0; 16]),
    ];
    let answer = world.verdict(ask.login, Verdict::Approved(approved), &request);
    assert_eq!(answer.all(25), [&b"staff"[..], b"upstream"]);
    assert_eq!(answer.all(11), [b"vpn"]);
    assert_eq!(answer.all(33), [&b"first"[..], b"second"]);
    assert_eq!(answer.all(18).len(), 2);
    assert_eq!(answer.message(), format!("hello \\u{{202e}}{}", "ä".repeat(200)));
    assert_eq!(answer.attributes.last().unwrap().0, 33);
}

#[test]
fn proxy_state_always_comes_back_even_from_the_largest_request() {
    let mut world = World::new(config(""));
    let mut request = pap(1, "jane", "push");
    // 20 + 18 + 6 + 18 bytes are used; fifteen of 255 and one of 209 fill 4096.
    for i in 0..15 {
        request = request.with(33, &[i; 253]);
    }
    request = request.with(33, &[99; 207]);
    assert_eq!(request.bytes().len(), 4096);
    let ask = world.asked(&request);
    let mut approved = approval(Factor::Push);
    approved.message = Some("x".repeat(1000));
    let answer = world.verdict(ask.login, Verdict::Approved(approved), &request);
    let states = answer.all(33);
    assert_eq!(states.len(), 16);
    assert!(states.iter().zip(0..15).all(|(state, i)| **state == [i; 253]));
    assert!(answer.all(18).is_empty(), "the message makes room");
}

#[test]
fn an_upstream_server_gets_the_password_as_it_came_and_the_attributes_that_are_named() {
    let forward = "[provider.radius]\nforward_attributes = [\"NAS-Identifier\", \"Cisco-AVPair\"]";
    let mut world = World::new(config(&testing::UPSTREAM.replace("[provider.radius]", forward)));
    let avpair = b"\0\0\0\x09\x01\x05abc";
    let request = pap(1, "jane", "Winter2026!")
        .with(32, b"nas")
        .with(4, &[1; 4])
        .with(26, avpair);
    let ask = world.asked(&request);
    match &ask.credential {
        Credential::Forward(Forwarded::Pap(text)) => assert_eq!(text.expose(), b"Winter2026!"),
        other => panic!("{}", word(other)),
    }
    assert_eq!(ask.attributes, [(32, b"nas".to_vec()), (26, avpair.to_vec())]);
    let chap = world.asked(&Build::access(2, 2, SECRET).user("joe").chap("push"));
    assert!(matches!(
        chap.credential,
        Credential::Forward(Forwarded::Chap { .. })
    ));
    let v2 = Build::access(3, 3, SECRET).user("ann").mschapv2("ann", "push");
    let ask = world.asked(&v2);
    match &ask.credential {
        Credential::Forward(Forwarded::MsChap(parts)) => {
            assert_eq!(parts.iter().map(|(typ, _)| *typ).collect::<Vec<_>>(), [11, 25]);
        }
        other => panic!("{}", word(other)),
    }
    let mut approved = approval(Factor::Upstream);
    approved.attributes = vec![(26, b"\0\0\x01\x37\x1a\x05\x05S=".to_vec())];
    let answer = world.verdict(ask.login, Verdict::Approved(approved), &v2);
    assert_eq!(
        (answer.code, answer.microsoft(26)),
        (2, Some((5, "S=".to_owned())))
    );
}

#[test]
fn chap_without_a_signature_starts_no_push_unless_a_setting_says_so() {
    for method in UNREADABLE {
        let request = method(access(1), "push").unsigned();
        let mut world = World::new(config(""));
        assert_eq!(world.answer(&request).code, 3);
        assert_eq!(world.reason(), "unproven");
        let mut allowed = World::new(config_with("", "unauthenticated_push = true"));
        assert!(allowed.asked(&request).may_push);
        let mut upstream = World::new(config(testing::UPSTREAM));
        assert_eq!(upstream.answer(&request).code, 3);
        assert_eq!(upstream.reason(), "unproven");
        let mut totp = World::new(config(TOTP));
        assert!(!totp.asked(&method(access(2), "123456").unsigned()).may_push);
    }
}

#[test]
fn the_setting_for_unauthenticated_pushes_holds_for_a_directory_and_for_every_provider() {
    let methods: [Method; 4] = [
        |build, text| build.pap(text),
        |build, text| build.chap(text),
        |build, text| build.mschapv1(text),
        |build, text| build.mschapv2("jane", text),
    ];
    let directory = "directory = true\nunauthenticated_push = true";
    for method in methods {
        for text in ["push", "Winter2026!"] {
            let request = method(access(1), text).unsigned();
            for provider in ["", testing::UPSTREAM, TOTP] {
                let ask = World::new(config_with(provider, directory)).asked(&request);
                assert!(ask.may_push, "{provider} {text}");
                let is_forwarded = matches!(ask.credential, Credential::Forward(_));
                assert_eq!(is_forwarded, provider == testing::UPSTREAM);
            }
        }
    }
}

#[test]
fn line_breaks_of_a_message_are_spaces_on_the_users_screen() {
    let request = access(1).pap("pw");
    for (message, shown) in [
        ("Wrong code.\r\nTry again.", "Wrong code. Try again."),
        ("one\ntwo\rthree", "one two three"),
        ("\r\n\r\nend\r\n", "end"),
        (
            "tab\there\u{2028}line\u{85}next\u{b}v\u{c}f",
            "tab here line next v f",
        ),
        ("bell\u{7}", "bell\\u{7}"),
        ("\n", ""),
    ] {
        let mut world = World::new(config(testing::UPSTREAM));
        let ask = world.asked(&request);
        let mut refused = refusal(RefusalReason::Denied);
        refused.message = Some(message.to_owned());
        let answer = world.verdict(ask.login, Verdict::Refused(refused), &request);
        assert_eq!(answer.message(), shown, "{message:?}");
    }
}
