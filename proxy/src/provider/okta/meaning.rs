//! What Okta's error codes mean: one table (developer.okta.com/docs/reference/error-codes).

use super::super::fault::FaultClass;

/// What an error of Okta's API says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The call failed.
    Failure(FaultClass),
    /// There is no such user, factor or transaction.
    NotFound,
    /// The code is wrong, or too old.
    WrongCode,
    /// The code was right and had been used before.
    UsedCode,
    /// The user or the factor is locked.
    LockedOut,
    /// The user said no.
    Denied,
    /// The factor cannot be used now.
    NotPossible,
    /// A code was sent a moment ago.
    SentJustNow,
}

use Meaning::{Denied, Failure, LockedOut, NotFound, NotPossible, SentJustNow, UsedCode, WrongCode};

const MEANINGS: [(&str, Meaning); 27] = [
    ("E0000001", Failure(FaultClass::ClientError)), // validation
    ("E0000003", Failure(FaultClass::ClientError)), // the body was not well-formed
    ("E0000004", Failure(FaultClass::Credentials)), // authentication failed
    ("E0000005", Failure(FaultClass::Credentials)), // invalid session
    ("E0000006", Failure(FaultClass::Credentials)), // a role or scope is missing
    ("E0000007", NotFound),
    ("E0000008", Failure(FaultClass::ClientError)), // no such path: not the organisation's URL
    ("E0000009", Failure(FaultClass::ServerError)),
    ("E0000010", Failure(FaultClass::ServerError)), // read-only
    ("E0000011", Failure(FaultClass::Credentials)), // invalid token
    ("E0000015", Failure(FaultClass::Credentials)), // the feature is not enabled for the token
    ("E0000016", NotPossible),                      // the factor is not active
    ("E0000030", Failure(FaultClass::ClientError)),
    ("E0000038", LockedOut), // not allowed in the user's status
    ("E0000047", Failure(FaultClass::Throttled)),
    ("E0000060", NotPossible), // unsupported operation
    ("E0000068", WrongCode),
    ("E0000069", LockedOut),   // too many wrong answers
    ("E0000070", NotPossible), // waiting for an acknowledgement
    ("E0000073", Denied),
    ("E0000074", Failure(FaultClass::ServerError)), // the factor's own service
    ("E0000079", NotPossible),                      // not allowed in the transaction's state
    ("E0000082", UsedCode),
    ("E0000083", WrongCode), // valid, outside its time
    ("E0000085", LockedOut), // a sign-on policy denies it
    ("E0000109", SentJustNow),
    ("E0000119", LockedOut),
];

/// The meaning of an answer that is no success. Without a code that is known here, the HTTP status says the class.
pub(super) fn meaning(status: u16, code: Option<&str>) -> Meaning {
    let known = code.and_then(|code| MEANINGS.iter().find(|(known, _)| *known == code));
    if let Some((_, meaning)) = known {
        return *meaning;
    }
    Failure(match status {
        // A success of the wrong shape, or a redirect, which Okta's API has none of.
        0..=399 => FaultClass::Malformed,
        401 => FaultClass::Credentials,
        429 => FaultClass::Throttled,
        400..=499 => FaultClass::ClientError,
        _ => FaultClass::ServerError,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_its_meaning() {
        for (status, code, expected) in [
            (401, "E0000004", Failure(FaultClass::Credentials)),
            (401, "E0000011", Failure(FaultClass::Credentials)),
            (401, "E0000015", Failure(FaultClass::Credentials)),
            (403, "E0000006", Failure(FaultClass::Credentials)),
            (404, "E0000007", NotFound),
            (403, "E0000038", LockedOut),
            (429, "E0000047", Failure(FaultClass::Throttled)),
            (403, "E0000068", WrongCode),
            (403, "E0000069", LockedOut),
            (403, "E0000079", NotPossible),
            (403, "E0000082", UsedCode),
            (429, "E0000109", SentJustNow),
            (403, "E0000119", LockedOut),
        ] {
            assert_eq!(meaning(status, Some(code)), expected, "{code}");
        }
    }

    #[test]
    fn an_unknown_code_means_what_its_status_does() {
        for (status, class) in [
            (200, FaultClass::Malformed),
            (302, FaultClass::Malformed),
            (400, FaultClass::ClientError),
            (401, FaultClass::Credentials),
            (403, FaultClass::ClientError),
            (429, FaultClass::Throttled),
            (500, FaultClass::ServerError),
            (503, FaultClass::ServerError),
        ] {
            assert_eq!(meaning(status, Some("E0009999")), Failure(class), "{status}");
            assert_eq!(meaning(status, None), Failure(class), "{status}");
        }
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<_> = MEANINGS.iter().map(|(code, _)| *code).collect();
        codes.dedup();
        assert_eq!(codes.len(), MEANINGS.len());
        assert!(codes.is_sorted());
    }
}
