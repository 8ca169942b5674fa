use proxy_config::observed::{Observed, ObservedAddress};

use super::*;

const DC1: [u8; 4] = [10, 0, 0, 10];
const DC2: [u8; 4] = [10, 0, 0, 11];
const COMPLETED: u64 = 1_800_000_000;

/// An address, in seconds since COMPLETED: the last request that verified, the first and the last that failed.
fn seen(address: [u8; 4], verified: Option<u64>, failed: Option<(u64, u64)>) -> (IpAddr, ObservedAddress) {
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
    for quiet in [70, 200, 290] {
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
    let over = pod([seen(DC1, None, Some((1000, 1300))), seen(DC2, Some(995), None)]);
    assert!(judge(&[over], 1300).is_some());
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
