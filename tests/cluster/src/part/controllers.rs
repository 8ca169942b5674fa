//! kube-controller-manager and kube-scheduler: one of each, so neither elects a leader.

use super::{Plan, shown};
use crate::network::Network;
use crate::pki::Pki;

pub(super) fn manager(network: Network, pki: &Pki) -> Plan {
    Plan::of(
        "kube-controller-manager",
        &[
            ("kubeconfig", shown(pki.kubeconfig_of("kube-controller-manager"))),
            ("bind-address", "127.0.0.1".into()),
            ("leader-elect", "false".into()),
            // Without it every controller runs as the manager's own user, which RBAC allows next to nothing.
            ("use-service-account-credentials", "true".into()),
            (
                "service-account-private-key-file",
                shown(pki.key("service-account")),
            ),
            ("root-ca-file", shown(pki.certificate("ca"))),
            ("cluster-signing-cert-file", shown(pki.certificate("ca"))),
            ("cluster-signing-key-file", shown(pki.key("ca"))),
            ("service-cluster-ip-range", network.service_cidr()),
            ("allocate-node-cidrs", "false".into()),
            // The API server is this cluster's alone: thousands of pods need not be made at twenty calls a second.
            ("kube-api-qps", "300".into()),
            ("kube-api-burst", "600".into()),
            ("concurrent-statefulset-syncs", "20".into()),
            ("profiling", "false".into()),
        ],
    )
}

pub(super) fn scheduler(pki: &Pki) -> Plan {
    Plan::of(
        "kube-scheduler",
        &[
            ("kubeconfig", shown(pki.kubeconfig_of("kube-scheduler"))),
            ("bind-address", "127.0.0.1".into()),
            ("leader-elect", "false".into()),
            ("profiling", "false".into()),
        ],
    )
}
