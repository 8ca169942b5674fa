//! Time-based one-time passwords (RFC 6238 over RFC 4226).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// The hash of the HMAC (RFC 6238 section 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-1, what every authenticator app can do.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in an otpauth URI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Reads the name, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(text))
    }

    /// The output length of the hash: the seed length that RFC 4226 section 4 recommends.
    #[must_use]
    pub const fn seed_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn mac(self, key: &[u8], message: &[u8], out: &mut [u8; 64]) -> usize {
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
        match self {
            Self::Sha1 => run::<Hmac<Sha1>>(key, message, out),
            Self::Sha256 => run::<Hmac<Sha256>>(key, message, out),
            Self::Sha512 => run::<Hmac<Sha512>>(key, message, out),
        }
    }
}

/// How many digits a code has: 6, 7 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits(u8);

impl Digits {
    /// What authenticator apps show when nothing else is said.
    pub const SIX: Self = Self(6);

    /// 6 to 8.
    #[must_use]
    pub const fn new(count: u8) -> Option<Self> {
        if count >= 6 && count <= 8 {
            Some(Self(count))
        } else {
            None
        }
    }

    /// The count.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.0
    }
}

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
        let mut mac = [0_u8; 64];
        let length = algorithm.mac(seed, &step.to_be_bytes(), &mut mac);
        let offset = usize::from(mac.get(length.saturating_sub(1)).copied().unwrap_or(0) & 0x0f);
        let mut number = mac
            .iter()
            .skip(offset)
            .take(4)
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            & 0x7fff_ffff;
        let mut code = Self {
            digits: [b'0'; 8],
            count: digits.0,
        };
        for place in code.digits.iter_mut().take(usize::from(digits.0)).rev() {
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
    fn a_shorter_code_is_the_end_of_the_longer_one() {
        let seed = b"12345678901234567890";
        let code = Code::at(Algorithm::Sha1, seed, 59 / 30, Digits::SIX);
        assert_eq!(code.as_bytes(), b"287082");
        assert!(code.equals(b"287082"));
        assert!(!code.equals(b"2870820"));
        assert!(!code.equals(b"287083"));
    }
}
