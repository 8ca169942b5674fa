//! Conditions: a closed set of reasons, and messages with the next step for a person.

mod reason;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::ConditionType;
use crate::time;

pub use reason::{EventType, Reason};

/// The longest message of a condition that the API server takes.
const MAX_MESSAGE: usize = 32_768;
/// Where messages are cut: what people can read.
const CUT_MESSAGE: usize = 2_000;

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// True
    True,
    /// False
    False,
    /// Unknown
    Unknown,
}

impl ConditionStatus {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Reason {
    /// Whether nothing goes on before a person acts. AWS takes calls again by itself once there are fewer.
    pub(crate) fn waits_for_a_person(self) -> bool {
        self.event_type() == EventType::Warning && self != Self::AwsThrottled
    }
}

/// A condition before it has times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConditionDraft {
    pub(crate) kind: ConditionType,
    pub(crate) status: ConditionStatus,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl ConditionDraft {
    pub(crate) fn new(
        kind: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// `Ready` from the others: true when all are and every proxy serves the current configuration, else what the first says
/// that is not. So `kubectl wait` on it ends when a change has come to every pod.
pub(crate) fn ready(others: &[ConditionDraft], message: String) -> ConditionDraft {
    let unfinished = |draft: &&ConditionDraft| {
        !draft.is_true()
            || draft.kind == ConditionType::Stalled
            || matches!(draft.reason, Reason::SomeProxiesServe | Reason::Upgrading)
    };
    match others.iter().find(unfinished) {
        None => ConditionDraft::new(
            ConditionType::Ready,
            ConditionStatus::True,
            Reason::Ready,
            message,
        ),
        Some(first) => ConditionDraft {
            kind: ConditionType::Ready,
            status: match first.status {
                ConditionStatus::True if first.reason == Reason::ApiServerErrors => ConditionStatus::Unknown,
                ConditionStatus::True => ConditionStatus::False,
                other => other,
            },
            ..first.clone()
        },
    }
}

/// `Stalled` or `Reconciling`, by which kstatus tells broken from busy. Neither while all is well or suspended.
pub(crate) fn progress(others: &[ConditionDraft], ready: &ConditionDraft) -> Option<ConditionDraft> {
    if ready.is_true() || others.iter().any(|other| other.kind == ConditionType::Stalled) {
        return None;
    }
    let waits = |draft: &&ConditionDraft| !draft.is_true() && draft.reason.waits_for_a_person();
    let (kind, why) = match others.iter().find(waits) {
        Some(stalled) => (ConditionType::Stalled, stalled),
        None if ready.reason.event_type() == EventType::Normal => return None,
        None => (ConditionType::Reconciling, ready),
    };
    Some(ConditionDraft::new(
        kind,
        ConditionStatus::True,
        why.reason,
        why.message.clone(),
    ))
}

/// The conditions with times: `lastTransitionTime` moves only when the status does.
pub(crate) fn set_conditions(
    drafts: &[ConditionDraft],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    drafts
        .iter()
        .map(|draft| {
            let old = before.iter().find(|c| c.type_ == draft.kind.as_str());
            let since = old
                .filter(|old| old.status == draft.status.as_str())
                .map_or_else(|| time::floor(now), |old| old.last_transition_time.clone());
            Condition {
                type_: draft.kind.as_str().to_owned(),
                status: draft.status.as_str().to_owned(),
                reason: draft.reason.as_str().to_owned(),
                message: shortened(&draft.message),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// A message as the condition has it.
pub(crate) fn shortened(message: &str) -> String {
    cut(message, CUT_MESSAGE)
}

/// A text of at most `length` bytes, cut between characters.
pub(crate) fn cut(text: &str, length: usize) -> String {
    if text.len() <= length.min(MAX_MESSAGE) {
        return text.to_owned();
    }
    let mut end = length.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_stays_until_the_status_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let draft = |status, reason| ConditionDraft::new(ConditionType::Available, status, reason, "m");
        let first = set_conditions(
            &[draft(ConditionStatus::False, Reason::NotStarted)],
            &[],
            Some(1),
            at(1),
        );
        let second = set_conditions(
            &[draft(ConditionStatus::False, Reason::TooFewProxies)],
            &first,
            Some(2),
            at(2),
        );
        assert_eq!(second[0].last_transition_time.0, at(1));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = set_conditions(
            &[draft(ConditionStatus::True, Reason::ProxiesServe)],
            &second,
            Some(2),
            at(3),
        );
        assert_eq!(third[0].last_transition_time.0, at(3));
    }

    #[test]
    fn ready_says_what_the_first_untrue_condition_says() {
        let one = ConditionDraft::new(
            ConditionType::Accepted,
            ConditionStatus::True,
            Reason::Accepted,
            "fine",
        );
        let two = ConditionDraft::new(
            ConditionType::SecretsReady,
            ConditionStatus::False,
            Reason::SecretMissing,
            "no",
        );
        let told = ready(&[one.clone(), two], String::new());
        assert_eq!(
            (told.kind, told.status, told.reason),
            (
                ConditionType::Ready,
                ConditionStatus::False,
                Reason::SecretMissing
            )
        );
        assert!(ready(std::slice::from_ref(&one), "all".to_owned()).is_true());
        let some = ConditionDraft::new(
            ConditionType::Available,
            ConditionStatus::True,
            Reason::SomeProxiesServe,
            "1 of 2",
        );
        assert_eq!(ready(&[one, some], String::new()).status, ConditionStatus::False);
    }

    #[test]
    fn what_waits_for_a_person_is_stalled_and_what_passes_is_reconciling() {
        let progress = |reasons: &[(ConditionType, Reason)]| {
            let drafts: Vec<ConditionDraft> = (reasons.iter())
                .map(|(kind, reason)| ConditionDraft::new(*kind, ConditionStatus::False, *reason, "m"))
                .collect();
            let told = progress(&drafts, &ready(&drafts, String::new()))?;
            assert!(told.is_true());
            Some((told.kind, told.reason))
        };
        let (available, registered) = (ConditionType::Available, ConditionType::Registered);
        for reason in [Reason::NoGrant, Reason::RadiusFailed, Reason::ConfigInvalid] {
            let found = progress(&[(available, Reason::TooFewProxies), (registered, reason)]);
            assert_eq!(found, Some((ConditionType::Stalled, reason)));
        }
        for reason in [Reason::Settling, Reason::AwsThrottled] {
            let found = progress(&[(registered, reason)]);
            assert_eq!(found, Some((ConditionType::Reconciling, reason)));
        }
        assert_eq!(progress(&[(registered, Reason::Suspended)]), None);
        assert_eq!(progress(&[]), None);
    }

    #[test]
    fn a_reason_is_what_the_api_server_takes() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(
                text.bytes().all(|b| b.is_ascii_alphanumeric()) && text.len() < 64,
                "{text}"
            );
        }
        assert_eq!(cut("ééé", 5), "é…");
    }
}
