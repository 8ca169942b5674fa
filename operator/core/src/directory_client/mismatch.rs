//! A shared secret that somebody changed at AWS. AWS doesn't show the secret, so that only the requests tell.
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
const STILL_ASKS: Duration = Duration::from_secs(600);
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
mod tests {
    use proxy_config::observed::{Observed, ObservedAddress};

    use super::*;

    const DC1: [u8; 4] = [10, 0, 0, 10];
    const DC2: [u8; 4] = [10, 0, 0, 11];
    const COMPLETED: u64 = 1_800_000_000;

    /// An address, in seconds since COMPLETED: the last request that verified, the first and the last that failed.
    fn seen(
        address: [u8; 4],
        verified: Option<u64>,
        failed: Option<(u64, u64)>,
    ) -> (IpAddr, ObservedAddress) {
        let last = failed.map(|(_, last)| last).max(verified).unwrap_or_default();
        let seen = ObservedAddress {
            last_request: COMPLETED + last,
            last_authenticated: verified.map(|at| COMPLETED + at),
            failing_since: failed.map(|(first, _)| COMPLETED + first),
            last_failed: failed.map(|(_, last)| COMPLETED + last),
            failed: if failed.is_some() { 12 } else { 0 },
            ..ObservedAddress::default()
        };
        (IpAddr::from(address), seen)
    }

    fn pod(addresses: impl IntoIterator<Item = (IpAddr, ObservedAddress)>) -> Observed {
        Observed {
            addresses: addresses.into_iter().collect(),
            ..Observed::default()
        }
    }

    fn judge(pods: &[Observed], now: u64) -> Option<Mismatch> {
        let reports: Vec<PodReport<'_>> = pods
            .iter()
            .map(|observed| PodReport {
                observed,
                configured: true,
            })
            .collect();
        let clients = [DC1, DC2].map(IpAddr::from).into();
        let timeout = Duration::from_secs(20);
        mismatch(
            &reports,
            &clients,
            at(COMPLETED).unwrap(),
            timeout,
            at(COMPLETED + now).unwrap(),
        )
    }

    #[test]
    fn requests_that_fail_for_three_intervals_while_none_verifies_are_a_mismatch() {
        let fails = |last| judge(&[pod([seen(DC1, Some(900), Some((1000, last)))])], last);
        assert_eq!(fails(1059), None);
        let found = fails(1060).unwrap();
        assert_eq!(found.addresses, [IpAddr::from(DC1)]);
        assert!(found.recent);
        // A client that is known to retry more slowly is given longer.
        let mut slow = pod([seen(DC1, Some(900), Some((1000, 1080)))]);
        let dc1 = slow.addresses.get_mut(&IpAddr::from(DC1)).unwrap();
        dc1.retry_interval_ms = Some(30_000);
        assert_eq!(judge(&[slow], 1080), None);
    }

    #[test]
    fn few_requests_or_old_ones_are_no_reason_to_write() {
        let mut few = pod([seen(DC1, None, Some((1000, 1100)))]);
        few.addresses.get_mut(&IpAddr::from(DC1)).unwrap().failed = 2;
        assert_eq!(judge(&[few], 1100), None);
        let old = judge(&[pod([seen(DC1, None, Some((1000, 1100)))])], 1800).unwrap();
        assert!(
            !old.recent,
            "it stands until a request verifies, but is not acted on"
        );
    }

    #[test]
    fn one_address_that_verifies_is_enough_wherever_it_asks() {
        let flood = Some((1000, 5000));
        for other in [
            vec![pod([seen(DC1, None, flood), seen(DC2, Some(4950), None)])],
            vec![pod([seen(DC1, None, flood)]), pod([seen(DC2, Some(4950), None)])],
            vec![pod([seen(DC1, None, flood)]), pod([seen(DC1, Some(4950), None)])],
            vec![pod([seen(DC1, Some(4950), Some((4951, 5000)))])],
        ] {
            assert_eq!(judge(&other, 5000), None, "{other:?}");
        }
    }

    #[test]
    fn an_address_that_asks_and_cannot_be_judged_keeps_the_others_from_being() {
        let unsigned = (
            IpAddr::from(DC2),
            ObservedAddress {
                last_request: COMPLETED + 1090,
                unsigned: 5,
                ..ObservedAddress::default()
            },
        );
        assert_eq!(
            judge(&[pod([seen(DC1, None, Some((1000, 1100))), unsigned])], 1100),
            None
        );
        // One that asked long before does not.
        let before = seen(DC2, Some(100), None);
        assert!(judge(&[pod([seen(DC1, None, Some((1000, 1100))), before])], 1100).is_some());
    }

    #[test]
    fn what_was_observed_before_the_last_write_was_completed_does_not_count() {
        let mut early = pod([seen(DC1, None, Some((10, 100)))]);
        assert_eq!(
            judge(&[early.clone()], 100),
            None,
            "60 s for clocks that differ, then 60 s"
        );
        early.addresses.get_mut(&IpAddr::from(DC1)).unwrap().failing_since = Some(COMPLETED - 500);
        assert_eq!(judge(&[early.clone()], 100), None);
        let later = pod([seen(DC1, None, Some((10, 130)))]);
        assert!(judge(&[later], 130).is_some());
    }

    #[test]
    fn clocks_that_differ_by_a_minute_make_no_mismatch_of_logins_that_verify() {
        // Good logins at DC2 every 50 s at one pod, which reports once a minute and whose clock is a minute behind; forged
        // ones at the other.
        for now in (1000..4000).step_by(10) {
            let reported = now / 60 * 60;
            let good = pod([seen(DC2, Some(reported / 50 * 50 - 60), None)]);
            let forged = pod([seen(DC1, None, Some((1000, now)))]);
            assert_eq!(judge(&[good, forged], now), None, "{now}");
        }
        // A pod whose clock is far ahead is not believed.
        let ahead = pod([seen(DC1, None, Some((1000, 4600)))]);
        assert_eq!(judge(&[ahead], 1000), None);
    }

    #[test]
    fn an_address_that_verified_a_few_minutes_ago_is_waited_for() {
        // Only one domain controller has the wrong secret, or its address is forged, and the other has few users.
        for quiet in [70, 200, 590] {
            let failing = seen(DC1, None, Some((1000, 1000 + quiet)));
            let good = seen(DC2, Some(995), None);
            let one = [pod([failing.clone(), good.clone()])];
            assert_eq!(judge(&one, 1000 + quiet), None, "{quiet}");
            assert_eq!(
                judge(&[pod([failing]), pod([good])], 1000 + quiet),
                None,
                "{quiet}"
            );
        }
        let over = pod([seen(DC1, None, Some((1000, 1600))), seen(DC2, Some(995), None)]);
        assert!(judge(&[over], 1600).is_some());
    }

    #[test]
    fn a_flood_at_both_pods_that_delays_their_reports_makes_no_mismatch_of_logins_that_verify() {
        // Forged packets of every address reach both pods. One, whose clock is half a minute behind, verifies a login every
        // 50 s, and has reported so much lately that it reports once a minute. The other reports at once.
        for now in (2000..4000).step_by(5) {
            let reported = now / 60 * 60;
            let good = reported / 50 * 50;
            let both = [
                seen(DC1, Some(good - 30), Some((good - 29, reported - 30))),
                seen(DC2, Some(good - 30), Some((good - 29, reported - 30))),
            ];
            let forged = [
                seen(DC1, None, Some((1000, now))),
                seen(DC2, None, Some((1000, now))),
            ];
            assert_eq!(judge(&[pod(both), pod(forged)], now), None, "{now}");
        }
    }

    #[test]
    fn a_flood_beside_a_good_login_every_few_minutes_is_no_mismatch() {
        // Both addresses are forged at one pod, and the other one, or the same, verifies a login of DC2 every four minutes.
        for now in (2000..6000).step_by(20) {
            let good = now / 240 * 240;
            let forged = [
                seen(DC1, None, Some((1000, now))),
                seen(DC2, None, Some((1000, now))),
            ];
            let other = pod([seen(DC2, Some(good), None)]);
            assert_eq!(judge(&[pod(forged), other], now), None, "{now}");
            let one = pod([
                seen(DC1, None, Some((1000, now))),
                seen(DC2, Some(good), Some((good + 1, now))),
            ]);
            assert_eq!(judge(&[one], now), None, "{now}");
        }
    }

    #[test]
    fn domain_controllers_that_learn_a_changed_secret_one_after_another_are_no_dispute() {
        let first = seen(DC1, Some(990), Some((1000, 1150)));
        let later = seen(DC2, Some(1055), Some((1060, 1150)));
        assert!(judge(&[pod([first, later])], 1150).is_some());
    }

    #[test]
    fn a_pod_without_the_current_configuration_and_an_address_of_nobody_prove_nothing() {
        let failing = pod([seen(DC1, None, Some((1000, 1100)))]);
        let report = PodReport {
            observed: &failing,
            configured: false,
        };
        let clients: BTreeSet<IpAddr> = [IpAddr::from(DC1)].into();
        let (completed, now) = (at(COMPLETED).unwrap(), at(COMPLETED + 1100).unwrap());
        assert_eq!(
            mismatch(&[report], &clients, completed, Duration::from_secs(20), now),
            None
        );
        let stranger = pod([seen([10, 9, 9, 9], None, Some((1000, 1100)))]);
        assert_eq!(judge(&[stranger], 1100), None);
    }
}
