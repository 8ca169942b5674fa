//! The digest by which a pod says which configuration it runs.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Secret;

/// The key of [`ConfigDigest`]: without it, a digest that everybody can read would let them try secrets.
#[derive(Debug, Clone)]
pub struct DigestKey(Secret);

impl DigestKey {
    /// Takes the content of the key file, which may be of any length.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// A key for another purpose, 32 bytes, from which this one cannot be found: HMAC-SHA-256 of the purpose.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Secret {
        // As in `ConfigDigest::compute`, the error cannot happen.
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose());
        Secret::new(mac.map_or_else(
            |_| Vec::new(),
            |mac| mac.chain_update(purpose).finalize().into_bytes().to_vec(),
        ))
    }
}

/// HMAC-SHA-256 over a configuration file and every file that it names.
///
/// The operator computes it over what it wants, the proxy over what it runs; they are equal when the pod has all of
/// it. Shown in hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigDigest(String);

impl ConfigDigest {
    /// Computes the digest of `parts`, pairs of a name (the path as the configuration file writes it; the empty name
    /// for the configuration file itself) and a content, in any order.
    #[must_use]
    pub fn compute<'a>(key: &DigestKey, parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_unstable();
        parts.dedup();
        // HMAC takes a key of any length (RFC 2104 section 2); an impossible error leaves an empty digest, which
        // equals no other side's.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.0.expose()) else {
            return Self(String::new());
        };
        for (name, content) in parts {
            for field in [name.as_bytes(), content] {
                mac.update(&(field.len() as u64).to_be_bytes());
                mac.update(field);
            }
        }
        Self(hex::encode(mac.finalize().into_bytes()))
    }

    /// A digest as it was read from an annotation or a Lease.
    #[must_use]
    pub fn from_reported(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The digest in hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigDigest({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_borders_do() {
        let key = DigestKey::new(vec![7; 32]);
        let one = ConfigDigest::compute(&key, [("a", b"1".as_slice()), ("b", b"2")]);
        assert_eq!(
            one,
            ConfigDigest::compute(&key, [("b", b"2".as_slice()), ("a", b"1")])
        );
        assert_ne!(
            one,
            ConfigDigest::compute(&key, [("a", b"1b".as_slice()), ("", b"2")])
        );
        assert_ne!(
            one,
            ConfigDigest::compute(
                &DigestKey::new(vec![8; 32]),
                [("a", b"1".as_slice()), ("b", b"2")]
            )
        );
        assert_eq!(one.as_str().len(), 64);
    }
}
