//! The ownership tags of a directory, for a cluster that comes to it without a record.

use std::time::Duration;

use jiff::Timestamp;

use super::RegistrationInput;
use super::record::RegistrationRecord;
use super::tag_digest;
use crate::api::DirectoryRegistrationSpec;
use crate::aws::{AwsErrorClass, AwsFailure};
use crate::events::{Event, event};
use crate::names::DirectoryTags;
use crate::observed::Directory;
use crate::time;

/// How long after a failure the directory is tagged again only to repair its tags.
const RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A tag write that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFailure {
    /// How.
    pub failure: AwsFailure,
    /// When.
    pub time: Timestamp,
    /// Whether an Event was published about it.
    pub published: bool,
}

/// The tags to add: with each write, and to repair tags that are missing.
pub(super) fn to_add(
    input: &RegistrationInput,
    record: &RegistrationRecord,
    directory: &Directory,
    writes: bool,
    now: Timestamp,
) -> Vec<(String, String)> {
    let spec = &input.registration.spec;
    let keys = DirectoryTags::of(&spec.region);
    let (owner, uid) = (owner(input, spec), input.settings.cluster_uid.clone());
    let tag = |key: &str| directory.tags.as_ref().and_then(|tags| tags.get(key));
    // Only to repair tags that are seen to be wrong, and not repeatedly.
    let free_or_ours = |key: &str, value: &String| tag(key).is_none_or(|tag| tag == value);
    let repairs = record.applied.is_some()
        && record.pending.is_none()
        && directory.tags.is_some()
        && free_or_ours(&keys.owner, &owner)
        && (uid.is_empty() || free_or_ours(&keys.cluster_uid, &uid))
        && may_retry(input, now);
    if are_complete(input, record, directory) || !(writes || repairs) {
        return Vec::new();
    }
    vec![
        (keys.owner, owner),
        (keys.cluster_uid, uid),
        (keys.applied, digests(record).join(" ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// Whether the directory has the tags that it should have.
fn are_complete(input: &RegistrationInput, record: &RegistrationRecord, directory: &Directory) -> bool {
    let spec = &input.registration.spec;
    let keys = DirectoryTags::of(&spec.region);
    let uid = &input.settings.cluster_uid;
    let tag = |key: &str| directory.tags.as_ref().and_then(|tags| tags.get(key));
    let has = |key: &str, value: &String| tag(key) == Some(value);
    let names_newest = digests(record).first().is_none_or(|newest| {
        tag(&keys.applied).is_some_and(|applied| applied.split(' ').any(|known| known == newest))
    });
    has(&keys.owner, &owner(input, spec)) && (uid.is_empty() || has(&keys.cluster_uid, uid)) && names_newest
}

fn may_retry(input: &RegistrationInput, now: Timestamp) -> bool {
    let failed = input.tag_failure.as_ref();
    failed.is_none_or(|failed| time::until(failed.time, now) >= RETRY_AFTER)
}

/// The value of the owner's tag: `<cluster>/<namespace>/<name>`.
pub(super) fn owner(input: &RegistrationInput, spec: &DirectoryRegistrationSpec) -> String {
    let holder = &spec.claimed_by;
    input.settings.cluster.owner(&holder.namespace, &holder.name)
}

/// Digests of what AWS has from this cluster. Whether a write that is about to be sent arrives is unknown: both count.
fn digests(record: &RegistrationRecord) -> Vec<String> {
    let pending = record
        .pending
        .as_ref()
        .and_then(|pending| pending.settings.as_ref());
    let applied = record.applied.as_ref().map(|applied| &applied.settings);
    let mut digests: Vec<String> = pending.into_iter().chain(applied).map(tag_digest).collect();
    digests.dedup();
    digests
}

/// Why the directory has no tags of this cluster.
pub(super) fn note(failure: &AwsFailure) -> String {
    let next = if failure.class == AwsErrorClass::AccessDenied {
        "Allow ds:AddTagsToResource on it in the policy of the operator's role"
    } else if failure.message.contains("limit") || failure.message.contains("TagLimit") {
        "A directory has at most 50 tags: remove some that nobody needs"
    } else {
        "See what AWS says"
    };
    format!(
        "The directory isn't tagged, so nothing protects it from an operator of another cluster. {next}. AWS says: {failure}."
    )
}

/// The failure of the last tag write, unless the directory has the tags all the same.
pub(super) fn failure<'a>(
    input: &'a RegistrationInput,
    record: &RegistrationRecord,
    directory: &Directory,
) -> Option<&'a TagFailure> {
    let failure = input.tag_failure.as_ref();
    failure.filter(|_| !are_complete(input, record, directory))
}

/// The Event of tags that AWS refuses, once.
pub(super) fn refused(failure: &TagFailure) -> Option<Event> {
    (!failure.published).then(|| event(true, "TagsRefused", "Tag", &note(&failure.failure)))
}
