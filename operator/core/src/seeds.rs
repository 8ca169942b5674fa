//! Seeds of one-time passwords, checked line by line so that people hear of a bad one from the RadiusProxy itself. The
//! proxy leaves out what is malformed; nothing here decides about logins.

use crate::secrets::Files;

/// How many complaints are shown; the rest is counted.
const SHOWN: usize = 5;

/// What is wrong with the lines of the Secret `name`: key and line number, never the text.
pub(crate) fn complaints(name: &str, files: &Files) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut hidden = 0_usize;
    let mut seeds = 0_usize;
    for (key, content) in files {
        for (number, line) in (1_u32..).zip(content.expose().split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match check(line) {
                Ok(()) => seeds += 1,
                Err(_) if complaints.len() >= SHOWN => hidden += 1,
                Err(problem) => {
                    complaints.push(format!("key {key:?} of Secret {name}, line {number}, {problem}"));
                }
            }
        }
    }
    if hidden > 0 {
        complaints.push(format!("{hidden} more lines are malformed"));
    }
    if seeds == 0 && complaints.is_empty() {
        complaints.push(format!(
            "Secret {name} holds no seed; add one otpauth:// URI a user, as `radius-proxy totp enrol --user USER` prints"
        ));
    }
    complaints
}

/// Checks one URI by the rules of the proxy.
fn check(line: &[u8]) -> Result<(), &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text")?;
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
        Some(10..=128) => Ok(()),
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
    use proxy_config::Secret;

    use super::*;

    fn files(text: &str) -> Files {
        [("eve".to_owned(), Secret::new(text.as_bytes().to_vec()))].into()
    }

    #[test]
    fn good_lines_comments_and_empty_lines_are_no_complaint() {
        let text = "# staff\n\notpauth://totp/Corp%3A%20jane?secret=gezd%20gnbv-gy3tqojq====&digits=8\r\n\
            otpauth://totp/bob?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&period=60&algorithm=sha256";
        assert_eq!(complaints("s", &files(text)), Vec::<String>::new());
    }

    #[test]
    fn a_bad_line_is_named_by_key_and_number_without_its_text() {
        let text = "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXP\notpauth://totp/eve?secret=NOT!BASE32";
        let told = complaints("s", &files(text));
        assert_eq!(
            told,
            ["key \"eve\" of Secret s, line 2, has a secret that is not base32 (A to Z and 2 to 7)"]
        );
    }

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
            assert_eq!(complaints("s", &files(line)).len(), 1, "{line}");
        }
        assert!(complaints("s", &files(""))[0].contains("holds no seed"));
    }

    #[test]
    fn many_bad_lines_make_a_short_list() {
        let text = "x\n".repeat(1000);
        let told = complaints("s", &files(&text));
        assert_eq!(
            (told.len(), told[5].as_str()),
            (6, "995 more lines are malformed")
        );
    }
}
