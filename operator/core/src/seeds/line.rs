//! One line of seeds.

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    /// A seed of the account.
    Seed(String),
    /// Scratch codes of the account.
    Scratch(String),
}

impl Line {
    pub(super) fn account(&self) -> &str {
        match self {
            Self::Seed(account) | Self::Scratch(account) => account,
        }
    }
}

/// Reads a line by the rules of the proxy.
pub(super) fn read(line: &[u8]) -> Result<Line, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text")?;
    match strip(line, "scratch:") {
        Some(rest) => scratch(rest).map(Line::Scratch),
        None => seed(line).map(Line::Seed),
    }
}

/// `scratch:USER:CODE,CODE`, with codes of 9 or 10 digits.
fn scratch(rest: &str) -> Result<String, &'static str> {
    let (account, codes) = rest
        .rsplit_once(':')
        .filter(|(account, _)| !account.trim().is_empty())
        .ok_or("has no user and codes; write scratch:USER:CODE,CODE")?;
    let good = |code: &str| (9..=10).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
    if codes.split(',').map(str::trim).all(good) {
        Ok(account.trim().to_owned())
    } else {
        Err("has a scratch code that is not 9 or 10 digits")
    }
}

/// The account of an otpauth:// URI.
fn seed(line: &str) -> Result<String, &'static str> {
    let rest = strip(line, "otpauth://").ok_or("does not begin with otpauth://totp/")?;
    if strip(rest, "hotp/").is_some() {
        return Err("is an otpauth://hotp/ URI; only time-based codes (otpauth://totp/) are supported");
    }
    let rest = strip(rest, "totp/").ok_or("does not begin with otpauth://totp/")?;
    let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
    let label = decode(label);
    let label = std::str::from_utf8(&label).map_err(|_| "is not UTF-8 text")?;
    let account = label.split_once(':').map_or(label, |(_, account)| account);
    if account.trim().is_empty() {
        return Err("names no account; write otpauth://totp/<user>?secret=…");
    }
    let mut seed_bits = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "secret" => seed_bits = Some(base32_characters(value)? * 5),
            "algorithm"
                if !["SHA1", "SHA256", "SHA512"]
                    .iter()
                    .any(|a| a.eq_ignore_ascii_case(value)) =>
            {
                return Err("has an unknown algorithm; it must be SHA1, SHA256 or SHA512");
            }
            "digits" if !matches!(value.parse(), Ok(6..=8_u8)) => {
                return Err("has unsupported digits; they must be 6, 7 or 8");
            }
            "period" if !matches!(value.parse(), Ok(10..=300_u16)) => {
                return Err("has an unsupported period; it must be 10 to 300 seconds");
            }
            _ => {}
        }
    }
    match seed_bits.map(|bits| bits / 8) {
        None | Some(0) => Err("has no secret parameter"),
        Some(10..=128) => Ok(account.trim().to_owned()),
        Some(_) => Err("has a secret of another length than 10 to 128 bytes"),
    }
}

/// How many characters of base32 (RFC 4648 section 6) there are, in lower or upper case, in groups, padded or not.
fn base32_characters(value: &str) -> Result<usize, &'static str> {
    let mut count = 0;
    for byte in decode(value) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'2'..=b'7' => count += 1,
            b' ' | b'-' | b'=' => {}
            _ => return Err("has a secret that is not base32 (A to Z and 2 to 7)"),
        }
    }
    Ok(count)
}

/// Percent-decoding; a `%` without two hex digits stands for itself.
fn decode(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [byte, tail @ ..] = rest {
        let pair = tail.get(..2).filter(|_| *byte == b'%');
        let value = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        let taken = if value.is_some() { 2 } else { 0 };
        rest = tail.get(taken..).unwrap_or_default();
    }
    decoded
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_line_is_found() {
        for line in [
            "jane:GEZDGNBVGY3TQOJQ",
            "otpauth://hotp/jane?secret=GEZDGNBVGY3TQOJQ&counter=1",
            "otpauth://totp/?secret=GEZDGNBVGY3TQOJQ",
            "otpauth://totp/Corp:?secret=GEZDGNBVGY3TQOJQ",
            "otpauth://totp/jane",
            "otpauth://totp/jane?secret=",
            "otpauth://totp/jane?secret=GEZDGNBV",
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&algorithm=MD5",
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&digits=4",
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&period=0",
            "otpauth://totp/%ff?secret=GEZDGNBVGY3TQOJQ",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn scratch_codes_are_nine_or_ten_digits_of_a_user() {
        let account = |line: &str| read(line.as_bytes()).map(|line| line.account().to_owned());
        assert_eq!(
            account("scratch:CORP\\jane:482910473, 5920184756").unwrap(),
            "CORP\\jane"
        );
        for line in [
            "scratch:jane",
            "scratch::123456789",
            "scratch:jane:12345678",
            "scratch:jane:1234567890,x",
        ] {
            assert!(account(line).is_err(), "{line}");
        }
    }
}
