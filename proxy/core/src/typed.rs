//! What a typed text means. It may be somebody's directory password: what is neither a factor keyword nor of the shape
//! of a passcode goes no further than this file.

use proxy_config::{Secret, TypedText};
use zeroize::Zeroizing;

use crate::factor::{Keyword, KeywordFactor};

/// A typed text, classified.
#[derive(Clone)]
pub(crate) enum Typed {
    Keyword(Keyword),
    /// The digits alone, whatever separated them.
    Passcode(Secret),
    /// The name of a factor that other products have and this one does not.
    UnknownFactor,
    /// Empty, or anything else.
    Other,
}

/// Shortest and longest passcode of digits: TOTP and HOTP have 6 to 8, Duo's bypass codes 9 or what the administrator
/// sets.
const DIGITS: std::ops::RangeInclusive<usize> = 6..=10;
/// The largest group of a code that is shown in groups.
const MAX_GROUP: usize = 5;
/// The most characters between two groups: " - ".
const MAX_GAP: usize = 3;
/// A YubiKey's one-time password: 44 characters of "modhex", chosen by Yubico to be typed alike on every keyboard.
const YUBIKEY_LENGTH: usize = 44;
const MODHEX: &[u8] = b"cbdefghijklnrtuv";
/// What people typed at other products to choose a factor. A closed list, of which the whole text must be one.
const OTHER_FACTORS: [&str; 18] = [
    "call",
    "email",
    "fido2",
    "hotp",
    "mobile",
    "okta",
    "otp",
    "passcode",
    "phonecall",
    "text",
    "token",
    "totp",
    "u2f",
    "verify",
    "voice",
    "voicecall",
    "webauthn",
    "yubikey",
];
/// Where the decimal digits of scripts begin that keyboards type: ASCII, Arabic, Persian, those of India, Thai, Lao,
/// Tibetan, Burmese, Khmer and full width.
const ZEROES: [char; 18] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}', '\u{c66}',
    '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{17e0}', '\u{ff10}',
];

/// Classifies `text`.
pub(crate) fn classify(text: &[u8], rules: &TypedText) -> Typed {
    let text = readable(text);
    let text = trim(&text);
    if let Some(meaning) = meaning(text) {
        return meaning;
    }
    if let Some(delimiter) = rules.delimiter {
        // The last one first. A code that is shown in groups can have the same character between them.
        for (at, _) in text.rmatch_indices(delimiter) {
            let tail = text.get(at + delimiter.len_utf8()..).unwrap_or_default();
            if let Some(meaning) = meaning(trim(tail)) {
                return meaning;
            }
        }
    }
    let suffix = rules
        .passcode_suffix_length
        .and_then(|length| code(last_digits(text, length)?));
    suffix.map_or(Typed::Other, Typed::Passcode)
}

/// Whether a text is the user's own: neither empty nor a keyword nor a passcode, though one may stand at its end.
pub(crate) fn is_own(text: &[u8]) -> bool {
    let plain = TypedText {
        delimiter: None,
        passcode_suffix_length: None,
    };
    !trim(&readable(text)).is_empty() && matches!(classify(text, &plain), Typed::Other)
}

/// The digits of a text that is a code and nothing else.
pub(crate) fn whole_code(text: &[u8]) -> Option<Secret> {
    code(trim(&readable(text)))
}

/// The text as UTF-8; bytes that are none are read as Latin-1, in which each is a character.
fn readable(text: &[u8]) -> Zeroizing<String> {
    let mut readable = Zeroizing::new(String::with_capacity(text.len() * 2));
    match std::str::from_utf8(text) {
        Ok(utf8) => readable.push_str(utf8),
        Err(_) => readable.extend(text.iter().copied().map(char::from)),
    }
    readable
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

fn meaning(text: &str) -> Option<Typed> {
    if let Some(keyword) = keyword(text.as_bytes()) {
        return Some(Typed::Keyword(keyword));
    }
    if let Some(code) = code(text) {
        return Some(Typed::Passcode(code));
    }
    if text.len() == YUBIKEY_LENGTH && text.bytes().all(|byte| MODHEX.contains(&byte)) {
        return Some(Typed::Passcode(Secret::new(text.as_bytes().to_vec())));
    }
    let is_other = OTHER_FACTORS.iter().any(|word| {
        let (head, rest) = text.split_at_checked(word.len()).unwrap_or_default();
        head.eq_ignore_ascii_case(word) && device(rest.as_bytes()).is_some()
    });
    is_other.then_some(Typed::UnknownFactor)
}

/// The digits of a code as it is typed or as apps show it: 6 to 10, all together or in groups of like length with the
/// same separator between them. A date (24.12.1985) is none.
fn code(text: &str) -> Option<Secret> {
    // Telephones end what is typed with a full stop, when the space bar is touched twice.
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut digits = Zeroizing::new(Vec::with_capacity(*DIGITS.end()));
    let (mut smallest, mut largest, mut group) = (usize::MAX, 0, 0);
    let mut separator: Option<&str> = None;
    let mut gap_from = None;
    for (at, c) in text.char_indices() {
        if let Some(digit) = digit(c) {
            if let Some(from) = gap_from.take() {
                let gap = text.get(from..at)?;
                if gap.chars().count() > MAX_GAP || *separator.get_or_insert(gap) != gap {
                    return None;
                }
                (smallest, largest) = (smallest.min(group), largest.max(group));
                group = 0;
            }
            if digits.len() == *DIGITS.end() {
                return None;
            }
            digits.push(digit);
            group += 1;
        } else if is_separator(c) && group > 0 {
            gap_from.get_or_insert(at);
        } else if !is_invisible(c) {
            return None;
        }
    }
    let shown_so = separator.is_none() || {
        let (smallest, largest) = (smallest.min(group), largest.max(group));
        largest <= MAX_GROUP && largest - smallest <= 1 && (smallest > 1 || largest == 1)
    };
    let good = DIGITS.contains(&digits.len()) && gap_from.is_none() && shown_so;
    good.then(|| Secret::new(digits.to_vec()))
}

/// The end of a text that holds so many digits.
fn last_digits(text: &str, count: usize) -> Option<&str> {
    let mut left = count;
    for (at, c) in text.char_indices().rev() {
        match digit(c) {
            Some(_) if left <= 1 => return text.get(at..),
            Some(_) => left -= 1,
            None if is_separator(c) || is_invisible(c) => {}
            None => return None,
        }
    }
    None
}

/// The ASCII digit that a character means.
fn digit(c: char) -> Option<u8> {
    let value = ZEROES.iter().find_map(|zero| {
        u32::from(c)
            .checked_sub(u32::from(*zero))
            .filter(|value| *value < 10)
    })?;
    u8::try_from(value).ok().map(|value| b'0' + value)
}

/// What stands between the groups of a code: white space of any width, dashes, dots; dashes and dots of Windows' character
/// sets, too.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '-' | '.' | '_' | '\u{95}'..='\u{97}' | '\u{b7}' | '\u{2010}'
                ..='\u{2015}'
                    | '\u{2022}'
                    | '\u{2024}'
                    | '\u{2027}'
                    | '\u{2043}'
                    | '\u{2212}'
                    | '\u{22c5}'
                    | '\u{30fb}'
                    | '\u{fe58}'
                    | '\u{fe63}'
                    | '\u{ff0d}'
                    | '\u{ff0e}'
        )
}

/// What comes along when a text is copied, and shows nothing: marks of direction, joiners, the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\0' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `push`, `phone`, `sms`, `auto`, in any case; the first three with a device from 1 to 99 behind them.
fn keyword(text: &[u8]) -> Option<Keyword> {
    let (factor, rest) = KeywordFactor::ALL.into_iter().find_map(|factor| {
        let (head, rest) = text.split_at_checked(factor.word().len())?;
        head.eq_ignore_ascii_case(factor.word().as_bytes())
            .then_some((factor, rest))
    })?;
    let device = device(rest)?;
    (factor != KeywordFactor::Auto || device.is_none()).then_some(Keyword { factor, device })
}

/// Nothing, or the number of a device from 1 to 99.
fn device(text: &[u8]) -> Option<Option<u8>> {
    match text {
        [] => Some(None),
        [one @ b'1'..=b'9'] => Some(Some(one - b'0')),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9'] => Some(Some((ten - b'0') * 10 + (one - b'0'))),
        _ => None,
    }
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
            Typed::UnknownFactor => "unknown factor".to_owned(),
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
        for text in ["12345", "12345678901", "12345a", "", " "] {
            assert_eq!(shown(text, &PLAIN), "other", "{text}");
        }
    }

    #[test]
    fn a_code_in_groups_as_apps_show_it_is_the_code() {
        for text in [
            "123 456",
            "123-456",
            "\t123\u{a0}456 ",
            "123\u{2009}456",
            "123\u{202f}456",
            "123\u{2013}456",
            "123 - 456",
            "123.456",
            "123456. ",
            "123\u{b7}456",
            "12 34 56",
            "1 2 3 4 5 6",
            "\u{200e}123456\u{feff}",
            "12\u{200b}3456",
            "１２３４５６",
            "１２３　４５６",
            "١٢٣٤٥٦",
            "၁၂၃၄၅၆",
            "૧૨૩ ૪૫૬",
        ] {
            assert_eq!(shown(text, &PLAIN), "123456", "{text:?}");
        }
        for (text, code) in [
            ("1234 5678", "12345678"),
            ("12 34 56 78", "12345678"),
            ("123 4567", "1234567"),
            ("123 456 789", "123456789"),
            ("123-456-7890", "1234567890"),
            ("12345 67890", "1234567890"),
        ] {
            assert_eq!(shown(text, &PLAIN), code, "{text:?}");
        }
        for text in [&b"123\xa0456"[..], b"123\x96456", b"123 \x97 456", b"123\x95456"] {
            let is_code = matches!(classify(text, &PLAIN), Typed::Passcode(_));
            assert!(is_code, "Windows: {}", text.escape_ascii());
        }
    }

    #[test]
    fn what_only_looks_like_a_code_is_other() {
        for text in [
            "123 45",
            "123-456-789-012",
            "24.12.1985",
            "1985-12-24",
            "1 23456",
            "123456-",
            "-123456",
            "123-456 789",
            "123    456",
            "123,456",
            "123 456a",
            "123 abc",
            "......",
        ] {
            assert_eq!(shown(text, &PLAIN), "other", "{text:?}");
        }
    }

    #[test]
    fn what_was_a_factor_elsewhere_is_neither_a_push_nor_a_password() {
        for text in ["EMAIL", "call", " Call2 ", "hotp", "passcode"] {
            assert_eq!(shown(text, &PLAIN), "unknown factor", "{text:?}");
        }
        for text in ["e-mail", "callme", "Call0", "emails", "token!"] {
            assert_eq!(shown(text, &PLAIN), "other", "{text:?}");
        }
        let rules = TypedText {
            delimiter: Some(','),
            ..PLAIN
        };
        assert_eq!(shown("Winter2026,EMAIL", &rules), "unknown factor");
        assert_eq!(shown("Winter2026,EMAIL", &PLAIN), "other");
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
        assert_eq!(shown("password, 123 456", &rules), "123456");
        for (delimiter, text) in [
            ('-', "Summer-2026-123-456"),
            (' ', "my word 123 456"),
            ('-', "1234-123 456"),
        ] {
            let rules = TypedText {
                delimiter: Some(delimiter),
                ..PLAIN
            };
            assert_eq!(shown(text, &rules), "123456", "{text:?}");
        }
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
        assert_eq!(shown("Winter2026123 456", &rules), "123456");
        assert_eq!(shown("Winter2026 123-456", &rules), "123456");
        assert_eq!(shown("Winter26 1234", &rules), "other");
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
