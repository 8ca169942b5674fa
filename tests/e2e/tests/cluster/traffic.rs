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

/// Background logins by domain controller; they end when this goes, also when a test fails: the next one's users shall not
/// log in twice at once.
struct Running<'a> {
    world: &'a World,
    logins: BTreeMap<&'static str, String>,
}

impl Running<'_> {
    fn begin(&mut self, controller: &'static str, logins: &BackgroundLogins) {
        let controller_itself = self.world.simulators.controller(controller);
        let id = controller_itself.begin_logins(logins).unwrap();
        self.logins.insert(controller, id);
    }

    fn tried(&self) -> u64 {
        let reports = self
            .logins
            .iter()
            .map(|(controller, id)| self.world.simulators.controller(controller).report(id).unwrap());
        reports.map(|report| report.tried).sum()
    }

    fn end(mut self) -> Reports {
        let logins = std::mem::take(&mut self.logins);
        let end = |(controller, id): (&'static str, String)| {
            let report = self.world.simulators.controller(controller).end_logins(&id);
            (controller, report.unwrap())
        };
        logins.into_iter().map(end).collect()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for (controller, id) in &self.logins {
            if let Err(error) = self.world.simulators.controller(controller).end_logins(id) {
                eprintln!("people go on logging in at {controller}: {error:#}");
            }
        }
    }
}

/// The same from two others.
pub fn with_logins_at<T>(
    world: &World,
    controllers: [&'static str; 2],
    during: impl FnOnce() -> T,
) -> (T, Reports) {
    let mut running = Running {
        world,
        logins: BTreeMap::new(),
    };
    for (controller, users) in controllers.into_iter().zip([0..100, 100..200]) {
        let logins = BackgroundLogins {
            usernames: users.map(|n| format!("user{n}")).collect(),
            password: "push".to_owned(),
            every_ms: 1000,
            for_ms: 900_000,
        };
        running.begin(controller, &logins);
    }
    // Some logins before the change, some after: by their number, not by the clock.
    let begun = |more: u64| {
        let base = running.tried();
        until("logins to begin", PATIENCE, || {
            let now = running.tried();
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
    (done, running.end())
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
