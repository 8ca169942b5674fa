//! `otpauth://totp/…`: the key URI format that authenticator apps read from QR codes.

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proxy_config::Secret;

use super::code::{Algorithm, Digits};

/// What one URI holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUri {
    /// Who the key belongs to, as the label says: the part after `issuer:`.
    pub account: String,
    /// Who gave the key out.
    pub issuer: Option<String>,
    /// The key.
    pub seed: Secret,
    /// The hash.
    pub algorithm: Algorithm,
    /// Digits of a code.
    pub digits: Digits,
    /// Seconds of a time step, 10 to 300.
    pub period: u16,
}

/// Why a line is no [`KeyUri`]. It never holds any part of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriProblem {
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// Another scheme, or none.
    #[error("does not begin with otpauth://totp/")]
    NotTotp,
    /// Counter-based (RFC 4226) codes, which a server without state cannot check.
    #[error("is an otpauth://hotp/ URI; only time-based codes (otpauth://totp/) are supported")]
    Hotp,
    /// Nothing between `otpauth://totp/` and `?`.
    #[error("names no account; write otpauth://totp/<user>?secret=…")]
    NoAccount,
    /// No `secret` parameter.
    #[error("has no secret parameter")]
    NoSecret,
    /// A `secret` that is not base32 (RFC 4648 section 6).
    #[error("has a secret that is not base32 (A to Z and 2 to 7)")]
    NotBase32,
    /// A secret of less than 80 bits, which can be guessed.
    #[error("has a secret of {0} bytes; it must be 10 to 128")]
    SeedLength(usize),
    /// Another `algorithm`.
    #[error("has an unknown algorithm; it must be SHA1, SHA256 or SHA512")]
    Algorithm,
    /// Another `digits`.
    #[error("has unsupported digits; they must be 6, 7 or 8")]
    Digits,
    /// Another `period`.
    #[error("has an unsupported period; it must be 10 to 300 seconds")]
    Period,
    /// The account is no user name under the configured rule.
    #[error(
        "names an account that is no valid user name (empty, or longer than policy.user_names.max_bytes)"
    )]
    UserName,
}

const SEED_BYTES: std::ops::RangeInclusive<usize> = 10..=128;

impl KeyUri {
    /// Parses one URI. Parameters that it does not know (`image`, `color`) are passed over.
    ///
    /// # Errors
    /// Everything that [`UriProblem`] lists.
    pub fn parse(line: &str) -> Result<Self, UriProblem> {
        let rest = strip_prefix_ignoring_case(line, "otpauth://").ok_or(UriProblem::NotTotp)?;
        if strip_prefix_ignoring_case(rest, "hotp/").is_some() {
            return Err(UriProblem::Hotp);
        }
        let rest = strip_prefix_ignoring_case(rest, "totp/").ok_or(UriProblem::NotTotp)?;
        let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
        let label = decode(label)?;
        let (prefix, account) = match label.split_once(':') {
            Some((issuer, account)) => (Some(issuer.trim().to_owned()), account.trim().to_owned()),
            None => (None, label.trim().to_owned()),
        };
        if account.is_empty() {
            return Err(UriProblem::NoAccount);
        }
        let mut uri = Self {
            account,
            issuer: prefix.filter(|p| !p.is_empty()),
            seed: Secret::new(Vec::new()),
            algorithm: Algorithm::Sha1,
            digits: Digits::SIX,
            period: 30,
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            uri.parameter(name, value)?;
        }
        match uri.seed.expose().len() {
            0 => Err(UriProblem::NoSecret),
            length if !SEED_BYTES.contains(&length) => Err(UriProblem::SeedLength(length)),
            _ => Ok(uri),
        }
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), UriProblem> {
        match name {
            "secret" => self.seed = seed(value)?,
            "issuer" => self.issuer = Some(decode(value)?).filter(|issuer| !issuer.is_empty()),
            "algorithm" => self.algorithm = Algorithm::parse(value).ok_or(UriProblem::Algorithm)?,
            "digits" => {
                self.digits = value
                    .parse()
                    .ok()
                    .and_then(Digits::new)
                    .ok_or(UriProblem::Digits)?;
            }
            "period" => {
                self.period = value
                    .parse()
                    .ok()
                    .filter(|period| (10..=300).contains(period))
                    .ok_or(UriProblem::Period)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The URI as text: every parameter written out, since apps differ in their defaults.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        let issuer = self.issuer.as_deref().map(encode);
        let label = match &issuer {
            Some(issuer) => format!("{issuer}:{}", encode(&self.account)),
            None => encode(&self.account),
        };
        let mut text = format!(
            "otpauth://totp/{label}?secret={}&algorithm={}&digits={}&period={}",
            BASE32_NOPAD.encode(self.seed.expose()),
            self.algorithm.name(),
            self.digits.count(),
            self.period
        );
        if let Some(issuer) = issuer {
            text.push_str("&issuer=");
            text.push_str(&issuer);
        }
        Secret::new(text.into_bytes())
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Base32 as people write it: lower case, in groups with spaces or dashes, with padding or not.
static LENIENT_BASE32: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    specification
        .translate
        .from
        .push_str("abcdefghijklmnopqrstuvwxyz");
    specification.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    specification.ignore.push_str(" -=");
    // Padding bits that are not zero come from generators that take characters at random.
    specification.check_trailing_bits = false;
    specification.encoding().ok()
});

fn seed(value: &str) -> Result<Secret, UriProblem> {
    let encoding = LENIENT_BASE32.as_ref().ok_or(UriProblem::NotBase32)?;
    let value = percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| UriProblem::NotText)?;
    let bytes = encoding
        .decode(value.as_bytes())
        .map_err(|_| UriProblem::NotBase32)?;
    Ok(Secret::new(bytes))
}

fn decode(text: &str) -> Result<String, UriProblem> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| UriProblem::NotText)?;
    Ok(text.into_owned())
}

fn encode(text: &str) -> String {
    const KEPT: AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'@');
    utf8_percent_encode(text, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_key_uri_format_is_read() {
        let uri = KeyUri::parse(
            "otpauth://totp/ACME%20Co:john.doe@email.com?secret=HXDMVJECJJWSRB3HWIZR4IFUGFTMXBOZ&issuer=ACME%20Co&algorithm=SHA1&digits=6&period=30",
        )
        .unwrap();
        assert_eq!(uri.account, "john.doe@email.com");
        assert_eq!(uri.issuer.as_deref(), Some("ACME Co"));
        assert_eq!(uri.seed.expose().len(), 20);
        assert_eq!(KeyUri::parse(uri.to_text().expose_str().unwrap()).unwrap(), uri);
    }

    #[test]
    fn what_people_write_is_understood() {
        let uri =
            KeyUri::parse("otpauth://totp/Corp%3A%20jane?secret=gezd%20gnbv-gy3tqojq====&digits=8").unwrap();
        assert_eq!(uri.account, "jane");
        assert_eq!(uri.issuer.as_deref(), Some("Corp"));
        assert_eq!(uri.seed.expose(), b"1234567890");
        assert_eq!(uri.digits.count(), 8);
    }

    #[test]
    fn each_wrong_line_has_its_own_problem() {
        for (line, problem) in [
            ("jane:GEZDGNBVGY3TQOJQ", UriProblem::NotTotp),
            (
                "otpauth://hotp/jane?secret=GEZDGNBVGY3TQOJQ&counter=1",
                UriProblem::Hotp,
            ),
            ("otpauth://totp/?secret=GEZDGNBVGY3TQOJQ", UriProblem::NoAccount),
            (
                "otpauth://totp/Corp:?secret=GEZDGNBVGY3TQOJQ",
                UriProblem::NoAccount,
            ),
            ("otpauth://totp/jane", UriProblem::NoSecret),
            ("otpauth://totp/jane?secret=", UriProblem::NoSecret),
            ("otpauth://totp/jane?secret=0189", UriProblem::NotBase32),
            ("otpauth://totp/jane?secret=GEZDGNBV", UriProblem::SeedLength(5)),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&algorithm=MD5",
                UriProblem::Algorithm,
            ),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&digits=4",
                UriProblem::Digits,
            ),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&period=0",
                UriProblem::Period,
            ),
            ("otpauth://totp/%ff?secret=GEZDGNBVGY3TQOJQ", UriProblem::NotText),
        ] {
            assert_eq!(KeyUri::parse(line), Err(problem), "{line}");
        }
    }

    #[test]
    fn no_fuzz_makes_it_panic_and_what_is_read_is_written_as_it_was() {
        bolero::check!()
            .with_type::<(String, String, u16, u8, bool)>()
            .for_each(|(label, more, period, digits, whole)| {
                let _ = KeyUri::parse(more);
                let line = if *whole {
                    format!("otpauth://totp/{label}?secret=GEZDGNBVGY3TQOJQ&period={period}&digits={digits}&{more}")
                } else {
                    format!("otpauth://{label}?{more}")
                };
                if let Ok(uri) = KeyUri::parse(&line) {
                    let text = uri.to_text();
                    assert_eq!(KeyUri::parse(text.expose_str().unwrap()), Ok(uri));
                }
            });
    }
}
