//! Seed files: each line is an `otpauth://totp/` URI or a list of scratch codes. The operator, which reports bad lines,
//! and the proxy, which uses the good ones, both parse lines with this module.

mod algorithm;
mod scratch;
mod uri;

pub use algorithm::{Algorithm, Digits};
pub use scratch::{MAX_SCRATCH, ScratchLine};
pub use uri::{KeyUri, TotpKey};

/// Why a line cannot be used. It never holds any part of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedProblem {
    /// Two bytes a character, as PowerShell's `>` writes.
    #[error("is UTF-16 text; save the file as UTF-8")]
    Utf16,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// Another scheme, or none.
    #[error("does not begin with otpauth://totp/")]
    NotTotp,
    /// Counter-based (RFC 4226) codes, which a server without state cannot check.
    #[error("is an otpauth://hotp/ URI; only time-based codes (otpauth://totp/) are supported")]
    Hotp,
    /// What Google Authenticator exports: many keys in one.
    #[error(
        "is an export of Google Authenticator (otpauth-migration://); write one otpauth://totp/ URI for each user"
    )]
    Migration,
    /// An option or a seed as google-authenticator-libpam writes them.
    #[error(
        "is of a .google_authenticator file; write otpauth://totp/<user>?secret=<its first line>, and \
         scratch:<user>:<code>,<code>"
    )]
    GoogleAuthenticator,
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
    /// No user, or no codes.
    #[error("has no user and codes; write scratch:USER:CODE,CODE")]
    ScratchShape,
    /// A scratch code of another form.
    #[error("has a scratch code that is not 8 to 10 digits")]
    ScratchCode,
    /// Scratch codes of a user without a key.
    #[error("names a user without a key; scratch codes go with an otpauth:// URI")]
    NoSeed,
    /// More than [`MAX_SCRATCH`].
    #[error("has more scratch codes than the {MAX_SCRATCH} that a user may have")]
    TooManyScratchCodes,
}

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedLine {
    /// A user's key.
    Key(KeyUri),
    /// A user's scratch codes.
    Scratch(ScratchLine),
}

impl SeedLine {
    /// Parses one line, in quotes or not.
    ///
    /// # Errors
    /// Everything that [`SeedProblem`] lists.
    pub fn parse(line: &[u8]) -> Result<Self, SeedProblem> {
        let line = std::str::from_utf8(line).map_err(|_| SeedProblem::NotText)?;
        let line = unquoted(line);
        if line.starts_with("\" ") {
            return Err(SeedProblem::GoogleAuthenticator);
        }
        match ScratchLine::parse(line) {
            Some(scratch) => scratch.map(Self::Scratch),
            None => KeyUri::parse(line).map(Self::Key),
        }
    }

    /// Whose line it is, as it is written.
    #[must_use]
    pub fn account(&self) -> &str {
        match self {
            Self::Key(uri) => &uri.account,
            Self::Scratch(scratch) => &scratch.user,
        }
    }
}

/// The lines of a file that hold something, with their numbers: without white space around them, empty lines, comments
/// (`#`) and the mark at the beginning of a file.
pub fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    (1..)
        .zip(file.split(|byte| *byte == b'\n'))
        .map(|(number, line)| (number, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}

/// The lines of a file, parsed. For a file in UTF-16 there is one line, which says so.
pub fn read(file: &[u8]) -> impl Iterator<Item = (usize, &[u8], Result<SeedLine, SeedProblem>)> {
    let utf16 = file.starts_with(b"\xff\xfe")
        || file.starts_with(b"\xfe\xff")
        || file.get(..4).is_some_and(|start| start.contains(&0));
    let text = if utf16 { &[] } else { file };
    let problem = utf16.then_some((1, text, Err(SeedProblem::Utf16)));
    let read = lines(text).map(|(number, line)| (number, line, SeedLine::parse(line)));
    problem.into_iter().chain(read)
}

/// A line without the quotes of a table or a list, and the comma behind it.
fn unquoted(line: &str) -> &str {
    // Files that were put together have a mark in the middle, too.
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let line = line.strip_suffix([',', ';']).unwrap_or(line).trim_end();
    let pairs = [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201c}', '\u{201d}')];
    pairs
        .iter()
        .find_map(|(open, close)| line.strip_prefix(*open)?.strip_suffix(*close))
        .map_or(line, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ";

    #[test]
    fn a_quoted_line_is_the_line() {
        let plain = SeedLine::parse(URI.as_bytes()).unwrap();
        for line in [
            format!("\"{URI}\""),
            format!("'{URI}',"),
            format!("  \"{URI}\" ; "),
            format!("\u{feff}{URI}"),
            format!("\u{201c}{URI}\u{201d}"),
        ] {
            assert_eq!(SeedLine::parse(line.as_bytes()).as_ref(), Ok(&plain), "{line}");
        }
        let scratch = SeedLine::parse(b"\"scratch:jane:12345678,87654321\"").unwrap();
        assert!(matches!(scratch, SeedLine::Scratch(line) if line.codes.len() == 2));
    }

    #[test]
    fn every_line_is_read_or_told_with_its_number_and_cause() {
        let file = format!("\u{feff}{URI}\r\n# staff\r\n\r\n\" TOTP_AUTH\r\nhello\r\n");
        let told: Vec<_> = read(file.as_bytes())
            .map(|(number, _, line)| (number, line.err()))
            .collect();
        assert_eq!(
            told,
            [
                (1, None),
                (4, Some(SeedProblem::GoogleAuthenticator)),
                (5, Some(SeedProblem::NotTotp))
            ]
        );
        let utf16: Vec<u8> = format!("\u{feff}{URI}\n{URI}\n")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for file in [&utf16[..], &utf16[2..]] {
            let told: Vec<_> = read(file).map(|(number, _, line)| (number, line.err())).collect();
            assert_eq!(told, [(1, Some(SeedProblem::Utf16))]);
        }
        let problem = SeedLine::parse(b"otpauth://totp/j\xe4ne?secret=GEZDGNBVGY3TQOJQ");
        assert_eq!(problem, Err(SeedProblem::NotText));
    }
}
