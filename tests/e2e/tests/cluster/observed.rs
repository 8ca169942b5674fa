//! What the proxies observe of a directory: in the status, and a shared secret that somebody changes at AWS alone.

use std::time::Duration;

use e2e::{BackgroundLogins, NAMESPACE, Simulators, until};
use serde_json::{Value, json};

use crate::site::Site;
use crate::traffic::with_logins_at;
use crate::world::PATIENCE;

const NAME: &str = "observed";
const DIRECTORY: &str = "d-90670000a9";
const CONTROLLERS: [&str; 2] = ["observed-dc-0", "observed-dc-1"];
/// Three time-outs, what clocks and reports may differ by, and the write: how long a changed secret may stay.
const REPAIRED_WITHIN: Duration = Duration::from_secs(600);

fn ready() -> Site {
    let site = Site::new(DIRECTORY);
    let world = site.world;
    site.directory(&json!({"type": "MicrosoftAD", "name": "observed.example.com"}));
    site.domain_controllers("observed-dc");
    site.grant(NAME, NAMESPACE);
    let duo = world.duo_proxy().unwrap();
    site.apply(NAMESPACE, &duo.manifest_for(NAME, DIRECTORY));
    world.ready(NAMESPACE, NAME).unwrap();
    site
}

fn observed(site: &Site) -> Value {
    let proxy = site.world.kubectl.get(&["-n", NAMESPACE, "rp", NAME]).unwrap();
    proxy["status"]["directory"]["observed"].clone()
}

fn until_observed(site: &Site, what: &str, patience: Duration, is: impl Fn(&Value) -> bool) -> Value {
    until(what, patience, || {
        let observed = observed(site);
        Ok(if is(&observed) {
            Ok(observed)
        } else {
            Err(observed.to_string())
        })
    })
    .unwrap()
}

fn rows(observed: &Value) -> impl Iterator<Item = &Value> {
    observed["addresses"].as_array().into_iter().flatten()
}

/// The writes to AWS, by hand and by the operator.
fn writes(site: &Site) -> usize {
    let simulator = site.world.simulators.directory();
    simulator.settings_writes(0, DIRECTORY).unwrap().len()
}

fn condition(site: &Site) -> Value {
    site.world.condition(NAMESPACE, NAME, "Registered")
}

/// The notes of the Events that tell a mismatch.
fn mismatches(site: &Site) -> Vec<String> {
    let field = format!("involvedObject.name={NAME},reason=SecretMismatch");
    let list = site
        .world
        .kubectl
        .get(&["-n", NAMESPACE, "events", "--field-selector", &field])
        .unwrap();
    let events = list["items"].as_array().into_iter().flatten();
    events
        .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Somebody changes nothing but the secret, at the console.
fn change_secret(site: &Site) {
    let mut settings = site.settings("eu-central-1");
    settings["shared_secret"] = json!("somebody-else-typed-this-at-the-console");
    let simulator = site.world.simulators.directory();
    simulator
        .put_radius(DIRECTORY, &json!({ "settings": settings }))
        .unwrap();
}

/// Packets under a wrong secret from a domain controller's address, until this goes.
struct Flood<'a> {
    simulators: &'a Simulators,
    id: String,
}

impl<'a> Flood<'a> {
    const FROM: &'static str = CONTROLLERS[0];

    fn begin(simulators: &'a Simulators) -> Self {
        let logins = BackgroundLogins {
            usernames: vec!["mallory".to_owned()],
            password: "push".to_owned(),
            every_ms: 500,
            for_ms: 900_000,
        };
        let controller = simulators.controller(Self::FROM);
        let id = controller
            .begin_forged_logins(&logins, "a-secret-that-nobody-has")
            .unwrap();
        Self { simulators, id }
    }
}

impl Drop for Flood<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.simulators.controller(Self::FROM).end_logins(&self.id) {
            eprintln!("the flood goes on: {error:#}");
        }
    }
}

#[test]
fn what_a_directory_does_is_observed_and_a_secret_changed_at_aws_is_told_and_repaired() {
    let site = ready();
    let world = site.world;
    assert_eq!(writes(&site), 1);

    let (shown, _) = with_logins_at(world, CONTROLLERS, || {
        until_observed(
            &site,
            "both domain controllers to be observed",
            PATIENCE,
            |observed| {
                let asked = rows(observed).filter(|row| row["lastRequest"].is_string());
                asked.count() == 2 && observed["probeUsers"] == json!(["fakeusername"])
            },
        )
    });
    assert!(shown["signs"].is_string(), "{shown}");
    // Those who log in are user0 to user199.
    let text = shown.to_string().replace("fakeusername", "");
    assert!(!text.contains("user"), "{shown}");
    assert_eq!(condition(&site)["reason"], "Registered");

    // The secret is changed at AWS alone: every login fails until it is written back.
    with_logins_at(world, CONTROLLERS, || {
        change_secret(&site);
        // The condition may be over soon; its Event stays.
        let note = until("the mismatch to be told", REPAIRED_WITHIN, || {
            let told = mismatches(&site);
            Ok(told.first().cloned().ok_or_else(|| condition(&site).to_string()))
        })
        .unwrap();
        assert!(note.contains("CloudTrail"), "{note}");
        until("the secret to be written back", REPAIRED_WITHIN, || {
            let login = world.login(CONTROLLERS[1], "alice", "push");
            Ok(if login.outcome == "accept" {
                Ok(())
            } else {
                Err(login.outcome)
            })
        })
        .unwrap();
    });
    world.ready(NAMESPACE, NAME).unwrap();
    assert_eq!(mismatches(&site).len(), 1);
    // The first registration, the change by hand, and the repair.
    assert_eq!(writes(&site), 3);
    assert_eq!(condition(&site)["reason"], "Registered");
}

/// No mismatch is seen for longer than a changed secret would stay.
#[test]
#[ignore = "takes five minutes: `make test-long` runs it"]
fn forged_packets_beside_good_logins_are_told_and_nothing_is_written() {
    let site = ready();
    let world = site.world;
    let before = (mismatches(&site), writes(&site));
    let ((), reports) = with_logins_at(world, CONTROLLERS, || {
        let flood = Flood::begin(&world.simulators);
        until_observed(&site, "the flood to be seen", REPAIRED_WITHIN, |observed| {
            rows(observed).any(|row| row["wrongSecretRequests"].as_u64().unwrap_or_default() >= 100)
        });
        until("400 forged logins", REPAIRED_WITHIN, || {
            let report = world.simulators.controller(Flood::FROM).report(&flood.id)?;
            let reason = condition(&site)["reason"].clone();
            assert_ne!(reason, "SecretMismatch");
            Ok(if report.tried >= 400 {
                Ok(())
            } else {
                Err(format!("{} forged logins", report.tried))
            })
        })
        .unwrap();
    });
    for report in reports.values() {
        assert_eq!(
            report.accepted, report.tried,
            "{:?} {:?}",
            report.failures, report.rejections
        );
    }
    assert_eq!((mismatches(&site), writes(&site)), before);
    assert_eq!(condition(&site)["reason"], "Registered");
}
