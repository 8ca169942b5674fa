//! Who the pods are: allowed to report in their Leases, and nothing else.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::Owner;

pub(crate) fn service_account(owner: &Owner<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(owner.names.workload()),
        // The pods ask for the token themselves; nothing else that uses the account gets one.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// `pods` Leases, by name.
pub(crate) fn role(owner: &Owner<'_>, pods: u32) -> Role {
    Role {
        metadata: owner.metadata(owner.names.workload()),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
            resources: Some(vec!["leases".to_owned()]),
            resource_names: Some((0..pods).map(|ordinal| owner.names.pod(ordinal)).collect()),
            verbs: vec!["get".to_owned(), "patch".to_owned()],
            ..PolicyRule::default()
        }]),
    }
}

pub(crate) fn role_binding(owner: &Owner<'_>) -> RoleBinding {
    RoleBinding {
        metadata: owner.metadata(owner.names.workload()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: owner.names.workload().to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: owner.names.workload().to_owned(),
            namespace: owner.proxy.metadata.namespace.clone(),
            ..Subject::default()
        }]),
    }
}

/// Without a spec: that and the report's annotations are the pod's.
pub(crate) fn lease(owner: &Owner<'_>, ordinal: u32) -> Lease {
    Lease {
        metadata: owner.metadata(owner.names.pod(ordinal)),
        spec: None,
    }
}
