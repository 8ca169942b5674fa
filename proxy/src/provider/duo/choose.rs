//! Which factor and which device: from what was typed, what the user has, and what the administrator prefers.

use proxy_config::{DuoFactor, Secret};
use proxy_core::factor::{Credential, Factor, Keyword, KeywordFactor, RefusalReason, Verdict};
use serde::Deserialize;

use crate::provider::{no_passcode, no_push_now, refused};

/// A device of the user, as preauth lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Device {
    /// Its id.
    pub device: String,
    /// What it can do: `auto`, `push`, `phone`, `sms`, `mobile_otp`. A hardware token has none.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// What Duo is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Duo's own choice among what the device can do.
    Auto {
        /// The device's id, or `auto`.
        device: String,
    },
    /// A push.
    Push {
        /// The device's id.
        device: String,
    },
    /// A call.
    Phone {
        /// The device's id.
        device: String,
    },
    /// Codes by SMS.
    Sms {
        /// The device's id.
        device: String,
    },
    /// The passcode that was typed.
    Passcode(Secret),
}

impl Choice {
    /// The factor in records.
    #[must_use]
    pub(super) const fn factor(&self) -> Factor {
        match self {
            Self::Auto { .. } => Factor::Auto,
            Self::Push { .. } => Factor::Push,
            Self::Phone { .. } => Factor::Phone,
            Self::Sms { .. } => Factor::Sms,
            Self::Passcode(_) => Factor::Passcode,
        }
    }
}

/// Chooses. A typed keyword is honoured whatever the preference is: what a user may do is Duo's policy. The number of
/// `push2` counts the devices that can do it, in Duo's order.
///
/// # Errors
/// A refusal when no device can do it, when pushes are not allowed now, or when nothing was typed that could be used.
pub(super) fn choose(
    credential: &Credential,
    devices: &[Device],
    preference: &[DuoFactor],
    may_push: bool,
) -> Result<Choice, Verdict> {
    let choice = match credential {
        Credential::Passcode(code) => return Ok(Choice::Passcode(code.clone())),
        Credential::Keyword(keyword) => by_keyword(*keyword, devices, preference),
        Credential::Default => by_preference(devices, preference),
        Credential::Response(_) | Credential::Forward(_) | Credential::Follow(_) => {
            return Err(no_passcode("Duo"));
        }
    };
    let choice = choice.ok_or_else(|| unavailable(credential))?;
    if may_push {
        Ok(choice)
    } else {
        Err(no_push_now(choice.factor()))
    }
}

fn unavailable(credential: &Credential) -> Verdict {
    let (factor, message) = match credential {
        Credential::Keyword(keyword) => (
            Some(keyword.factor.into()),
            format!("None of your devices can do {keyword}. Type a passcode."),
        ),
        _ => (
            None,
            "None of your devices can be asked. Type a passcode.".to_owned(),
        ),
    };
    refused(factor, RefusalReason::FactorUnavailable, message)
}

fn by_keyword(keyword: Keyword, devices: &[Device], preference: &[DuoFactor]) -> Option<Choice> {
    let nth = keyword.device.map_or(0, |n| usize::from(n.saturating_sub(1)));
    match keyword.factor {
        KeywordFactor::Push => able(devices, "push", nth).map(|device| Choice::Push { device }),
        KeywordFactor::Phone => able(devices, "phone", nth).map(|device| Choice::Phone { device }),
        KeywordFactor::Sms => able(devices, "sms", nth).map(|device| Choice::Sms { device }),
        KeywordFactor::Auto if keyword.device.is_some() => {
            able(devices, "auto", nth).map(|device| Choice::Auto { device })
        }
        KeywordFactor::Auto => auto(devices).or_else(|| by_preference(devices, preference)),
    }
}

fn by_preference(devices: &[Device], preference: &[DuoFactor]) -> Option<Choice> {
    preference.iter().find_map(|factor| match factor {
        DuoFactor::Auto => auto(devices),
        DuoFactor::Push => able(devices, "push", 0).map(|device| Choice::Push { device }),
        DuoFactor::Phone => able(devices, "phone", 0).map(|device| Choice::Phone { device }),
        DuoFactor::Sms => able(devices, "sms", 0).map(|device| Choice::Sms { device }),
        // A passcode starts nothing by itself: it is used when one is typed.
        DuoFactor::Passcode => None,
    })
}

fn auto(devices: &[Device]) -> Option<Choice> {
    able(devices, "auto", 0).map(|_| Choice::Auto {
        device: "auto".to_owned(),
    })
}

fn able(devices: &[Device], capability: &str, nth: usize) -> Option<String> {
    devices
        .iter()
        .filter(|device| device.capabilities.iter().any(|c| c == capability))
        .nth(nth)
        .map(|device| device.device.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<Device> {
        [
            ("DTOKEN", ""),
            ("DPHONE", "auto,phone,sms"),
            ("DSMART", "auto,push,phone,sms,mobile_otp"),
            ("DTABLET", "auto,push"),
        ]
        .into_iter()
        .map(|(device, capabilities)| Device {
            device: device.to_owned(),
            capabilities: capabilities
                .split(',')
                .filter(|c| !c.is_empty())
                .map(str::to_owned)
                .collect(),
        })
        .collect()
    }

    fn keyword(factor: KeywordFactor, device: Option<u8>) -> Credential {
        Credential::Keyword(Keyword { factor, device })
    }

    fn push(device: &str) -> Option<Choice> {
        Some(Choice::Push {
            device: device.into(),
        })
    }

    #[test]
    fn what_was_typed_decides_and_counts_the_devices_that_can_do_it() {
        use KeywordFactor::{Auto, Phone, Push, Sms};
        let pick =
            |factor, device| choose(&keyword(factor, device), &devices(), &[DuoFactor::Auto], true).ok();
        assert_eq!(pick(Push, None), push("DSMART"));
        assert_eq!(pick(Push, Some(1)), push("DSMART"));
        assert_eq!(pick(Push, Some(2)), push("DTABLET"));
        assert_eq!(pick(Push, Some(3)), None);
        assert_eq!(
            pick(Phone, Some(2)),
            Some(Choice::Phone {
                device: "DSMART".into()
            })
        );
        assert_eq!(
            pick(Sms, None),
            Some(Choice::Sms {
                device: "DPHONE".into()
            })
        );
        assert_eq!(
            pick(Auto, None),
            Some(Choice::Auto {
                device: "auto".into()
            })
        );
    }

    #[test]
    fn the_first_preference_that_a_device_can_do_is_taken() {
        let pick = |factors: &[DuoFactor], devices: &[Device]| {
            choose(&Credential::Default, devices, factors, true).ok()
        };
        use DuoFactor::{Passcode, Phone, Push};
        assert_eq!(pick(&[Passcode, Push, Phone], &devices()), push("DSMART"));
        let old_phone = &devices()[..2];
        assert_eq!(
            pick(&[Push, Phone], old_phone),
            Some(Choice::Phone {
                device: "DPHONE".into()
            })
        );
        let token = &devices()[..1];
        assert_eq!(pick(&[DuoFactor::Auto, Push, Phone], token), None);
    }

    #[test]
    fn a_cool_down_stops_pushes_and_not_passcodes() {
        let code = Credential::Passcode(Secret::new(b"123456".to_vec()));
        assert!(choose(&code, &devices(), &[DuoFactor::Auto], false).is_ok());
        let Err(Verdict::Refused(refusal)) =
            choose(&Credential::Default, &devices(), &[DuoFactor::Auto], false)
        else {
            panic!("a push was chosen");
        };
        assert_eq!(refusal.reason, RefusalReason::Throttled);
    }
}
