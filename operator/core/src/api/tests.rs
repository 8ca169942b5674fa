use kube::CustomResourceExt as _;

use super::{DirectoryGrant, DirectoryRegistration, ObservedDirectory, ObservedRetries, RadiusProxy};

#[test]
fn the_definitions_are_structural_enough_to_be_made() {
    let proxy = serde_json::to_value(RadiusProxy::crd()).unwrap();
    let grant = serde_json::to_value(DirectoryGrant::crd()).unwrap();
    let registration = serde_json::to_value(DirectoryRegistration::crd()).unwrap();
    assert_eq!(
        registration["metadata"]["name"],
        "directoryregistrations.radius-mfa.dev"
    );
    assert_eq!(registration["spec"]["scope"], "Cluster");
    let schema = &registration["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let conditions = &schema["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type");
    assert_eq!(proxy["metadata"]["name"], "radiusproxies.radius-mfa.dev");
    assert_eq!(grant["metadata"]["name"], "directorygrants.radius-mfa.dev");
    let directory = &proxy["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["directory"];
    assert_eq!(directory["properties"]["timeoutSeconds"]["maximum"], 50.0);
    assert_eq!(directory["properties"]["timeoutSeconds"]["default"], 20);
}

#[test]
fn a_small_spec_takes_the_defaults() {
    let proxy: RadiusProxy = serde_json::from_value(serde_json::json!({
        "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "metadata": {"name": "a"},
        "spec": {"directory": {"id": "d-1234567890", "region": "eu-central-1"},
                 "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}}}
    }))
    .unwrap();
    let directory = proxy.spec.directory.unwrap();
    assert_eq!(
        (proxy.spec.replicas, directory.timeout_seconds, directory.retries),
        (2, 20, 4)
    );
}

#[test]
fn a_quantity_that_was_written_as_a_number_is_read() {
    let proxy: RadiusProxy = serde_json::from_value(serde_json::json!({
        "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "metadata": {"name": "a"},
        "spec": {"provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}},
                 "resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": 0.5}}}
    }))
    .unwrap();
    let resources = proxy.spec.resources.unwrap();
    let (limits, requests) = (resources.limits.unwrap(), resources.requests.unwrap());
    assert_eq!(
        (limits["cpu"].0.as_str(), limits["memory"].0.as_str()),
        ("1", "64Mi")
    );
    assert_eq!(requests["cpu"].0, "0.5");
}

#[test]
fn a_status_of_a_newer_version_is_read_without_its_new_values() {
    let observed: ObservedDirectory =
        serde_json::from_value(serde_json::json!({"signs": "Seldom", "retries": "Mixed"})).unwrap();
    assert_eq!(
        (observed.signs, observed.retries),
        (None, Some(ObservedRetries::Mixed))
    );
}

#[test]
fn conditions_are_maps_by_type_for_server_side_apply() {
    for definition in [RadiusProxy::crd(), DirectoryGrant::crd()] {
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"])
        );
    }
}

#[test]
fn what_a_newer_operator_wants_of_a_directory_counts_as_absent_and_the_claim_stays() {
    let registration = |policy: &str| -> DirectoryRegistration {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryRegistration",
            "metadata": {"name": "d-1234567890.eu-central-1"},
            "spec": {"directoryId": "d-1234567890", "region": "eu-central-1",
                "claimedBy": {"namespace": "mfa", "name": "a", "uid": "u"},
                "desired": {"holderUid": "u", "deletionPolicy": policy,
                    "settings": {"port": 1812, "timeoutSeconds": 20, "retries": 4}}}
        }))
        .unwrap()
    };
    assert!(registration("Disable").spec.desired.is_some());
    let newer = registration("DisableLater");
    assert_eq!(newer.spec.desired, None);
    assert_eq!(newer.spec.claimed_by.name, "a");
}
