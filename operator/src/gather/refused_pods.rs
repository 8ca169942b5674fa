//! Why the StatefulSet's controller can't create pods.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use operator_core::names::ObjectNames;
use operator_core::outcomes::{Failure, Outcomes, Step};

use crate::context::Context;
use crate::error::message;
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::ReconcileState;

/// How long a StatefulSet may take to create its pods before its Events are read.
const PODS_COME_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of Events of one StatefulSet that are read.
const EVENTS_AT_ONCE: u32 = 100;
/// How old the last refusal may be, in seconds.
const REFUSAL_LASTS: i64 = 1200;

/// The outcomes of the last reconciliation, and that of the StatefulSet's controller while pods stay missing. Its Events say
/// why it can't create them.
pub(super) async fn outcomes(
    ctx: &Context,
    key: &RadiusProxyKey,
    names: &ObjectNames,
    missing: bool,
    state: &mut ReconcileState,
) -> Outcomes {
    let mut outcomes = state.outcomes.clone();
    if !missing {
        state.pods_missing_since = None;
        return outcomes;
    }
    let since = state.pods_missing_since.get_or_insert_with(Instant::now);
    if since.elapsed() < PODS_COME_WITHIN {
        return outcomes;
    }
    let selector = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},reason=FailedCreate",
        names.workload()
    );
    let params = ListParams::default().fields(&selector).limit(EVENTS_AT_ONCE);
    match ctx.api::<Event>(key).list(&params).await {
        Ok(events) => {
            let now = Timestamp::now();
            if let Some(message) = newest(&events.items, now) {
                outcomes.record(Step::CreatePods, Failure::Refused { code: 0, message }, now);
            }
        }
        Err(error) => tracing::debug!(error = message(&error), "could not list the StatefulSet's Events"),
    }
    outcomes
}

/// The newest message of the StatefulSet's controller. Between two tries it waits for a quarter of an hour at most.
fn newest(events: &[Event], now: Timestamp) -> Option<String> {
    let time = |event: &Event| {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        series
            .map(|time| time.0)
            .or(last)
            .or(event.event_time.as_ref().map(|time| time.0))
    };
    let newest = events.iter().max_by_key(|event| time(event))?;
    let age = now.duration_since(time(newest)?);
    let message = newest.message.as_deref()?;
    let message = message
        .split_once(" error: ")
        .map_or(message, |(_, message)| message);
    (age.as_secs() < REFUSAL_LASTS).then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, list};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    #[test]
    fn the_newest_refusal_of_pods_counts_and_not_for_ever() {
        let event = |time: &str, message: &str| -> Event {
            let message = format!("create Pod mfa-0 in StatefulSet mfa failed error: {message}");
            serde_json::from_value(
                json!({"metadata": {}, "involvedObject": {}, "message": message, "lastTimestamp": time}),
            )
            .unwrap()
        };
        let events = [
            event(
                "2026-01-01T00:10:00Z",
                "pods \"mfa-0\" is forbidden: exceeded quota",
            ),
            event("2026-01-01T00:00:00Z", "an older one"),
        ];
        let at = |text: &str| text.parse().unwrap();
        let told = newest(&events, at("2026-01-01T00:20:00Z"));
        assert_eq!(
            told.as_deref(),
            Some("pods \"mfa-0\" is forbidden: exceeded quota")
        );
        assert_eq!(newest(&events, at("2026-01-01T00:40:00Z")), None);
        assert_eq!(newest(&[], at("2026-01-01T00:20:00Z")), None);
    }

    #[tokio::test]
    async fn pods_that_stay_missing_are_an_outcome_in_the_words_of_the_event() {
        let event = json!({"metadata": {}, "involvedObject": {}, "lastTimestamp": Timestamp::now().to_string(),
            "message": "create Pod mfa-0 in StatefulSet mfa failed error: pods \"mfa-0\" is forbidden: exceeded quota"});
        let api = FakeApi::new(move |_| Some(list(std::slice::from_ref(&event))));
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, _lead) = Context::for_test(api.client.clone(), cluster);
        let (key, names, mut state) = (
            RadiusProxyKey::new("auth", "mfa"),
            ObjectNames::new("mfa"),
            ReconcileState::default(),
        );
        let first = outcomes(&ctx, &key, &names, true, &mut state).await;
        assert!(!first.failed(&Step::CreatePods), "pods take a moment");
        state.pods_missing_since = Instant::now().checked_sub(PODS_COME_WITHIN);
        let later = outcomes(&ctx, &key, &names, true, &mut state).await;
        assert!(later.failed(&Step::CreatePods));
        let asked = api
            .calls(1, |call| call.uri.starts_with("/api/v1/namespaces/auth/events?"))
            .await;
        assert_eq!(asked.len(), 1);
        let none = outcomes(&ctx, &key, &names, false, &mut state).await;
        assert!(!none.failed(&Step::CreatePods) && state.pods_missing_since.is_none());
    }
}
