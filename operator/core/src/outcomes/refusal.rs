//! What a refusal means, and what to do next.

use super::Step;

/// Words of admission policies, Kubernetes' own and those of webhooks, and of OpenShift's security contexts.
pub(super) const POLICY: [&str; 5] = [
    "admission webhook",
    "denied request",
    "denied the request",
    "AdmissionPolicy",
    "unable to validate against any security context",
];

/// What refused, judged by its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuser {
    Quota,
    PodSecurity,
    Policy,
    Permission,
    Immutable,
    Terminating,
    Schema,
}

impl Refuser {
    pub(super) fn of(code: u16, message: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(&["exceeded quota", "failed quota", "LimitRange", "usage per"]) {
            Self::Quota
        } else if says(&["violates PodSecurity"]) {
            Self::PodSecurity
        } else if says(&POLICY) {
            Self::Policy
        } else if super::is_immutable(code, message) || says(&["updates to statefulset spec"]) {
            Self::Immutable
        } else if says(&["being terminated"]) {
            Self::Terminating
        } else if code == 403 && says(&["User \"", "is attempting to grant"]) {
            Self::Permission
        } else {
            Self::Schema
        }
    }

    fn next(self, step: &Step) -> String {
        let next = match self {
            Self::Quota => "Raise the quota or the limit, or change spec.resources",
            Self::PodSecurity => {
                "Change the namespace's Pod Security level, or the field of the spec that it names"
            }
            Self::Policy => "Exempt the object from the policy, or change the spec as the policy asks",
            Self::Permission => "Add the permission to the operator's role; the chart's own role has it",
            Self::Immutable => return of_immutable(step),
            Self::Terminating => "The namespace is being deleted",
            Self::Schema => "Change the field of the spec that it comes from",
        };
        next.to_owned()
    }
}

/// What to do about a field that can't change, in an object that the operator doesn't create again by itself.
fn of_immutable(step: &Step) -> String {
    match step {
        Step::Apply("StatefulSet", name) => format!(
            "Run kubectl delete statefulset {name} --cascade=orphan: its pods keep running, and the operator creates it again"
        ),
        Step::Apply("Secret", name) => {
            format!("Back up Secret {name} and delete it: the operator creates it again")
        }
        _ => "Delete the object: the operator creates it again".to_owned(),
    }
}

pub(super) fn sentence(step: &Step, code: u16, message: &str) -> String {
    let status = if code == 0 {
        String::new()
    } else {
        format!(" with status {code}")
    };
    format!(
        "The API server refuses {step}{status}: {}. {}.",
        message.trim_end_matches('.'),
        Refuser::of(code, message).next(step)
    )
}
