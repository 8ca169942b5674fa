use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proxy_config::{CaseRule, SeedFile};
use proxy_core::factor::{Continues, Keyword, KeywordFactor, LoginId, Refusal, UserName};

use super::*;
use crate::metrics::ProviderMetrics;

const RULE: UserNameRule = UserNameRule {
    strip_domain: true,
    case: CaseRule::Lower,
    max_bytes: 64,
};
/// 12345678901234567890 in base32, the seed of RFC 6238's vectors.
const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const NOW: u64 = 1_111_111_109;
const IN_MEMORY: proxy_config::UsedCodes = proxy_config::UsedCodes {
    store: proxy_config::CodeStore::Memory,
    when_unavailable: StoreOutage::AcceptOncePerPod,
};

fn totp(lines: &str) -> Totp {
    let config = proxy_config::Totp {
        seeds: vec![SeedFile {
            path: "seeds/users".to_owned(),
            text: Secret::new(lines.as_bytes().to_vec()),
        }],
        skew_steps: 1,
        used_codes: IN_MEMORY,
    };
    Totp::new(&config, RULE, None, &Shared::new(ProviderMetrics::default()))
}

fn request(user: &str, credential: Credential) -> FactorRequest {
    FactorRequest {
        login: LoginId(1),
        user: UserName::normalise(user, &RULE).unwrap(),
        user_as_sent: user.to_owned(),
        credential,
        client: crate::testing::client_name(),
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_address: None,
        answer_within: Duration::from_secs(20),
        of_use: Duration::from_secs(20),
        proved: true,
        continues: Continues::Untold,
        may_push: true,
        attributes: Vec::new(),
    }
}

fn typed(text: &[u8]) -> Credential {
    Credential::Passcode(Secret::new(text.to_vec()))
}

fn code_at(time: u64) -> Vec<u8> {
    Code::at(Algorithm::Sha1, b"12345678901234567890", time / 30, Digits::SIX)
        .as_bytes()
        .to_vec()
}

impl Totp {
    /// The verdict without a shared store.
    fn verdict(&self, request: &FactorRequest, now: u64) -> Verdict {
        match self.decide(request, now) {
            Looked::Decided(verdict) => verdict,
            Looked::Right(right) => approve(right.text, right.basis),
        }
    }
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Approved(_) => panic!("approved"),
    }
}

#[test]
fn a_code_of_the_window_is_accepted_once() {
    for away in [-30_i64, 0, 30] {
        let totp = totp(&format!("otpauth://totp/CORP:jane?secret={SEED}"));
        let code = code_at(NOW.saturating_add_signed(away));
        let login = request("CORP\\Jane", typed(&code));
        assert!(
            matches!(totp.verdict(&login, NOW), Verdict::Approved(_)),
            "{away}"
        );
        assert_eq!(
            refusal(totp.verdict(&login, NOW)).reason,
            RefusalReason::PasscodeReplayed
        );
    }
}

#[test]
fn a_code_outside_the_window_is_wrong() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    for away in [-61_i64, 61] {
        let login = request("jane", typed(&code_at(NOW.saturating_add_signed(away))));
        assert_eq!(
            refusal(totp.verdict(&login, NOW)).reason,
            RefusalReason::WrongPasscode
        );
    }
}

#[test]
fn a_clock_that_drifts_is_followed() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    // The user's clock runs ahead by one more step every day.
    for day in 0..5_u64 {
        let now = NOW + day * 86_400;
        let login = request("jane", typed(&code_at(now + day * 30)));
        assert!(
            matches!(totp.verdict(&login, now), Verdict::Approved(_)),
            "day {day}"
        );
    }
}

/// A phone that runs fast is followed for four days, then its clock is put right.
#[test]
fn a_clock_that_is_put_right_is_right() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    let accepted = |time: u64, now: u64| {
        let login = request("jane", typed(&code_at(time)));
        matches!(totp.verdict(&login, now), Verdict::Approved(_))
    };
    for day in 1..=4_u64 {
        let now = NOW + day * 86_400;
        assert!(accepted(now + day * 30, now), "day {day}");
    }
    let now = NOW + 5 * 86_400;
    assert!(accepted(now + 120, now), "still fast");
    let now = NOW + 6 * 86_400;
    assert!(accepted(now, now), "put right");
    let now = NOW + 7 * 86_400;
    assert!(!accepted(now + 120, now), "the drift is unlearned");
}

/// Why the code of a step is refused at another, both counted from [`NOW`].
fn reason(totp: &Totp, step: u64, now: u64) -> Option<RefusalReason> {
    let login = request("jane", typed(&code_at(NOW + step * 30)));
    match totp.verdict(&login, NOW + now * 30) {
        Verdict::Approved(_) => None,
        Verdict::Refused(refusal) => Some(refusal.reason),
    }
}

#[test]
fn a_clock_that_is_put_right_at_once_is_right_and_each_code_works_once() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    let at = |step: u64, now: u64| reason(&totp, step, now);
    for step in 1..=4 {
        assert_eq!(at(step, 0), None, "{step} steps ahead");
    }
    let replayed = Some(RefusalReason::PasscodeReplayed);
    assert_eq!(at(0, 0), None, "put right, and older than what was used");
    for step in 0..=4 {
        assert!(at(step, 0).is_some(), "step {step} again");
        assert_eq!(at(step, step), replayed, "step {step} when its time has come");
    }
    assert_eq!([at(5, 5), at(6, 6)], [None; 2]);
}

#[test]
fn what_a_fast_clock_used_bars_no_other_code_of_the_right_clock() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    let at = |step: u64, now: u64| reason(&totp, step, now);
    let replayed = Some(RefusalReason::PasscodeReplayed);
    assert_eq!([at(1, 0), at(3, 1), at(6, 3), at(9, 5)], [None; 4]);
    assert_eq!([at(5, 5), at(8, 8)], [None; 2], "put right");
    assert_eq!([at(9, 8), at(7, 8), at(9, 9)], [replayed; 3]);
    assert_eq!(at(10, 9), None);
}

#[test]
fn a_challenge_response_is_tried_with_the_valid_codes() {
    struct Typed(Vec<u8>);
    impl ResponseCheck for Typed {
        fn matches(&self, guess: &[u8]) -> bool {
            guess == self.0
        }
    }
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    let response = |text: &[u8]| Credential::Response(Arc::new(Typed(text.to_vec())));
    let code = code_at(NOW);
    match totp.verdict(&request("jane", response(&code)), NOW) {
        Verdict::Approved(approval) => assert_eq!(approval.found_text.unwrap().expose(), code),
        Verdict::Refused(_) => panic!("refused"),
    }
    let other = request("jane", response(b"hunter2"));
    assert_eq!(
        refusal(totp.verdict(&other, NOW)).reason,
        RefusalReason::NothingMatched
    );
}

#[test]
fn who_has_no_seed_or_two_is_refused_by_name() {
    let totp = totp(&format!(
        "otpauth://totp/jane?secret={SEED}\notpauth://totp/jane?secret=KRSXG5CTMVRXEZLU"
    ));
    let code = code_at(NOW);
    let refused = |user: &str| refusal(totp.verdict(&request(user, typed(&code)), NOW));
    assert_eq!(refused("joe").reason, RefusalReason::UnknownUser);
    assert_eq!(refused("jane").reason, RefusalReason::NotEnrolled);
}

#[test]
fn what_the_user_is_told_does_not_say_who_has_a_seed() {
    let totp = totp(&format!(
        "otpauth://totp/jane?secret={SEED}\notpauth://totp/jane?secret=KRSXG5CTMVRXEZLU\notpauth://totp/ann?secret={SEED}"
    ));
    let told = |user: &str| refusal(totp.verdict(&request(user, typed(b"000000")), NOW)).message;
    // Ten tries are more than are free: whoever is slowed down is told the same as well.
    for _ in 0..10 {
        assert_eq!(told("joe"), told("ann"));
        assert_eq!(told("jane"), told("ann"));
    }
    let slowed = refusal(totp.verdict(&request("ann", typed(b"000000")), NOW));
    assert_eq!(slowed.reason, RefusalReason::Throttled);
}

#[test]
fn wrong_codes_slow_the_user_down_and_a_reload_does_not_help() {
    let lines = format!("otpauth://totp/jane?secret={SEED}");
    let first = totp(&lines);
    for _ in 0..6 {
        let reason = refusal(first.verdict(&request("jane", typed(b"000000")), NOW)).reason;
        assert_eq!(reason, RefusalReason::WrongPasscode);
    }
    let shared = Shared {
        failures: Arc::clone(&first.failures),
        used_codes: Arc::clone(&first.used),
        ..Shared::new(ProviderMetrics::default())
    };
    let config = proxy_config::Totp {
        seeds: vec![SeedFile {
            path: "seeds/users".to_owned(),
            text: Secret::new(lines.into_bytes()),
        }],
        skew_steps: 1,
        used_codes: IN_MEMORY,
    };
    let second = Totp::new(&config, RULE, None, &shared);
    let login = request("jane", typed(&code_at(NOW)));
    assert_eq!(
        refusal(second.verdict(&login, NOW)).reason,
        RefusalReason::Throttled
    );
    let later = NOW + 1;
    assert!(matches!(
        second.verdict(&request("jane", typed(&code_at(later))), later),
        Verdict::Approved(_)
    ));
}

#[test]
fn a_code_that_is_right_ends_no_wait_before_the_store_has_taken_it() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    for _ in 0..7 {
        totp.failures.wrong("jane", true, NOW - 2);
    }
    let code = request("jane", typed(&code_at(NOW)));
    assert!(matches!(totp.decide(&code, NOW), Looked::Right(_)));
    assert!(
        totp.failures.wait("jane", true, NOW - 2) > 0,
        "nobody has taken it yet"
    );
}

#[test]
fn a_keyword_is_told_what_to_type_instead() {
    let totp = totp(&format!("otpauth://totp/jane?secret={SEED}"));
    let keyword = Keyword {
        factor: KeywordFactor::Push,
        device: None,
    };
    let told = refusal(totp.verdict(&request("jane", Credential::Keyword(keyword)), NOW));
    assert_eq!(told.reason, RefusalReason::FactorUnavailable);
    assert!(told.message.unwrap().contains("authenticator app"));
    let nothing = refusal(totp.verdict(&request("jane", Credential::Default), NOW));
    assert_eq!(nothing.reason, RefusalReason::NothingMatched);
}
