//! Admission policies of the cluster, such as Kyverno, Gatekeeper or a platform's own.

use e2e::until;
use serde_json::json;

use crate::world::{PATIENCE, World};

/// What a policy demands, and of what.
pub struct Rule {
    pub name: &'static str,
    pub namespaces: &'static [&'static str],
    /// API group and resource.
    pub resource: (&'static str, &'static str),
    pub operations: &'static [&'static str],
    /// What must be true, in CEL.
    pub demands: &'static str,
    /// What the API server answers otherwise.
    pub says: &'static str,
}

/// A policy in force, until this is dropped, also when a test fails.
pub struct AdmissionPolicy<'a> {
    world: &'a World,
    name: &'static str,
}

impl<'a> AdmissionPolicy<'a> {
    /// Applies a policy and waits until it refuses `forbidden`, a dry run of `kubectl`.
    pub fn in_force(world: &'a World, rule: &Rule, forbidden: &[&str], stdin: Option<&str>) -> Self {
        world.kubectl.apply(&manifests(rule)).unwrap();
        let policy = Self {
            world,
            name: rule.name,
        };
        let what = format!("the policy {} to be in force", rule.name);
        until(&what, PATIENCE, || {
            let output = world.kubectl.try_run(forbidden, stdin)?;
            Ok(if output.stderr.contains(rule.says) {
                Ok(())
            } else {
                Err(format!("{} {}", output.code, output.stderr.trim()))
            })
        })
        .unwrap();
        policy
    }
}

impl Drop for AdmissionPolicy<'_> {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let delete = ["delete", kind, self.name, "--ignore-not-found"];
            if let Err(error) = self.world.kubectl.run(&delete) {
                eprintln!("the policy is in force still: {error:#}");
            }
        }
    }
}

fn manifests(rule: &Rule) -> String {
    let (group, resource) = rule.resource;
    let in_namespaces =
        json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": rule.namespaces});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": rule.name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [group], "apiVersions": ["*"], "operations": rule.operations, "resources": [resource]},
            ]},
            "validations": [{"expression": rule.demands, "message": rule.says}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": rule.name},
        "spec": {
            "policyName": rule.name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchExpressions": [in_namespaces]}},
        },
    });
    format!("{policy}\n---\n{binding}\n")
}
