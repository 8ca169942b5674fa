//! Who decides whether settings are Completed or Failed, and when.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::info;

use super::{
    Simulator,
    settings::{Alone, Counted, ProbeMode, ProbeSettings, Quorum},
    world::{ProbeReport, Radius, RadiusStatus, World},
};
use crate::{clock, serve::until_told};

/// Nothing is ever looked at less often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(1000);

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Completed,
    Failed,
    /// Look again after so many milliseconds, or when a report comes.
    Wait(u64),
}

/// Decides by what was reported so far. `live` are the controllers that are heard of.
fn verdict(radius: &Radius, live: &BTreeSet<String>, rules: &ProbeSettings, now: Timestamp) -> Verdict {
    let elapsed = clock::ms_between(radius.since, now);
    let left = |bound: u64| bound.saturating_sub(elapsed);
    let after_minimum = |verdict: Verdict| match left(rules.min_creating_ms) {
        0 => verdict,
        wait => Verdict::Wait(wait),
    };
    match rules.mode {
        ProbeMode::Complete => return Verdict::Completed,
        ProbeMode::Stuck => return Verdict::Wait(u64::MAX),
        ProbeMode::Fail => return after_minimum(Verdict::Failed),
        ProbeMode::Controllers => {}
    }
    if left(rules.max_creating_ms) == 0 {
        return Verdict::Failed;
    }
    let wait = Verdict::Wait(left(rules.max_creating_ms));
    if live.is_empty() {
        return match rules.without_controllers {
            Alone::Complete => after_minimum(Verdict::Completed),
            Alone::Fail => after_minimum(Verdict::Failed),
            Alone::Stuck => wait,
        };
    }
    let reports: Vec<&ProbeReport> = radius
        .probes
        .iter()
        .filter(|report| report.generation == radius.generation)
        .collect();
    let content = reports.iter().filter(|report| is_content(report, rules)).count();
    let all_reported = live
        .iter()
        .all(|name| reports.iter().any(|report| report.controller == *name));
    match rules.controllers {
        Quorum::All if content < reports.len() => after_minimum(Verdict::Failed),
        Quorum::All if all_reported => after_minimum(Verdict::Completed),
        Quorum::Any if content > 0 => after_minimum(Verdict::Completed),
        Quorum::Any if all_reported => after_minimum(Verdict::Failed),
        _ => wait,
    }
}

fn is_content(report: &ProbeReport, rules: &ProbeSettings) -> bool {
    let good = |outcome: &str| match rules.answers {
        Counted::Any => ["accept", "reject", "challenge"].contains(&outcome),
        Counted::Accept => outcome == "accept",
    };
    let mut outcomes = report.servers.iter().map(|server| good(&server.outcome));
    match rules.servers {
        Quorum::All => !report.servers.is_empty() && outcomes.all(|good| good),
        Quorum::Any => outcomes.any(|good| good),
    }
}

/// Directories whose status changed, and how long nothing is due.
fn decide_all(world: &mut World, now: Timestamp) -> (Vec<String>, u64) {
    let lost_after = world.settings.controller_lost_after_ms;
    let rules = world.settings.probe.clone();
    let (mut decided, mut next) = (Vec::new(), u64::MAX);
    for (id, directory) in &mut world.directories {
        let open: Vec<String> = directory
            .radius
            .iter()
            .filter(|(_, radius)| radius.status == RadiusStatus::Creating)
            .map(|(region, _)| region.clone())
            .collect();
        for region in open {
            let live = directory.live(&region, now, lost_after);
            let Some(radius) = directory.radius.get_mut(&region) else {
                continue;
            };
            let status = match verdict(radius, &live, &rules, now) {
                Verdict::Wait(ms) => {
                    next = next.min(ms);
                    continue;
                }
                Verdict::Completed => RadiusStatus::Completed,
                Verdict::Failed => RadiusStatus::Failed,
            };
            let took_ms = clock::ms_between(radius.since, now);
            radius.status = status;
            radius.since = now;
            radius.previous = None;
            directory.end_change(&region, &format!("{status:?}"), now);
            info!(
                directory = id,
                region,
                ?status,
                took_ms,
                "RADIUS settings decided"
            );
            decided.push(id.clone());
        }
    }
    (decided, next)
}

/// Decides whatever is due, until `stop`.
pub(super) async fn run(simulator: Arc<Simulator>, mut stop: watch::Receiver<bool>) {
    loop {
        let woken = simulator.reported.notified();
        let (decided, next) = simulator.change(false, |world| decide_all(world, Timestamp::now()));
        if !decided.is_empty() {
            simulator.change(true, |_| ());
        }
        for id in &decided {
            simulator.wake(id);
        }
        let pause = LOOK_AGAIN.min(Duration::from_millis(next.max(1)));
        tokio::select! {
            () = until_told(&mut stop) => return,
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{radius_settings::RadiusSettings, world::ProbeOutcome};

    fn radius(outcomes: &[(&str, &[&str])]) -> Radius {
        let probes = outcomes.iter().map(|(controller, servers)| ProbeReport {
            controller: (*controller).to_owned(),
            generation: 1,
            servers: servers
                .iter()
                .map(|outcome| ProbeOutcome {
                    server: "s".into(),
                    outcome: (*outcome).into(),
                    duration_ms: 1,
                })
                .collect(),
        });
        Radius {
            settings: RadiusSettings::default(),
            previous: None,
            status: RadiusStatus::Creating,
            since: Timestamp::UNIX_EPOCH,
            operation: "EnableRadius".into(),
            generation: 1,
            probes: probes.collect(),
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn live(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_controllers_must_reach_all_servers() {
        let rules = ProbeSettings::default();
        let both = live(&["a", "b"]);
        let one = radius(&[("a", &["reject"])]);
        assert_eq!(verdict(&one, &both, &rules, at(1000)), Verdict::Wait(119_000));
        let two = radius(&[("a", &["reject"]), ("b", &["reject"])]);
        assert_eq!(verdict(&two, &both, &rules, at(1000)), Verdict::Completed);
        let half = radius(&[("a", &["reject"]), ("b", &["reject", "timeout"])]);
        assert_eq!(verdict(&half, &both, &rules, at(1000)), Verdict::Failed);
    }

    #[test]
    fn creating_lasts_its_minimum() {
        let rules = ProbeSettings::default();
        let done = radius(&[("a", &["reject"])]);
        assert_eq!(verdict(&done, &live(&["a"]), &rules, at(100)), Verdict::Wait(400));
    }

    #[test]
    fn a_report_about_older_settings_counts_nothing() {
        let rules = ProbeSettings::default();
        let mut stale = radius(&[("a", &["reject"])]);
        stale.generation = 2;
        assert!(matches!(
            verdict(&stale, &live(&["a"]), &rules, at(1000)),
            Verdict::Wait(_)
        ));
    }

    #[test]
    fn whatever_is_missing_at_the_end_is_a_failure() {
        let rules = ProbeSettings::default();
        assert_eq!(
            verdict(&radius(&[]), &live(&["a"]), &rules, at(120_000)),
            Verdict::Failed
        );
    }

    #[test]
    fn any_server_is_enough_when_so_set() {
        let rules = ProbeSettings {
            servers: Quorum::Any,
            ..ProbeSettings::default()
        };
        let half = radius(&[("a", &["reject", "timeout"])]);
        assert_eq!(
            verdict(&half, &live(&["a"]), &rules, at(1000)),
            Verdict::Completed
        );
    }

    #[test]
    fn a_reject_counts_as_dead_when_so_set() {
        let rules = ProbeSettings {
            answers: Counted::Accept,
            ..ProbeSettings::default()
        };
        let rejected = radius(&[("a", &["reject"])]);
        assert_eq!(
            verdict(&rejected, &live(&["a"]), &rules, at(1000)),
            Verdict::Failed
        );
        let accepted = radius(&[("a", &["accept"])]);
        assert_eq!(
            verdict(&accepted, &live(&["a"]), &rules, at(1000)),
            Verdict::Completed
        );
    }
}
