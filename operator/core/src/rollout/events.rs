//! Events: each change once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::upgrade::Upgrade;
use crate::api::ConditionType;
use crate::conditions::{ConditionDraft, EventType, Reason, shortened};
use crate::events::{Event, event};
use crate::observed::{ObjectId, RolloutInput, StatefulSetState};
use crate::outcomes::{Outcomes, Step};

/// Conditions whose status or reason changed since the last status.
pub(super) fn of_conditions(before: &[Condition], drafts: &[ConditionDraft]) -> Vec<Event> {
    let repeats = |at: usize, draft: &ConditionDraft| {
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
                    && old.status == draft.status.as_str()
                    && old.reason == draft.reason.as_str()
                    && says_the_same(draft.reason, &old.message, &shortened(&draft.message))
            })
        })
        .filter(|draft| draft.reason.event_type() != EventType::NoEvent)
        .map(|draft| {
            let warning = draft.reason.event_type() == EventType::Warning;
            event(warning, draft.reason.as_str(), "Reconcile", &draft.message)
        })
        .collect()
}

/// Whether two messages of a reason ask for the same. One more user with two seeds is another thing to do, and so is what a
/// mended template is refused for next. Amounts and ordinals in a refusal change by themselves.
fn says_the_same(reason: Reason, old: &str, new: &str) -> bool {
    match reason {
        Reason::DuplicateTotpSeed => old == new,
        Reason::PodsRefused => without_digits(old).eq(without_digits(new)),
        _ => true,
    }
}

fn without_digits(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit())
}

/// New failures that no condition can show.
#[must_use]
pub fn of_outcomes(before: &Outcomes, now: &Outcomes) -> Vec<Event> {
    let news = |step, note: Option<String>| note.filter(|_| !before.failed(&step));
    let status = news(Step::Status, now.status_note());
    let status = status.map(|note| event(true, "StatusNotWritten", "Reconcile", &note));
    status.into_iter().collect()
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
            "every proxy runs the current image and template",
        )),
        _ => None,
    }
}

/// Objects that are taken over. A step that failed was announced before.
pub(super) fn of_adoption(input: &RolloutInput) -> Option<Event> {
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
