//! The pods as registration and rollout see them.

use std::net::IpAddr;

use proxy_config::ConfigDigest;

use crate::observed::{PodState, RolloutInput};

/// A pod as registration and rollout see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProxyPod<'a> {
    pub(crate) pod: &'a PodState,
    /// The number in its name; the highest number if it has none.
    pub(crate) ordinal: u32,
    /// Whether it is registered once it serves.
    pub(crate) is_eligible: bool,
    /// Whether it stays registered.
    pub(crate) is_retained: bool,
    /// Whether it answers: its containers are ready, it isn't terminating, and its node is ready.
    pub(crate) alive: bool,
    /// Whether it reports the current configuration.
    pub(crate) configured: bool,
}

impl ProxyPod<'_> {
    /// Whether it may be registered: it answers with the current configuration.
    pub(crate) const fn serves(&self) -> bool {
        self.alive && self.configured
    }
}

/// The pods, in the order of their names' ordinals.
pub(crate) fn proxies<'a>(input: &'a RolloutInput, digest: Option<&ConfigDigest>) -> Vec<ProxyPod<'a>> {
    let names = crate::names::ObjectNames::new(input.proxy.metadata.name.as_deref().unwrap_or_default());
    let mut proxies: Vec<ProxyPod<'a>> = input
        .pods
        .iter()
        .filter(|pod| !pod.ended)
        .map(|pod| ProxyPod {
            pod,
            ordinal: names.ordinal(&pod.name).unwrap_or(u32::MAX),
            is_eligible: true,
            is_retained: true,
            alive: pod.containers_ready && pod.deleted.is_none() && pod.node_ready,
            configured: digest.is_some_and(|digest| {
                input
                    .reports
                    .get(&pod.uid)
                    .is_some_and(|report| report.digest == *digest)
            }),
        })
        .collect();
    proxies.sort_by_key(|proxy| (proxy.ordinal, &proxy.pod.name, &proxy.pod.uid));
    proxies
}

/// The addresses that a pod is registered with: its own, or its node's.
pub(crate) fn of_pod(pod: &PodState, host: bool) -> impl Iterator<Item = IpAddr> {
    let list = if host { &pod.host_ips } else { &pod.ips };
    list.iter().map(IpAddr::to_canonical)
}

/// Which proxies do not serve, and why.
pub(crate) fn not_serving(proxies: &[ProxyPod<'_>], input: &RolloutInput) -> String {
    let mut messages: Vec<String> = proxies
        .iter()
        .filter(|proxy| !proxy.serves())
        .map(|proxy| {
            let pod = proxy.pod;
            let why = if pod.deleted.is_some() {
                "is terminating".to_owned()
            } else if !pod.node_ready {
                format!(
                    "is on node {}, which is not ready",
                    pod.node.as_deref().unwrap_or("?")
                )
            } else if let Some(waiting) = &pod.waiting {
                format!("waits: {waiting}")
            } else if pod.node.is_none() {
                "is not scheduled; see `kubectl describe pod`".to_owned()
            } else if proxy.alive {
                "does not report the current configuration yet".to_owned()
            } else {
                "is not ready".to_owned()
            };
            format!("{} {why}", pod.name)
        })
        .collect();
    let replicas = input.proxy.spec.replicas as usize;
    if proxies.len() < replicas {
        messages.push(format!("{} of {replicas} pods exist", proxies.len()));
    }
    if messages.is_empty() {
        messages.push("every pod serves".to_owned());
    }
    messages.join("; ")
}
