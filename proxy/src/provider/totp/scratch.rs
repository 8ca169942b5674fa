//! Scratch codes: given out beforehand, for when the authenticator is away. Each works once.
//!
//! They stand in clear beside the seeds, which could make every other code: a hash of ten digits hides nothing, and a
//! CHAP or MS-CHAP response can be checked against a clear text only.

use proxy_config::Secret;

/// Codes of one user, at most.
pub(super) const MAX_SCRATCH: usize = 20;
/// Never as many digits as a time-based code has, so that neither is taken for the other.
const DIGITS: std::ops::RangeInclusive<usize> = 9..=10;
const PREFIX: &[u8] = b"scratch:";

/// One code.
pub type ScratchCode = Secret;

/// `scratch:USER:CODE,CODE`
pub(super) struct ScratchLine {
    pub(super) user: String,
    pub(super) codes: Vec<ScratchCode>,
}

/// Why a line cannot be used. It never holds any part of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScratchProblem {
    #[error("is not UTF-8 text")]
    NotText,
    #[error("has no user and codes; write scratch:USER:CODE,CODE")]
    Shape,
    #[error("has a scratch code that is not 9 or 10 digits")]
    Code,
    #[error("names an account that is no valid user name")]
    UserName,
    #[error("names a user without a key; scratch codes go with an otpauth:// URI")]
    NoSeed,
    #[error("has more scratch codes than the {MAX_SCRATCH} that a user may have")]
    TooMany,
}

impl ScratchLine {
    /// `None` for a line of another kind.
    pub(super) fn parse(line: &[u8]) -> Option<Result<Self, ScratchProblem>> {
        let (prefix, rest) = line.split_at_checked(PREFIX.len())?;
        prefix
            .eq_ignore_ascii_case(PREFIX)
            .then(|| Self::parse_rest(rest))
    }

    fn parse_rest(rest: &[u8]) -> Result<Self, ScratchProblem> {
        let rest = std::str::from_utf8(rest).map_err(|_| ScratchProblem::NotText)?;
        let (user, codes) = rest.rsplit_once(':').ok_or(ScratchProblem::Shape)?;
        if user.trim().is_empty() {
            return Err(ScratchProblem::Shape);
        }
        let code = |code: &str| {
            let good = DIGITS.contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit());
            good.then(|| Secret::new(code.as_bytes().to_vec()))
                .ok_or(ScratchProblem::Code)
        };
        Ok(Self {
            user: user.trim().to_owned(),
            codes: codes
                .split(',')
                .map(|text| code(text.trim()))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_user_and_codes_of_nine_or_ten_digits() {
        let parse = |line: &str| ScratchLine::parse(line.as_bytes());
        let line = parse("scratch:CORP\\jane: 482910473, 5920184756 ")
            .unwrap()
            .ok()
            .unwrap();
        assert_eq!((line.user.as_str(), line.codes.len()), ("CORP\\jane", 2));
        assert!(parse("otpauth://totp/jane").is_none());
        for (text, problem) in [
            ("scratch:jane", ScratchProblem::Shape),
            ("scratch::123456789", ScratchProblem::Shape),
            ("scratch:jane:12345678", ScratchProblem::Code),
            ("scratch:jane:1234567890,", ScratchProblem::Code),
        ] {
            assert_eq!(parse(text).unwrap().err(), Some(problem), "{text}");
        }
    }
}
