//! A release that is responsible for some namespaces only, on a platform that assigns users to pods.

use e2e::{NAMESPACE, until};
use serde_json::json;

use crate::admission::{AdmissionPolicy, Rule};
use crate::bad_input::totp_proxy;
use crate::releases::SecondRelease;
use crate::site::Site;
use crate::told::until_its_pods_are_registered;
use crate::world::{PATIENCE, World, world};

const LEAVING: &str = "leaving";
const STAYING: &str = "staying";
const RELEASE: &str = "some-namespaces";

/// OpenShift's restricted-v2 for these namespaces: the platform assigns users and groups, of its own range.
const ASSIGNED_IDS: Rule = Rule {
    name: "assigned-ids",
    namespaces: &[LEAVING, STAYING, RELEASE],
    resource: ("", "pods"),
    operations: &["CREATE"],
    demands: "[object.spec.?securityContext.runAsUser, object.spec.?securityContext.runAsGroup, \
              object.spec.?securityContext.fsGroup].all(id, id.orValue(1000700000) >= 1000700000) && \
              object.spec.containers.all(c, c.?securityContext.runAsUser.orValue(1000700000) >= 1000700000)",
    says: "ids are assigned by the platform",
};

/// The release of the tests, held to their namespace; responsible for all again when this is dropped.
struct Limited<'a>(&'a World);

impl<'a> Limited<'a> {
    fn new(world: &'a World) -> Self {
        let limited = Self(world);
        let watched = format!("watchNamespaces={{{NAMESPACE}}}");
        world.install().run(&world.simulators, &[&watched]).unwrap();
        limited
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.install().run(&self.0.simulators, &[]) {
            eprintln!("the operator watches {NAMESPACE} only still: {error:#}");
        }
    }
}

/// Applies a RadiusProxy named like its namespace. The test plays the platform, which assigns the group of volumes.
fn apply_proxy(site: &Site, namespace: &str) {
    let manifest = totp_proxy(namespace, namespace, site.directory)
        .replace(
            "    retries: 1\n",
            "    retries: 1\n    deletionPolicy: Disable\n",
        )
        .replace(
            "  provider:\n",
            "  podTemplate: {spec: {securityContext: {fsGroup: 1000700000}}}\n  provider:\n",
        );
    site.apply(namespace, &manifest);
}

/// Puts the platform's policy in force.
fn assigned_ids(world: &World) -> AdmissionPolicy<'_> {
    let restricted = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": STAYING},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "probe", "image": "probe", "securityContext": restricted}],
        },
    });
    let create = ["create", "-f", "-", "--dry-run=server"];
    AdmissionPolicy::in_force(world, &ASSIGNED_IDS, &create, Some(&pod.to_string()))
}

#[test]
fn a_namespace_that_is_deleted_disables_its_directory_and_the_release_goes_on_for_the_others() {
    let world = world();
    let leaving = Site::in_namespace("d-9067000141", LEAVING);
    let staying = Site::in_namespace("d-9067000142", STAYING);
    let _limited = Limited::new(world);
    let _policy = assigned_ids(world);
    let _release = SecondRelease::install(world, RELEASE, &[LEAVING, STAYING], &["platform=OpenShift"]);
    for (site, namespace) in [(&leaving, LEAVING), (&staying, STAYING)] {
        apply_proxy(site, namespace);
    }
    for namespace in [LEAVING, STAYING] {
        world.ready(namespace, namespace).unwrap();
    }

    // The RadiusProxy stays for a minute after DisableRadius, since domain controllers learn of it one by one.
    let delete = ["delete", "namespace", LEAVING, "--timeout=180s"];
    world.kubectl.run(&delete).unwrap();
    let status = world
        .simulators
        .directory()
        .radius_status(leaving.directory)
        .unwrap();
    assert_eq!(status, None);

    // An operator that starts with the deleted namespace among its own.
    for args in [
        &[
            "-n",
            RELEASE,
            "delete",
            "pods",
            "--all",
            "--force",
            "--grace-period=0",
        ][..],
        &["-n", RELEASE, "rollout", "status", "deployment", "--timeout=120s"],
        &["-n", STAYING, "delete", "pod", "staying-0"],
    ] {
        world.kubectl.run(args).unwrap();
    }
    until_its_pods_are_registered(&staying, STAYING, STAYING, 1);
    world.ready(STAYING, STAYING).unwrap();
    staying.delete(STAYING, STAYING);
    until("its registration to be gone", PATIENCE, || {
        let status = world.simulators.directory().radius_status(staying.directory)?;
        Ok(status.map_or(Ok(()), Err))
    })
    .unwrap();
}
