//! Two RadiusProxy resources for one directory: one has the claim, and hands it over.

use e2e::{NAMESPACE, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::told::{told, until_its_pods_are_registered};
use crate::world::PATIENCE;

#[test]
fn of_two_resources_for_one_directory_the_first_has_the_claim_and_hands_it_over_when_it_is_deleted() {
    let moved = "moved";
    let site = Site::new("d-9067000171");
    let world = site.world;
    let simulator = world.simulators.directory();
    site.directory_of_type("MicrosoftAD");
    site.namespace(moved);
    site.grant("claims", &format!("{NAMESPACE}, {moved}"));
    let since = simulator.last_write().unwrap();
    let apply = |namespace: &str, name: &str| {
        let manifest = totp_proxy(name, namespace, site.directory).replace(
            "    retries: 1\n",
            "    retries: 1\n    deletionPolicy: Disable\n",
        );
        site.apply(namespace, &manifest);
    };
    let registration = format!("{}.eu-central-1", site.directory);
    let holder = || -> anyhow::Result<Value> {
        let mut object = world.kubectl.get(&["directoryregistration", &registration])?;
        let claim = object["spec"]["claimedBy"].take();
        Ok(json!([claim["namespace"], claim["name"]]))
    };
    apply(NAMESPACE, "first");
    world.ready(NAMESPACE, "first").unwrap();
    assert_eq!(holder().unwrap(), json!([NAMESPACE, "first"]));

    apply(moved, "second");
    let message = told(world, moved, "second", "DirectoryConflict");
    assert!(message.contains(&format!("{NAMESPACE}/first")), "{message}");
    let operations = || -> Vec<String> {
        let journal = simulator.journal(since).unwrap();
        let ours = journal
            .into_iter()
            .filter(|write| write.directory.as_deref() == Some(site.directory));
        ours.map(|write| write.operation)
            .filter(|operation| operation.ends_with("Radius"))
            .collect()
    };
    assert_eq!(operations(), ["EnableRadius"]);

    site.delete(NAMESPACE, "first");
    world.ready(moved, "second").unwrap();
    until_its_pods_are_registered(&site, moved, "second", 1);
    assert_eq!(holder().unwrap(), json!([moved, "second"]));
    assert_eq!(operations(), ["EnableRadius", "UpdateRadius"]);

    // Nobody else waits for the directory now.
    site.delete(moved, "second");
    assert_eq!(operations().last().map(String::as_str), Some("DisableRadius"));
    until("the registration to be gone", PATIENCE, || {
        let get = [
            "get",
            "directoryregistration",
            &registration,
            "--ignore-not-found",
            "-o",
            "name",
        ];
        let left = world.kubectl.run(&get)?;
        Ok(if left.trim().is_empty() { Ok(()) } else { Err(left) })
    })
    .unwrap();
}
