//! The few things that an unreadable text can be, tried one by one.

use zeroize::Zeroizing;

use super::{Password, mschap};
use crate::factor::{Keyword, KeywordFactor, ResponseCheck as _};

/// A text that can be tried, and what it means.
pub(crate) struct Candidate {
    pub(crate) text: String,
    /// `None`: empty, the default factor.
    pub(crate) keyword: Option<Keyword>,
    /// What MS-CHAP makes of it, computed once.
    nt_hash: Zeroizing<[u8; 16]>,
}

impl Candidate {
    fn new(text: String, keyword: Option<Keyword>) -> Self {
        Self {
            nt_hash: mschap::nt_hash(text.as_bytes()).unwrap_or_default(),
            text,
            keyword,
        }
    }
}

/// The empty text and the factor keywords. The codes valid now are the provider's to try.
pub(crate) struct Candidates(Vec<Candidate>);

/// Devices tried; readable text can name more of them.
const DEVICES: u8 = 3;

impl Candidates {
    pub(crate) fn new() -> Self {
        let mut candidates = vec![Candidate::new(String::new(), None)];
        for factor in KeywordFactor::ALL {
            let name = factor.word();
            let last = if factor == KeywordFactor::Auto { 0 } else { DEVICES };
            for device in 0..=last {
                let device = (device > 0).then_some(device);
                let number = device.map(|device| device.to_string()).unwrap_or_default();
                // As people and their telephones write it: push, Push, PUSH.
                let (first, rest) = name.split_at(1);
                for word in [
                    name.to_owned(),
                    first.to_ascii_uppercase() + rest,
                    name.to_ascii_uppercase(),
                ] {
                    candidates.push(Candidate::new(word + &number, Some(Keyword { factor, device })));
                }
            }
        }
        Self(candidates)
    }

    /// The candidate that was typed.
    pub(crate) fn find(&self, password: &Password) -> Option<&Candidate> {
        self.0.iter().find(|candidate| match password {
            Password::Chap(chap) => chap.matches(candidate.text.as_bytes()),
            Password::MsChapV1(v1) => v1.matches_hash(&candidate.nt_hash),
            Password::MsChapV2(v2) => v2.matches_hash(&candidate.nt_hash),
            Password::Pap(_) | Password::None => false,
        })
    }
}
