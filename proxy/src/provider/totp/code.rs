//! Time-based one-time passwords (RFC 6238 over RFC 4226).

use hmac::{Hmac, KeyInit, Mac};
use proxy_config::Secret;
pub use proxy_config::seeds::{Algorithm, Digits};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// A code as it is typed. Its memory is zeroed on drop.
#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Code {
    digits: [u8; 8],
    count: u8,
}

impl Code {
    /// The code of a time step (RFC 4226 section 5.3).
    #[must_use]
    pub fn at(algorithm: Algorithm, seed: &[u8], step: u64, digits: Digits) -> Self {
        let mut hash = [0_u8; 64];
        let length = mac(algorithm, seed, &step.to_be_bytes(), &mut hash);
        let offset = usize::from(hash.get(length.saturating_sub(1)).copied().unwrap_or(0) & 0x0f);
        let mut number = hash
            .iter()
            .skip(offset)
            .take(4)
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            & 0x7fff_ffff;
        let mut code = Self {
            digits: [b'0'; 8],
            count: digits.count(),
        };
        for place in code.digits.iter_mut().take(usize::from(digits.count())).rev() {
            *place = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or(0));
            number /= 10;
        }
        code
    }

    /// The digits in ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// Whether it is what was typed, in a time that does not depend on where they differ.
    #[must_use]
    pub fn equals(&self, typed: &[u8]) -> bool {
        self.as_bytes().ct_eq(typed).into()
    }
}

fn mac(algorithm: Algorithm, key: &[u8], message: &[u8], out: &mut [u8; 64]) -> usize {
    fn run<M: Mac + KeyInit>(key: &[u8], message: &[u8], out: &mut [u8; 64]) -> usize {
        // HMAC takes a key of any length (RFC 2104 section 2).
        let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
            return 0;
        };
        mac.update(message);
        let bytes = mac.finalize().into_bytes();
        for (to, from) in out.iter_mut().zip(bytes.iter()) {
            *to = *from;
        }
        bytes.len()
    }
    match algorithm {
        Algorithm::Sha1 => run::<Hmac<Sha1>>(key, message, out),
        Algorithm::Sha256 => run::<Hmac<Sha256>>(key, message, out),
        Algorithm::Sha512 => run::<Hmac<Sha512>>(key, message, out),
    }
}

/// The texts that a code is typed as: its digits, and in two groups (three of a nine-digit one) with a space or a dash
/// between them, as apps show it.
pub(super) fn as_typed(code: &[u8]) -> impl Iterator<Item = Secret> {
    let (first, rest) = code.split_at(code.len() / if code.len() == 9 { 3 } else { 2 });
    let groups = match rest.split_at_checked(3) {
        Some((second, third)) if code.len() == 9 => vec![first, second, third],
        _ => vec![first, rest],
    };
    let grouped = [b" ", b"-"].map(|separator| Secret::new(groups.join(&separator[..])));
    std::iter::once(Secret::new(code.to_vec())).chain(grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_6238_appendix_b_hold() {
        let eight = Digits::new(8).unwrap();
        let ascii = b"1234567890".repeat(7);
        let cases = [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000, "65353130", "77737706", "47863826"),
        ];
        for (time, sha1, sha256, sha512) in cases {
            for (algorithm, seed_length, expected) in [
                (Algorithm::Sha1, 20, sha1),
                (Algorithm::Sha256, 32, sha256),
                (Algorithm::Sha512, 64, sha512),
            ] {
                let code = Code::at(algorithm, &ascii[..seed_length], time / 30, eight);
                assert_eq!(code.as_bytes(), expected.as_bytes(), "{algorithm:?} at {time}");
            }
        }
    }

    #[test]
    fn a_code_is_typed_as_digits_or_in_groups() {
        let typed = |code: &str| -> Vec<String> {
            let texts = as_typed(code.as_bytes());
            texts.map(|text| text.expose_str().unwrap().to_owned()).collect()
        };
        assert_eq!(typed("123456"), ["123456", "123 456", "123-456"]);
        assert_eq!(typed("1234567"), ["1234567", "123 4567", "123-4567"]);
        assert_eq!(typed("12345678"), ["12345678", "1234 5678", "1234-5678"]);
        assert_eq!(typed("123456789"), ["123456789", "123 456 789", "123-456-789"]);
        assert_eq!(typed("1234567890"), ["1234567890", "12345 67890", "12345-67890"]);
    }

    #[test]
    fn a_shorter_code_is_the_end_of_the_longer_one() {
        let seed = b"12345678901234567890";
        let code = Code::at(Algorithm::Sha1, seed, 59 / 30, Digits::SIX);
        assert_eq!(code.as_bytes(), b"287082");
        assert!(code.equals(b"287082"));
        assert!(!code.equals(b"2870820"));
        assert!(!code.equals(b"287083"));
    }
}
