//! kube-apiserver.

use super::{Plan, etcd, shown};
use crate::network::{API_PORT, Network};
use crate::pki::Pki;

pub(super) fn plan(network: Network, pki: &Pki) -> Plan {
    Plan::of(
        "kube-apiserver",
        &[
            ("advertise-address", network.api().to_string()),
            ("secure-port", API_PORT.to_string()),
            ("etcd-servers", etcd::URL.into()),
            ("service-cluster-ip-range", network.service_cidr()),
            ("client-ca-file", shown(pki.certificate("ca"))),
            ("tls-cert-file", shown(pki.certificate("kube-apiserver"))),
            ("tls-private-key-file", shown(pki.key("kube-apiserver"))),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            (
                "service-account-key-file",
                shown(pki.service_account_public_key()),
            ),
            (
                "service-account-signing-key-file",
                shown(pki.key("service-account")),
            ),
            ("authorization-mode", "Node,RBAC".into()),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("allow-privileged", "true".into()),
            // A kubelet is reached by its node's address, and must prove itself by a certificate of the same authority.
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("kubelet-certificate-authority", shown(pki.certificate("ca"))),
            (
                "kubelet-client-certificate",
                shown(pki.certificate("kubelet-client")),
            ),
            ("kubelet-client-key", shown(pki.key("kubelet-client"))),
            ("profiling", "false".into()),
        ],
    )
}
