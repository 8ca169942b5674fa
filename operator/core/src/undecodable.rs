//! The status of an object that this version of the operator can't decode.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::api::ConditionType;
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, set_conditions, shortened};
use crate::events::{Event, event};

/// The status to write and the Event that announces it, unless the status says it already. `status` is the status as it is,
/// `error` what the decoder said.
#[must_use]
pub fn undecodable(
    status: Option<&Value>,
    generation: Option<i64>,
    error: &str,
    now: Timestamp,
) -> Option<(Value, Event)> {
    let message = shortened(&format!(
        "this version of the operator can't read the object and ignores it: {error}. The pods and the settings \
         at AWS stay as they are. Change the field, or upgrade the operator to a version that supports it"
    ));
    let before: Vec<Condition> = status
        .and_then(|status| status.get("conditions")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
        .collect();
    let said = |condition: &Condition| {
        condition.reason == Reason::Undecodable.as_str()
            && condition.message == message
            && condition.observed_generation == generation
    };
    if before.iter().any(said) {
        return None;
    }
    let drafts = [ConditionType::Accepted, ConditionType::Ready]
        .map(|kind| ConditionDraft::new(kind, ConditionStatus::False, Reason::Undecodable, &message));
    let is_replaced = |condition: &&Condition| drafts.iter().any(|d| d.kind.as_str() == condition.type_);
    let mut conditions = set_conditions(&drafts, &before, generation, now);
    conditions.extend(before.iter().filter(|condition| !is_replaced(condition)).cloned());
    let event = event(true, Reason::Undecodable.as_str(), "Decode", &message);
    Some((
        json!({"conditions": conditions, "observedGeneration": generation}),
        event,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_not_accepted_and_not_ready() {
        let ready = json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "all", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Available", "status": "True", "reason": "ProxiesServe", "message": "2 of 2",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let (status, event) =
            undecodable(Some(&ready), Some(3), "unknown variant `NodePort`", at(9)).unwrap();
        for kind in ["Accepted", "Ready"] {
            let condition = condition(&status, kind);
            assert_eq!(
                (&condition["status"], &condition["reason"]),
                (&json!("False"), &json!("Undecodable"))
            );
            assert_eq!(condition["observedGeneration"], 3);
            assert!(
                condition["message"].as_str().unwrap().contains("NodePort"),
                "{condition}"
            );
        }
        assert_eq!(condition(&status, "Available")["status"], "True");
        assert!(event.warning && event.note.contains("NodePort"));
        let (_, event) = undecodable(None, None, &"x".repeat(3000), at(9)).unwrap();
        assert!(event.note.len() <= 1024);
    }

    #[test]
    fn what_the_status_says_already_is_not_written_again() {
        let (status, _) = undecodable(None, Some(3), "e", at(9)).unwrap();
        assert!(undecodable(Some(&status), Some(3), "e", at(10)).is_none());
        assert!(undecodable(Some(&status), Some(4), "e", at(10)).is_some());
        let (again, _) = undecodable(Some(&status), Some(3), "another", at(10)).unwrap();
        assert_eq!(
            condition(&again, "Accepted")["lastTransitionTime"],
            condition(&status, "Accepted")["lastTransitionTime"]
        );
    }

    #[test]
    fn a_malformed_status_is_replaced() {
        for status in [json!(3), json!({"conditions": 3}), json!({"conditions": [3]})] {
            assert!(undecodable(Some(&status), None, "e", at(9)).is_some(), "{status}");
        }
    }
}
