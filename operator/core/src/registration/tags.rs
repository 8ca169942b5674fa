//! The ownership tags of a directory, for a cluster that comes to it without a record.

use std::time::Duration;

use jiff::Timestamp;

use super::RegistrationInput;
use super::record::RegistrationRecord;
use super::tag_digest;
use crate::api::{DirectoryRegistrationSpec, TaggedOwner};
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

/// Whose the ownership tags say that a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tagged<'a> {
    /// Unknown: they weren't read.
    Unread,
    /// No owner's, or those of the owner that it was taken over from.
    Nobodys,
    /// This cluster's.
    Ours,
    /// A cluster's of the same name, with this other uid.
    SameName(&'a str),
    /// Another cluster's.
    Other(&'a str),
}

/// Whose the tags say that a directory is. A uid that isn't known is not compared.
pub(super) fn tagged<'a>(
    input: &RegistrationInput,
    record: &RegistrationRecord,
    directory: &'a Directory,
) -> Tagged<'a> {
    if directory.tags.is_none() {
        return Tagged::Unread;
    }
    let Some((owner, uid)) = owner_tags(input, directory) else {
        return Tagged::Nobodys;
    };
    let settings = &input.settings;
    let from = record
        .applied
        .as_ref()
        .and_then(|applied| applied.taken_over_from.as_ref());
    if from.is_some_and(|from| from.owner == owner && from.cluster_uid.as_deref() == uid) {
        Tagged::Nobodys
    } else if owner.split('/').next() != Some(settings.cluster.as_str()) {
        Tagged::Other(owner)
    } else {
        let other = uid.filter(|uid| *uid != settings.cluster_uid && !settings.cluster_uid.is_empty());
        other.map_or(Tagged::Ours, Tagged::SameName)
    }
}

/// The tags of the owner and of its cluster's uid.
fn owner_tags<'a>(input: &RegistrationInput, directory: &'a Directory) -> Option<(&'a str, Option<&'a str>)> {
    let keys = DirectoryTags::of(&input.registration.spec.region);
    let tag = |key: &str| directory.tags.as_ref()?.get(key).map(String::as_str);
    Some((tag(&keys.owner)?, tag(&keys.cluster_uid)))
}

/// Whom a write takes the directory over from, by its tags.
pub(super) fn taken_over_from(
    input: &RegistrationInput,
    record: &RegistrationRecord,
    directory: &Directory,
) -> Option<TaggedOwner> {
    match tagged(input, record, directory) {
        Tagged::Ours => None,
        Tagged::Unread => record.applied.as_ref()?.taken_over_from.clone(),
        Tagged::Nobodys | Tagged::SameName(_) | Tagged::Other(_) => {
            let (owner, uid) = owner_tags(input, directory)?;
            Some(TaggedOwner {
                owner: owner.to_owned(),
                cluster_uid: uid.map(str::to_owned),
            })
        }
    }
}

/// Once the tags name this cluster, the one from before counts like any other.
pub(super) fn forget_takeover(
    input: &RegistrationInput,
    record: &mut RegistrationRecord,
    directory: Option<&Directory>,
) {
    let is_ours = |directory: &Directory| tagged(input, record, directory) == Tagged::Ours;
    if directory.is_some_and(is_ours)
        && let Some(applied) = &mut record.applied
    {
        applied.taken_over_from = None;
    }
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
    // Only to repair tags that are seen to be wrong, and not repeatedly.
    let free_or_ours = matches!(tagged(input, record, directory), Tagged::Nobodys | Tagged::Ours);
    let repairs =
        record.applied.is_some() && record.pending.is_none() && free_or_ours && may_retry(input, now);
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
