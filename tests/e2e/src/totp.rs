//! RFC 6238 codes, computed here once more: the tests' own judge of the proxy's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// A seed with the parameters that Google Authenticator has: SHA-1, 6 digits, 30 seconds.
#[derive(Clone)]
pub struct Seed(Vec<u8>);

impl Seed {
    /// Takes the `secret` parameter of an otpauth:// URI.
    pub fn from_uri(uri: &str) -> Result<Self> {
        let query = uri
            .strip_prefix("otpauth://totp/")
            .context("not an otpauth://totp/ URI")?;
        let secret = query
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix("secret="))
            .context("the otpauth URI has no secret")?;
        Ok(Self(base32(secret)?))
    }
}

/// RFC 4648 section 6, without padding.
fn base32(text: &str) -> Result<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => bail!("the seed is not base32"),
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

/// The code of a time step.
pub fn code_at(seed: &Seed, step: u64) -> Result<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(&seed.0)?;
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last().context("an empty digest")? & 0x0f);
    let four: [u8; 4] = digest
        .get(offset..offset + 4)
        .context("a short digest")?
        .try_into()?;
    Ok(format!(
        "{:06}",
        (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000
    ))
}

/// A code of now and the step that it belongs to.
pub fn fresh_code(seed: &Seed) -> Result<(u64, String)> {
    let step = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
        / 30;
    Ok((step, code_at(seed, step)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_rfc_6238_appendix_b() {
        let seed =
            Seed::from_uri("otpauth://totp/x:y?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=x").unwrap();
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000_u64, "353130"),
        ] {
            assert_eq!(code_at(&seed, time / 30).unwrap(), code);
        }
    }
}
