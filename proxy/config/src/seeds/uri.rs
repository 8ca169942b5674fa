//! `otpauth://totp/…`: the key URI format that authenticator apps read from QR codes.

use data_encoding::BASE32_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use super::{Algorithm, Digits, SeedProblem};
use crate::Secret;

/// What one URI holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUri {
    /// Who the key belongs to, as the label says: the part after `issuer:`.
    pub account: String,
    /// Who gave the key out.
    pub issuer: Option<String>,
    /// The seed and how codes are computed from it.
    pub key: TotpKey,
}

/// A seed and how codes are computed from it. Two equal ones give the same codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotpKey {
    /// The key of the HMAC.
    pub seed: Secret,
    /// The hash.
    pub algorithm: Algorithm,
    /// Digits of a code.
    pub digits: Digits,
    /// Seconds of a time step, 10 to 300.
    pub period: u16,
}

const SEED_BYTES: std::ops::RangeInclusive<usize> = 10..=128;

impl KeyUri {
    /// Parses one URI. Parameters that it does not know (`image`, `color`) are passed over.
    ///
    /// # Errors
    /// Everything that [`SeedProblem`] lists of a URI.
    pub fn parse(line: &str) -> Result<Self, SeedProblem> {
        if strip_prefix_ignoring_case(line, "otpauth-migration:").is_some() {
            return Err(SeedProblem::Migration);
        }
        let rest = strip_prefix_ignoring_case(line, "otpauth://").ok_or(SeedProblem::NotTotp)?;
        if strip_prefix_ignoring_case(rest, "hotp/").is_some() {
            return Err(SeedProblem::Hotp);
        }
        let rest = strip_prefix_ignoring_case(rest, "totp/").ok_or(SeedProblem::NotTotp)?;
        let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (prefix, account) = label_parts(label)?;
        if account.is_empty() {
            return Err(SeedProblem::NoAccount);
        }
        let mut uri = Self {
            account,
            issuer: prefix,
            key: TotpKey {
                seed: Secret::new(Vec::new()),
                algorithm: Algorithm::Sha1,
                digits: Digits::SIX,
                period: 30,
            },
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Of a URI that was copied out of a page's source.
            let name = name.strip_prefix("amp;").unwrap_or(name);
            uri.parameter(&name.to_ascii_lowercase(), value.trim())?;
        }
        match uri.key.seed.expose().len() {
            0 => Err(SeedProblem::NoSecret),
            length if !SEED_BYTES.contains(&length) => Err(SeedProblem::SeedLength(length)),
            _ => Ok(uri),
        }
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), SeedProblem> {
        match name {
            "secret" => self.key.seed = seed(value)?,
            "issuer" => self.issuer = Some(form_decode(value)?).filter(|issuer| !issuer.is_empty()),
            "algorithm" => {
                self.key.algorithm = Algorithm::parse(&form_decode(value)?).ok_or(SeedProblem::Algorithm)?;
            }
            "digits" => {
                self.key.digits = value
                    .parse()
                    .ok()
                    .and_then(Digits::new)
                    .ok_or(SeedProblem::Digits)?;
            }
            "period" => {
                self.key.period = value
                    .parse()
                    .ok()
                    .filter(|period| (10..=300).contains(period))
                    .ok_or(SeedProblem::Period)?;
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
            BASE32_NOPAD.encode(self.key.seed.expose()),
            self.key.algorithm.name(),
            self.key.digits.count(),
            self.key.period
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

/// Issuer and account of a label, at the last colon: an issuer can hold one (`https://…`), a user name cannot. A space may be written as `%20` or, by programs that encode URIs as
/// forms, as `+`. In the account of an email address a plus sign is the address's own (`jane+vpn@corp.example`).
fn label_parts(label: &str) -> Result<(Option<String>, String), SeedProblem> {
    let encoded = label.to_ascii_lowercase();
    let plain = encoded.rfind(':').map(|at| (at, 1));
    let escaped = encoded.rfind("%3a").map(|at| (at, 3));
    let colon = plain.max(escaped);
    let (issuer, account) = match colon {
        Some((at, length)) => (label.get(..at), label.get(at + length..).unwrap_or_default()),
        None => (None, label),
    };
    let account = account.trim_matches('+');
    let account = if account.contains('@') || account.to_ascii_lowercase().contains("%40") {
        decode(account)?.trim().to_owned()
    } else {
        form_decode(account)?
    };
    let issuer = issuer.map(form_decode).transpose()?;
    Ok((issuer.filter(|issuer| !issuer.is_empty()), account))
}

/// Base32 as people write it and as authenticator apps read it: lower case, in groups, padded or not, of any length. Bits
/// that fill no byte are left out.
fn seed(value: &str) -> Result<Secret, SeedProblem> {
    let text = Zeroizing::new(decode(value)?);
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.chars() {
        let five = match c {
            'A'..='Z' => u32::from(c) - u32::from('A'),
            'a'..='z' => u32::from(c) - u32::from('a'),
            '2'..='7' => u32::from(c) - u32::from('2') + 26,
            '-' | '=' | '+' => continue,
            c if c.is_whitespace() => continue,
            _ => return Err(SeedProblem::NotBase32),
        };
        bits = (bits << 5 | five) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap_or_default());
        }
    }
    Ok(Secret::new(bytes))
}

fn decode(text: &str) -> Result<String, SeedProblem> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| SeedProblem::NotText)?;
    Ok(text.into_owned())
}

/// As HTML forms encode it: a plus sign is a space.
fn form_decode(text: &str) -> Result<String, SeedProblem> {
    Ok(decode(&text.replace('+', " "))?.trim().to_owned())
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
        assert_eq!(uri.key.seed.expose().len(), 20);
        assert_eq!(KeyUri::parse(uri.to_text().expose_str().unwrap()).unwrap(), uri);
    }

    #[test]
    fn what_people_write_is_understood() {
        let uri =
            KeyUri::parse("otpauth://totp/Corp%3A%20jane?secret=gezd%20gnbv-gy3tqojq====&digits=8").unwrap();
        assert_eq!(uri.account, "jane");
        assert_eq!(uri.issuer.as_deref(), Some("Corp"));
        assert_eq!(uri.key.seed.expose(), b"1234567890");
        assert_eq!(uri.key.digits.count(), 8);
    }

    #[test]
    fn seeds_of_any_length_are_read_as_authenticator_apps_do() {
        const LONG: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for length in 16..=32 {
            let text = LONG.get(..length).unwrap();
            let expected = &b"12345678901234567890"[..length * 5 / 8];
            for text in [text.to_owned(), text.to_lowercase(), format!("{text}==")] {
                let uri = KeyUri::parse(&format!("otpauth://totp/jane?secret={text}")).unwrap();
                assert_eq!(uri.key.seed.expose(), expected, "{length}");
            }
        }
        for text in [
            "gezd+gnbv+gy3t+qojq",
            "GEZD%20GNBV GY3T-QOJQ",
            "GE=ZDGNBVGY3TQOJQ=",
            "GEZDGNBV%3D%3DGY3TQOJQ",
        ] {
            let uri = KeyUri::parse(&format!("otpauth://totp/jane?secret={text}")).unwrap();
            assert_eq!(uri.key.seed.expose(), b"1234567890", "{text}");
        }
    }

    #[test]
    fn labels_have_spaces_written_in_every_way() {
        for (label, issuer, account) in [
            ("Example+Corp:jane", Some("Example Corp"), "jane"),
            ("Example%20Corp:+jane", Some("Example Corp"), "jane"),
            ("Example Corp%3a%20jane", Some("Example Corp"), "jane"),
            ("Jane+Doe", None, "Jane Doe"),
            ("Jane%2BDoe", None, "Jane+Doe"),
            (
                "Corp:jane+vpn@corp.example",
                Some("Corp"),
                "jane+vpn@corp.example",
            ),
            (":jane", None, "jane"),
            ("Corp%3AEU:jane", Some("Corp:EU"), "jane"),
            ("Corp:EU%3A%20jane", Some("Corp:EU"), "jane"),
            ("https://vpn.example:jane", Some("https://vpn.example"), "jane"),
        ] {
            let uri = KeyUri::parse(&format!("otpauth://totp/{label}?secret=GEZDGNBVGY3TQOJQ")).unwrap();
            assert_eq!(
                (uri.issuer.as_deref(), uri.account.as_str()),
                (issuer, account),
                "{label}"
            );
        }
        let uri = KeyUri::parse(
            "otpauth://totp/jane?Secret=GEZDGNBVGY3TQOJQ&amp;issuer=A+B&amp;DIGITS=8&algorithm=HmacSHA256",
        );
        let uri = uri.unwrap();
        assert_eq!((uri.issuer.as_deref(), uri.key.digits.count()), (Some("A B"), 8));
        assert_eq!(uri.key.algorithm, Algorithm::Sha256);
    }

    #[test]
    fn each_wrong_line_has_its_own_problem() {
        for (line, problem) in [
            ("jane:GEZDGNBVGY3TQOJQ", SeedProblem::NotTotp),
            ("otpauth-migration://offline?data=CjEKCk", SeedProblem::Migration),
            (
                "otpauth://hotp/jane?secret=GEZDGNBVGY3TQOJQ&counter=1",
                SeedProblem::Hotp,
            ),
            ("otpauth://totp/?secret=GEZDGNBVGY3TQOJQ", SeedProblem::NoAccount),
            (
                "otpauth://totp/Corp:?secret=GEZDGNBVGY3TQOJQ",
                SeedProblem::NoAccount,
            ),
            ("otpauth://totp/jane", SeedProblem::NoSecret),
            ("otpauth://totp/jane?secret=", SeedProblem::NoSecret),
            ("otpauth://totp/jane?secret=0189", SeedProblem::NotBase32),
            ("otpauth://totp/jane?secret=GEZDGNBV", SeedProblem::SeedLength(5)),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&algorithm=MD5",
                SeedProblem::Algorithm,
            ),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&digits=4",
                SeedProblem::Digits,
            ),
            (
                "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&period=0",
                SeedProblem::Period,
            ),
            ("otpauth://totp/%ff?secret=GEZDGNBVGY3TQOJQ", SeedProblem::NotText),
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
