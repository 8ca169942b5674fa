//! How codes are computed from a seed.

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

    /// Reads the name, in any case, also as `SHA-256` or `HmacSHA256`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name: String = text
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let name = name.strip_prefix("HMAC").unwrap_or(&name);
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|a| a.name() == name)
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
