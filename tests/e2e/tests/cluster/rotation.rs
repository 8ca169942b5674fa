//! Secrets are replaced while people log in: no login is lost, no pod restarts, and the status says when it is over.

mod okta;
mod upstream;

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};
use serde_json::{Value, json};

use crate::traffic::{assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, world};

/// Each pod of a RadiusProxy with the restarts of its container.
fn pods(world: &World, name: &str) -> Vec<String> {
    let pods = world.pods(name).unwrap();
    let facts = |pod: &Value| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        format!("{} {restarts}", pod["metadata"]["uid"])
    };
    pods["items"].as_array().unwrap().iter().map(facts).collect()
}

#[test]
fn the_shared_secret_is_changed_with_one_write_no_restart_and_no_login_lost() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let before = directory.last_write().unwrap();
    let secret = "second-shared-secret-of-the-tests";
    let wanted = directory.digest(secret).unwrap();
    let pods_before = pods(world, DuoProxy::NAME);
    let ((), reports) = with_logins(world, || {
        world.kubectl.apply(&DuoProxy::shared_secret(secret)).unwrap();
        until("AWS to hold the new secret", PATIENCE, || {
            let writes = directory.settings_writes(before, MICROSOFT_DIRECTORY)?;
            let holds = writes.last().and_then(|w| w.shared_secret_digest.clone()) == Some(wanted.clone());
            let status = directory.radius_status(MICROSOFT_DIRECTORY)?;
            let done = holds && status.as_deref() == Some("Completed");
            Ok(if done {
                Ok(())
            } else {
                Err(format!("{} writes, {status:?}", writes.len()))
            })
        })
        .unwrap();
    });
    assert_nobody_noticed(&reports);
    assert_eq!(
        directory
            .settings_writes(before, MICROSOFT_DIRECTORY)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(pods(world, DuoProxy::NAME), pods_before);
    world.both_ready().unwrap();
}

/// Integration key and secret key of an application at Duo.
type Keys = (&'static str, &'static str);

/// The application that takes the first one's place.
const SECOND: Keys = ("DISIMULATOR000000002", "another-key-of-the-same-account-00000000");

/// The account at Duo has these applications and no other. Duo knows no second key of one, and a reset ends the first at
/// once: keys are replaced by a second application.
fn at_duo(world: &World, (ikey, skey): Keys, more: &[Keys]) -> anyhow::Result<()> {
    let more: Vec<Value> = more
        .iter()
        .map(|(ikey, skey)| json!({"ikey": ikey, "skey": skey}))
        .collect();
    let settings = json!({"ikey": ikey, "skey": skey, "applications": more});
    world.simulators.duo().set_settings(&settings)
}

/// Makes a change, and waits until the status says that both pods run it.
fn until_run(world: &World, name: &str, change: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let status = || -> anyhow::Result<Value> {
        let mut object = world.kubectl.get(&["-n", NAMESPACE, "rp", name])?;
        Ok(object["status"].take())
    };
    let before = status()?["configDigest"].clone();
    change()?;
    until("the status to say that every pod runs it", PATIENCE, || {
        let now = status()?;
        let over = now["configDigest"] != before && now["configuredReplicas"] == 2;
        Ok(if over {
            Ok(())
        } else {
            Err(format!(
                "{before} became {}, run by {}",
                now["configDigest"], now["configuredReplicas"]
            ))
        })
    })
}

/// Puts keys into the Secret, and waits until every pod runs them.
fn replace(world: &World, keys: Keys) -> anyhow::Result<()> {
    until_run(world, DuoProxy::NAME, || {
        world.kubectl.apply(&DuoProxy::keys(keys)).map(drop)
    })
}

/// The application of before, back in its place when this goes, also when a test fails.
struct Replaced<'a>(&'a World);

impl Replaced<'_> {
    fn undo(&self) -> anyhow::Result<()> {
        at_duo(self.0, DuoProxy::KEYS, &[SECOND])?;
        replace(self.0, DuoProxy::KEYS)?;
        at_duo(self.0, DuoProxy::KEYS, &[])
    }
}

impl Drop for Replaced<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            eprintln!("Duo's keys are not those of before: {error:#}");
        }
    }
}

#[test]
fn duos_keys_are_replaced_without_a_write_a_restart_or_a_login_lost() {
    let world = world();
    world.both_ready().unwrap();
    let (directory, duo) = (world.simulators.directory(), world.simulators.duo());
    let writes_before = directory.last_write().unwrap();
    let pods_before = pods(world, DuoProxy::NAME);
    // Of those who log in here; what other tests left under way is none of this one's.
    let refused = || duo.refusals("user").unwrap();
    let refused_before = refused();
    at_duo(world, DuoProxy::KEYS, &[SECOND]).unwrap();
    let replaced = Replaced(world);
    let ((), reports) = with_logins(world, || {
        replace(world, SECOND).unwrap();
        let last = duo
            .calls()
            .unwrap()
            .last()
            .map_or(0, |call| call["seq"].as_u64().unwrap());
        // Logins that were under way go on with the keys that they began with.
        let since = || -> anyhow::Result<Vec<Value>> {
            let mut calls = duo.calls()?;
            calls.retain(|call| call["seq"].as_u64().is_some_and(|seq| seq > last));
            Ok(calls)
        };
        until("the logins of before to end", PATIENCE, || {
            let old = |call: &&Value| call["ikey"] == DuoProxy::KEYS.0;
            let (calls, pending) = (since()?.len(), duo.pending()?.iter().filter(old).count());
            Ok(if calls >= 20 && pending == 0 {
                Ok(())
            } else {
                Err(format!("{calls} calls since, {pending} pushes of before"))
            })
        })
        .unwrap();
        // Whoever came after the status had said so was asked for with the new ones.
        for call in since().unwrap() {
            assert!(
                call["endpoint"] != "preauth" || call["ikey"] == SECOND.0,
                "{call}"
            );
        }
        at_duo(world, SECOND, &[]).unwrap();
    });
    assert_nobody_noticed(&reports);
    assert_eq!(
        refused(),
        refused_before,
        "Duo refused calls about those who log in"
    );
    let writes = directory
        .settings_writes(writes_before, MICROSOFT_DIRECTORY)
        .unwrap();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(pods(world, DuoProxy::NAME), pods_before);
    drop(replaced);
    world.both_ready().unwrap();
}
