//! Unguessable bytes and keyed digests, both from the seed that the caller drew.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use proxy_config::PeerKey;

use crate::factor::UserName;

/// HMAC-SHA-256 of a counter: a stream that nobody without the seed can tell or foresee.
pub(crate) struct Unguessable {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
}

/// A digest of what a login gave as second factor, to tell a further try of the same person from somebody else's.
/// Without the seed nobody can try passwords against it, and it never leaves memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TextDigest([u8; 16]);

impl TextDigest {
    /// Whether both are known and the same: what nobody can read is nobody's next try.
    pub(crate) fn same(one: Option<Self>, other: Option<Self>) -> bool {
        one.is_some() && one == other
    }
}

impl Unguessable {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            counter: 0,
        }
    }

    /// The next 16 bytes.
    pub(crate) fn next(&mut self) -> [u8; 16] {
        self.counter = self.counter.wrapping_add(1);
        self.hmac(&[b"stream", &self.counter.to_be_bytes()])
    }

    /// The digest of what `user` gave.
    /// With a key that all proxies share, the same text has the same digest at each of them.
    pub(crate) fn digest(&self, shared: Option<&PeerKey>, user: &UserName, text: &[u8]) -> TextDigest {
        let length = (user.0.len() as u64).to_be_bytes();
        let parts: [&[u8]; 4] = [b"text", &length, user.0.as_bytes(), text];
        TextDigest(shared.map_or_else(|| self.hmac(&parts), |key| hmac(key.expose(), &parts)))
    }

    /// The digest of a response from which the text cannot be read. It is never that of a text.
    pub(crate) fn digest_response(&self, user: &UserName, parts: [&[u8]; 3]) -> TextDigest {
        let length = (user.0.len() as u64).to_be_bytes();
        let [method, challenge, response] = parts;
        let challenge_length = (challenge.len() as u64).to_be_bytes();
        TextDigest(self.hmac(&[
            b"response",
            &length,
            user.0.as_bytes(),
            method,
            &challenge_length,
            challenge,
            response,
        ]))
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 16] {
        hmac(self.seed.as_slice(), parts)
    }
}

impl TextDigest {
    pub(crate) fn from_peer(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn for_peer(self) -> [u8; 16] {
        self.0
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut half = [0; 16];
    // HMAC takes a key of any length (RFC 2104 section 2).
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) {
        for part in parts {
            mac.update(part);
        }
        let whole = mac.finalize().into_bytes();
        for (to, from) in half.iter_mut().zip(whole) {
            *to = from;
        }
    }
    half
}
