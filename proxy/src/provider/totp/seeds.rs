//! The users' seeds, as the seed files hold them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use proxy_config::seeds::{self, MAX_SCRATCH, ScratchLine, SeedLine, SeedProblem, TotpKey};
use proxy_config::{Secret, SeedFile};

use crate::provider::MAX_COMPLAINTS;

/// A user's key and scratch codes.
#[derive(Debug)]
pub struct Seed {
    /// What time-based codes are made of.
    pub key: TotpKey,
    /// Codes that work once each.
    pub scratch: Vec<Secret>,
}

/// Seeds by normalised user name, for a million users and more.
#[derive(Default)]
pub struct Seeds {
    /// `None` for a user who was found twice: which of the two seeds is right cannot be known.
    by_user: HashMap<Box<str>, Option<Seed>>,
    complaints: Vec<String>,
    untold: usize,
    /// Scratch codes are passed over.
    without_scratch: bool,
    twice: usize,
}

impl Seeds {
    /// Reads seed files. With `takes_scratch` false, scratch codes are passed over, and that is complained of. A line that
    /// cannot be used costs its own user and no other. `normalise` is the rule for user names; `None` means that a name is
    /// not valid.
    #[must_use]
    pub fn load(files: &[SeedFile], takes_scratch: bool, normalise: impl Fn(&str) -> Option<String>) -> Self {
        let mut seeds = Self::default();
        // Codes come to their seed when all seeds are known.
        let mut scratch = Vec::new();
        for file in files {
            for (number, _, line) in seeds::read(file.text.expose()) {
                let read = line.and_then(|line| {
                    let user = normalise(line.account()).ok_or(SeedProblem::UserName)?;
                    Ok((user, line))
                });
                match read {
                    Ok((user, SeedLine::Key(uri))) => seeds.add(file, number, user, uri.key),
                    Ok((_, SeedLine::Scratch(_))) if !takes_scratch => seeds.without_scratch = true,
                    Ok((user, SeedLine::Scratch(line))) => scratch.push((file, number, user, line)),
                    Err(problem) => seeds.leave_out(file, number, problem),
                }
            }
        }
        for (file, number, user, line) in scratch {
            if let Err(problem) = seeds.add_scratch(&user, line) {
                seeds.leave_out(file, number, problem);
            }
        }
        if seeds.without_scratch {
            let passed_over = "scratch codes are passed over: without a store (provider.totp.used_codes) each would work \
                               again after a restart";
            seeds.complaints.insert(0, passed_over.to_owned());
        }
        if seeds.untold > 0 {
            seeds.complaints.push(format!(
                "{} more lines of the seeds are left out or refused",
                seeds.untold
            ));
        }
        seeds.by_user.shrink_to_fit();
        seeds
    }

    fn leave_out(&mut self, file: &SeedFile, number: usize, problem: SeedProblem) {
        self.complain(format!("{}: line {number} {problem}; it is left out", file.path));
    }

    fn add(&mut self, file: &SeedFile, number: usize, user: String, key: TotpKey) {
        match self.by_user.entry(user.into_boxed_str()) {
            Entry::Vacant(place) => {
                let scratch = Vec::new();
                place.insert(Some(Seed { key, scratch }));
            }
            // The same key once more is still one.
            Entry::Occupied(place) if place.get().as_ref().is_some_and(|known| known.key == key) => {}
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

    fn add_scratch(&mut self, user: &str, line: ScratchLine) -> Result<(), SeedProblem> {
        let seed = self.by_user.get_mut(user).ok_or(SeedProblem::NoSeed)?;
        // Who has two seeds is refused anyway.
        let Some(seed) = seed else { return Ok(()) };
        for code in line.codes {
            if seed.scratch.contains(&code) {
                continue;
            }
            if seed.scratch.len() >= MAX_SCRATCH {
                return Err(SeedProblem::TooManyScratchCodes);
            }
            seed.scratch.push(code);
        }
        Ok(())
    }

    fn complain(&mut self, complaint: String) {
        // Two places are kept: for scratch codes that nobody can use, and for how many more there are.
        if self.complaints.len() < MAX_COMPLAINTS - 2 {
            self.complaints.push(complaint);
        } else {
            self.untold += 1;
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

    /// What is wrong with the files, one sentence each, at most [`MAX_COMPLAINTS`]; the last says how many more there are.
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
        assert_eq!((seeds.users(), seeds.complaints().len()), (1, 3));
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
            text.contains("line 4 has a scratch code that is not 8 to 10 digits"),
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
        assert_eq!(seeds.users(), 1);
        assert!(seeds.of("jane").is_some_and(|seed| seed.is_none()));
        assert_eq!(seeds.complaints().len(), 2);
    }

    #[test]
    fn of_many_bad_lines_the_first_are_told_and_the_rest_is_counted() {
        let seeds = load(&"hello\n".repeat(MAX_COMPLAINTS + 50));
        assert_eq!(seeds.complaints().len(), MAX_COMPLAINTS - 1);
        let last = seeds.complaints().last().unwrap();
        assert_eq!(last, "52 more lines of the seeds are left out or refused");
    }

    #[test]
    fn the_same_seed_twice_is_one() {
        let seeds = load(
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\notpauth://totp/Corp:JANE?secret=gezd-gnbv-gy3t-qojq&issuer=Corp",
        );
        assert_eq!((seeds.users(), seeds.complaints().len()), (1, 0));
        let other = load(
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ\notpauth://totp/jane?secret=GEZDGNBVGY3TQOJQ&digits=8",
        );
        assert_eq!((other.users(), other.complaints().len()), (0, 1));
    }
}
