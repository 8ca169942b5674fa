//! How many proxies may be evicted at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;

/// One at a time, and the next only when AWS has the successor (the readiness gate). A pod that isn't ready may always
/// be evicted: otherwise a directory that never completes would block every drain. `surplus` is the number of unready pods
/// to exclude: those of a surge that aren't registered yet, and a canary, must not block a drain either.
pub(crate) fn disruption_budget(owner: &Owner<'_>, surplus: u32) -> PodDisruptionBudget {
    let allowed = i32::try_from(surplus).unwrap_or(i32::MAX).saturating_add(1);
    PodDisruptionBudget {
        metadata: owner.metadata(owner.names.workload()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(allowed)),
            selector: Some(owner.label_selector()),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
