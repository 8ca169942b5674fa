//! MS-CHAPv2 (RFC 2759).

use crate::packet::Avp;
use sha1::{Digest as _, Sha1};

use super::mschap;
use crate::factor::ResponseCheck;

pub(crate) struct MsChapV2 {
    pub(crate) identifier: u8,
    response: [u8; 24],
    challenge: [u8; 16],
    /// MS-CHAP2-Response as it came.
    whole: [u8; mschap::RESPONSE_LENGTH],
    /// ChallengeHash with the name as it was sent, and with what follows its backslash, if it has one. RFC 2759
    /// section 4 wants the name without the domain; some clients hash it as they send it.
    hashes: Vec<[u8; 8]>,
}

const MAGIC1: &[u8] = b"Magic server to client signing constant";
const MAGIC2: &[u8] = b"Pad to make it do more than one iteration";

impl MsChapV2 {
    pub(super) fn new(response: &[u8], challenge: &[u8], user: &[u8]) -> Option<Self> {
        let response: &[u8; mschap::RESPONSE_LENGTH] = response.try_into().ok()?;
        let challenge: &[u8; 16] = challenge.try_into().ok()?;
        let [identifier, _flags, rest @ ..] = response;
        let peer: &[u8; 16] = rest.first_chunk()?;
        let bare = user
            .iter()
            .position(|byte| *byte == b'\\')
            .and_then(|at| user.get(at + 1..));
        Some(Self {
            identifier: *identifier,
            response: *rest.last_chunk()?,
            challenge: *challenge,
            whole: *response,
            hashes: bare
                .into_iter()
                .chain([user])
                .map(|name| challenge_hash(peer, challenge, name))
                .collect(),
        })
    }

    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [b"mschapv2", &self.challenge, &self.whole]
    }

    /// Whether the text of this NtPasswordHash was typed.
    pub(super) fn matches_hash(&self, hash: &[u8; 16]) -> bool {
        self.hashes
            .iter()
            .any(|challenge| mschap::matches(*challenge, hash, &self.response))
    }

    /// MS-CHAP2-Success, if `text` is what was typed.
    pub(crate) fn success_attribute(&self, text: &[u8]) -> Option<Avp> {
        Some(mschap::success(self.identifier, &self.success(text)?))
    }

    /// The text of MS-CHAP2-Success, `S=` and 40 hexadecimal digits, if `text` is what was typed.
    fn success(&self, text: &[u8]) -> Option<String> {
        let hash = mschap::nt_hash(text)?;
        let challenge = self
            .hashes
            .iter()
            .find(|challenge| mschap::matches(**challenge, &hash, &self.response))?;
        let hash_hash = md4::Md4::digest(hash.as_slice());
        let inner = Sha1::new()
            .chain_update(hash_hash)
            .chain_update(self.response)
            .chain_update(MAGIC1)
            .finalize();
        let outer = Sha1::new()
            .chain_update(inner)
            .chain_update(challenge)
            .chain_update(MAGIC2)
            .finalize();
        let digits = outer.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut success = String::from("S=");
        success
            .extend(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)?.to_uppercase().next()));
        Some(success)
    }
}

impl ResponseCheck for MsChapV2 {
    fn matches(&self, guess: &[u8]) -> bool {
        mschap::nt_hash(guess).is_some_and(|hash| self.matches_hash(&hash))
    }
}

/// ChallengeHash (RFC 2759 section 8.2): eight bytes of a SHA-1 over both challenges and the name.
fn challenge_hash(peer: &[u8; 16], authenticator: &[u8; 16], name: &[u8]) -> [u8; 8] {
    let whole = Sha1::new()
        .chain_update(peer)
        .chain_update(authenticator)
        .chain_update(name)
        .finalize();
    whole.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(user: &[u8]) -> MsChapV2 {
        // RFC 2759 section 9.2.
        let challenge = hex::decode("5b5d7c7d7b3f2f3e3c2c602132262628").unwrap();
        let mut response = vec![3, 0];
        response.extend(hex::decode("21402324255e262a28295f2b3a337c7e").unwrap());
        response.extend([0; 8]);
        response.extend(hex::decode("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df").unwrap());
        MsChapV2::new(&response, &challenge, user).unwrap()
    }

    #[test]
    fn the_example_of_rfc_2759_matches_and_is_answered() {
        let v2 = example(b"User");
        assert!(v2.matches(b"clientPass"));
        assert!(!v2.matches(b"clientpass"));
        assert_eq!(
            v2.success(b"clientPass").as_deref(),
            Some("S=407A5589115FD0D6209F510FE9C04566932CDA56")
        );
        assert_eq!(v2.success(b"clientpass"), None);
    }

    #[test]
    fn a_domain_before_the_name_does_not_count() {
        assert!(example(b"CORP\\User").matches(b"clientPass"));
        assert!(!example(b"Other").matches(b"clientPass"));
    }
}
