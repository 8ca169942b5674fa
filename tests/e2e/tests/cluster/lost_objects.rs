//! Objects without which a proxy cannot report, deleted by hand.

use std::time::Duration;

use e2e::{NAMESPACE, until};
use serde_json::Value;

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::world::World;

const NAME: &str = "reporting";

fn delete(world: &World, object: &str) -> Value {
    let before = world.kubectl.get(&["-n", NAMESPACE, object]).unwrap();
    world.kubectl.run(&["-n", NAMESPACE, "delete", object]).unwrap();
    before["metadata"]["uid"].clone()
}

/// Waits until it is as it should be, or a condition names the kind of object that is the trouble, for two minutes.
fn healed_or_told(world: &World, kind: &str, healed: impl Fn(&Value) -> anyhow::Result<bool>) {
    let what = format!("a deleted {kind} to be healed or told");
    until(&what, Duration::from_secs(120), || {
        let proxy = world.kubectl.get(&["-n", NAMESPACE, "rp", NAME])?;
        let conditions = proxy["status"]["conditions"].as_array().into_iter().flatten();
        let told = conditions
            .filter(|condition| condition["status"] != "True")
            .any(|condition| {
                condition["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(kind))
            });
        Ok(if told || healed(&proxy)? {
            Ok(())
        } else {
            Err(proxy["status"]["conditions"].to_string())
        })
    })
    .unwrap();
}

#[test]
#[ignore = "takes some minutes: `make test-long` runs it"]
fn a_deleted_lease_and_a_deleted_service_account_are_healed_or_told_within_two_minutes() {
    let site = Site::new("d-9067000181");
    let world = site.world;
    site.directory_of_type("MicrosoftAD");
    site.grant(NAME, NAMESPACE);
    site.apply(NAMESPACE, &totp_proxy(NAME, NAMESPACE, site.directory));
    world.ready(NAMESPACE, NAME).unwrap();

    let lease = "lease/reporting-0";
    let before = delete(world, lease);
    healed_or_told(world, "Lease", |_| {
        let now = world.kubectl.get(&["-n", NAMESPACE, lease])?;
        // The operator creates it, and the proxy writes the time of its report.
        Ok(now["metadata"]["uid"] != before && now["spec"]["renewTime"].is_string())
    });
    world.ready(NAMESPACE, NAME).unwrap();

    delete(world, "serviceaccount/reporting");
    // Ready with this change is true only when the proxy has reported it.
    let limits = r#"{"spec":{"policy":{"limits":{"pushesPerUserPerMinute":9}}}}"#;
    world.patch(NAME, limits).unwrap();
    healed_or_told(world, "ServiceAccount", |proxy| {
        let conditions = proxy["status"]["conditions"].as_array().into_iter().flatten();
        let current = &proxy["metadata"]["generation"];
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        Ok(ready.any(|c| c["status"] == "True" && c["observedGeneration"] == *current))
    });
}
