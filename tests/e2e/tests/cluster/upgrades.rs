//! Upgrades, with logins going on: AWS is told as little as can be, and nobody waits.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};
use serde_json::Value;

use crate::settling::{right_writes, serves_since};
use crate::traffic::{assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, world};

/// A merge patch of the RadiusProxy `workspaces`; undone when this goes, also when a test fails.
struct Patched<'a>(&'a World, &'static str);

impl<'a> Patched<'a> {
    fn with(world: &'a World, patch: &str, undo: &'static str) -> Self {
        Self::patch(world, patch).unwrap();
        Self(world, undo)
    }

    fn patch(world: &World, patch: &str) -> anyhow::Result<()> {
        world.patch(DuoProxy::NAME, patch)
    }
}

impl Drop for Patched<'_> {
    fn drop(&mut self) {
        if let Err(error) = Self::patch(self.0, self.1) {
            eprintln!("the RadiusProxy stays changed: {error:#}");
        }
    }
}

/// Waits until each pod is as `is` says, and the RadiusProxy and its StatefulSet say that it is over. Gives the pods that
/// were seen to serve until then, by uid.
fn over(world: &World, what: &str, is: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    until(what, PATIENCE * 2, || {
        let all = pods(world)?;
        for pod in all.iter().filter(|pod| serves_since(pod).is_some()) {
            seen.insert(uid(pod), pod.clone());
        }
        let set = world
            .kubectl
            .get(&["-n", NAMESPACE, "statefulset", "workspaces"])?;
        let (status, generation) = (&set["status"], &set["metadata"]["generation"]);
        let truthful = status["observedGeneration"] == *generation
            && status["updatedReplicas"] == 2
            && status["replicas"] == 2
            && status["currentRevision"] == status["updateRevision"];
        let done = all.len() == 2 && all.iter().all(&is) && truthful;
        Ok(if done {
            Ok(())
        } else {
            let names: Vec<_> = all.iter().map(|p| p["metadata"]["name"].clone()).collect();
            Err(format!("pods {names:?}, StatefulSet {status}"))
        })
    })
    .unwrap();
    world.both_ready().unwrap();
    seen
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn pods(world: &World) -> anyhow::Result<Vec<Value>> {
    let list = world.pods(DuoProxy::NAME)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn addresses(world: &World) -> BTreeSet<String> {
    let address = |pod: &Value| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    pods(world).unwrap().iter().map(address).collect()
}

#[test]
fn a_new_image_is_taken_in_place_and_aws_hears_nothing_of_it() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let (before, addresses_before) = (directory.last_write().unwrap(), addresses(world));
    let next = format!("{}2", world.images.proxy);
    let ((), reports) = with_logins(world, || {
        let patch = format!(r#"{{"spec":{{"image":"{next}"}}}}"#);
        let image =
            |wanted: String| move |pod: &Value| pod["spec"]["containers"][0]["image"] == wanted.as_str();
        let patched = Patched::with(world, &patch, r#"{"spec":{"image":null}}"#);
        over(world, "the new image to run everywhere", image(next.clone()));
        drop(patched);
        over(
            world,
            "the old image to run everywhere",
            image(world.images.proxy.clone()),
        );
    });
    assert_nobody_noticed(&reports);
    let writes = directory.settings_writes(before, MICROSOFT_DIRECTORY).unwrap();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(addresses(world), addresses_before);
}

#[test]
fn a_change_that_needs_new_pods_is_two_writes_and_no_server_is_ever_down() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    let old: BTreeSet<String> = pods(world).unwrap().iter().map(uid).collect();
    let (seen, reports) = with_logins(world, || {
        // It stays: undoing it would be two minutes more, for the same again.
        Patched::patch(
            world,
            r#"{"spec":{"annotations":{"example.com/upgrade":"surge"}}}"#,
        )
        .unwrap();
        over(world, "both pods to be new ones", |pod| {
            pod["metadata"]["annotations"]["example.com/upgrade"] == "surge"
        })
    });
    let writes = directory.settings_writes(before, MICROSOFT_DIRECTORY).unwrap();
    // The pods beside the two that there were, and the two that take their place.
    let (beside, instead): (Vec<&Value>, Vec<&Value>) = seen
        .iter()
        .filter(|(uid, _)| !old.contains(*uid))
        .map(|(_, pod)| pod)
        .partition(|pod| {
            pod["metadata"]["name"] == "workspaces-2" || pod["metadata"]["name"] == "workspaces-3"
        });
    let most: usize = [beside, instead]
        .map(|half| *right_writes(half.into_iter().filter_map(serves_since).collect()).end())
        .iter()
        .sum();
    assert!((2..=most).contains(&writes.len()), "{writes:?}, {seen:?}");
    assert_nobody_noticed(&reports);
    for report in reports.values() {
        assert_eq!(
            report.failed_over, 0,
            "a registered server did not answer: {:?}",
            report.fail_overs
        );
    }
}
