//! A RadiusProxy that the operator cannot decode, as one that a newer version has stored.

use e2e::{NAMESPACE, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::world::{PATIENCE, World, world};

const CRD: &str = "radiusproxies.radius-mfa.dev";
const PROTOCOLS: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/directory/properties/protocol/enum";

/// The CRD with one protocol more; without it again when this is dropped.
struct NewerDefinition<'a> {
    world: &'a World,
    protocols: Value,
}

impl<'a> NewerDefinition<'a> {
    fn with_protocol(world: &'a World, protocol: &str) -> Self {
        let crd = world.kubectl.get(&["crd", CRD]).unwrap();
        let protocols = crd.pointer(PROTOCOLS).cloned().unwrap();
        let mut more = protocols.as_array().cloned().unwrap();
        more.push(json!(protocol));
        let newer = Self { world, protocols };
        newer.set(&json!(more)).unwrap();
        newer
    }

    fn set(&self, protocols: &Value) -> anyhow::Result<()> {
        let patch = json!([{"op": "replace", "path": PROTOCOLS, "value": protocols}]).to_string();
        let args = ["patch", "crd", CRD, "--type=json", "-p", &patch];
        self.world.kubectl.run(&args).map(drop)
    }
}

impl Drop for NewerDefinition<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&self.protocols) {
            eprintln!("the CRD has the test's protocol still: {error:#}");
        }
    }
}

#[test]
fn a_radius_proxy_that_cannot_be_decoded_says_so_and_the_others_are_worked_on() {
    let world = world();
    let _newer = NewerDefinition::with_protocol(world, "EAP");
    let (site, strange) = (Site::new("d-9067000151"), Site::new("d-9067000152"));
    let manifest = totp_proxy("undecodable", NAMESPACE, strange.directory)
        .replace("    retries: 1\n", "    retries: 1\n    protocol: EAP\n");
    until("the newer definition to be served", PATIENCE, || {
        let output = world.kubectl.try_apply(&manifest, true)?;
        Ok(if output.code == 0 {
            Ok(())
        } else {
            Err(output.stderr)
        })
    })
    .unwrap();
    strange.apply(NAMESPACE, &manifest);
    let message = world.reason(NAMESPACE, "undecodable", "Accepted", "False", "Undecodable");
    assert!(message.contains("EAP"), "{message}");

    // Neither an operator that runs nor one that starts is kept from its other work.
    site.directory_of_type("MicrosoftAD");
    site.grant("decodable", NAMESPACE);
    site.apply(NAMESPACE, &totp_proxy("decodable", NAMESPACE, site.directory));
    world.ready(NAMESPACE, "decodable").unwrap();
    world.kill_operators();
    world
        .patch("decodable", r#"{"spec":{"directory":{"timeoutSeconds":7}}}"#)
        .unwrap();
    world.ready(NAMESPACE, "decodable").unwrap();
    assert_eq!(site.settings("eu-central-1")["radius_timeout"], 7);
}
