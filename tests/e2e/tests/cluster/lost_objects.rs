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

/// Waits for two minutes at most.
fn within_two_minutes(what: &str, is: impl Fn() -> anyhow::Result<Result<(), String>>) {
    until(what, Duration::from_secs(120), is).unwrap();
}

#[test]
#[ignore = "takes some minutes: `make test-long` runs it"]
fn pods_of_a_deleted_service_account_are_replaced_and_a_deleted_lease_is_reported_in_again() {
    let site = Site::new("d-9067000181");
    let world = site.world;
    site.directory_of_type("MicrosoftAD");
    site.grant(NAME, NAMESPACE);
    site.apply(NAMESPACE, &totp_proxy(NAME, NAMESPACE, site.directory));
    world.ready(NAMESPACE, NAME).unwrap();

    let lease = "lease/reporting-0";
    let before = delete(world, lease);
    within_two_minutes("a report in the Lease that is created again", || {
        let now = world.kubectl.get(&["-n", NAMESPACE, lease])?;
        // The operator creates it, and the proxy writes the time of its report.
        let reported = now["metadata"]["uid"] != before && now["spec"]["renewTime"].is_string();
        Ok(if reported { Ok(()) } else { Err(now.to_string()) })
    });
    world.ready(NAMESPACE, NAME).unwrap();

    delete(world, "serviceaccount/reporting");
    within_two_minutes("the pods' replacement to be told", || {
        let ready = world.condition(NAMESPACE, NAME, "Ready");
        let told = ready["status"] == "False" && ready["reason"] == "Upgrading";
        Ok(if told { Ok(()) } else { Err(ready.to_string()) })
    });
    // Ready with this change is true only when the proxy has reported it.
    let limits = r#"{"spec":{"policy":{"limits":{"pushesPerUserPerMinute":9}}}}"#;
    world.patch(NAME, limits).unwrap();
    world.ready(NAMESPACE, NAME).unwrap();
}
