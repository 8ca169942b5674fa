//! The directory's probe: known names are answered at once, and nothing else is done about them.

use super::world::{HERE, World, pap};
use crate::counters::{DropReason, Event};
use crate::factor::{Basis, Factor, RefusalReason, Verdict};
use crate::record::LoginResult;
use crate::testing::client::Build;
use crate::testing::{self, OLD_SECRET, SECRET, TOTP, UPSTREAM, approval, config, config_with, refusal};

const DIRECTORY: &str = "directory = true";
const NAMES: [&str; 4] = [
    "fakeusername",
    "FakeUserName",
    "CORP\\fakeusername",
    "fakeusername@corp.example",
];

/// One probe in each method.
fn probes(identifier: u8, name: &str) -> Vec<Build> {
    let access = |more: u8| Build::access(identifier + more, identifier + more, SECRET).user(name);
    let bare = name.rsplit('\\').next().unwrap();
    vec![
        access(0).pap("fakepassword"),
        access(1).pap(""),
        access(2).pap("push"),
        access(3).pap("123456"),
        access(4).chap("push"),
        access(5).mschapv1("push"),
        access(6).mschapv2(bare, "push"),
        access(7).chap("fakepassword"),
        access(8).mschapv1("fakepassword"),
        access(9).mschapv2(bare, "fakepassword"),
    ]
}

#[test]
fn a_probe_is_rejected_at_once_in_every_method_signed_or_not_by_every_provider() {
    for provider in ["", TOTP, UPSTREAM] {
        for name in NAMES {
            for signed in [true, false] {
                let mut world = World::new(config_with(provider, DIRECTORY));
                for probe in probes(1, name) {
                    let probe = if signed { probe } else { probe.unsigned() };
                    let answer = world.answer(&probe);
                    assert_eq!(
                        (answer.code, world.reason()),
                        (3, "probe"),
                        "{provider} {name} {signed}"
                    );
                    assert_eq!(answer.message(), "", "nothing to show to anybody");
                    assert_eq!(world.record().result, LoginResult::Reject);
                    assert!(world.out.asks.is_empty());
                }
                assert_eq!((world.count(Event::Probe), world.count(Event::Rejected)), (10, 0));
            }
        }
    }
}

#[test]
fn a_probe_in_ms_chap_has_the_methods_error() {
    let mut world = World::new(config_with("", DIRECTORY));
    for probe in &probes(1, "fakeusername")[8..] {
        assert!(world.answer(probe).microsoft(2).unwrap().1.starts_with("E=691"));
    }
}

#[test]
fn a_probe_is_answered_while_the_proxy_drains_and_while_others_wait() {
    let mut world = World::new(config_with("[policy.limits]\npending = 1\n", DIRECTORY));
    world.asked(&pap(1, "jane", "push"));
    world.drain();
    for probe in probes(10, "fakeusername") {
        assert_eq!(world.answer(&probe).code, 3);
    }
    // On the identifier and port of a login that waits.
    assert_eq!(
        world
            .answer(&Build::access(1, 99, SECRET).user("fakeusername").pap("x"))
            .code,
        3
    );
}

#[test]
fn probes_use_up_no_limit_of_a_user_and_repeat_the_same_bytes() {
    let limits = "[policy.limits]\nlogins_per_user_per_minute = 1\n";
    let mut world = World::new(config_with(limits, DIRECTORY));
    for identifier in 0..100 {
        let probe = pap(identifier, "fakeusername", "x");
        assert_eq!(world.answer(&probe).code, 3);
        assert_eq!(world.reason(), "probe");
    }
    let again = pap(99, "fakeusername", "x");
    assert_eq!(world.receive(HERE, &again.bytes()).len(), 1);
    assert!(world.out.records.is_empty());
    assert_eq!(
        (world.count(Event::Resent), world.count(Event::ThrottledUser)),
        (1, 0)
    );
}

#[test]
fn beyond_the_rate_of_its_address_a_probe_still_has_its_answer() {
    let limits = "[policy.limits]\nrequests_per_client_per_second = 1\n";
    let mut world = World::new(config_with(limits, DIRECTORY));
    for identifier in 0..5 {
        assert_eq!(world.answer(&pap(identifier, "fakeusername", "x")).code, 3);
        assert_eq!(
            world
                .answer(&pap(100 + identifier, "fakeusername", "x").unsigned())
                .code,
            3
        );
    }
    assert_eq!(world.count(Event::Rejected), 0);
}

#[test]
fn names_are_those_of_the_policy_and_of_a_directory_only() {
    let policy = "[policy]\nprobe_users = [\"Health.Check\"]\n";
    let mut world = World::new(config_with(policy, DIRECTORY));
    assert_eq!(world.answer(&pap(1, "health.check", "x")).code, 3);
    assert_eq!(world.reason(), "probe");
    world.asked(&pap(2, "fakeusername", "push"));
    let mut other = World::new(config(""));
    other.asked(&pap(1, "fakeusername", "push"));
}

#[test]
fn a_probe_under_a_wrong_secret_is_dropped_and_one_under_the_previous_secret_answered() {
    let mut world = World::new(config_with("", DIRECTORY));
    let wrong = Build::access(1, 1, "another secret")
        .user("fakeusername")
        .pap("x");
    assert_eq!(world.dropped(&wrong), DropReason::BadMessageAuthenticator);
    assert_eq!(world.dropped(&wrong.unsigned()), DropReason::BadSecret);
    let old = Build::access(2, 2, OLD_SECRET).user("fakeusername").pap("x");
    let bytes = old.bytes();
    let sent = world.receive(HERE, &bytes);
    assert_eq!(
        testing::client::Answer::read(&sent[0], &bytes, OLD_SECRET).code,
        3
    );
}

#[test]
fn a_directory_that_signs_its_probes_only_is_not_made_to_sign_its_logins() {
    for reason in [
        RefusalReason::UnknownUser,
        RefusalReason::NotEnrolled,
        RefusalReason::NothingMatched,
        RefusalReason::Denied,
        RefusalReason::TimedOut,
    ] {
        for name in ["fakeusername", "probe-of-another-name"] {
            let mut world = World::new(config_with(TOTP, DIRECTORY));
            let probe = pap(1, name, "x");
            world.receive(HERE, &probe.bytes());
            if let Some(ask) = world.out.asks.pop() {
                world.verdict(ask.login, Verdict::Refused(refusal(reason)), &probe);
            }
            world.asked(&pap(2, "jane", "123456").unsigned());
        }
    }
}

#[test]
fn an_approval_without_a_factor_does_not_make_a_directory_sign_its_logins() {
    for basis in [Basis::FailOpen, Basis::ProviderBypass] {
        let mut world = World::new(config_with("", DIRECTORY));
        let probe = pap(1, "probe-of-another-name", "x");
        let ask = world.asked(&probe);
        let mut approval = approval(Factor::None);
        approval.basis = basis;
        assert_eq!(
            world.verdict(ask.login, Verdict::Approved(approval), &probe).code,
            2
        );
        world.asked(&pap(2, "jane", "x").unsigned());
    }
}

#[test]
fn a_directory_that_signs_the_login_of_a_known_user_must_sign_from_then_on() {
    for verdict in [
        || Verdict::Approved(approval(Factor::Passcode)),
        || Verdict::Refused(refusal(RefusalReason::WrongPasscode)),
    ] {
        let mut world = World::new(config_with(TOTP, DIRECTORY));
        let login = pap(1, "jane", "123456");
        let ask = world.asked(&login);
        world.asked(&pap(2, "joe", "123456").unsigned());
        world.verdict(ask.login, verdict(), &login);
        assert_eq!(
            world.dropped(&pap(3, "jane", "123456").unsigned()),
            DropReason::NoMessageAuthenticator
        );
    }
}
