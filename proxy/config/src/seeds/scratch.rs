//! Scratch codes: given out beforehand, for when the authenticator is away. Each works once.
//!
//! They stand in clear beside the seeds, which could make every other code: a hash of ten digits hides nothing, and a
//! CHAP or MS-CHAP response can be checked against a clear text only.

use super::SeedProblem;
use crate::Secret;

/// Codes of one user, at most.
pub const MAX_SCRATCH: usize = 20;
/// More digits than a time-based code usually has. google-authenticator gives out codes of eight.
const DIGITS: std::ops::RangeInclusive<usize> = 8..=10;
const PREFIX: &str = "scratch:";

/// `scratch:USER:CODE,CODE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchLine {
    /// Whose codes they are.
    pub user: String,
    /// Codes of 8 to 10 digits.
    pub codes: Vec<Secret>,
}

impl ScratchLine {
    /// `None` for a line of another kind.
    pub(super) fn parse(line: &str) -> Option<Result<Self, SeedProblem>> {
        let (prefix, rest) = line.split_at_checked(PREFIX.len())?;
        prefix
            .eq_ignore_ascii_case(PREFIX)
            .then(|| Self::parse_rest(rest))
    }

    fn parse_rest(rest: &str) -> Result<Self, SeedProblem> {
        let (user, codes) = rest.rsplit_once(':').ok_or(SeedProblem::ScratchShape)?;
        if user.trim().is_empty() {
            return Err(SeedProblem::ScratchShape);
        }
        Ok(Self {
            user: user.trim().to_owned(),
            codes: codes.split(',').map(code).collect::<Result<_, _>>()?,
        })
    }
}

/// One code, in groups or not.
fn code(text: &str) -> Result<Secret, SeedProblem> {
    let mut digits = Vec::with_capacity(text.len());
    digits.extend(text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')));
    let code = Secret::new(digits);
    let good = DIGITS.contains(&code.expose().len()) && code.expose().iter().all(u8::is_ascii_digit);
    good.then_some(code).ok_or(SeedProblem::ScratchCode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_user_and_codes_of_eight_to_ten_digits() {
        let line = ScratchLine::parse("scratch:CORP\\jane: 482910473, 5920184756 ,4829-1047")
            .unwrap()
            .unwrap();
        assert_eq!((line.user.as_str(), line.codes.len()), ("CORP\\jane", 3));
        assert_eq!(line.codes[2].expose(), b"48291047");
        assert!(ScratchLine::parse("otpauth://totp/jane").is_none());
        for (text, problem) in [
            ("scratch:jane", SeedProblem::ScratchShape),
            ("scratch::123456789", SeedProblem::ScratchShape),
            ("scratch:jane:1234567", SeedProblem::ScratchCode),
            ("scratch:jane:12345678901", SeedProblem::ScratchCode),
            ("scratch:jane:1234567890,", SeedProblem::ScratchCode),
        ] {
            assert_eq!(ScratchLine::parse(text).unwrap(), Err(problem), "{text}");
        }
    }
}
