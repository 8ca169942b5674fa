//! The secret shared with the directory, and how it changes without a gap.
//!
//! The proxies accept two secrets: `directory` and `directory-previous` of the Secret that the operator owns, always
//! both in the configuration (equal when nothing rotates), so that a rotation is one atomic change of one Secret. AWS
//! holds one that is not readable; which one is known by the keyed digests in the status: `applied`, `pendingWrite` while
//! it is not known whether a write arrived, and `unconfirmedSecretDigest` when nothing will ever tell (a crash after a write of
//! nothing but the secret): then both are held, and the next write ends the doubt.
//!
//! One invariant makes every crash and every second change safe: *a secret that AWS may hold is one that the proxies
//! accept*. So a new secret takes the current one's place when AWS cannot hold both of two others, and waits otherwise.
//! `previous` goes after AWS has Completed with `current` and a grace: domain controllers learn settings one by one.

use proxy_config::{ConfigDigest, DigestKey, SharedSecret};

use crate::api::{AppliedSettings, PendingWrite};

/// The secrets in the owned Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretPair {
    /// What AWS is to have.
    pub(crate) current: SharedSecret,
    /// The secret that is still accepted in addition.
    pub(crate) previous: Option<SharedSecret>,
}

/// What is known of the secret that AWS holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownSecrets<'a> {
    pub(crate) key: &'a DigestKey,
    pub(crate) applied: Option<&'a AppliedSettings>,
    pub(crate) pending: Option<&'a PendingWrite>,
    /// The digest of a secret that AWS may hold instead of the applied one.
    pub(crate) unconfirmed: Option<&'a str>,
    /// Whether AWS has Completed with what was applied, at least the grace ago, and is not changing now.
    pub(crate) settled: bool,
}

impl KnownSecrets<'_> {
    /// Whether AWS may hold `secret`.
    fn may_be(&self, secret: &SharedSecret) -> bool {
        let digest = secret_digest(self.key, secret);
        self.applied.is_some_and(|a| a.secret_digest == digest)
            || self.pending.is_some_and(|p| p.secret_digest == digest)
            || self.unconfirmed.is_some_and(|unconfirmed| unconfirmed == digest)
    }
}

/// A keyed digest of a shared secret: without the key, no one can test secrets against it.
pub(crate) fn secret_digest(key: &DigestKey, secret: &SharedSecret) -> String {
    ConfigDigest::compute(key, [("shared secret", secret.expose())])
        .as_str()
        .to_owned()
}

/// The secrets that the proxies should accept now.
pub(crate) fn next(wanted: &SharedSecret, now: Option<SecretPair>, held: KnownSecrets<'_>) -> SecretPair {
    let Some(pair) = now else {
        return SecretPair {
            current: wanted.clone(),
            previous: None,
        };
    };
    let previous_is_held = pair.previous.as_ref().is_some_and(|p| held.may_be(p));
    // AWS had `previous` before it had `current`: until it has settled, a domain controller may still use it.
    let previous_is_needed =
        pair.previous.is_some() && (previous_is_held || (held.may_be(&pair.current) && !held.settled));
    let previous = pair.previous.filter(|_| previous_is_needed);
    if *wanted == pair.current {
        return SecretPair {
            current: pair.current,
            previous,
        };
    }
    match (held.may_be(&pair.current), previous) {
        // Both may be in use: the change waits for the one before it.
        (true, Some(previous)) => SecretPair {
            current: pair.current,
            previous: Some(previous),
        },
        (true, None) => SecretPair {
            current: wanted.clone(),
            previous: Some(pair.current),
        },
        // `current` was never sent: it can be replaced, or be what it was before.
        (false, previous) => SecretPair {
            current: wanted.clone(),
            previous: previous.filter(|previous| previous != wanted),
        },
    }
}

/// Whether the proxies accept two different secrets.
pub(crate) fn under_way(pair: &SecretPair) -> bool {
    pair.previous
        .as_ref()
        .is_some_and(|previous| *previous != pair.current)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::time;

    fn secret(text: &str) -> SharedSecret {
        SharedSecret::parse(format!("{text}-{text}-{text}").as_bytes()).unwrap()
    }

    fn pair(current: &str, previous: Option<&str>) -> SecretPair {
        SecretPair {
            current: secret(current),
            previous: previous.map(secret),
        }
    }

    fn step(
        wanted: &str,
        now: SecretPair,
        applied: Option<&str>,
        pending: Option<&str>,
        settled: bool,
    ) -> SecretPair {
        let key = DigestKey::new(vec![1; 32]);
        let time = time::floor(Timestamp::UNIX_EPOCH);
        let applied = applied.map(|s| AppliedSettings {
            holder_uid: String::new(),
            secret_digest: secret_digest(&key, &secret(s)),
            settings: crate::api::RegisteredSettings::default(),
            time: time.clone(),
            servers_before: Vec::new(),
            predecessor_uid: None,
            taken_over_from: None,
            shown_time: None,
            completed_time: None,
        });
        let pending = pending.map(|s| PendingWrite {
            holder_uid: String::new(),
            id: "1".to_owned(),
            operation: "UpdateRadius".to_owned(),
            secret_digest: secret_digest(&key, &secret(s)),
            settings: None,
            shows: true,
            servers_before: Vec::new(),
            taken_over_from: None,
            time,
        });
        let held = KnownSecrets {
            key: &key,
            applied: applied.as_ref(),
            pending: pending.as_ref(),
            unconfirmed: None,
            settled,
        };
        next(&secret(wanted), Some(now), held)
    }

    #[test]
    fn a_change_is_accepted_beside_what_aws_holds_until_aws_has_settled() {
        let one = step("bbb", pair("aaa", None), Some("aaa"), None, true);
        assert_eq!(one, pair("bbb", Some("aaa")));
        let sent = step("bbb", one.clone(), Some("aaa"), Some("bbb"), false);
        assert_eq!(sent, one);
        let told = step("bbb", sent.clone(), Some("bbb"), None, false);
        assert_eq!(told, sent);
        assert_eq!(step("bbb", told, Some("bbb"), None, true), pair("bbb", None));
    }

    #[test]
    fn a_second_change_waits_while_aws_may_hold_either_of_two() {
        let both = pair("bbb", Some("aaa"));
        assert_eq!(step("ccc", both.clone(), Some("aaa"), Some("bbb"), false), both);
        assert_eq!(step("ccc", both.clone(), Some("bbb"), None, false), both);
        assert_eq!(
            step("ccc", both, Some("bbb"), None, true),
            pair("ccc", Some("bbb"))
        );
    }

    #[test]
    fn a_change_that_was_not_sent_yet_can_be_taken_back_or_replaced() {
        let both = pair("bbb", Some("aaa"));
        assert_eq!(
            step("aaa", both.clone(), Some("aaa"), None, true),
            pair("aaa", None)
        );
        assert_eq!(
            step("ccc", both, Some("aaa"), None, true),
            pair("ccc", Some("aaa"))
        );
    }

    #[test]
    fn before_aws_was_told_anything_a_change_is_just_made() {
        assert_eq!(
            step("bbb", pair("aaa", None), None, None, false),
            pair("bbb", None)
        );
    }

    #[test]
    fn whatever_happens_a_secret_that_aws_may_hold_is_accepted() {
        let all = ["aaa", "bbb", "ccc", "ddd"];
        for wanted in all {
            for current in all {
                for previous in [None, Some("aaa"), Some("bbb"), Some("ccc")] {
                    for applied in [None, Some(current), previous] {
                        for pending in [None, Some(current)] {
                            let now = pair(current, previous);
                            let next = step(wanted, now, applied, pending, false);
                            for held in [applied, pending].into_iter().flatten() {
                                let held = secret(held);
                                assert!(
                                    next.current == held || next.previous.as_ref() == Some(&held),
                                    "{wanted} {current} {previous:?} {applied:?} {pending:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
