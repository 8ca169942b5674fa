//! What a typed text means. It may be somebody's directory password: what is neither a factor keyword nor of the shape
//! of a passcode goes no further than this file.

use proxy_config::{Secret, TypedText};

use crate::factor::{Keyword, KeywordFactor};

/// A typed text, classified.
#[derive(Clone)]
pub(crate) enum Typed {
    Keyword(Keyword),
    Passcode(Secret),
    /// Empty, or anything else.
    Other,
}

/// Shortest and longest passcode of digits: TOTP and HOTP have 6 to 8, Duo's bypass codes 9 or what the administrator
/// sets.
const DIGITS: std::ops::RangeInclusive<usize> = 6..=10;
/// A YubiKey's one-time password: 44 characters of "modhex", chosen by Yubico to be typed alike on every keyboard.
const YUBIKEY_LENGTH: usize = 44;
const MODHEX: &[u8] = b"cbdefghijklnrtuv";

/// Classifies `text`.
pub(crate) fn classify(text: &[u8], rules: &TypedText) -> Typed {
    let text = text.trim_ascii();
    if let Some(meaning) = keyword_or_passcode(text) {
        return meaning;
    }
    let Ok(utf8) = std::str::from_utf8(text) else {
        return Typed::Other;
    };
    if let Some((_, tail)) = rules.delimiter.and_then(|delimiter| utf8.rsplit_once(delimiter))
        && let Some(meaning) = keyword_or_passcode(tail.trim().as_bytes())
    {
        return meaning;
    }
    if let Some(length) = rules.passcode_suffix_length
        && let Some((_, tail)) = text
            .len()
            .checked_sub(length)
            .and_then(|at| text.split_at_checked(at))
        && tail.iter().all(u8::is_ascii_digit)
    {
        return Typed::Passcode(Secret::new(tail.to_vec()));
    }
    Typed::Other
}

/// Whether a text is the user's own: neither empty nor a keyword nor a passcode, though one may stand at its end.
pub(crate) fn is_own(text: &[u8]) -> bool {
    let plain = TypedText {
        delimiter: None,
        passcode_suffix_length: None,
    };
    !text.trim_ascii().is_empty() && matches!(classify(text, &plain), Typed::Other)
}

fn keyword_or_passcode(text: &[u8]) -> Option<Typed> {
    if let Some(keyword) = keyword(text) {
        return Some(Typed::Keyword(keyword));
    }
    let digits = DIGITS.contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let yubikey = text.len() == YUBIKEY_LENGTH && text.iter().all(|byte| MODHEX.contains(byte));
    (digits || yubikey).then(|| Typed::Passcode(Secret::new(text.to_vec())))
}

/// `push`, `phone`, `sms`, `auto`, in any case; the first three with a device from 1 to 99 behind them.
fn keyword(text: &[u8]) -> Option<Keyword> {
    let (factor, rest) = KeywordFactor::ALL.into_iter().find_map(|factor| {
        let (head, rest) = text.split_at_checked(factor.word().len())?;
        head.eq_ignore_ascii_case(factor.word().as_bytes())
            .then_some((factor, rest))
    })?;
    let device = match rest {
        [] => None,
        _ if factor == KeywordFactor::Auto => return None,
        [one @ b'1'..=b'9'] => Some(one - b'0'),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9'] => Some((ten - b'0') * 10 + (one - b'0')),
        _ => return None,
    };
    Some(Keyword { factor, device })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TypedText = TypedText {
        delimiter: None,
        passcode_suffix_length: None,
    };

    fn shown(text: &str, rules: &TypedText) -> String {
        match classify(text.as_bytes(), rules) {
            Typed::Keyword(keyword) => format!("{:?} {:?}", keyword.factor, keyword.device),
            Typed::Passcode(code) => String::from_utf8(code.expose().to_vec()).unwrap(),
            Typed::Other => "other".to_owned(),
        }
    }

    #[test]
    fn keywords_may_have_a_device_and_any_case() {
        for (text, meaning) in [
            ("push", "Push None"),
            (" PUSH2 ", "Push Some(2)"),
            ("Phone12", "Phone Some(12)"),
            ("sms1", "Sms Some(1)"),
            ("auto", "Auto None"),
        ] {
            assert_eq!(shown(text, &PLAIN), meaning);
        }
        for text in ["push0", "push100", "push 2", "pushy", "auto1", "pus", "push-2"] {
            assert_eq!(shown(text, &PLAIN), "other", "{text}");
        }
    }

    #[test]
    fn passcodes_are_six_to_ten_digits_or_a_yubikeys() {
        for text in ["123456", "12345678", "1234567890", " 123456\n"] {
            assert_eq!(shown(text, &PLAIN), text.trim());
        }
        let yubikey = "cccccccbchvthlivuitriujjifivbvtrjkjfirllluur";
        assert_eq!(shown(yubikey, &PLAIN), yubikey);
        for text in [
            "12345",
            "12345678901",
            "123 456",
            "12345a",
            "１２３４５６",
            "",
            " ",
        ] {
            assert_eq!(shown(text, &PLAIN), "other", "{text}");
        }
    }

    #[test]
    fn a_password_is_other_even_when_it_ends_like_a_code() {
        for text in ["Winter2026,push", "hunter2,123456", "Summer123456"] {
            assert_eq!(shown(text, &PLAIN), "other", "{text}");
        }
    }

    #[test]
    fn the_delimiter_cuts_at_its_last_place() {
        let rules = TypedText {
            delimiter: Some(','),
            ..PLAIN
        };
        assert_eq!(shown("pass,word,123456", &rules), "123456");
        assert_eq!(shown("password,push2", &rules), "Push Some(2)");
        assert_eq!(shown("pass,word", &rules), "other");
        assert_eq!(shown("password,", &rules), "other");
    }

    #[test]
    fn the_suffix_is_cut_off_by_its_length() {
        let rules = TypedText {
            passcode_suffix_length: Some(6),
            ..PLAIN
        };
        assert_eq!(shown("Password1123456", &rules), "123456");
        assert_eq!(shown("123456", &rules), "123456");
        assert_eq!(shown("Pässword", &rules), "other");
        assert_eq!(shown("Password12345", &rules), "other");
    }

    #[test]
    fn no_fuzz_makes_it_panic_and_a_passcode_is_never_a_password() {
        bolero::check!().for_each(|bytes| {
            for rules in [
                PLAIN,
                TypedText {
                    delimiter: Some('é'),
                    passcode_suffix_length: Some(7),
                },
            ] {
                if let Typed::Passcode(code) = classify(bytes, &rules) {
                    assert!(code.expose().iter().all(u8::is_ascii_alphanumeric));
                }
            }
        });
    }
}
