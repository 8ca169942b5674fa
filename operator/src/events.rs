//! Kubernetes Events, written by kube-runtime's recorder.

use kube::runtime::events::{Event as KubernetesEvent, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use operator_core::events::Event;
use operator_core::names::FIELD_MANAGER;

use crate::error::message;

/// The API server's limit of `reportingInstance`, in bytes.
const LONGEST_INSTANCE: usize = 128;

/// Writes Events.
#[derive(Clone)]
pub(crate) struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// Writes Events of this replica.
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: instance
                .get(..instance.floor_char_boundary(LONGEST_INSTANCE))
                .map(str::to_owned),
        };
        Self { client, reporter }
    }

    /// Writes one. An Event that can't be written is logged and not retried, since the status has its content too.
    pub(crate) async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, event: &Event) {
        let mut regarding = object.object_ref(&());
        regarding.resource_version = None;
        let wanted = KubernetesEvent {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason.to_owned(),
            action: event.action.to_owned(),
            note: Some(event.note.clone()),
            secondary: None,
        };
        // A recorder counts Events of one reason up and keeps the note of the first. The plan has each Event once, and its
        // note is what matters, so each Event has a recorder of its own.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(&wanted, &regarding).await {
            let error = message(&error);
            tracing::warn!(error, reason = event.reason, "could not write an Event");
        }
    }
}

#[cfg(test)]
mod tests {
    use operator_core::api::{RadiusProxy, RadiusProxySpec};
    use serde_json::json;

    use super::*;
    use crate::fake_api::FakeApi;

    #[tokio::test]
    async fn two_events_of_one_reason_are_both_written_with_their_notes() {
        let api = FakeApi::new(|call| Some((201, call.body.clone())));
        let spec: RadiusProxySpec = serde_json::from_value(json!({"provider": {}})).unwrap();
        let mut proxy = RadiusProxy::new("a", spec);
        proxy.metadata.namespace = Some("mfa".to_owned());
        let events = Events::new(api.client.clone(), "replica-0");
        for note in ["10.0.0.1 is registered", "10.0.0.2 is registered"] {
            let event = Event {
                warning: false,
                reason: "Written",
                action: "UpdateRadius",
                note: note.to_owned(),
            };
            events.publish(&proxy, &event).await;
        }
        let written = api.calls(2, |call| call.method == "POST").await;
        assert!(
            written[0]
                .uri
                .starts_with("/apis/events.k8s.io/v1/namespaces/mfa/events")
        );
        assert_eq!(
            (&written[0].body["note"], &written[1].body["note"]),
            (&json!("10.0.0.1 is registered"), &json!("10.0.0.2 is registered"))
        );
        assert_eq!(written[0].body["regarding"]["kind"], "RadiusProxy");
        assert_eq!(written[0].body["reportingInstance"], "replica-0");
    }
}
