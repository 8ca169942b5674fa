//! Time-based codes (RFC 6238) with SHA-1, six digits and 30 seconds, as Okta Verify and Google Authenticator make them.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

const STEP: i64 = 30;

/// The step whose code this is, one step before and after now included.
pub(super) fn step_of(secret: &[u8], code: &str, now: i64) -> Option<i64> {
    let current = now.div_euclid(STEP);
    [current, current - 1, current + 1]
        .into_iter()
        .find(|step| self::code(secret, *step) == code)
}

fn code(secret: &[u8], step: i64) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last().copied().unwrap_or_default() & 15);
    let four = digest
        .get(offset..offset + 4)
        .and_then(|four| four.try_into().ok())
        .unwrap_or_default();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

/// RFC 4648 base32, without regard to case, blanks and padding.
pub(super) fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(|letter| !b" =".contains(letter)) {
        let value = match letter.to_ascii_uppercase() {
            upper @ b'A'..=b'Z' => upper - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            let [.., byte] = (bits >> held).to_be_bytes();
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_last_six_digits_of_rfc_6238_appendix_b() {
        let secret = b"12345678901234567890";
        for (time, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(secret, time / 30), expected);
            assert_eq!(step_of(secret, expected, time), Some(time / 30));
        }
    }

    #[test]
    fn base32_is_as_in_rfc_4648() {
        assert_eq!(base32("MZXW6YTBOI======").unwrap(), b"foobar");
        assert_eq!(
            base32("gezd gnbv gy3t qojq gezd gnbv gy3t qojq").unwrap(),
            b"12345678901234567890"
        );
        assert_eq!(base32("1"), None);
    }
}
