//! What a RadiusProxy says, where several of its conditions could say it, and its Events.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::until;
use serde_json::Value;

use crate::settling::serves_since;
use crate::site::Site;
use crate::world::{PATIENCE, World};

/// Waits until a condition of whatever type has a reason, and returns its message.
pub fn told(world: &World, namespace: &str, name: &str, reason: &str) -> String {
    let what = format!("{namespace}/{name} to say {reason}");
    until(&what, PATIENCE, || {
        let proxy = world.kubectl.get(&["-n", namespace, "rp", name])?;
        let conditions = proxy["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|c| c["reason"] == reason);
        Ok(match found.and_then(|condition| condition["message"].as_str()) {
            Some(message) => Ok(message.to_owned()),
            None => Err(proxy["status"]["conditions"].to_string()),
        })
    })
    .unwrap()
}

/// Waits until an Event about a RadiusProxy has all of these words in its reason and message, and returns it.
pub fn event_with(world: &World, namespace: &str, name: &str, words: &[&str]) -> Value {
    let field = format!("involvedObject.kind=RadiusProxy,involvedObject.name={name}");
    let what = format!("an Event of {namespace}/{name} with {words:?}");
    until(&what, PATIENCE, || {
        let events = world
            .kubectl
            .get(&["-n", namespace, "events", "--field-selector", &field])?;
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let text = |event: &Value| format!("{} {}", event["reason"], event["message"]).to_lowercase();
        let seen: Vec<String> = all.iter().map(text).collect();
        let has_all = |event: &Value| {
            words
                .iter()
                .all(|each| text(event).contains(&each.to_lowercase()))
        };
        let found = all.into_iter().find(has_all);
        Ok(found.ok_or_else(|| seen.join("; ")))
    })
    .unwrap()
}

/// Waits until a RadiusProxy is Ready after what held it up is gone: a minute of back-off at most, and the work itself.
pub fn ready_after_back_off(world: &World, namespace: &str, name: &str) {
    let proxy = format!("rp/{name}");
    let within = Duration::from_secs(75);
    world
        .kubectl
        .wait_for_condition(namespace, &proxy, "Ready", within)
        .unwrap();
}

/// Waits until AWS has exactly the addresses of a RadiusProxy's pods, that many and all of them with running containers.
pub fn until_its_pods_are_registered(site: &Site, namespace: &str, name: &str, count: usize) {
    let selector = format!("radius-mfa.dev/proxy={name}");
    let pods = ["-n", namespace, "pods", "-l", &selector];
    until(&format!("the pods of {name} to be registered"), PATIENCE, || {
        let pods = site.world.kubectl.get(&pods)?;
        let serve =
            |pod: &&Value| serves_since(pod).is_some() && pod["metadata"]["deletionTimestamp"].is_null();
        let address = |pod: &Value| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
        let all = pods["items"].as_array().into_iter().flatten();
        let alive: BTreeSet<String> = all.filter(serve).map(address).collect();
        let registered = site.world.simulators.directory().registered(site.directory)?;
        let registered: BTreeSet<String> = registered.into_iter().collect();
        Ok(if alive.len() == count && alive == registered {
            Ok(())
        } else {
            Err(format!("alive {alive:?}, registered {registered:?}"))
        })
    })
    .unwrap();
}
