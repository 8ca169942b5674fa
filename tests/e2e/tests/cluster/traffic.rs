//! People who log in while something happens.

use std::collections::BTreeMap;

use e2e::{BackgroundLogins, Report, until};

use crate::world::{PATIENCE, World};

/// How logins went, by domain controller.
pub type Reports = BTreeMap<&'static str, Report>;

/// Logins once a second from both domain controllers while `during` goes on.
pub fn with_logins<T>(world: &World, during: impl FnOnce() -> T) -> (T, Reports) {
    with_logins_at(world, ["dc-0", "dc-1"], during)
}

/// The same from two others.
pub fn with_logins_at<T>(
    world: &World,
    controllers: [&'static str; 2],
    during: impl FnOnce() -> T,
) -> (T, Reports) {
    let mut running = BTreeMap::new();
    for (controller, users) in controllers.into_iter().zip([0..100, 100..200]) {
        let logins = BackgroundLogins {
            usernames: users.map(|n| format!("user{n}")).collect(),
            password: "push".to_owned(),
            every_ms: 1000,
            for_ms: 900_000,
        };
        running.insert(
            controller,
            world
                .simulators
                .controller(controller)
                .begin_logins(&logins)
                .unwrap(),
        );
    }
    // Some logins before the change, some after: by their number, not by the clock.
    let begun = |more: u64| {
        let base: u64 = running
            .iter()
            .map(|(c, id)| world.simulators.controller(c).report(id).unwrap().tried)
            .sum();
        until("logins to begin", PATIENCE, || {
            let now: u64 = running
                .iter()
                .map(|(c, id)| world.simulators.controller(c).report(id).unwrap().tried)
                .sum();
            Ok(if now >= base + more {
                Ok(())
            } else {
                Err(format!("{now} begun"))
            })
        })
        .unwrap();
    };
    begun(6);
    let done = during();
    begun(10);
    let reports = running
        .iter()
        .map(|(c, id)| (*c, world.simulators.controller(c).end_logins(id).unwrap()))
        .collect();
    (done, reports)
}

/// Every login was accepted.
pub fn assert_nobody_noticed(reports: &Reports) {
    for (controller, report) in reports {
        println!(
            "{controller}: tried {}, accepted {}, failed over {}, slowest {:?} ms, while AWS was changing {}",
            report.tried,
            report.accepted,
            report.failed_over,
            report.slowest_ms,
            report.would_have_been_refused
        );
        assert_eq!(
            report.failures.len() + report.rejections.len(),
            0,
            "{:?} {:?}",
            report.failures,
            report.rejections
        );
        assert_eq!(report.accepted, report.tried, "{controller}");
    }
}
