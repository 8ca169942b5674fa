//! Seeds of one-time passwords: checked line by line so that people hear of a bad one from the RadiusProxy itself, and,
//! where they are in many Secrets, merged into a few. Nothing here decides about logins: the proxy leaves out what is
//! malformed and refuses who has two.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proxy_config::seeds::{MAX_SCRATCH, ScratchLine, SeedLine, SeedProblem, TotpKey};
use proxy_config::{Secret, UserNameRule};

use super::Files;
use crate::names::SEED_SHARDS;

/// How many warnings are shown; the rest is counted.
const SHOWN: usize = 5;
/// How many users with two seeds are shown.
const SHOWN_USERS: usize = 10;
/// The most that one shard holds, in bytes: with base64 and its metadata well below what etcd takes (1.5 MiB) and what
/// a Secret may hold (1 MiB).
const MAX_SHARD: usize = 900 << 10;

/// A Secret with seeds.
pub(crate) struct SeedSource<'a> {
    pub(crate) secret: &'a str,
    pub(crate) files: &'a Files,
    /// Whether its lines go into the shards; the other's Secret is copied as a whole.
    pub(crate) merges: bool,
}

/// The merged seeds.
pub(crate) struct Merged {
    /// As many as [`SEED_SHARDS`]. A user is always in the same one, so that no change of another moves anybody.
    pub(crate) shards: Vec<Files>,
    /// What is wrong: Secret, key and line number, never the text.
    pub(crate) warnings: Vec<String>,
    /// Whether a user has two seeds.
    pub(crate) twice: bool,
    /// Whether no user can log in.
    pub(crate) no_user: bool,
}

/// Shards without anybody.
pub(crate) fn no_shards() -> Vec<Files> {
    (0..SEED_SHARDS).map(|_| Files::new()).collect()
}

/// Reads every Secret.
pub(crate) fn merge(sources: &[SeedSource<'_>], names: &UserNameRule) -> Merged {
    let mut merging = Merging::default();
    for source in sources {
        merging.add(source, names);
    }
    merging.finish()
}

#[derive(Default)]
struct Merging<'a> {
    /// The user's seeds and the Secrets that hold them; twice the same Secret when both seeds are in it.
    by_user: BTreeMap<String, Vec<(&'a str, TotpKey)>>,
    /// Lines for the shards, by user, so that the same Secrets make the same bytes.
    lines: BTreeMap<String, Vec<&'a [u8]>>,
    /// Scratch codes, where they stand and whose they are.
    scratch: Vec<(String, String, ScratchLine)>,
    warnings: Vec<String>,
    hidden: usize,
}

impl<'a> Merging<'a> {
    fn add(&mut self, source: &SeedSource<'a>, names: &UserNameRule) {
        let secret = source.secret;
        let (mut seeds, before) = (0_usize, self.warnings.len() + self.hidden);
        for (key, content) in source.files {
            if key.starts_with('.') {
                self.warn(format!(
                    "key {key:?} of Secret {secret} begins with a dot and is not used; give it another name"
                ));
                continue;
            }
            for (number, text, line) in proxy_config::seeds::read(content.expose()) {
                let read = line.and_then(|line| {
                    let user = names.normalise(line.account());
                    Ok((user.ok_or(SeedProblem::UserName)?, line))
                });
                let place = || format!("key {key:?} of Secret {secret}, line {number},");
                let (user, is_new) = match read {
                    Ok((user, SeedLine::Key(uri))) => {
                        seeds += 1;
                        let is_new = self.is_new(secret, &user, uri.key);
                        (user, is_new)
                    }
                    Ok((user, SeedLine::Scratch(line))) => {
                        self.scratch.push((place(), user.clone(), line));
                        (user, true)
                    }
                    Err(problem) => {
                        self.warn(format!("{} {problem}", place()));
                        continue;
                    }
                };
                if is_new && source.merges {
                    self.lines.entry(user).or_default().push(text);
                }
            }
        }
        if seeds == 0 && self.warnings.len() + self.hidden == before {
            self.warn(format!(
                "Secret {secret} holds no seed; add one otpauth:// URI per user, as `radius-proxy totp enrol \
                 --user USER` prints it"
            ));
        }
    }

    /// Whether no line before it had the key: the same key twice is one.
    fn is_new(&mut self, secret: &'a str, user: &str, key: TotpKey) -> bool {
        let known = self.by_user.entry(user.to_owned()).or_default();
        let is_new = !known.iter().any(|(_, known)| *known == key);
        if is_new {
            known.push((secret, key));
        }
        is_new
    }

    fn warn(&mut self, complaint: String) {
        if self.warnings.len() < SHOWN {
            self.warnings.push(complaint);
        } else {
            self.hidden += 1;
        }
    }

    /// What is wrong with scratch codes shows when all keys are known.
    fn judge_scratch(&mut self) {
        let mut codes: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
        for (place, user, line) in std::mem::take(&mut self.scratch) {
            let known = codes.entry(user.clone()).or_default();
            for code in line.codes {
                if !known.contains(&code) && known.len() <= MAX_SCRATCH {
                    known.push(code);
                }
            }
            let problem = if !self.by_user.contains_key(&user) {
                SeedProblem::NoSeed
            } else if known.len() > MAX_SCRATCH {
                SeedProblem::TooManyScratchCodes
            } else {
                continue;
            };
            self.warn(format!("{place} {problem}"));
        }
    }

    fn finish(mut self) -> Merged {
        self.judge_scratch();
        let (shards, left_out) = self.shards();
        if self.hidden > 0 {
            self.warnings
                .push(format!("{} more lines are malformed", self.hidden));
        }
        if left_out > 0 {
            self.warnings.push(format!(
                "{left_out} users found no room: {SEED_SHARDS} Secrets of {MAX_SHARD} bytes hold all seeds by label"
            ));
        }
        let twice = self.twice();
        let any = !twice.is_empty();
        Merged {
            shards,
            warnings: twice.into_iter().chain(self.warnings).collect(),
            twice: any,
            no_user: !self.by_user.values().any(|seeds| seeds.len() == 1),
        }
    }

    /// The files of all shards, and how many users found no room.
    fn shards(&self) -> (Vec<Files>, usize) {
        let mut texts: Vec<Vec<u8>> = (0..SEED_SHARDS).map(|_| Vec::new()).collect();
        let mut left_out = 0;
        for (user, lines) in &self.lines {
            let Some(text) = texts.get_mut(shard_of(user)) else {
                continue;
            };
            let needed: usize = lines.iter().map(|line| line.len() + 1).sum();
            if text.len() + needed > MAX_SHARD {
                left_out += 1;
                continue;
            }
            for line in lines {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        }
        let shards = (0_usize..).zip(texts).map(|(shard, text)| {
            let file = (!text.is_empty()).then(|| (format!("users-{shard}"), Secret::new(text)));
            file.into_iter().collect()
        });
        (shards.collect(), left_out)
    }

    /// Who has two seeds, and where they are.
    fn twice(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut hidden = 0;
        for (user, seeds) in self.by_user.iter().filter(|(_, seeds)| seeds.len() > 1) {
            if messages.len() >= SHOWN_USERS {
                hidden += 1;
                continue;
            }
            let names: BTreeSet<&str> = seeds.iter().map(|(secret, _)| *secret).collect();
            let names: Vec<&str> = names.into_iter().collect();
            let mut text = format!("user {user:?} has {} seeds, in Secret ", seeds.len());
            // Writing to a String cannot fail.
            let _ = write!(text, "{}; remove all but one", names.join(" and Secret "));
            messages.push(text);
        }
        if hidden > 0 {
            messages.push(format!("{hidden} more users have two seeds"));
        }
        messages
    }
}

/// The shard of a user: FNV-1a, which is the same in every version.
fn shard_of(user: &str) -> usize {
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    usize::try_from(hash % u64::from(SEED_SHARDS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proxy_config::CaseRule;

    use super::*;

    const RULE: UserNameRule = UserNameRule {
        strip_domain: true,
        case: CaseRule::Lower,
        max_bytes: 128,
    };

    fn seed(user: &str) -> String {
        format!("otpauth://totp/{user}?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    }

    fn files(key: &str, text: &str) -> Files {
        [(key.to_owned(), Secret::new(text.as_bytes().to_vec()))].into()
    }

    fn merged(sources: &[(&str, Files)], merges: bool) -> Merged {
        let sources: Vec<SeedSource<'_>> = sources
            .iter()
            .map(|(secret, files)| SeedSource {
                secret,
                files,
                merges,
            })
            .collect();
        merge(&sources, &RULE)
    }

    fn warnings(text: &str) -> Vec<String> {
        merged(&[("s", files("eve", text))], false).warnings
    }

    fn text(merged: &Merged) -> String {
        let files = merged.shards.iter().flat_map(Files::values);
        files.map(|file| file.expose_str().unwrap()).collect()
    }

    #[test]
    fn good_lines_comments_and_empty_lines_are_no_complaint() {
        let text = "# staff\n\notpauth://totp/Corp%3A%20jane?secret=gezd%20gnbv-gy3tqojq====&digits=8\r\n\
            otpauth://totp/bob?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&period=60&algorithm=sha256";
        assert_eq!(warnings(text), Vec::<String>::new());
    }

    #[test]
    fn a_bad_line_is_named_by_key_and_number_without_its_text() {
        let told =
            warnings("otpauth://totp/bob?secret=JBSWY3DPEHPK3PXP\notpauth://totp/eve?secret=NOT!BASE32");
        assert_eq!(
            told,
            ["key \"eve\" of Secret s, line 2, has a secret that is not base32 (A to Z and 2 to 7)"]
        );
        assert!(warnings("")[0].contains("Secret s holds no seed"));
    }

    #[test]
    fn many_bad_lines_make_a_short_list() {
        let told = warnings(&"x\n".repeat(1000));
        assert_eq!(
            (told.len(), told[5].as_str()),
            (6, "995 more lines are malformed")
        );
    }

    #[test]
    fn a_user_with_two_seeds_is_told_with_the_secrets_and_never_the_seed() {
        let one = ("one", files("a", &seed("CORP%5CJane")));
        let other = "otpauth://totp/jane@corp?secret=KRSXG5CTMVRXEZLU";
        let two = ("two", files("a", &format!("{other}\n{}", seed("joe"))));
        let merged = merged(&[one, two], true);
        assert!(merged.twice);
        assert_eq!(
            merged.warnings,
            ["user \"jane\" has 2 seeds, in Secret one and Secret two; remove all but one"]
        );
        assert_eq!(text(&merged).lines().count(), 3, "the proxy refuses her by both");
    }

    #[test]
    fn scratch_codes_need_a_key_and_have_a_limit() {
        let many: Vec<String> = (0..21).map(|n| format!("{}", 10_000_000 + n)).collect();
        let told = warnings(&format!(
            "scratch:bob:12345678\n{}\nscratch:joe:12345678\nscratch:bob:{}",
            seed("bob"),
            many.join(",")
        ));
        assert_eq!(
            told,
            [
                "key \"eve\" of Secret s, line 3, names a user without a key; scratch codes go with an otpauth:// URI",
                "key \"eve\" of Secret s, line 4, has more scratch codes than the 20 that a user may have"
            ]
        );
    }

    #[test]
    fn the_same_seed_twice_is_one() {
        let one = (
            "one",
            files("a", &format!("{}\n{}", seed("CORP%5CJane"), seed("jane"))),
        );
        let two = ("two", files("a", &format!("\"{}\"", seed("jane@corp"))));
        let merged = merged(&[one, two], true);
        assert_eq!((merged.twice, &merged.warnings), (false, &Vec::new()));
        assert_eq!(text(&merged), format!("{}\n", seed("CORP%5CJane")));
    }

    #[test]
    fn a_line_that_only_the_proxy_could_judge_is_judged_alike() {
        let line = |secret: &str| format!("otpauth://totp/jane?secret={secret}");
        for length in [17, 19, 22, 25, 27, 30] {
            let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".get(..length).unwrap();
            assert_eq!(warnings(&line(secret)), Vec::<String>::new(), "{length}");
        }
        let told = warnings("\u{feff}otpauth://totp/bob?secret=GEZDGNBVGY3TQOJQ\n\" TOTP_AUTH\n");
        assert!(
            told[0].starts_with("key \"eve\" of Secret s, line 2, is of a .google_authenticator file"),
            "{told:?}"
        );
        let utf16: Vec<u8> = line("GEZDGNBVGY3TQOJQ")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let file = [("eve".to_owned(), Secret::new(utf16))].into();
        let told = merged(&[("s", file)], false).warnings;
        assert_eq!(
            told,
            ["key \"eve\" of Secret s, line 1, is UTF-16 text; save the file as UTF-8"]
        );
    }

    #[test]
    fn a_key_that_begins_with_a_dot_is_refused_in_words() {
        let told = merged(&[("s", files(".staff", &seed("jane")))], true);
        assert_eq!(
            told.warnings,
            ["key \".staff\" of Secret s begins with a dot and is not used; give it another name"]
        );
        assert_eq!(text(&told), "");
    }

    #[test]
    fn a_user_stays_in_one_shard_whoever_else_comes() {
        let many: Vec<(String, Files)> = (0..500)
            .map(|i| (format!("s{i}"), files("seed", &seed(&format!("user{i}")))))
            .collect();
        let of = |count: usize| {
            let sources: Vec<SeedSource<'_>> = many
                .iter()
                .take(count)
                .map(|(secret, files)| SeedSource {
                    secret,
                    files,
                    merges: true,
                })
                .collect();
            merge(&sources, &RULE)
        };
        let (some, all) = (of(250), of(500));
        assert_eq!(all.shards.len(), 8);
        assert!(all.shards.iter().all(|shard| shard.len() == 1));
        for (before, after) in some.shards.iter().zip(&all.shards) {
            let lines = |files: &Files| -> BTreeSet<String> {
                let text = files
                    .values()
                    .next()
                    .map(|file| file.expose_str().unwrap().to_owned());
                text.unwrap_or_default().lines().map(str::to_owned).collect()
            };
            assert!(lines(before).is_subset(&lines(after)));
        }
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let lines: String = (0..150_000).map(|i| seed(&format!("user{i}")) + "\n").collect();
        let merged = merged(&[("s", files("all", &lines))], true);
        assert!(
            merged.warnings[0].contains("users found no room"),
            "{:?}",
            merged.warnings
        );
        for shard in &merged.shards {
            assert!(shard.values().all(|file| file.expose().len() <= MAX_SHARD));
        }
    }
}
