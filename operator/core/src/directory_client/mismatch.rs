//! A shared secret that somebody changed at AWS. AWS doesn't show the secret, so only the requests reveal the change.
//!
//! Packets can be forged: anyone who can send with a domain controller's address can make one request fail, but can't keep
//! the directory's own requests from being verified. So a mismatch needs requests that fail for several retry intervals,
//! from every address of the directory that asks, and none that verifies. Where both were seen side by side, packets are
//! likely forged, and it needs longer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::{PodReport, SKEW, at};
use crate::time;

/// The shortest time that requests have to fail for.
const AT_LEAST: Duration = Duration::from_secs(60);
/// Retry intervals that requests have to fail for.
const INTERVALS: u32 = 3;
/// Requests that have to fail at one pod.
const REQUESTS: u32 = 3;
/// How long a pod may take to report one more request.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);
/// An address that asked as recently as this before the last failure still asks.
const STILL_ASKS: Duration = Duration::from_secs(300);
/// How long after a change at AWS one domain controller may still use the old secret.
const LEARNT_WITHIN: Duration = Duration::from_secs(60);
/// The shortest time that requests have to fail for where others were verified meanwhile.
const AT_LEAST_DISPUTED: Duration = Duration::from_secs(300);
/// A repair needs a request that failed as recently as this: the secret may have been corrected since.
const RECENT: Duration = Duration::from_secs(600);

/// Every request of the directory fails, and has for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The addresses whose requests fail.
    pub(crate) addresses: Vec<IpAddr>,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Whether requests failed only a moment ago.
    pub(crate) recent: bool,
}

/// Judges by what the pods report. `completed` is when AWS completed the last write: what was observed before says nothing
/// about the secret that AWS was given then. `timeout` is the client's configured time for one try.
pub(crate) fn mismatch(
    reports: &[PodReport<'_>],
    clients: &BTreeSet<IpAddr>,
    completed: Timestamp,
    timeout: Duration,
    now: Timestamp,
) -> Option<Mismatch> {
    let failing = failing(reports, clients, completed, now);
    let since = failing.iter().map(|each| each.from).min()?;
    let last = failing.iter().map(|each| each.last).max()?;
    let mut window = window(reports, clients, timeout);
    if failing.iter().any(|each| each.disputed) {
        window = window.max(AT_LEAST_DISPUTED);
    }
    let lasts = |each: &Failing| each.requests >= REQUESTS && time::until(each.from, each.last) >= window;
    if !failing.iter().any(lasts) {
        return None;
    }
    // An address that asked since then, or shortly before, and did not fail may have the right secret.
    let fails = |address: &IpAddr| failing.iter().any(|each| each.address == *address);
    let undecided = asked(reports, clients).any(|(address, asked)| {
        let asks = time::until(since, asked) > SKEW || time::until(asked, last) < STILL_ASKS;
        asks && !fails(&address)
    });
    if undecided {
        return None;
    }
    let addresses: BTreeSet<IpAddr> = failing.iter().map(|each| each.address).collect();
    Some(Mismatch {
        addresses: addresses.into_iter().collect(),
        since,
        recent: time::until(last, now) <= RECENT,
    })
}

/// One address whose requests fail at one pod, by the pod's clock.
#[derive(Debug)]
struct Failing {
    address: IpAddr,
    from: Timestamp,
    last: Timestamp,
    requests: u32,
    /// Whether a request verified long after others had begun to fail: one of the two was likely forged.
    disputed: bool,
}

fn failing(
    reports: &[PodReport<'_>],
    clients: &BTreeSet<IpAddr>,
    completed: Timestamp,
    now: Timestamp,
) -> Vec<Failing> {
    let mut list = Vec::new();
    for (index, report) in reports.iter().enumerate() {
        // Times of one pod compare exactly. Those of two, or of a pod and AWS, by what clocks may differ.
        let own = verified(report, clients).max();
        let others = reports.iter().enumerate().filter(|(other, _)| *other != index);
        let others = others.flat_map(|(_, other)| verified(other, clients)).max();
        let newest_verified = own.max(others);
        // Another pod may have verified a request since it last reported.
        let others = others.map(|at| time::later(at, SKEW + REPORTED_WITHIN));
        let completed = time::later(completed, SKEW);
        let bound = own.max(others).map_or(completed, |bound| bound.max(completed));
        for (address, seen) in &report.observed.addresses {
            let (Some(first), Some(last)) = (seen.failing_since.and_then(at), seen.last_failed.and_then(at))
            else {
                continue;
            };
            let from = first.max(bound);
            // A clock that is ahead of this one makes old failures look new.
            let ahead = time::until(now, last) > SKEW;
            // A request after the last that failed and did not verify either, such as unsigned CHAP, proves nothing.
            let newest = seen.last_request <= seen.last_failed.unwrap_or_default();
            if report.configured && clients.contains(address) && last >= from && !ahead && newest {
                list.push(Failing {
                    address: *address,
                    from,
                    last,
                    requests: seen.failed,
                    disputed: newest_verified.is_some_and(|verified| {
                        time::until(first.max(completed), verified) > SKEW + LEARNT_WITHIN
                    }),
                });
            }
        }
    }
    list
}

/// When requests of the directory were last verified at a pod, for each address.
fn verified<'a>(
    report: &'a PodReport<'_>,
    clients: &'a BTreeSet<IpAddr>,
) -> impl Iterator<Item = Timestamp> + 'a {
    let addresses = report.observed.addresses.iter();
    addresses
        .filter(|(address, _)| clients.contains(address))
        .filter_map(|(_, seen)| at(seen.last_authenticated?))
}

/// When the directory's addresses last asked the pods.
fn asked(reports: &[PodReport<'_>], clients: &BTreeSet<IpAddr>) -> impl Iterator<Item = (IpAddr, Timestamp)> {
    reports
        .iter()
        .flat_map(|report| &report.observed.addresses)
        .filter(|(address, _)| clients.contains(address))
        .filter_map(|(address, seen)| Some((*address, at(seen.last_request)?)))
}

/// How long requests have to fail: several of the client's retry intervals, as configured and as observed.
fn window(reports: &[PodReport<'_>], clients: &BTreeSet<IpAddr>, timeout: Duration) -> Duration {
    let observed = reports
        .iter()
        .flat_map(|report| &report.observed.addresses)
        .filter(|(address, _)| clients.contains(address))
        .filter_map(|(_, seen)| seen.retry_interval_ms)
        .min()
        .map(|interval| Duration::from_millis(interval.into()));
    let interval = timeout.max(observed.unwrap_or_default());
    (interval * INTERVALS).max(AT_LEAST)
}

#[cfg(test)]
mod tests;
