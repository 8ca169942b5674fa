//! A directory is replaced by another one, whose id is another: the id in a RadiusProxy's spec stays, so the new directory
//! gets a RadiusProxy of its own, and the old one's goes after its directory.

use std::time::Instant;

use e2e::{NAMESPACE, until};
use serde_json::{Value, json};

use super::tell;
use crate::settling::{right_writes, serves_since};
use crate::site::Site;
use crate::traffic::{assert_nobody_noticed, with_logins_at};
use crate::world::{PATIENCE, World, world};

/// A directory with two domain controllers, granted, and its RadiusProxy.
struct Granted {
    site: Site,
    name: &'static str,
}

impl Granted {
    /// Makes all of it and waits until the RadiusProxy is Ready.
    fn ready(name: &'static str, directory: &'static str) -> Self {
        let site = Site::new(directory);
        let world = site.world;
        site.directory(&json!({"type": "MicrosoftAD", "name": "replaced.example.com"}));
        site.domain_controllers(&format!("{name}-dc"));
        site.grant(name, NAMESPACE);
        let duo = world.duo_proxy().unwrap();
        site.apply(NAMESPACE, &duo.manifest_for(name, directory));
        world.ready(NAMESPACE, name).unwrap();
        Self { site, name }
    }

    /// RADIUS settings that AWS was asked to write since then, whether it did or not.
    fn writes_since(&self, since: u64) -> usize {
        let journal = self.site.world.simulators.directory().journal(since).unwrap();
        let ours = |write: &&e2e::Write| {
            write.directory.as_deref() == Some(self.site.directory) && write.operation.ends_with("Radius")
        };
        journal.iter().filter(ours).count()
    }
}

fn pods(world: &World, name: &str) -> anyhow::Result<Vec<Value>> {
    let pods = world.pods(name)?;
    Ok(pods["items"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_directory_is_replaced() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let old = Granted::ready("outgoing", "d-90670000e1");
    let since = directory.last_write().unwrap();

    // People log in at the old directory until the new one has all it needs.
    let ((new, took), at_old) = with_logins_at(world, ["outgoing-dc-0", "outgoing-dc-1"], || {
        let begun = Instant::now();
        let new = Granted::ready("incoming", "d-90670000e2");
        (new, begun.elapsed())
    });
    assert_nobody_noticed(&at_old);
    let served = pods(world, new.name).unwrap();
    let right = right_writes(served.iter().filter_map(serves_since).collect());
    let writes = new.writes_since(since);
    assert!(right.contains(&writes), "{writes} writes, {right:?} are right");
    assert_eq!(old.writes_since(since), 0);

    // They have moved to the new one when the old one goes, and with it its RadiusProxy.
    let ((), at_new) = with_logins_at(world, ["incoming-dc-0", "incoming-dc-1"], || {
        directory.delete_directory(old.site.directory).unwrap();
        let told = world.reason(NAMESPACE, old.name, "Accepted", "False", "DirectoryNotFound");
        assert!(told.contains(old.site.directory), "{told}");
        // Who asks it still is answered until somebody deletes the RadiusProxy.
        assert_eq!(pods(world, old.name).unwrap().len(), 2);
        old.site.delete(NAMESPACE, old.name);
        until("the old directory's proxies to be gone", PATIENCE, || {
            let left = pods(world, old.name)?.len();
            Ok(if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} pods"))
            })
        })
        .unwrap();
    });
    let reports: Vec<_> = at_old.values().chain(at_new.values()).collect();
    assert_eq!((old.writes_since(since), new.writes_since(since)), (0, writes));
    tell(
        "directory replaced by a new one (logins at the old one until the new one is registered, then at the new one)",
        &reports,
        &writes.to_string(),
        took,
    );
    assert_nobody_noticed(&at_new);
    // An unknown id in the same question spoils the answer for nobody else.
    world.both_ready().unwrap();
}
