//! Text that must not be shown: shared secrets, keys, tokens.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a [`Secret`] looks like wherever it is shown.
pub const HIDDEN: &str = "(hidden)";

/// A secret text: no Debug or JSON form shows it, it is wiped when dropped, and comparing takes the same time for every
/// text of one length.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for signing and for the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is what a hidden secret reads as, so that a settings update that sends back what it read keeps the
    /// old secret.
    pub fn is_hidden(&self) -> bool {
        self.0.as_str() == HIDDEN
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// For the few places that must keep a secret over a restart or hand it to a controller:
/// `#[serde(with = "in_the_clear")]`.
pub(crate) mod in_the_clear {
    use super::{Deserialize, Deserializer, Secret, Serializer};

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Secret::deserialize(deserializer)
    }
}

/// The first 128 bits of HMAC-SHA256, in hex: tells whether two secrets are the same without showing either.
pub fn keyed_digest(key: &[u8], text: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    let full = mac.finalize().into_bytes();
    hex::encode(full.get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::new("correct horse");
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"(hidden)\"");
    }

    #[test]
    fn digests_depend_on_key_and_text() {
        assert_eq!(keyed_digest(b"k", "a"), keyed_digest(b"k", "a"));
        assert_ne!(keyed_digest(b"k", "a"), keyed_digest(b"k", "b"));
        assert_ne!(keyed_digest(b"k", "a"), keyed_digest(b"l", "a"));
    }
}
