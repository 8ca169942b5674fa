//! What a store writes, and what it decides: pure, so that every back-end decides alike.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proxy_config::Secret;
use sha2::Sha256;

use super::super::used_steps::UsedSteps;

/// Entries of one ledger. With about 45 bytes each it stays well below what a Kubernetes object may hold (1 MiB), and
/// small enough to be written again with each group of logins.
pub const MAX_ENTRIES: usize = 4096;
/// How many of them may be kept for good: they must not take the room of those that make place again in minutes.
pub const MAX_LASTING: usize = 2048;
/// When a lasting claim ends.
pub const NEVER: u64 = u64::MAX;

/// Whose code it is, as a keyed digest: no user's name and no seed can be found from it, or tried against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// Of the parts that name it, under a key that only the proxies have: the first half of HMAC-SHA-256.
    #[must_use]
    pub fn of(key: &Secret, parts: &[&[u8]]) -> Self {
        let mut owner = [0; 16];
        // HMAC takes a key of any length (RFC 2104 section 2).
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) {
            for part in parts {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part);
            }
            for (to, from) in owner.iter_mut().zip(mac.finalize().into_bytes()) {
                *to = from;
            }
        }
        Self(owner)
    }

    /// Which of `count` parts of a store it belongs to.
    #[must_use]
    pub fn shard(self, count: usize) -> usize {
        let [a, b, ..] = self.0;
        usize::from(u16::from_be_bytes([a, b]))
            .checked_rem(count)
            .unwrap_or_default()
    }

    /// In 22 characters of base64url (RFC 4648 section 5).
    #[must_use]
    pub fn to_text(self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// The wish to use a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub owner: Owner,
    /// The time step; 0 for what has none.
    pub step: u64,
    /// The last step that a right clock can show when the claim is made; 0 for what has no step.
    pub ceiling: u64,
    /// When the code can no longer be valid, in seconds since the epoch, and may be forgotten; [`NEVER`].
    pub until: u64,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The code is used now, and was not before.
    Taken,
    /// That step cannot be used any more: [`UsedSteps::take`].
    UsedBefore,
    /// There is no room to remember it.
    NoRoom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    steps: UsedSteps,
    until: u64,
}

/// The used steps of each owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<Owner, Entry>,
}

impl Ledger {
    /// Reads what [`Ledger::to_text`] wrote: lines of owner, last step and end, with
    /// what more [`UsedSteps`] knows where a line needs it. Lines that are none, and lines beyond
    /// [`MAX_ENTRIES`], are counted and left out.
    #[must_use]
    pub fn parse(text: &str) -> (Self, usize) {
        let mut ledger = Self::default();
        let mut left_out = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match parse_line(line) {
                Some((owner, entry)) if ledger.entries.len() < MAX_ENTRIES => {
                    ledger.entries.insert(owner, entry);
                }
                _ => left_out += 1,
            }
        }
        (ledger, left_out)
    }

    /// One line for each owner.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.entries.len() * 48);
        for (owner, entry) in &self.entries {
            text.push_str(&owner.to_text());
            text.push(' ');
            text.push_str(&entry.steps.last.to_string());
            text.push(' ');
            if entry.until == NEVER {
                text.push('-');
            } else {
                text.push_str(&entry.until.to_string());
            }
            let UsedSteps { last, right, before } = entry.steps;
            if right != last || before != 0 {
                text.push_str(&format!(" {right} {before:x}"));
            }
            text.push('\n');
        }
        text
    }

    /// Decides about claims that came together, in their order, at `now` in seconds since the epoch. It is to be
    /// written before anybody is told [`Outcome::Taken`], and only if nobody else has written meanwhile.
    pub fn settle(&mut self, claims: impl IntoIterator<Item = Claim>, now: u64) -> Vec<Outcome> {
        self.entries.retain(|_, entry| entry.until > now);
        let mut lasting = self.entries.values().filter(|entry| entry.until == NEVER).count();
        claims
            .into_iter()
            .map(|claim| self.settle_one(claim, &mut lasting))
            .collect()
    }

    fn settle_one(&mut self, claim: Claim, lasting: &mut usize) -> Outcome {
        let Claim {
            owner,
            step,
            ceiling,
            until,
        } = claim;
        if let Some(known) = self.entries.get_mut(&owner) {
            if !known.steps.take(step, ceiling) {
                return Outcome::UsedBefore;
            }
            known.until = known.until.max(until);
            return Outcome::Taken;
        }
        let full = self.entries.len() >= MAX_ENTRIES || (until == NEVER && *lasting >= MAX_LASTING);
        if full {
            return Outcome::NoRoom;
        }
        *lasting += usize::from(until == NEVER);
        let steps = UsedSteps::first(step, ceiling);
        self.entries.insert(owner, Entry { steps, until });
        Outcome::Taken
    }

    /// How many owners are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn parse_line(line: &str) -> Option<(Owner, Entry)> {
    let mut words = line.split(' ');
    let owner = Owner::parse(words.next()?)?;
    let last = words.next()?.parse().ok()?;
    let until = match words.next()? {
        "-" => NEVER,
        until => until.parse().ok()?,
    };
    let (right, before) = match words.next() {
        None => (last, 0),
        Some(right) => (right.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?),
    };
    let steps = UsedSteps { last, right, before };
    words.next().is_none().then_some((owner, Entry { steps, until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::of(&Secret::new(b"key".to_vec()), &[name.as_bytes()])
    }

    fn claim(name: &str, step: u64) -> Claim {
        Claim {
            owner: owner(name),
            step,
            ceiling: step + 1,
            until: (step + 13) * 30,
        }
    }

    fn lasting(name: &str) -> Claim {
        Claim {
            owner: owner(name),
            step: 0,
            ceiling: 0,
            until: NEVER,
        }
    }

    #[test]
    fn a_step_of_a_fast_clock_bars_none_of_the_right_one_after_it_is_read_again() {
        let mut ledger = Ledger::default();
        let at = |step, now: u64| Claim {
            ceiling: now + 1,
            ..claim("jane", step)
        };
        let outcomes = ledger.settle([at(104, 100), at(100, 100), at(100, 100)], 3000);
        assert_eq!(outcomes, [Outcome::Taken, Outcome::Taken, Outcome::UsedBefore]);
        let (mut read, left_out) = Ledger::parse(&ledger.to_text());
        assert_eq!((&read, left_out), (&ledger, 0));
        let outcomes = read.settle([at(104, 104), at(100, 101), at(103, 103)], 3000);
        assert_eq!(
            outcomes,
            [Outcome::UsedBefore, Outcome::UsedBefore, Outcome::Taken]
        );
    }

    #[test]
    fn of_a_group_the_first_gets_a_step_and_an_older_step_is_used_too() {
        let mut ledger = Ledger::default();
        let outcomes = ledger.settle(
            [
                claim("jane", 100),
                claim("jane", 100),
                claim("joe", 100),
                claim("jane", 99),
                claim("jane", 101),
            ],
            3000,
        );
        assert_eq!(
            outcomes,
            [
                Outcome::Taken,
                Outcome::UsedBefore,
                Outcome::Taken,
                Outcome::UsedBefore,
                Outcome::Taken
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_and_shows_no_name() {
        let mut ledger = Ledger::default();
        ledger.settle([claim("jane", 100), lasting("joe")], 3000);
        let text = ledger.to_text();
        assert_eq!(Ledger::parse(&text), (ledger, 0));
        assert!(!text.contains("jane") && text.lines().count() == 2, "{text}");
        let (read, left_out) = Ledger::parse(&format!("hello\n{text}AAAA 1 2\n"));
        assert_eq!((read.len(), left_out), (2, 2));
    }

    #[test]
    fn what_can_no_longer_be_valid_is_forgotten_and_what_lasts_is_not() {
        let mut ledger = Ledger::default();
        ledger.settle([claim("jane", 100), lasting("joe")], 3000);
        assert_eq!(ledger.settle([lasting("joe")], 1 << 40), [Outcome::UsedBefore]);
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn a_full_ledger_says_so_and_what_lasts_takes_half_of_it_at_most() {
        let mut ledger = Ledger::default();
        let many = (0..=MAX_LASTING).map(|i| lasting(&i.to_string()));
        let outcomes = ledger.settle(many, 0);
        assert_eq!(outcomes.iter().filter(|o| **o == Outcome::NoRoom).count(), 1);
        let more = (0..MAX_ENTRIES).map(|i| claim(&format!("step {i}"), 100));
        let outcomes = ledger.settle(more, 3000);
        assert_eq!(
            outcomes.iter().filter(|o| **o == Outcome::NoRoom).count(),
            MAX_LASTING
        );
        assert!(ledger.to_text().len() < 256 << 10, "{}", ledger.to_text().len());
        assert_eq!(ledger.settle([claim("later", 200)], 10_000), [Outcome::Taken]);
    }

    #[test]
    fn owners_are_spread_over_the_parts_of_a_store() {
        let mut counts = [0; 8];
        for i in 0..8000 {
            counts[owner(&i.to_string()).shard(8)] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        assert_ne!(owner("ab"), Owner::of(&Secret::new(b"other".to_vec()), &[b"ab"]));
        assert_ne!(
            Owner::of(&Secret::new(b"key".to_vec()), &[b"a", b"b"]),
            Owner::of(&Secret::new(b"key".to_vec()), &[b"", b"ab"])
        );
    }
}
