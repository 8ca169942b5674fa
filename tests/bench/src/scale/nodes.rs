//! Nodes without machines: a Node object that is ready, and the Lease by which the controller manager knows that it lives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::kubelets::micros;

/// As often as a kubelet does it.
const HEARTBEAT: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "kube-node-lease";
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const AT_ONCE: usize = 8;

/// The name of node `n`, counted from 0.
pub(crate) fn node_name(n: u32) -> String {
    format!("fake-{n:03}")
}

/// Makes them, with room for all pods, in three zones in turn.
pub(crate) async fn make(client: &Client, nodes: u32, pods_each: u32) -> Result<()> {
    stream::iter(0..nodes)
        .map(|n| one(client, n, pods_each))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

async fn one(client: &Client, n: u32, pods: u32) -> Result<()> {
    let name = node_name(n);
    let zone = usize::try_from(n).ok().and_then(|n| ZONES.iter().cycle().nth(n));
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": zone,
            "topology.kubernetes.io/region": "local",
        }},
        // Nothing but what is bound by hand comes here.
        "spec": {"taints": [{"key": "bench.radius-mfa.dev/fake", "effect": "NoSchedule"}]},
    }))?;
    let nodes: Api<Node> = Api::all(client.clone());
    nodes
        .create(&PostParams::default(), &node)
        .await
        .with_context(|| format!("making node {name}"))?;
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": pods.to_string()});
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = json!({"status": {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "10.199.0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a stand-in",
                        "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }});
    let params = PatchParams::default();
    nodes
        .patch_status(&name, &params, &Patch::Strategic(status))
        .await?;
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micros()},
    }))?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    leases.create(&PostParams::default(), &lease).await?;
    Ok(())
}

/// Renews the Leases until it is dropped. One that fails is renewed the next time.
pub(crate) async fn live(client: Client, nodes: u32) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tick.tick().await;
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        let renewed = stream::iter(0..nodes).map(|n| {
            let leases = leases.clone();
            async move {
                let patch = Patch::Merge(json!({"spec": {"renewTime": micros()}}));
                leases
                    .patch_metadata(&node_name(n), &PatchParams::default(), &patch)
                    .await
                    .is_ok()
            }
        });
        renewed.buffer_unordered(AT_ONCE).for_each(|_| async {}).await;
    }
}
