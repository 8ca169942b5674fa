//! A pod as decisions see it.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::names::{
    CONFIG_DIGEST_ANNOTATION, CONTAINER, IN_PLACE_ANNOTATION, PEERS_DIGEST_ANNOTATION,
    POD_TEMPLATE_ANNOTATION, READINESS_GATE, REVISION_LABEL,
};
use operator_core::observed::PodState;

/// A pod, without what only its node knows (zone and readiness of the node).
pub(crate) fn pod(pod: &Pod) -> PodState {
    let spec = pod.spec.as_ref();
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let condition = |name: &str| {
        let found = status.conditions.iter().flatten().find(|each| each.type_ == name);
        found.map(|each| each.status == "True")
    };
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
    let mut ips: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|each| each.ip.parse().ok())
        .collect();
    if ips.is_empty() {
        ips.extend(parse(&status.pod_ip));
    }
    let mut host_ips: Vec<IpAddr> = status
        .host_ips
        .iter()
        .flatten()
        .filter_map(|each| each.ip.parse().ok())
        .collect();
    if host_ips.is_empty() {
        host_ips.extend(parse(&status.host_ip));
    }
    let label = |name: &str| {
        pod.metadata
            .labels
            .as_ref()
            .and_then(|all| all.get(name))
            .cloned()
    };
    let annotation = |name: &str| {
        pod.metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(name))
            .cloned()
    };
    let image = spec
        .and_then(|spec| {
            spec.containers
                .iter()
                .find(|container| container.name == CONTAINER)
        })
        .and_then(|container| container.image.clone());
    PodState {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ips,
        host_ips,
        node: spec.and_then(|spec| spec.node_name.clone()),
        zone: None,
        revision: label(REVISION_LABEL),
        template: annotation(POD_TEMPLATE_ANNOTATION),
        in_place: annotation(IN_PLACE_ANNOTATION),
        container: status
            .container_statuses
            .iter()
            .flatten()
            .find(|container| container.name == CONTAINER)
            .and_then(|container| container.container_id.clone())
            .filter(|id| !id.is_empty()),
        image: image.unwrap_or_default(),
        containers_ready: condition("ContainersReady").unwrap_or(false),
        ended: matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")),
        deleted: deleted(&pod.metadata),
        node_ready: true,
        config_digest: annotation(CONFIG_DIGEST_ANNOTATION),
        peers_digest: annotation(PEERS_DIGEST_ANNOTATION),
        gate: condition(READINESS_GATE),
        waiting: waiting(status),
    }
}

/// When the deletion was asked for. A deletionTimestamp is when the grace ends.
fn deleted(metadata: &ObjectMeta) -> Option<Timestamp> {
    let grace = u64::try_from(metadata.deletion_grace_period_seconds.unwrap_or_default()).unwrap_or_default();
    let ends = metadata.deletion_timestamp.as_ref()?.0;
    Some(
        ends.saturating_sub(std::time::Duration::from_secs(grace))
            .unwrap_or(ends),
    )
}

/// Why the first container that waits does so.
fn waiting(status: &PodStatus) -> Option<String> {
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|each| each.type_ == "PodScheduled" && each.status == "False");
    if let Some(condition) = unscheduled {
        let reason = condition
            .reason
            .clone()
            .unwrap_or_else(|| "Unschedulable".to_owned());
        return Some(with_message(reason, condition.message.as_deref()));
    }
    status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        let ordinary = matches!(reason.as_str(), "ContainerCreating" | "PodInitializing");
        (!ordinary).then(|| with_message(reason, waiting.message.as_deref()))
    })
}

fn with_message(reason: String, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_is_deleted_when_that_was_asked_for_and_not_when_its_grace_ends() {
        let read = pod(&from(
            json!({"metadata": {"name": "mfa-0", "uid": "u", "deletionGracePeriodSeconds": 630,
            "deletionTimestamp": "2026-01-01T00:10:30Z"}}),
        ));
        assert_eq!(read.deleted, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_pod_is_read_as_far_as_decisions_need_it() {
        let read = pod(&from(json!({
            "metadata": {"name": "mfa-0", "uid": "u", "labels": {"controller-revision-hash": "r1"},
                         "annotations": {"radius-mfa.dev/config-digest": "d", "radius-mfa.dev/peers-digest": "e",
                                         "radius-mfa.dev/pod-template-digest": "t",
                                         "radius-mfa.dev/in-place": "r2 c p:1"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "proxy", "image": "p:1"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}],
                       "containerStatuses": [{"name": "proxy", "image": "p:1", "imageID": "", "ready": true,
                                              "restartCount": 0, "containerID": "containerd://1"}],
                       "hostIP": "10.1.0.1", "conditions": [
                {"type": "ContainersReady", "status": "True"},
                {"type": "radius-mfa.dev/registered", "status": "False"}]}
        })));
        assert_eq!(
            read.ips,
            ["10.0.0.9".parse::<IpAddr>().unwrap(), "fd00::9".parse().unwrap()]
        );
        assert_eq!(read.host_ips, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            (read.containers_ready, read.gate, read.ended),
            (true, Some(false), false)
        );
        assert_eq!(
            (read.image.as_str(), read.revision.as_deref()),
            ("p:1", Some("r1"))
        );
        assert_eq!(read.config_digest.as_deref(), Some("d"));
        assert_eq!(read.peers_digest.as_deref(), Some("e"));
        assert_eq!(read.template.as_deref(), Some("t"));
        assert_eq!(read.in_place.as_deref(), Some("r2 c p:1"));
        assert_eq!(read.container.as_deref(), Some("containerd://1"));
    }

    #[test]
    fn a_waiting_container_says_why_and_one_that_is_only_starting_does_not() {
        let waits = |reason: &str| {
            pod(&from(json!({"status": {"containerStatuses": [{
                "name": "proxy", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "no such image"}}}]}})))
            .waiting
        };
        assert_eq!(
            waits("ImagePullBackOff").as_deref(),
            Some("ImagePullBackOff: no such image")
        );
        assert_eq!(waits("ContainerCreating"), None);
    }
}
