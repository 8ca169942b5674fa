//! User names, normalised: `DOMAIN\u`, `u@domain` and `u` can be one user.

use proxy_config::UserNameRule;

use crate::factor::UserName;

impl UserName {
    /// Normalises a name by [`UserNameRule::normalise`].
    #[must_use]
    pub fn normalise(name: &str, rule: &UserNameRule) -> Option<Self> {
        rule.normalise(name).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proxy_config::CaseRule;

    use super::*;

    const RULE: UserNameRule = UserNameRule {
        strip_domain: true,
        case: CaseRule::Lower,
        max_bytes: 32,
    };

    fn normalised(name: &str, rule: UserNameRule) -> Option<String> {
        UserName::normalise(name, &rule).map(|name| name.0)
    }

    #[test]
    fn the_three_spellings_of_one_user_are_one() {
        for name in [
            "jane",
            "CORP\\Jane",
            "Jane@corp.example",
            " JANE ",
            "corp.example\\jane",
        ] {
            assert_eq!(normalised(name, RULE).as_deref(), Some("jane"), "{name}");
        }
        assert_eq!(normalised("a@b@corp.example", RULE).as_deref(), Some("a@b"));
        assert_eq!(normalised("CORP\\a@b", RULE).as_deref(), Some("a@b"));
    }

    #[test]
    fn a_name_can_be_kept_whole() {
        let keep = UserNameRule {
            strip_domain: false,
            case: CaseRule::Keep,
            ..RULE
        };
        for name in ["CORP\\Jane", "Jane@corp.example"] {
            assert_eq!(normalised(name, keep).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_leaves_no_name_or_is_too_long_is_none() {
        for name in ["", "  ", "CORP\\", "@corp.example", "CORP\\ "] {
            assert_eq!(normalised(name, RULE), None, "{name:?}");
        }
        assert_eq!(normalised(&"x".repeat(32), RULE), Some("x".repeat(32)));
        assert_eq!(normalised(&"x".repeat(33), RULE), None);
    }

    #[test]
    fn no_fuzz_makes_it_panic_and_what_is_normal_stays_so() {
        bolero::check!().with_type::<(String, bool, bool, u8)>().for_each(
            |(name, strip_domain, lower, max_bytes)| {
                let rule = UserNameRule {
                    strip_domain: *strip_domain,
                    case: if *lower { CaseRule::Lower } else { CaseRule::Keep },
                    max_bytes: usize::from(*max_bytes),
                };
                let Some(normal) = UserName::normalise(name, &rule) else {
                    return;
                };
                assert!(!normal.as_str().trim().is_empty());
                assert!(name.len() <= rule.max_bytes);
                // Lower case can be longer than upper case in bytes, and a name may have had two domains.
                let rule = UserNameRule {
                    strip_domain: false,
                    max_bytes: usize::MAX,
                    ..rule
                };
                assert_eq!(
                    UserName::normalise(normal.as_str(), &rule).as_ref(),
                    Some(&normal)
                );
            },
        );
    }
}
