//! CHAP-Password (RFC 2865 section 5.3): MD5 over identifier, text and challenge.

use md5::{Digest as _, Md5};
use proxy_config::Secret;
use subtle::ConstantTimeEq as _;

use crate::factor::{Forwarded, ResponseCheck};

pub(crate) struct Chap {
    /// CHAP-Password: identifier and response.
    value: [u8; 17],
    challenge: Vec<u8>,
}

impl Chap {
    /// From CHAP-Password's value of 17 bytes and the challenge it answers.
    pub(crate) fn new(value: &[u8], challenge: Vec<u8>) -> Option<Self> {
        Some(Self {
            value: value.try_into().ok()?,
            challenge,
        })
    }

    pub(super) fn forwarded(&self) -> Forwarded {
        Forwarded::Chap {
            password: Secret::new(self.value.to_vec()),
            challenge: self.challenge.clone(),
        }
    }

    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [b"chap", &self.challenge, &self.value]
    }
}

impl ResponseCheck for Chap {
    fn matches(&self, guess: &[u8]) -> bool {
        let [identifier, response @ ..] = &self.value;
        let mut md5 = Md5::new();
        md5.update([*identifier]);
        md5.update(guess);
        md5.update(&self.challenge);
        md5.finalize().ct_eq(response).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_matches_its_own_response_and_no_other() {
        // MD5(0x10 "push" "0123456789abcdef"), computed with another program.
        let response = hex::decode("10e2739e1a9a912d3667f9d09562b42307").unwrap();
        let chap = Chap::new(&response, b"0123456789abcdef".to_vec()).unwrap();
        assert!(chap.matches(b"push"));
        assert!(!chap.matches(b"Push"));
        assert!(!chap.matches(b""));
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        for length in [0, 1, 16, 18] {
            assert!(Chap::new(&vec![0; length], Vec::new()).is_none());
        }
    }
}
