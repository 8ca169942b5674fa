//! MS-CHAPv1 (RFC 2433).

use super::mschap;
use crate::factor::ResponseCheck;

pub(crate) struct MsChapV1 {
    pub(crate) identifier: u8,
    challenge: [u8; 8],
    /// The NT response. The LAN Manager one beside it is not looked at: RFC 2433 section 6 lets a server refuse it,
    /// and a client that sends no other has zeros here, which nothing matches.
    response: [u8; 24],
    /// MS-CHAP-Response as it came.
    whole: [u8; mschap::RESPONSE_LENGTH],
}

impl MsChapV1 {
    pub(super) fn new(response: &[u8], challenge: &[u8]) -> Option<Self> {
        let response: &[u8; mschap::RESPONSE_LENGTH] = response.try_into().ok()?;
        let [identifier, _flags, rest @ ..] = response;
        Some(Self {
            identifier: *identifier,
            challenge: challenge.try_into().ok()?,
            response: *rest.last_chunk()?,
            whole: *response,
        })
    }

    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [b"mschapv1", &self.challenge, &self.whole]
    }

    /// Whether the text of this NtPasswordHash was typed.
    pub(super) fn matches_hash(&self, hash: &[u8; 16]) -> bool {
        mschap::matches(self.challenge, hash, &self.response)
    }
}

impl ResponseCheck for MsChapV1 {
    fn matches(&self, guess: &[u8]) -> bool {
        mschap::nt_hash(guess).is_some_and(|hash| self.matches_hash(&hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2433_matches() {
        // Appendix B.2.
        let mut response = vec![1, 1];
        response.extend([0; 24]);
        response.extend(hex::decode("4e9d3c8f9cfd385d5bf4d3246791956ca4c351ab409a3d61").unwrap());
        let challenge = hex::decode("102db5df085d3041").unwrap();
        let v1 = MsChapV1::new(&response, &challenge).unwrap();
        assert!(v1.matches(b"MyPw"));
        assert!(!v1.matches(b"mypw"));
        assert!(MsChapV1::new(&response[1..], &challenge).is_none());
        assert!(MsChapV1::new(&response, &challenge[1..]).is_none());
    }
}
