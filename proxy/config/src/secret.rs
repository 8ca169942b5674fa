//! Secrets: no Debug text, zeroed on drop, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that must not be seen: a provider key, a token, a seed.
///
/// `Debug` prints `[redacted]`, there is no `Display`, equality takes constant time for equal lengths, and the memory
/// is zeroed on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The same text without white space at its end: files written by `echo` end in a line feed.
    #[must_use]
    pub fn trim_end(&self) -> Self {
        Self(self.0.trim_ascii_end().to_vec())
    }

    /// The bytes as UTF-8 text.
    ///
    /// # Errors
    /// The bytes are not UTF-8; the error names no byte of them.
    pub fn expose_str(&self) -> Result<&str, NotUtf8> {
        std::str::from_utf8(&self.0).map_err(|_| NotUtf8)
    }
}

/// A secret that should be text is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not UTF-8 text")]
pub struct NotUtf8;

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A RADIUS shared secret (RFC 2865 section 3), within the bounds of AWS Directory Service: 8 to 512 characters, each
/// a letter, a digit, punctuation or a space.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Secret);

/// Why a text is no [`SharedSecret`]. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharedSecretError {
    /// Nothing but white space.
    #[error("the shared secret is empty; write one of {MIN} to {MAX} characters")]
    Empty,
    /// Outside 8 to 512 characters.
    #[error("the shared secret has {0} characters; it must have {MIN} to {MAX}")]
    Length(usize),
    /// A character other than printable ASCII.
    #[error(
        "the shared secret has a character other than letters, digits, punctuation and space at position {0}"
    )]
    Character(usize),
}

const MIN: usize = 8;
const MAX: usize = 512;

impl SharedSecret {
    /// Parses a secret as it stands in a file or a Kubernetes Secret. One line feed at the end (with a carriage
    /// return before it or not) is the editor's and is left out; every other character counts.
    ///
    /// # Errors
    /// The text is empty, too short, too long, or has a character that AWS refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, SharedSecretError> {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.trim_ascii().is_empty() {
            return Err(SharedSecretError::Empty);
        }
        if let Some(at) = text.iter().position(|b| !(b' '..=b'~').contains(b)) {
            return Err(SharedSecretError::Character(at + 1));
        }
        if !(MIN..=MAX).contains(&text.len()) {
            return Err(SharedSecretError::Length(text.len()));
        }
        Ok(Self(Secret::new(text.to_vec())))
    }

    /// The bytes, for signing and for `RadiusSettings.SharedSecret`.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The characters; a shared secret is always printable ASCII.
    #[must_use]
    pub fn expose_str(&self) -> &str {
        self.0.expose_str().unwrap_or_default()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new(b"hunter2hunter2".to_vec());
        let shared = SharedSecret::parse(b"hunter2hunter2").unwrap();
        assert_eq!(format!("{secret:?} {shared:?}"), "[redacted] [redacted]");
    }

    #[test]
    fn a_shared_secret_keeps_to_the_bounds_of_the_directory() {
        assert_eq!(SharedSecret::parse(b"\n"), Err(SharedSecretError::Empty));
        assert_eq!(SharedSecret::parse(b"short\n"), Err(SharedSecretError::Length(5)));
        assert_eq!(
            SharedSecret::parse("sécrètement".as_bytes()),
            Err(SharedSecretError::Character(2))
        );
        assert_eq!(
            SharedSecret::parse(&[b'x'; 513]),
            Err(SharedSecretError::Length(513))
        );
        assert_eq!(
            SharedSecret::parse(b"with a space\r\n").unwrap().expose(),
            b"with a space"
        );
    }

    #[test]
    fn no_fuzz_makes_a_shared_secret_that_aws_refuses() {
        bolero::check!().for_each(|bytes| {
            if let Ok(secret) = SharedSecret::parse(bytes) {
                assert!((MIN..=MAX).contains(&secret.expose().len()));
                assert!(secret.expose().iter().all(|byte| (b' '..=b'~').contains(byte)));
                assert_eq!(secret.expose_str().as_bytes(), secret.expose());
            }
        });
    }
}
