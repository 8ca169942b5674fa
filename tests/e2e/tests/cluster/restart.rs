//! `kubectl rollout restart`, as people restart workloads.

use std::collections::BTreeSet;

use e2e::{DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, until};

use crate::failures::full_set;
use crate::traffic::{assert_nobody_noticed, with_logins};
use crate::world::{PATIENCE, World, world};

fn uids(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let pods = world.pods(DuoProxy::NAME)?;
    let uids = pods["items"].as_array().into_iter().flatten();
    Ok(uids
        .filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned))
        .collect())
}

#[test]
#[ignore = "takes two minutes: `make test-long` runs it"]
fn a_rollout_restart_replaces_every_pod_and_nobody_notices() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let since = directory.last_write().unwrap();
    let before = uids(world).unwrap();
    let ((), reports) = with_logins(world, || {
        let restart = ["-n", NAMESPACE, "rollout", "restart", "statefulset/workspaces"];
        world.kubectl.run(&restart).unwrap();
        until("two other pods", PATIENCE * 2, || {
            let now = uids(world)?;
            Ok(if now.len() == 2 && now.is_disjoint(&before) {
                Ok(())
            } else {
                Err(format!("{before:?}, now {now:?}"))
            })
        })
        .unwrap();
        full_set(world);
    });
    assert_nobody_noticed(&reports);
    world.both_ready().unwrap();
    // A surge is two writes. On a slow machine the pods of each half may come so far apart that they are two more.
    let writes = directory.settings_writes(since, MICROSOFT_DIRECTORY).unwrap();
    assert!((2..=4).contains(&writes.len()), "{writes:?}");
}
