//! A push that waits for its user survives the pod that sent it.

use anyhow::Result;
use e2e::{BackgroundLogins, DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, Report, until};
use serde_json::json;

use crate::world::{PATIENCE, World, world};

/// The pod that the directory asks first: it asks its servers in the order in which they are registered. After a test that
/// lost a pod, Ready may still be true of the address that has gone.
fn first_server(world: &World) -> Result<Result<String, String>> {
    let servers = world.simulators.directory().registered(MICROSOFT_DIRECTORY)?;
    let pods = world.pods(DuoProxy::NAME)?;
    let first = pods["items"].as_array().into_iter().flatten().find(|pod| {
        servers
            .first()
            .is_some_and(|server| pod["status"]["podIP"] == server.as_str())
    });
    Ok(match first.and_then(|pod| pod["metadata"]["name"].as_str()) {
        Some(pod) => Ok(pod.to_owned()),
        None => Err(format!("{servers:?} registered")),
    })
}

/// One login at dc-0 of a user who takes his time; `lose` takes the pod away that sent the push, once it was sent.
fn one_login_while(user: &str, lose: impl FnOnce(&World, &str)) -> (Report, u64) {
    let world = world();
    world.both_ready().unwrap();
    let sender = until("the first server to be a pod", PATIENCE, || first_server(world)).unwrap();
    let (duo, controller) = (world.simulators.duo(), world.simulators.controller("dc-0"));
    duo.put_user(user, &json!({"answer": "approve", "delay_ms": 9000}))
        .unwrap();
    let one = BackgroundLogins {
        usernames: vec![user.to_owned()],
        password: "push".to_owned(),
        every_ms: 60_000,
        for_ms: 1000,
    };
    let login = controller.begin_logins(&one).unwrap();
    until("the push to be sent", PATIENCE, || {
        let pushes = duo.pushes(user)?;
        Ok(if pushes == 1 {
            Ok(())
        } else {
            Err(format!("{pushes} pushes"))
        })
    })
    .unwrap();
    lose(world, &sender);
    let report = until("the login to end", PATIENCE, || {
        let report = controller.report(&login)?;
        let ended = report.tried == 1 && report.in_flight == 0;
        Ok(if ended {
            Ok(report)
        } else {
            Err(format!("{} in flight", report.in_flight))
        })
    })
    .unwrap();
    (report, duo.pushes(user).unwrap())
}

#[test]
fn a_push_is_followed_by_the_other_pod_when_its_own_is_killed() {
    let (report, pushes) = one_login_while("patient", World::kill_pod);
    assert_eq!((report.accepted, pushes), (1, 1), "{report:?}");
    assert_eq!(
        report.failed_over, 1,
        "the pod that sent the push answered it itself: {report:?}"
    );
    world().both_ready().unwrap();
}

#[test]
fn a_push_of_a_pod_that_is_told_to_end_is_one_login_still() {
    let (report, pushes) = one_login_while("calm", |world, pod| {
        world
            .kubectl
            .run(&["-n", NAMESPACE, "delete", "pod", pod, "--wait=false"])
            .unwrap();
    });
    assert_eq!((report.accepted, pushes), (1, 1), "{report:?}");
    world().both_ready().unwrap();
}
