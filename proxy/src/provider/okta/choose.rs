//! Which factor: from what was typed, what the user has, and what the administrator prefers.

use proxy_config::{OktaFactor, Secret};
use proxy_core::factor::{Credential, Factor, Keyword, KeywordFactor, RefusalReason, Verdict};
use serde::Deserialize;

use super::WRONG;
use crate::provider::{no_passcode, no_push_now, refused};

/// Factors that one passcode is tried on at most: each wrong try counts towards the user's lock-out at Okta.
const CODE_TRIES: usize = 3;
/// A YubiKey's one-time password.
const YUBIKEY_LENGTH: usize = 44;

/// A factor of the user, as Okta lists it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Enrolled {
    pub(super) id: String,
    #[serde(rename = "factorType")]
    pub(super) factor_type: String,
    #[serde(default)]
    pub(super) provider: String,
    #[serde(default)]
    pub(super) status: String,
}

/// What Okta is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A push, to the factor with this id.
    Push(String),
    /// A code by SMS.
    Sms(String),
    /// A code by telephone.
    Call(String),
    /// The passcode, at each of these factors until one takes it.
    Code(Secret, Vec<String>),
}

impl Choice {
    /// The factor in records.
    pub(super) const fn factor(&self) -> Factor {
        match self {
            Self::Push(_) => Factor::Push,
            Self::Sms(_) => Factor::Sms,
            Self::Call(_) => Factor::Phone,
            Self::Code(..) => Factor::Passcode,
        }
    }
}

impl Enrolled {
    /// `None` for what cannot be answered by typing or on a phone (WebAuthn, questions, e-mail links).
    fn kind(&self) -> Option<OktaFactor> {
        match self.factor_type.as_str() {
            "push" => Some(OktaFactor::Push),
            "token:software:totp" => Some(OktaFactor::Totp),
            "token" | "token:hardware" | "token:hotp" => Some(OktaFactor::Hardware),
            "sms" => Some(OktaFactor::Sms),
            "call" => Some(OktaFactor::Call),
            _ => None,
        }
    }

    fn is_yubikey(&self) -> bool {
        self.provider.eq_ignore_ascii_case("YUBICO")
    }
}

/// Chooses. A typed keyword is honoured whatever the preference is: what a user may do is Okta's policy. The number of
/// `push2` counts the user's pushes in Okta's order. `sent` is the factor that a code was sent for.
///
/// # Errors
/// A refusal when the user has no such factor, when pushes are not allowed now, or when nothing usable was typed.
pub(super) fn choose(
    credential: &Credential,
    enrolled: &[Enrolled],
    preference: &[OktaFactor],
    may_push: bool,
    sent: Option<&str>,
) -> Result<Choice, Verdict> {
    let active: Vec<&Enrolled> = enrolled
        .iter()
        .filter(|factor| factor.status == "ACTIVE")
        .collect();
    if active.is_empty() {
        return Err(refused(None, RefusalReason::NotEnrolled, WRONG));
    }
    let choice = match credential {
        Credential::Passcode(code) => return by_code(code, &active, preference, sent),
        Credential::Keyword(keyword) => by_keyword(*keyword, &active, preference),
        Credential::Default => by_preference(&active, preference),
        Credential::Response(_) | Credential::Forward(_) | Credential::Follow(_) => {
            return Err(no_passcode("Okta"));
        }
    };
    let choice = choice.ok_or_else(|| unavailable(credential))?;
    if may_push {
        Ok(choice)
    } else {
        Err(no_push_now(choice.factor()))
    }
}

fn by_code(
    code: &Secret,
    active: &[&Enrolled],
    preference: &[OktaFactor],
    sent: Option<&str>,
) -> Result<Choice, Verdict> {
    let from_yubikey = code.expose().len() == YUBIKEY_LENGTH;
    let rank = |factor: &Enrolled| -> Option<usize> {
        let was_sent = sent == Some(factor.id.as_str());
        let place = factor
            .kind()
            .map(|kind| preference.iter().position(|p| *p == kind));
        match factor.kind()? {
            _ if factor.is_yubikey() != from_yubikey => None,
            OktaFactor::Sms | OktaFactor::Call if was_sent => Some(0),
            // Nothing was sent by us; another proxy may have, if it is a factor that proxies use.
            OktaFactor::Sms | OktaFactor::Call => place.flatten().map(|place| 100 + place),
            OktaFactor::Totp | OktaFactor::Hardware => Some(1 + place.flatten().unwrap_or(50)),
            OktaFactor::Push => None,
        }
    };
    let mut ranked: Vec<(usize, &str)> = active
        .iter()
        .filter_map(|factor| Some((rank(factor)?, factor.id.as_str())))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    if ranked.is_empty() {
        return Err(refused(
            Some(Factor::Passcode),
            RefusalReason::FactorUnavailable,
            WRONG,
        ));
    }
    let ids = ranked.into_iter().take(CODE_TRIES).map(|(_, id)| id.to_owned());
    Ok(Choice::Code(code.clone(), ids.collect()))
}

fn by_keyword(keyword: Keyword, active: &[&Enrolled], preference: &[OktaFactor]) -> Option<Choice> {
    let nth = keyword.device.map_or(0, |n| usize::from(n.saturating_sub(1)));
    match keyword.factor {
        KeywordFactor::Push => start(active, OktaFactor::Push, nth),
        KeywordFactor::Phone => start(active, OktaFactor::Call, nth),
        KeywordFactor::Sms => start(active, OktaFactor::Sms, nth),
        KeywordFactor::Auto => by_preference(active, preference),
    }
}

fn by_preference(active: &[&Enrolled], preference: &[OktaFactor]) -> Option<Choice> {
    preference.iter().find_map(|kind| start(active, *kind, 0))
}

/// What can be begun without a typed code.
fn start(active: &[&Enrolled], kind: OktaFactor, nth: usize) -> Option<Choice> {
    let id = active
        .iter()
        .filter(|factor| factor.kind() == Some(kind))
        .nth(nth)?
        .id
        .clone();
    match kind {
        OktaFactor::Push => Some(Choice::Push(id)),
        OktaFactor::Sms => Some(Choice::Sms(id)),
        OktaFactor::Call => Some(Choice::Call(id)),
        OktaFactor::Totp | OktaFactor::Hardware => None,
    }
}

fn unavailable(credential: &Credential) -> Verdict {
    let (factor, message) = match credential {
        Credential::Keyword(keyword) => (
            Some(keyword.factor.into()),
            format!("None of your factors at Okta can do {keyword}. Type a passcode."),
        ),
        _ => (None, "Type the code of your app or token.".to_owned()),
    };
    refused(factor, RefusalReason::FactorUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OktaFactor::{Call, Hardware, Push, Sms, Totp};

    fn enrolled() -> Vec<Enrolled> {
        let factor = |id: &str, factor_type: &str, provider: &str, status: &str| Enrolled {
            id: id.into(),
            factor_type: factor_type.into(),
            provider: provider.into(),
            status: status.into(),
        };
        vec![
            factor("question", "question", "OKTA", "ACTIVE"),
            factor("old", "push", "OKTA", "PENDING_ACTIVATION"),
            factor("push1", "push", "OKTA", "ACTIVE"),
            factor("push2", "push", "OKTA", "ACTIVE"),
            factor("sms", "sms", "OKTA", "ACTIVE"),
            factor("call", "call", "OKTA", "ACTIVE"),
            factor("yubi", "token:hardware", "YUBICO", "ACTIVE"),
            factor("rsa", "token", "RSA", "ACTIVE"),
            factor("verify", "token:software:totp", "OKTA", "ACTIVE"),
            factor("google", "token:software:totp", "GOOGLE", "ACTIVE"),
        ]
    }

    fn code(text: &str) -> Credential {
        Credential::Passcode(Secret::new(text.as_bytes().to_vec()))
    }

    fn keyword(factor: KeywordFactor, device: Option<u8>) -> Credential {
        Credential::Keyword(Keyword { factor, device })
    }

    fn pick(credential: &Credential, preference: &[OktaFactor]) -> Option<Choice> {
        choose(credential, &enrolled(), preference, true, None).ok()
    }

    fn tried(text: &str, preference: &[OktaFactor], sent: Option<&str>) -> Vec<String> {
        match choose(&code(text), &enrolled(), preference, true, sent) {
            Ok(Choice::Code(_, ids)) => ids,
            _ => panic!("no code"),
        }
    }

    fn reason(result: Result<Choice, Verdict>) -> RefusalReason {
        match result {
            Err(Verdict::Refused(refusal)) => refusal.reason,
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn the_first_preferred_factor_that_can_be_begun_is_the_default() {
        assert_eq!(
            pick(&Credential::Default, &[Push, Totp]),
            Some(Choice::Push("push1".into()))
        );
        assert_eq!(
            pick(&Credential::Default, &[Totp, Call, Push]),
            Some(Choice::Call("call".into()))
        );
        assert_eq!(pick(&Credential::Default, &[Totp, Hardware]), None);
    }

    #[test]
    fn a_keyword_is_honoured_whatever_is_preferred() {
        let sms = keyword(KeywordFactor::Sms, None);
        assert_eq!(pick(&sms, &[Push]), Some(Choice::Sms("sms".into())));
        let second = keyword(KeywordFactor::Push, Some(2));
        assert_eq!(pick(&second, &[Totp]), Some(Choice::Push("push2".into())));
        let third = keyword(KeywordFactor::Push, Some(3));
        assert_eq!(pick(&third, &[Push]), None);
        assert_eq!(
            pick(&keyword(KeywordFactor::Auto, None), &[Sms]),
            Some(Choice::Sms("sms".into()))
        );
    }

    #[test]
    fn a_code_goes_to_the_factors_of_its_shape_in_order_and_to_few_of_them() {
        assert_eq!(tried("123456", &[Push, Totp], None), ["verify", "google", "rsa"]);
        assert_eq!(
            tried("123456", &[Hardware, Totp], None),
            ["rsa", "verify", "google"]
        );
        assert_eq!(
            tried("123456", &[Sms, Push], Some("sms")),
            ["sms", "rsa", "verify"]
        );
        assert_eq!(
            tried("cccccccbchvthlivuitriujjifivbvtrjkjfirllluur", &[Push], None),
            ["yubi"]
        );
    }

    #[test]
    fn an_sms_code_that_nobody_here_sent_is_tried_only_where_sms_is_used() {
        let only_sms = &enrolled()[4..5];
        let factors = |preference: &[OktaFactor]| choose(&code("123456"), only_sms, preference, true, None);
        assert!(matches!(factors(&[Sms]), Ok(Choice::Code(_, ids)) if ids == ["sms"]));
        assert_eq!(reason(factors(&[Push])), RefusalReason::FactorUnavailable);
    }

    #[test]
    fn a_cool_down_stops_what_rings_and_no_code() {
        let stopped = choose(&Credential::Default, &enrolled(), &[Push], false, None);
        assert_eq!(reason(stopped), RefusalReason::Throttled);
        assert!(choose(&code("123456"), &enrolled(), &[Push], false, None).is_ok());
    }

    #[test]
    fn who_has_no_active_factor_is_not_enrolled() {
        let result = choose(&Credential::Default, &enrolled()[1..2], &[Push], true, None);
        assert_eq!(reason(result), RefusalReason::NotEnrolled);
    }
}
