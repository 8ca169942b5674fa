//! User-Password (RFC 2865 section 5.2).

use md5::{Digest as _, Md5};
use proxy_config::Secret;

use crate::message_authenticator::SecretKey;

/// Whether a value can be a User-Password: 16 to 128 bytes in blocks of 16.
pub(crate) fn is_possible(value: &[u8]) -> bool {
    (16..=LONGEST).contains(&value.len()) && value.len().is_multiple_of(16)
}

/// The longest value.
pub(crate) const LONGEST: usize = 128;
/// NULs at the end that a wrong secret makes once in four billion times.
const PROVING_PADDING: usize = 4;

/// The text under a secret that is proved otherwise: everything before the NULs at the end.
pub(crate) fn decrypt(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Secret {
    let mut text = xor(value, secret, authenticator);
    text.truncate(text_length(&text));
    Secret::new(text)
}

/// Whether a decrypted text proves the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It can be a text, but a wrong secret could also have produced it. It proves nothing.
    Text,
    /// It proves the secret.
    Proof,
}

/// The text, if it can be one under this secret, in any character set.
///
/// With a wrong secret the bytes are random. Measured over three million blocks of 16: [`Evidence::Proof`] in 1 of 7,200,
/// [`Evidence::Text`] in 1 of 52; all others are recognised as wrong. A text of 14 octets or fewer has padding that a wrong
/// secret doesn't produce. A text that fills its block has none, and is judged by its bytes alone.
pub(crate) fn read(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Option<(Evidence, Secret)> {
    let mut text = xor(value, secret, authenticator);
    let length = text_length(&text);
    let padding = value.len() - length;
    let is_wide = is_utf16(text.get(..length.next_multiple_of(2)).unwrap_or_default());
    text.truncate(length);
    let text = Secret::new(text);
    let bytes = text.expose();
    // No wrong secret makes so many NULs, whatever is before them and however many a client appends.
    if padding >= PROVING_PADDING {
        return Some((Evidence::Proof, text));
    }
    if !is_wide && has_control(bytes) {
        return None;
    }
    if padding >= 2 || is_wide || is_like_text(bytes) {
        return Some((Evidence::Proof, text));
    }
    can_be_text(bytes).then_some((Evidence::Text, text))
}

/// A control character, except for the escapes of ISO-2022.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(i, byte)| {
        let is_shift = *byte == 0x1b && matches!(bytes.get(i + 1), Some(b'$' | b'('));
        byte.is_ascii_control() && !is_shift
    })
}

/// UTF-16 of either order, of alphabets up to U+06FF: the only character set that has NULs inside a text.
fn is_utf16(bytes: &[u8]) -> bool {
    let is_text = |units: &mut dyn Iterator<Item = [u8; 2]>| {
        units.enumerate().all(|(i, unit)| match unit {
            [0xfe, 0xff] => i == 0,
            [0, low] => !char::from(low).is_control(),
            [high, _] => high <= 6,
        })
    };
    let units = || {
        bytes
            .chunks_exact(2)
            .filter_map(|unit| <[u8; 2]>::try_from(unit).ok())
    };
    is_text(&mut units()) || is_text(&mut units().map(|[low, high]| [high, low]))
}

/// Bytes that are far more frequent in texts than in random data: UTF-8; ASCII with a few other bytes, or with some letters
/// of Latin-1 and similar sets; a few words of another alphabet.
fn is_like_text(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control)) {
        return true;
    }
    let all_above = |least| bytes.iter().all(|byte| byte.is_ascii() || *byte >= least);
    let foreign = bytes.iter().filter(|byte| !byte.is_ascii()).count();
    foreign * 8 <= bytes.len()
        || (foreign * 4 <= bytes.len() && all_above(0xc0))
        || (changes(bytes) <= 2 && all_above(0xa1))
}

/// Bytes that can be a text, but that a few of a hundred random blocks also have: several words of another alphabet, and
/// two-byte character sets whose second byte can be ASCII.
fn can_be_text(bytes: &[u8]) -> bool {
    changes(bytes) <= 5
        // The letters of most sets of one byte, whatever stands between them.
        || bytes.iter().all(|byte| byte.is_ascii() || *byte >= 0xc0)
        // CP1250, which has letters below them too.
        || bytes.iter().all(|byte| byte.is_ascii() || is_central_european(*byte))
        // Shift-JIS.
        || is_double(bytes, |first| matches!(first, 0x81..=0x9f | 0xe0..=0xea))
        // Big5, the characters in daily use.
        || is_double(bytes, |first| matches!(first, 0xa1..=0xc6))
}

/// A letter of CP1250.
fn is_central_european(byte: u8) -> bool {
    match byte {
        0x8a | 0x8c..=0x8f | 0x9a | 0x9c..=0x9f => true,
        0xa3 | 0xa5 | 0xaa | 0xaf | 0xb3 | 0xb9 | 0xba | 0xbc | 0xbe | 0xbf => true,
        0xc0.. => byte != 0xd7 && byte != 0xf7 && byte != 0xff,
        _ => false,
    }
}

/// How often ASCII and other bytes take turns.
fn changes(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .filter(|(one, other)| one.is_ascii() != other.is_ascii())
        .count()
}

/// ASCII, and characters of two bytes.
fn is_double(bytes: &[u8], is_first: impl Fn(u8) -> bool) -> bool {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        let is_pair = is_first(*byte) && rest.next().is_none_or(|second| *second >= 0x40);
        if !byte.is_ascii() && !is_pair {
            return false;
        }
    }
    true
}

fn text_length(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// c(i) xor MD5(secret + c(i-1)), with the Request Authenticator as c(0).
fn xor(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut previous: &[u8] = authenticator;
    for block in value.chunks(16) {
        let mut md5 = Md5::new();
        md5.update(secret.expose());
        md5.update(previous);
        text.extend(block.iter().zip(md5.finalize()).map(|(cipher, key)| cipher ^ key));
        previous = block;
    }
    text
}

#[cfg(test)]
mod tests {
    use proxy_config::SharedSecret;
    use radius::core::avp::AVP;

    use super::*;

    fn key(secret: &str) -> SecretKey {
        SecretKey::new(SharedSecret::parse(secret.as_bytes()).unwrap()).unwrap()
    }

    fn encrypted(text: &[u8], secret: &str) -> Vec<u8> {
        AVP::from_user_password(2, text, secret.as_bytes(), &[7; 16])
            .unwrap()
            .encode_bytes()
    }

    #[test]
    fn the_example_of_rfc_2865_is_read() {
        // Section 7.1: nemo, arctangent, xyzzy5461.
        let value = hex::decode("0dbe708d93d413ce3196e43f782a0aee").unwrap();
        let authenticator: [u8; 16] = hex::decode("0f403f9473978057bd83d5cb98f4227a")
            .unwrap()
            .try_into()
            .unwrap();
        let key = key("xyzzy5461");
        assert_eq!(decrypt(&value, &key, &authenticator).expose(), b"arctangent");
        assert_eq!(
            read(&value, &key, &authenticator).unwrap().1.expose(),
            b"arctangent"
        );
    }

    fn evidence(text: &[u8]) -> Option<Evidence> {
        let (evidence, read) = read(&encrypted(text, "testing123"), &key("testing123"), &[7; 16])?;
        assert_eq!(read.expose(), text);
        Some(evidence)
    }

    #[test]
    fn texts_of_every_length_come_back() {
        let key = key("testing123");
        for length in 0..=128 {
            let text = vec![b'x'; length];
            let value = encrypted(&text, "testing123");
            assert!(is_possible(&value));
            let (evidence, read) = read(&value, &key, &[7; 16]).unwrap();
            assert_eq!((evidence, read.expose()), (Evidence::Proof, text.as_slice()));
        }
        for length in [0, 1, 15, 17, 127, 129, 144] {
            assert!(!is_possible(&vec![0; length]), "{length}");
        }
    }

    /// Passwords in character sets of clients that do not send UTF-8.
    const FOREIGN: &[&[u8]] = &[
        b"Gr\xfcn24",                                            // Latin-1: Grün24
        b"\xe4\xf6\xfc\xdf",                                     // Latin-1: äöüß
        b"p\xe4ssword-2026",                                     // Latin-1
        b"Gr\xfc\xdfe aus K\xf6ln!!",                            // Latin-1, 16 octets
        b"\xcf\xe0\xf0\xee\xeb\xfc2024",                         // CP1251: Пароль2024
        b"\xcf\xe0\xf0\xee\xeb\xfc2024\xcc\xee\xf1\xea\xe2\xe0", // CP1251, 16 octets: Пароль2024Москва
        b"\xf0\xc1\xd2\xcf\xcc\xd82024",                         // KOI8-R: Пароль2024
        b"\x8f\xa0\xe0\xae\xab\xec2024",                         // CP866: Пароль2024
        b"Gr\x81n24",                                            // CP850: Grün24
        b"\xd3\xf9\xed\xe8\xe7\xec\xe1\xf4\xe9\xea\xfc\xf2123",  // CP1253, 15 octets
        b"\x83p\x83X\x83\x8f\x81[\x83h1",                        // Shift-JIS: パスワード1
        b"\xa5\xd1\xa5\xb9\xa5\xef\xa1\xbc\xa5\xc9",             // EUC-JP: パスワード
        b"\xc3\xdc\xc2\xeb123",                                  // GBK: 密码123
        b"\xb1K\xbdX123",                                        // Big5: 密碼123
        b"\x1b$B%Q%9%o!<%I\x1b(B",                               // ISO-2022-JP: パスワード, 16 octets
        b"G\0r\0\xfc\0n\x002\x004",                              // UTF-16LE: Grün24
        b"\0G\0r\0\xfc\0n\x002\x004",                            // UTF-16BE: Grün24
        b"\xff\xfeG\0r\0\xfc\0n\x002\x004",                      // UTF-16 with its mark
        b"\x1f\x040\x04@\x04>\x04;\x04L\x042\x004",              // UTF-16LE: Пароль24, 16 octets
        "pässwörd-日本語".as_bytes(),
    ];

    #[test]
    fn passwords_of_every_character_set_prove_the_secret() {
        for text in FOREIGN {
            assert_eq!(evidence(text), Some(Evidence::Proof), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_foreign_text_without_padding_is_never_a_wrong_secret() {
        let is_cut =
            |text: &&&[u8]| text.contains(&0) || text.contains(&0x1b) || std::str::from_utf8(text).is_ok();
        for text in FOREIGN.iter().filter(|text| !is_cut(text)) {
            // With digits behind it, as passwords have them.
            for length in [15, 16, 31, 32] {
                let mut text = [*text, text].concat();
                text.truncate(length);
                text.resize(length, b'1');
                assert!(evidence(&text).is_some(), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn letters_of_one_byte_between_ascii_are_never_a_wrong_secret() {
        for text in [
            &b"P\xf8\xedli\x9a \x9elu\x9dou\xe8k\xfd"[..], // CP1250, 16 octets: Příliš žluťoučký
            b"\xf0\xc1\xd20\xcc\xd8-20\xf0\xc1\xd20\xcc\xd8!", // KOI8-R, 16 octets: Пар0ль-20Пар0ль!
        ] {
            assert!(evidence(text).is_some(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn padding_proves_the_secret_whatever_is_before_it() {
        for text in [
            &b"p@ss\tword"[..],
            b"\xc6[\x01x2\x000\x002\x004", // UTF-16LE: 密码2024, cut
            b"bell\x07",
            b"p@ss\twordtabbed!!",
        ] {
            assert_eq!(evidence(text), Some(Evidence::Proof), "{}", text.escape_ascii());
        }
        // As clients send it that have a field of a fixed length.
        let fields = [[&b"123456"[..], &[0; 26]].concat(), vec![0; 32]];
        for field in fields {
            let value = xor_all(&field, &key("testing123"));
            let read = read(&value, &key("testing123"), &[7; 16]).unwrap();
            assert_eq!(read.0, Evidence::Proof);
            assert_eq!(read.1.expose(), &field[..text_length(&field)]);
        }
    }

    /// Encrypts blocks as they are.
    fn xor_all(blocks: &[u8], secret: &SecretKey) -> Vec<u8> {
        let mut value: Vec<u8> = Vec::new();
        for block in blocks.chunks(16) {
            let previous: [u8; 16] = value
                .rchunks(16)
                .next()
                .map_or([7; 16], |last| last.try_into().unwrap());
            value.extend(xor(block, secret, &previous));
        }
        value
    }

    #[test]
    fn binary_is_no_text() {
        for binary in [
            &b"bell\x07 and more!"[..],
            b"nul\0inside 12345",
            b"\x1bAescape 123456!",
            b"delete\x7f 12345678",
        ] {
            assert_eq!(evidence(binary), None, "{}", binary.escape_ascii());
        }
    }

    #[test]
    fn a_wrong_secret_is_all_but_never_proved_and_mostly_told() {
        let wrong = key("wrong secret");
        let blocks = 40_000;
        let (mut proved, mut text) = (0, 0);
        for i in 0..blocks {
            match read(&block(i), &wrong, &[7; 16]) {
                Some((Evidence::Proof, _)) => proved += 1,
                Some((Evidence::Text, _)) => text += 1,
                None => {}
            }
        }
        assert!(proved <= blocks / 4_000, "{proved} of {blocks} proved");
        assert!(text <= blocks / 40, "{text} of {blocks} taken for text");
        // Of two blocks fewer.
        let both = (0..blocks).filter(|i| {
            let value = [block(*i), block(!i)].concat();
            read(&value, &wrong, &[7; 16]).is_some()
        });
        assert!(both.count() <= 4);
    }

    fn block(i: u32) -> [u8; 16] {
        Md5::digest(i.to_be_bytes()).into()
    }

    #[test]
    fn no_fuzz_makes_it_panic() {
        let key = key("testing123");
        bolero::check!().for_each(|bytes| {
            let _ = decrypt(bytes, &key, &[1; 16]);
            if is_possible(bytes) {
                let _ = read(bytes, &key, &[1; 16]);
            }
        });
    }
}
