//! A ServiceAccount that is deleted and created again. The API server refuses the tokens that running pods have.

use std::time::Duration;

use super::upgrade::is_over;
use super::world::World;
use crate::observed::ServiceAccountState;

fn ready() -> World {
    let mut world = World::new();
    // The StatefulSet of this world was created in 1970, and its account after that.
    let created = jiff::Timestamp::from_second(30).unwrap();
    world.service_account = Some(account("account-1", created));
    world.run_until(World::is_ready);
    world.run_for(Duration::from_secs(120));
    world
}

fn account(uid: &str, created: jiff::Timestamp) -> ServiceAccountState {
    ServiceAccountState {
        uid: uid.to_owned(),
        created,
    }
}

fn uids(world: &World) -> Vec<String> {
    world.pods.iter().map(|pod| pod.state.uid.clone()).collect()
}

#[test]
fn pods_of_a_deleted_service_account_are_replaced_once_and_no_registered_server_is_down() {
    let mut world = ready();
    let before = uids(&world);
    world.most_down = Some(0);
    world.service_account = Some(account("account-2", world.now));
    world.run_until(|w| w.condition("Available").1 == "Upgrading");
    world.run_until(is_over);
    let after = uids(&world);
    assert!(after.iter().all(|uid| !before.contains(uid)));
    world.run_for(Duration::from_secs(7200));
    assert_eq!(uids(&world), after);
    assert_eq!(world.aws.writes.len(), 3);
}

#[test]
fn a_service_account_that_is_created_with_its_stateful_set_replaces_no_pod() {
    let mut world = ready();
    let before = uids(&world);
    world.run_for(Duration::from_secs(7200));
    assert_eq!(uids(&world), before);
    assert_eq!(world.aws.writes.len(), 1);
}
