//! Message-Authenticator (RFC 3579 section 3.2): HMAC-MD5 over a whole packet.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use proxy_config::SharedSecret;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::packet::{AUTHENTICATOR, HEADER};

/// A shared secret with what is computed from it once.
pub(crate) struct SecretKey {
    secret: SharedSecret,
    /// HMAC-MD5 with the key already in it: two of its four blocks are saved for each packet.
    mac: Hmac<Md5>,
    fingerprint: Fingerprint,
}

/// Tells secrets apart over a reload without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 8]);

impl SecretKey {
    /// `None` never happens: HMAC takes a key of any length (RFC 2104 section 2).
    pub(crate) fn new(secret: SharedSecret) -> Option<Self> {
        let mac = Hmac::new_from_slice(secret.expose()).ok()?;
        let mut fingerprint = [0; 8];
        for (to, from) in fingerprint.iter_mut().zip(Sha256::digest(secret.expose())) {
            *to = from;
        }
        Some(Self {
            secret,
            mac,
            fingerprint: Fingerprint(fingerprint),
        })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.secret.expose()
    }

    /// Whether the 16 bytes at `offset` of a request are right.
    pub(crate) fn proves(&self, request: &[u8], offset: usize) -> bool {
        let Some((before, rest)) = request.split_at_checked(offset) else {
            return false;
        };
        let Some((claimed, after)) = rest.split_first_chunk::<16>() else {
            return false;
        };
        // The value counts as sixteen zeros while it is computed.
        let computed = self.hmac(&[before, &[0; 16], after]);
        computed.ct_eq(claimed).into()
    }

    /// Signs an answer in place: the Message-Authenticator, whose value must be the sixteen bytes at `offset` and
    /// zero, over the Request Authenticator; then the Response Authenticator over that (RFC 2865 section 3).
    pub(crate) fn sign(&self, answer: &mut [u8], request_authenticator: &[u8; 16], offset: usize) {
        if let Some(place) = answer.get_mut(AUTHENTICATOR..HEADER) {
            place.copy_from_slice(request_authenticator);
        }
        let message_authenticator = self.hmac(&[answer]);
        if let Some(place) = answer.get_mut(offset..offset + 16) {
            place.copy_from_slice(&message_authenticator);
        }
        let mut md5 = Md5::new();
        md5.update(&*answer);
        md5.update(self.secret.expose());
        if let Some(place) = answer.get_mut(AUTHENTICATOR..HEADER) {
            place.copy_from_slice(&md5.finalize());
        }
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Request;

    #[test]
    fn the_status_server_example_of_rfc_5997_is_proved() {
        // RFC 5997 section 6.1; the shared secret is "xyzzy5461".
        let request = hex::decode(concat!(
            "0cda00268a54f4686fb394c52866e302185d0623",
            "50125a665e2e1e8411f3e243822097c84fa3"
        ))
        .unwrap();
        let offset = Request::parse(&request)
            .ok()
            .unwrap()
            .message_authenticator
            .unwrap();
        let key = SecretKey::new(SharedSecret::parse(b"xyzzy5461").unwrap()).unwrap();
        assert!(key.proves(&request, offset));
        let other = SecretKey::new(SharedSecret::parse(b"xyzzy5462").unwrap()).unwrap();
        assert!(!other.proves(&request, offset));
        for at in 0..request.len() {
            let mut changed = request.clone();
            changed[at] ^= 1;
            assert!(!key.proves(&changed, offset), "byte {at}");
        }
    }

    #[test]
    fn no_fuzz_changes_what_is_proved() {
        let key = SecretKey::new(SharedSecret::parse(b"xyzzy5461").unwrap()).unwrap();
        bolero::check!()
            .with_type::<(Vec<u8>, Vec<u8>, u16, u8)>()
            .for_each(|(before, after, at, with)| {
                let (before, after) = (&before[..before.len().min(200)], &after[..after.len().min(200)]);
                let mut bytes = vec![0; HEADER];
                bytes.extend(before);
                let offset = bytes.len();
                bytes.extend([0; 16]);
                bytes.extend(after);
                let mac = key.hmac(&[&bytes]);
                bytes[offset..offset + 16].copy_from_slice(&mac);
                assert!(key.proves(&bytes, offset));
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= with;
                assert_eq!(key.proves(&bytes, offset), *with == 0);
                // Any offset is no more than a refusal.
                let _ = key.proves(&bytes, at);
                let _ = key.proves(&bytes, usize::from(*with) << 8);
            });
    }
}
