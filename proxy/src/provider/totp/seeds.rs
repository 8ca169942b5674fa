//! The users' seeds, as the seed files hold them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use proxy_config::{Secret, SeedFile};

use super::code::{Algorithm, Digits};
use super::scratch::{MAX_SCRATCH, ScratchCode, ScratchLine, ScratchProblem};
use super::uri::{KeyUri, UriProblem};
use crate::provider::MAX_COMPLAINTS;

/// A user's seed and how codes are made of it.
#[derive(Debug)]
pub struct Seed {
    /// The key.
    pub key: Secret,
    /// The hash.
    pub algorithm: Algorithm,
    /// Digits of a code.
    pub digits: Digits,
    /// Seconds of a time step.
    pub period: u16,
    /// Codes that work once each.
    pub scratch: Vec<ScratchCode>,
}

/// Seeds by normalised user name, for a million users and more.
#[derive(Default)]
pub struct Seeds {
    /// `None` for a user who was found twice: which of the two seeds is right cannot be known.
    by_user: HashMap<Box<str>, Option<Seed>>,
    complaints: Vec<String>,
    /// Scratch codes are passed over.
    without_scratch: bool,
    bad_lines: usize,
    twice: usize,
}

impl Seeds {
    /// Reads seed files. With `takes_scratch` false, scratch codes are passed over, and that is complained of. A line that cannot be used costs its own user and no other; lines that are empty or begin
    /// with `#` are passed over. `normalise` is the rule for user names; `None` means that a name is not valid.
    #[must_use]
    pub fn load(files: &[SeedFile], takes_scratch: bool, normalise: impl Fn(&str) -> Option<String>) -> Self {
        let mut seeds = Self::default();
        // Codes come to their seed when all seeds are known.
        let mut scratch = Vec::new();
        for file in files {
            for (number, line) in (1..).zip(file.text.expose().split(|byte| *byte == b'\n')) {
                let line = line.trim_ascii();
                if line.is_empty() || line.starts_with(b"#") {
                    continue;
                }
                match ScratchLine::parse(line) {
                    None => seeds.add(file, number, line, &normalise),
                    Some(_) if !takes_scratch => seeds.without_scratch = true,
                    Some(parsed) => scratch.push((file, number, parsed)),
                }
            }
        }
        for (file, number, parsed) in scratch {
            let added = parsed.and_then(|line| seeds.add_scratch(line, &normalise));
            if let Err(problem) = added {
                seeds.bad_lines += 1;
                seeds.complain(format!("{}: line {number} {problem}; it is left out", file.path));
            }
        }
        if seeds.without_scratch {
            seeds.complain(
                "scratch codes are passed over: without a store (provider.totp.used_codes) each would work again after \
                 a restart"
                    .to_owned(),
            );
        }
        seeds.by_user.shrink_to_fit();
        seeds
    }

    fn add(
        &mut self,
        file: &SeedFile,
        number: usize,
        line: &[u8],
        normalise: impl Fn(&str) -> Option<String>,
    ) {
        let parsed = std::str::from_utf8(line)
            .map_err(|_| UriProblem::NotText)
            .and_then(KeyUri::parse)
            .and_then(|uri| {
                let user = normalise(&uri.account).ok_or(UriProblem::UserName)?;
                Ok((user, uri))
            });
        let (user, uri) = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => {
                self.bad_lines += 1;
                self.complain(format!("{}: line {number} {problem}; it is left out", file.path));
                return;
            }
        };
        let seed = Seed {
            key: uri.seed,
            algorithm: uri.algorithm,
            digits: uri.digits,
            period: uri.period,
            scratch: Vec::new(),
        };
        match self.by_user.entry(user.into_boxed_str()) {
            Entry::Vacant(place) => {
                place.insert(Some(seed));
            }
            Entry::Occupied(mut place) => {
                let complaint = format!(
                    "{}: line {number} is one more seed of user {:?}; the user is refused until only one is left",
                    file.path,
                    place.key()
                );
                if place.insert(None).is_some() {
                    self.twice += 1;
                }
                self.complain(complaint);
            }
        }
    }

    fn add_scratch(
        &mut self,
        line: ScratchLine,
        normalise: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ScratchProblem> {
        let user = normalise(&line.user).ok_or(ScratchProblem::UserName)?;
        let seed = self
            .by_user
            .get_mut(user.as_str())
            .ok_or(ScratchProblem::NoSeed)?;
        // Who has two seeds is refused anyway.
        let Some(seed) = seed else { return Ok(()) };
        for code in line.codes {
            if seed.scratch.len() >= MAX_SCRATCH {
                return Err(ScratchProblem::TooMany);
            }
            if !seed.scratch.contains(&code) {
                seed.scratch.push(code);
            }
        }
        Ok(())
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }

    /// A user's seed: `Some(None)` when the user was found twice.
    #[must_use]
    pub fn of(&self, user: &str) -> Option<Option<&Seed>> {
        self.by_user.get(user).map(Option::as_ref)
    }

    /// How many users can log in.
    #[must_use]
    pub fn users(&self) -> usize {
        self.by_user.len().saturating_sub(self.twice)
    }

    /// How many lines could not be used, and how many users were found twice.
    #[must_use]
    pub const fn left_out(&self) -> (usize, usize) {
        (self.bad_lines, self.twice)
    }

    /// What is wrong with the files, one sentence each, the first [`MAX_COMPLAINTS`].
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Seeds {
        let files = [SeedFile {
            path: "seeds/a".to_owned(),
            text: Secret::new(text.as_bytes().to_vec()),
        }];
        Seeds::load(&files, true, |name| {
            (name.len() < 20).then(|| name.to_lowercase())
        })
    }

    #[test]
    fn a_bad_line_costs_one_user_and_shows_nothing_of_its_seed() {
        let seeds = load(
            "# staff\n\notpauth://totp/Jane?secret=GEZDGNBVGY3TQOJQ\r\notpauth://totp/joe?secret=GEZDGNBVGY3TQOJ1\nhunter2\n\
             otpauth://totp/aaaaaaaaaaaaaaaaaaaaaaaaaaaa?secret=GEZDGNBVGY3TQOJQ\n",
        );
        assert_eq!((seeds.users(), seeds.left_out()), (1, (3, 0)));
        assert!(seeds.of("jane").is_some_and(|seed| seed.is_some()));
        let text = seeds.complaints().join("\n");
        assert!(
            text.contains("seeds/a: line 4 has a secret that is not base32"),
            "{text}"
        );
        assert!(
            text.contains("line 5 does not begin with otpauth://totp/"),
            "{text}"
        );
        assert!(
            text.contains("line 6 names an account that is no valid user name"),
            "{text}"
        );
        assert!(!text.contains("hunter2") && !text.contains("GEZ"), "{text}");
    }

    #[test]
    fn scratch_codes_come_to_the_users_seed_and_bad_ones_are_told_without_the_code() {
        let seeds = load(
            "scratch:JANE:4829104732,5920184756\notpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\n\
             scratch:joe:4829104732\nscratch:jane:123\nscratch:jane:5920184756",
        );
        let jane = seeds.of("jane").unwrap().unwrap();
        assert_eq!(jane.scratch.len(), 2);
        let text = seeds.complaints().join("\n");
        assert!(text.contains("line 3 names a user without a key"), "{text}");
        assert!(
            text.contains("line 4 has a scratch code that is not 9 or 10 digits"),
            "{text}"
        );
        assert!(!text.contains("4829104732"), "{text}");
        let files = [SeedFile {
            path: "seeds/a".to_owned(),
            text: Secret::new(
                b"otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\nscratch:jane:4829104732".to_vec(),
            ),
        }];
        let without = Seeds::load(&files, false, |name| Some(name.to_owned()));
        assert!(without.of("jane").unwrap().unwrap().scratch.is_empty());
        assert!(without.complaints()[0].contains("without a store"));
    }

    #[test]
    fn a_user_found_twice_is_refused_and_told() {
        let seeds = load(
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\notpauth://totp/JANE?secret=GEZDGNBVGY3TQOJQGEZDG\n\
             otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\notpauth://totp/joe?secret=GEZDGNBVGY3TQOJQ",
        );
        assert_eq!((seeds.users(), seeds.left_out()), (1, (0, 1)));
        assert!(seeds.of("jane").is_some_and(|seed| seed.is_none()));
        assert_eq!(seeds.complaints().len(), 2);
    }
}
