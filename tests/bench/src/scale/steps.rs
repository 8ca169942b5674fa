//! What a kubelet does next with a pod, as a function of the pod. Pure.

use k8s_openapi::api::core::v1::Pod;
use operator_core::names::CONFIG_DIGEST_ANNOTATION;

/// One call to the API server. Which one follows is seen from the pod that comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It gets a node: there is no scheduler.
    Bind,
    /// It gets an address, and its containers serve.
    Start,
    /// Its proxy reports the configuration that it was told to run.
    Report(String),
    /// Its condition Ready follows its containers and its readiness gates.
    Ready(bool),
    /// It has ended.
    Remove,
}

/// What is to be done with `pod`; `reported` is the digest that its proxy reported last.
pub(crate) fn next(pod: &Pod, reported: Option<&str>) -> Option<Step> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Step::Remove);
    }
    if pod.spec.as_ref()?.node_name.is_none() {
        return Some(Step::Bind);
    }
    if address(pod).is_none() {
        return Some(Step::Start);
    }
    let annotations = pod.metadata.annotations.as_ref();
    if let Some(told) = annotations.and_then(|all| all.get(CONFIG_DIGEST_ANNOTATION))
        && reported != Some(told.as_str())
    {
        return Some(Step::Report(told.clone()));
    }
    let ready = holds(pod, "ContainersReady") && gates_hold(pod);
    (holds(pod, "Ready") != ready).then_some(Step::Ready(ready))
}

/// `status.podIP`.
pub(crate) fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

fn gates_hold(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    gates
        .into_iter()
        .flatten()
        .all(|gate| holds(pod, &gate.condition_type))
}

fn holds(pod: &Pod, name: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == name && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use operator_core::names::READINESS_GATE;
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "mfa-0", "annotations": {}},
            "spec": {"containers": [], "nodeName": "node-1", "readinessGates": [{"conditionType": READINESS_GATE}]},
            "status": {"podIP": "10.200.0.1", "conditions": [{"type": "ContainersReady", "status": "True"}]},
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_new_pod_is_bound_then_started() {
        let unbound = pod(|pod| pod["spec"]["nodeName"] = Value::Null);
        assert_eq!(next(&unbound, None), Some(Step::Bind));
        let bound = pod(|pod| pod["status"] = json!({}));
        assert_eq!(next(&bound, None), Some(Step::Start));
    }

    #[test]
    fn a_digest_is_reported_when_it_is_told_and_again_when_it_changes() {
        let told = pod(|pod| pod["metadata"]["annotations"][CONFIG_DIGEST_ANNOTATION] = "d2".into());
        assert_eq!(next(&told, None), Some(Step::Report("d2".into())));
        assert_eq!(next(&told, Some("d1")), Some(Step::Report("d2".into())));
        assert_eq!(next(&told, Some("d2")), None);
    }

    #[test]
    fn ready_waits_for_the_gate() {
        assert_eq!(next(&pod(|_| {}), None), None);
        let open = json!([{"type": "ContainersReady", "status": "True"}, {"type": READINESS_GATE, "status": "True"}]);
        let registered = pod(|pod| pod["status"]["conditions"] = open);
        assert_eq!(next(&registered, None), Some(Step::Ready(true)));
    }

    #[test]
    fn a_pod_that_is_told_to_go_goes_whatever_else_is_open() {
        let going = pod(|pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            pod["spec"]["nodeName"] = Value::Null;
        });
        assert_eq!(next(&going, None), Some(Step::Remove));
    }
}
