//! etcd: one member, on the loopback address of the cluster's own network namespace.

use super::{Plan, shown};
use crate::layout::Layout;

/// Where the API server finds it.
pub(super) const URL: &str = "http://127.0.0.1:2379";
const PEER_URL: &str = "http://127.0.0.1:2380";

pub(super) fn plan(layout: &Layout) -> Plan {
    let mut plan = Plan::of(
        "etcd",
        &[
            ("name", "local".into()),
            ("data-dir", shown(layout.etcd())),
            ("listen-client-urls", URL.into()),
            ("advertise-client-urls", URL.into()),
            ("listen-peer-urls", PEER_URL.into()),
            ("initial-advertise-peer-urls", PEER_URL.into()),
            ("initial-cluster", format!("local={PEER_URL}")),
            ("logger", "zap".into()),
            ("log-level", "warn".into()),
        ],
    );
    // The data ends with the cluster: nothing is won by waiting for the disk.
    plan.args.push("--unsafe-no-fsync".into());
    plan
}
