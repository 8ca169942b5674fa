//! A directory is replaced by another one, whose id is another: the id in a RadiusProxy's spec stays, so the new directory
//! gets a RadiusProxy of its own, and the old one's goes after its directory.

use std::time::Instant;

use e2e::{NAMESPACE, until};
use serde_json::json;

use super::tell;
use crate::bad_input::grant;
use crate::traffic::{assert_nobody_noticed, with_logins_at};
use crate::world::{PATIENCE, World, world};

/// A directory with two domain controllers, granted, and its RadiusProxy; gone when this goes, also when a test fails.
struct Site<'a> {
    world: &'a World,
    name: &'static str,
    directory: &'static str,
}

impl<'a> Site<'a> {
    /// Makes all of it and waits until the RadiusProxy is Ready.
    fn ready(world: &'a World, name: &'static str, directory: &'static str) -> Self {
        let site = Self {
            world,
            name,
            directory,
        };
        let spec = json!({"type": "MicrosoftAD", "name": "replaced.example.com"});
        let simulators = &world.simulators;
        simulators.directory().put_directory(directory, &spec).unwrap();
        simulators
            .add_domain_controllers(&site.controllers(), directory)
            .unwrap();
        world.kubectl.apply(&grant(name, NAMESPACE, directory)).unwrap();
        let duo = world.duo_proxy().unwrap();
        world.kubectl.apply(&duo.manifest_for(name, directory)).unwrap();
        let resource = format!("rp/{name}");
        world
            .kubectl
            .wait_for_condition(NAMESPACE, &resource, "Ready", PATIENCE)
            .unwrap();
        site
    }

    fn controllers(&self) -> String {
        format!("{}-dc", self.name)
    }

    /// RADIUS settings that AWS was asked to write since then, whether it did or not.
    fn writes_since(&self, since: u64) -> usize {
        let journal = self.world.simulators.directory().journal(since).unwrap();
        let ours = |write: &&e2e::Write| {
            write.directory.as_deref() == Some(self.directory) && write.operation.ends_with("Radius")
        };
        journal.iter().filter(ours).count()
    }

    fn delete_resource(&self) -> anyhow::Result<()> {
        let delete = [
            "-n",
            NAMESPACE,
            "delete",
            "rp",
            self.name,
            "--ignore-not-found",
            "--timeout=120s",
        ];
        self.world.kubectl.run(&delete).map(drop)
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.delete_resource()?;
        let grant = ["delete", "directorygrant", self.name, "--ignore-not-found"];
        self.world.kubectl.run(&grant)?;
        self.world
            .simulators
            .remove_domain_controllers(&self.controllers())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("{} is there still: {error:#}", self.name);
        }
    }
}

fn pods(world: &World, name: &str) -> anyhow::Result<usize> {
    let pods = world.pods(name)?;
    Ok(pods["items"].as_array().map_or(0, Vec::len))
}

#[test]
fn a_directory_is_replaced() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let old = Site::ready(world, "outgoing", "d-90670000e1");
    let since = directory.last_write().unwrap();

    // People log in at the old directory until the new one has all it needs.
    let ((new, took), at_old) = with_logins_at(world, ["outgoing-dc-0", "outgoing-dc-1"], || {
        let begun = Instant::now();
        let new = Site::ready(world, "incoming", "d-90670000e2");
        (new, begun.elapsed())
    });
    assert_nobody_noticed(&at_old);
    assert_eq!((old.writes_since(since), new.writes_since(since)), (0, 1));

    // They have moved to the new one when the old one goes, and with it its RadiusProxy.
    let ((), at_new) = with_logins_at(world, ["incoming-dc-0", "incoming-dc-1"], || {
        directory.delete_directory(old.directory).unwrap();
        let told = world.reason(NAMESPACE, old.name, "Accepted", "False", "DirectoryNotFound");
        assert!(told.contains(old.directory), "{told}");
        // Who asks it still is answered until somebody deletes the RadiusProxy.
        assert_eq!(pods(world, old.name).unwrap(), 2);
        old.delete_resource().unwrap();
        until("the old directory's proxies to be gone", PATIENCE, || {
            let left = pods(world, old.name)?;
            Ok(if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} pods"))
            })
        })
        .unwrap();
    });
    let reports: Vec<_> = at_old.values().chain(at_new.values()).collect();
    let writes = old.writes_since(since) + new.writes_since(since);
    tell(
        "directory replaced by a new one (logins at the old one until the new one is registered, then at the new one)",
        &reports,
        writes,
        took,
    );
    assert_nobody_noticed(&at_new);
    assert_eq!(writes, 1);
    // An unknown id in the same question spoils the answer for nobody else.
    world.both_ready().unwrap();
}
