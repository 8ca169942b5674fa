//! Users with seeds, and their codes.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use crate::load::Logins;

/// A seed of 20 bytes that is made of the user's number.
fn seed(user: usize) -> [u8; 20] {
    let mut bytes = [0x5a; 20];
    for (byte, part) in bytes
        .iter_mut()
        .zip((user as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
    {
        *byte ^= part;
    }
    bytes
}

fn code(user: usize, step: u64) -> [u8; 6] {
    let mut digits = *b"000000";
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&seed(user)) else {
        return digits;
    };
    mac.update(&step.to_be_bytes());
    let digest: [u8; 20] = mac.finalize().into_bytes().into();
    let offset = usize::from(digest[19] & 0x0f);
    let four = [0, 1, 2, 3].map(|n| digest.get(offset + n).copied().unwrap_or(0));
    let mut value = (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    digits
}

/// otpauth:// URIs of users, one a line.
pub(crate) fn uris(users: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for user in users {
        let secret = data_encoding::BASE32_NOPAD.encode(&seed(user));
        let _ = writeln!(
            text,
            "otpauth://totp/bench:user{user}?secret={secret}&issuer=bench"
        );
    }
    text
}

/// Each user once, with the code of now. The codes are computed before the run: the generator is not what is measured.
pub(crate) struct OnceEach {
    codes: Vec<[u8; 6]>,
    first: usize,
    at: usize,
}

impl OnceEach {
    /// For these users.
    pub(crate) fn new(users: std::ops::Range<usize>) -> Self {
        let step = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
            / 30;
        Self {
            first: users.start,
            codes: users.map(|user| code(user, step)).collect(),
            at: 0,
        }
    }
}

impl Logins for OnceEach {
    fn next(&mut self, user: &mut String) -> Option<[u8; 6]> {
        let code = *self.codes.get(self.at)?;
        user.clear();
        let _ = write!(user, "user{}", self.first + self.at);
        self.at += 1;
        Some(code)
    }
}

/// Users in turn, all typing the same.
pub(crate) struct InTurn {
    pub(crate) users: usize,
    pub(crate) typed: [u8; 6],
    pub(crate) at: usize,
}

impl Logins for InTurn {
    fn next(&mut self, user: &mut String) -> Option<[u8; 6]> {
        user.clear();
        let _ = write!(user, "user{}", self.at % self.users);
        self.at += 1;
        Some(self.typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_once() {
        let mut logins = OnceEach::new(3..5);
        let mut user = String::new();
        assert!(logins.next(&mut user).is_some());
        assert_eq!(user, "user3");
        assert!(logins.next(&mut user).is_some());
        assert!(logins.next(&mut user).is_none());
    }
}
