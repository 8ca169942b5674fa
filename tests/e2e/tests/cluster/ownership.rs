//! Whose a directory is: settings that others made, foreign hands, and a grant that goes.

use e2e::{CONNECTOR_DIRECTORY, NAMESPACE, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::{Site, grant};
use crate::world::PATIENCE;

const REGION: &str = "eu-central-1";

/// A directory of the test's own, with one RadiusProxy, and how many of AWS's settings the operator wrote.
struct Scene {
    site: Site,
    since: u64,
}

impl Scene {
    fn new(directory: &'static str, name: &str, namespaces: &str) -> Self {
        let site = Site::new(directory);
        site.directory_of_type("MicrosoftAD");
        site.grant(name, namespaces);
        let since = site.world.simulators.directory().last_write().unwrap();
        Self { site, since }
    }

    /// Somebody writes settings at the console.
    fn by_hand(&self, label: &str) {
        let settings = json!({"radius_servers": ["10.1.2.3"], "radius_servers_ipv6": [], "radius_port": 1812,
            "radius_timeout": 20, "radius_retries": 2, "shared_secret": "made-by-hand-at-the-console",
            "authentication_protocol": "PAP", "display_label": label, "use_same_username": true});
        let simulator = self.site.world.simulators.directory();
        simulator
            .put_radius(self.site.directory, &json!({ "settings": settings }))
            .unwrap();
    }

    /// The labels that the operator wrote, in order. What is done by hand is in the journal too, with labels of its own
    /// or none.
    fn written(&self) -> Vec<String> {
        let simulator = self.site.world.simulators.directory();
        let writes = simulator
            .settings_writes(self.since, self.site.directory)
            .unwrap();
        let label = |settings: &Value| settings["display_label"].as_str().unwrap_or_default().to_owned();
        let labels = writes.iter().map(|write| label(&write.settings));
        labels
            .filter(|label| !label.is_empty() && !label.starts_with("HAND"))
            .collect()
    }

    fn label(&self) -> String {
        let settings = self.site.settings(REGION);
        settings["display_label"].as_str().unwrap_or_default().to_owned()
    }

    fn patch(&self, namespace: &str, name: &str, spec: &Value) {
        let patch = json!({ "spec": spec }).to_string();
        self.site.world.patch_in(namespace, name, &patch).unwrap();
    }

    /// Applies a RadiusProxy for the directory.
    fn apply(&self, namespace: &str, name: &str) {
        let manifest = totp_proxy(name, namespace, self.site.directory);
        self.site.apply(namespace, &manifest);
    }

    fn ready(&self, namespace: &str, name: &str) {
        self.site.world.ready(namespace, name).unwrap();
    }

    fn until_label(&self, label: &str) {
        until(&format!("the label {label:?}"), PATIENCE, || {
            let now = self.label();
            Ok(if now == label { Ok(()) } else { Err(now) })
        })
        .unwrap();
    }
}

#[test]
fn settings_made_by_hand_are_left_until_adoption_is_written_and_then_cost_one_write() {
    let scene = Scene::new("d-90670000f1", "adoption", NAMESPACE);
    scene.by_hand("HAND");
    scene.apply(NAMESPACE, "adopting");
    let told = scene
        .site
        .world
        .reason(NAMESPACE, "adopting", "Registered", "False", "UnmanagedSettings");
    assert!(told.contains("adoptionPolicy"), "{told}");
    assert_eq!((scene.label().as_str(), scene.written().len()), ("HAND", 0));
    scene.patch(
        NAMESPACE,
        "adopting",
        &json!({"directory": {"adoptionPolicy": "Adopt"}}),
    );
    scene.ready(NAMESPACE, "adopting");
    assert_eq!(scene.written(), ["MFA"]);
}

#[test]
fn a_foreign_change_is_repaired_once_a_second_one_is_a_contest_and_suspend_stops_every_write() {
    let scene = Scene::new("d-90670000f2", "drift", NAMESPACE);
    let (world, name) = (scene.site.world, "drifting");
    scene.apply(NAMESPACE, name);
    scene.ready(NAMESPACE, name);
    scene.by_hand("HAND 1");
    scene.until_label("MFA");
    scene.ready(NAMESPACE, name);
    scene.by_hand("HAND 2");
    let told = world.reason(NAMESPACE, name, "Registered", "False", "Contended");
    assert!(told.contains("label"), "{told}");
    assert_eq!(scene.written(), ["MFA", "MFA"]);
    // A change of the spec is a person's word, and worth a write; suspended, it waits.
    scene.patch(
        NAMESPACE,
        name,
        &json!({"suspend": true, "directory": {"displayLabel": "NEW"}}),
    );
    world.reason(NAMESPACE, name, "Registered", "False", "Suspended");
    assert_eq!(scene.label(), "HAND 2");
    scene.patch(NAMESPACE, name, &json!({"suspend": false}));
    scene.ready(NAMESPACE, name);
    assert_eq!(scene.written(), ["MFA", "MFA", "NEW"]);
}

#[test]
fn radius_that_somebody_switches_off_stays_off_unless_the_policy_enforces_it() {
    let scene = Scene::new("d-90670000f5", "switched", NAMESPACE);
    let (world, name) = (scene.site.world, "switched");
    scene.apply(NAMESPACE, name);
    scene.ready(NAMESPACE, name);
    let simulator = world.simulators.directory();
    simulator.delete_radius(scene.site.directory).unwrap();
    world.reason(NAMESPACE, name, "Ready", "False", "RadiusDisabled");
    assert_eq!(scene.written(), ["MFA"]);
    scene.patch(NAMESPACE, name, &json!({"directory": {"driftPolicy": "Enforce"}}));
    scene.ready(NAMESPACE, name);
    assert_eq!(scene.written(), ["MFA", "MFA"]);
}

#[test]
fn each_region_of_a_directory_has_a_radius_proxy_and_settings_of_its_own() {
    let (id, regions) = ("d-90670000f6", [("here", REGION), ("there", "us-east-1")]);
    let site = Site::new(id);
    let world = site.world;
    let spec = json!({"type": "MicrosoftAD", "name": "own.example.com", "additional_regions": ["us-east-1"],
        "static_controllers": [{"address": "10.9.9.9"}, {"address": "10.9.8.8", "region": "us-east-1"}]});
    let simulator = world.simulators.directory();
    site.directory(&spec);
    let since = simulator.last_write().unwrap();
    let in_region = |manifest: String, region| {
        manifest.replace(&format!("region: {REGION}"), &format!("region: {region}"))
    };
    for (name, region) in regions {
        let manifests = [grant(name, NAMESPACE, id), totp_proxy(name, NAMESPACE, id)].join("---\n");
        site.apply(NAMESPACE, &in_region(manifests, region));
        world.ready(NAMESPACE, name).unwrap();
    }
    // The simulated directory's regions share their tags.
    let state = simulator.state(id).unwrap();
    for (name, region) in regions {
        let owner = format!("demo/{NAMESPACE}/{name}");
        assert_eq!(
            state["tags"][format!("radius-mfa.dev/owner/{region}")],
            owner.as_str()
        );
        let servers = &state["radius"][region]["settings"]["radius_servers"];
        let pod = world
            .kubectl
            .get(&["-n", NAMESPACE, "pod", &format!("{name}-0")])
            .unwrap();
        assert_eq!(servers, &json!([pod["status"]["podIP"]]));
    }
    // A change in one is none of the other's.
    let patch = json!({"spec": {"directory": {"displayLabel": "THERE"}}}).to_string();
    world.patch_in(NAMESPACE, "there", &patch).unwrap();
    for (name, _) in regions {
        world.ready(NAMESPACE, name).unwrap();
    }
    let state = simulator.state(id).unwrap();
    let label = |region: &str| state["radius"][region]["settings"]["display_label"].clone();
    assert_eq!(
        (label(REGION), label("us-east-1")),
        (json!("MFA"), json!("THERE"))
    );
    assert_eq!(simulator.settings_writes(since, id).unwrap().len(), 3);
}

#[test]
fn a_grant_that_is_withdrawn_stops_writes_and_no_login() {
    let scene = Scene::new("d-90670000f4", "withdrawn", NAMESPACE);
    let (world, name) = (scene.site.world, "granted");
    scene.apply(NAMESPACE, name);
    scene.ready(NAMESPACE, name);
    world
        .kubectl
        .run(&["delete", "directorygrant", "withdrawn"])
        .unwrap();
    world.reason(NAMESPACE, name, "Accepted", "False", "NoGrant");
    let pod = world.kubectl.get(&["-n", NAMESPACE, "pod", "granted-0"]).unwrap();
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(scene.written().len(), 1);
    scene.site.grant("withdrawn", NAMESPACE);
    scene.ready(NAMESPACE, name);
    assert_eq!(scene.written().len(), 1);
    // Nobody else's directory was touched by all this.
    assert!(
        world
            .simulators
            .directory()
            .settings_writes(scene.since, CONNECTOR_DIRECTORY)
            .unwrap()
            .is_empty()
    );
}
