//! Events: what a person would ask about, once and not each round.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::upgrade::Upgrade;
use super::{DirectoryWrite, Event};
use crate::api::{ConditionType, Drift};
use crate::conditions::{Draft, Reason, Tone, cut, shown};
use crate::input::{Input, ObjectId, StatefulSetState};
use crate::outcomes::{Outcomes, Step};

/// What `note` of an Event may hold.
const MAX_NOTE: usize = 1024;

/// An Event.
pub(super) fn event(warning: bool, reason: &'static str, action: &'static str, note: &str) -> Event {
    Event {
        warning,
        reason,
        action,
        note: cut(note, MAX_NOTE),
    }
}

/// Conditions whose status or reason changed since the last status.
pub(super) fn of_conditions(before: &[Condition], drafts: &[Draft]) -> Vec<Event> {
    let repeats = |at: usize, draft: &Draft| {
        let said = drafts.iter().take(at).any(|other| other.reason == draft.reason);
        said || (draft.kind == ConditionType::Ready && draft.reason != Reason::Ready)
    };
    drafts
        .iter()
        .enumerate()
        .filter(|(at, draft)| !repeats(*at, draft))
        .map(|(_, draft)| draft)
        .filter(|draft| {
            !before.iter().any(|old| {
                old.type_ == draft.kind.as_str()
                    && old.status == draft.truth.as_str()
                    && old.reason == draft.reason.as_str()
                    // One more user with two seeds is another thing to do.
                    && (draft.reason != Reason::TotpUserTwice || old.message == shown(&draft.message))
            })
        })
        .filter(|draft| draft.reason.tone() != Tone::Passing)
        .map(|draft| {
            let warning = draft.reason.tone() == Tone::Warning;
            event(warning, draft.reason.as_str(), "Reconcile", &draft.message)
        })
        .collect()
}

/// What failed since the round before and no condition can say.
#[must_use]
pub fn of_outcomes(before: &Outcomes, now: &Outcomes) -> Vec<Event> {
    let news = |step, note: Option<String>| note.filter(|_| !before.failed(&step));
    let status = news(Step::Status, now.status_note());
    let tags = news(Step::Tags, now.tags_note());
    let status = status.map(|note| event(true, "StatusNotWritten", "Reconcile", &note));
    let tags = tags.map(|note| event(true, "TagsRefused", "Tag", &note));
    status.into_iter().chain(tags).collect()
}

/// The beginning or the end of a change of the pods' image or template.
pub(super) fn of_upgrade(set: Option<&StatefulSetState>, upgrade: &Upgrade) -> Option<Event> {
    match (set?.upgrading, upgrade.layout.upgrading) {
        (false, true) => Some(event(
            false,
            "UpgradeStarted",
            "Upgrade",
            upgrade.message.as_deref().unwrap_or_default(),
        )),
        (true, false) => Some(event(
            false,
            "UpgradeCompleted",
            "Upgrade",
            "every proxy runs the present image and template",
        )),
        _ => None,
    }
}

/// A write to AWS.
pub(super) fn of_write(write: &DirectoryWrite) -> Event {
    let operation = write.call.operation().as_str();
    event(
        false,
        operation,
        operation,
        &format!("{operation} is sent to AWS: {}", write.message),
    )
}

/// Objects that are taken over. A step that failed was announced before.
pub(super) fn of_adoption(input: &Input) -> Option<Event> {
    let new = |id: &&ObjectId| !input.outcomes.failed(&Step::Adopt(id.kind, id.name.clone()));
    let names: Vec<String> = input
        .orphans
        .iter()
        .filter(new)
        .map(ToString::to_string)
        .collect();
    (!names.is_empty() && input.foreign.is_empty()).then(|| {
        let note = format!(
            "adopted objects of this RadiusProxy whose owner is gone, as after a restore: {}",
            names.join(", ")
        );
        event(false, "ObjectsAdopted", "Adopt", &note)
    })
}

/// A foreign change that was not there in the last status.
pub(super) fn of_drift(before: Option<&Drift>, now: &Drift, changes: &str) -> Option<Event> {
    let known = before.is_some_and(|before| before.times == now.times);
    (!known && !now.times.is_empty() && (now.seen.is_some() || now.disabled)).then(|| {
        let note = format!("somebody else changed the directory's RADIUS settings: {changes}");
        event(true, "ChangedFromOutside", "Observe", &note)
    })
}

/// The beginning or the end of a rotation of the shared secret.
pub(super) fn of_rotation(before: bool, now: bool) -> Option<Event> {
    match (before, now) {
        (false, true) => Some(event(
            false,
            "SecretRotationStarted",
            "RotateSecret",
            "the proxies accept the old and the new shared secret; AWS gets the new one when all of them do",
        )),
        (true, false) => Some(event(
            false,
            "SecretRotationCompleted",
            "RotateSecret",
            "AWS has the new shared secret; the old one is no longer accepted",
        )),
        _ => None,
    }
}
