//! Kubernetes Events. The plan says each thing once, so each is an Event of its own and none is counted up.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubernetesEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};
use operator_core::api::RadiusProxy;
use operator_core::names::FIELD_MANAGER;
use operator_core::plan::Event;

use crate::error::words;

/// The API server's limits of `note`, in bytes, and of what goes before the suffix of an Event's name.
const LONGEST_NOTE: usize = 1024;
const LONGEST_NAME: usize = 200;

/// Writes Events.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    instance: String,
}

impl Recorder {
    /// A recorder of this replica.
    pub(crate) fn new(client: Client, instance: String) -> Self {
        Self { client, instance }
    }

    /// Writes one. An Event that cannot be written is logged and not tried again: it is told in the status too.
    pub(crate) async fn publish(&self, proxy: &RadiusProxy, event: &Event) {
        let namespace = proxy.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<KubernetesEvent> = Api::namespaced(self.client.clone(), namespace);
        let wanted = self.event(proxy, event, Timestamp::now());
        if let Err(error) = api.create(&PostParams::default(), &wanted).await {
            tracing::warn!(
                error = words(&error),
                reason = event.reason,
                "could not write an Event"
            );
        }
    }

    fn event(&self, proxy: &RadiusProxy, event: &Event, now: Timestamp) -> KubernetesEvent {
        let name = proxy.metadata.name.as_deref().unwrap_or_default();
        KubernetesEvent {
            metadata: ObjectMeta {
                namespace: proxy.metadata.namespace.clone(),
                name: Some(format!("{}.{:x}", clip(name, LONGEST_NAME), now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(event.reason.to_owned()),
            action: Some(event.action.to_owned()),
            note: Some(clip(&event.note, LONGEST_NOTE).to_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                resource_version: None,
                ..proxy.object_ref(&())
            }),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(clip(&self.instance, 128).to_owned()),
            ..KubernetesEvent::default()
        }
    }
}

fn clip(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_keeps_to_the_api_servers_limit() {
        assert_eq!(clip("short", 10), "short");
        assert_eq!(clip("ää", 3), "ä");
        assert_eq!(clip(&"x".repeat(2000), LONGEST_NOTE).len(), LONGEST_NOTE);
    }
}
