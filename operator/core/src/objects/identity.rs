//! Who the pods are: allowed to report in their Leases, to remember used codes in their ConfigMaps, and nothing else.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::Owner;
use crate::names::USED_CODES_MAPS;
use crate::observed::RolloutInput;
use crate::time;

/// The clocks of two API servers may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The uid of the pods' ServiceAccount, if it was deleted and created again since there is a StatefulSet. The API server
/// refuses the tokens that pods have of a deleted one until the kubelet renews them, which takes up to 48 minutes. So it's
/// another template, and the pods are replaced.
pub(super) fn recreated_account(input: &RolloutInput) -> Option<&str> {
    let (account, set) = (input.service_account.as_ref()?, input.stateful_set.as_ref()?);
    (time::until(set.created, account.created) > CLOCK_SKEW).then_some(account.uid.as_str())
}

pub(crate) fn service_account(owner: &Owner<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(owner.names.workload()),
        // The pods ask for the token themselves; nothing else that uses the account gets one.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// `pods` Leases, by name; the ConfigMaps of used codes, by name, where they are used.
pub(crate) fn role(owner: &Owner<'_>, pods: u32) -> Role {
    let rule = |group: &str, resource: &str, names: Vec<String>| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(names),
        verbs: vec!["get".to_owned(), "patch".to_owned()],
        ..PolicyRule::default()
    };
    let leases = (0..pods).map(|ordinal| owner.names.pod(ordinal)).collect();
    let mut rules = vec![rule("coordination.k8s.io", "leases", leases)];
    if owner.remembers_codes() {
        let maps = (0..USED_CODES_MAPS).map(|map| owner.names.used_codes(map));
        rules.push(rule("", "configmaps", maps.collect()));
    }
    Role {
        metadata: owner.metadata(owner.names.workload()),
        rules: Some(rules),
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
