//! `status.directory.observed` of the pods' reports, coarse enough to be written rarely.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use proxy_config::observed::{MAX_ADDRESSES, ObservedAddress};

use super::{PodReport, STEP, at, power};
use crate::api::{ObservedClientAddress, ObservedDirectory, ObservedRetries, ObservedSigning};
use crate::time;

/// Names that are shown at most.
const MAX_PROBES: usize = 8;
/// Requests under a wrong secret are shown for so long.
const WRONG_FOR: Duration = Duration::from_secs(3600);

/// The status. What no pod reports now stays as it was: pods forget when they restart. `before` is the status of now,
/// `probe_users` are the configured names, and no other is shown.
pub(crate) fn summary(
    reports: &[PodReport<'_>],
    clients: &BTreeSet<IpAddr>,
    probe_users: &[String],
    before: Option<&ObservedDirectory>,
    now: Timestamp,
) -> Option<ObservedDirectory> {
    let old = before.cloned().unwrap_or_default();
    let moved = reports.iter().any(|report| report.observed.moved > 0);
    let shown = ObservedDirectory {
        signs: signs(reports).or(old.signs),
        retries: retries(reports).or(old.retries),
        retry_interval_milliseconds: steady(
            old.retry_interval_milliseconds,
            addresses(reports)
                .filter_map(|(_, seen)| seen.retry_interval_ms)
                .min(),
        ),
        // Only a login with retries can tell.
        moves_to_another_address: if moved {
            Some(true)
        } else {
            old.moves_to_another_address
                .or_else(|| retries(reports).map(|_| false))
        },
        longest_wait_seconds: steady(
            old.longest_wait_seconds,
            longest_wait(reports).map(|wait| wait.div_ceil(1000)),
        ),
        probe_users: probes(reports, probe_users).unwrap_or(old.probe_users),
        addresses: client_addresses(reports, clients, &old.addresses, now),
    };
    let nothing = shown
        == ObservedDirectory {
            addresses: shown.addresses.clone(),
            ..ObservedDirectory::default()
        };
    let nobody = shown.addresses.iter().all(|each| each.last_request.is_none());
    (!(nothing && nobody)).then_some(shown)
}

fn addresses<'a>(reports: &'a [PodReport<'a>]) -> impl Iterator<Item = (&'a IpAddr, &'a ObservedAddress)> {
    reports.iter().flat_map(|report| &report.observed.addresses)
}

fn longest_wait(reports: &[PodReport<'_>]) -> Option<u32> {
    reports
        .iter()
        .filter_map(|report| report.observed.longest_wait_ms)
        .max()
}

fn signs(reports: &[PodReport<'_>]) -> Option<ObservedSigning> {
    let signed = addresses(reports).any(|(_, seen)| seen.signed > 0);
    let unsigned = addresses(reports).any(|(_, seen)| seen.unsigned > 0);
    match (signed, unsigned) {
        (true, true) => Some(ObservedSigning::Sometimes),
        (true, false) => Some(ObservedSigning::Always),
        (false, true) => Some(ObservedSigning::Never),
        (false, false) => None,
    }
}

fn retries(reports: &[PodReport<'_>]) -> Option<ObservedRetries> {
    let seen = |count: fn(&ObservedAddress) -> u32| addresses(reports).any(|(_, seen)| count(seen) > 0);
    let kinds = [
        (seen(|seen| seen.same_packet), ObservedRetries::SamePacket),
        (
            seen(|seen| seen.new_authenticator),
            ObservedRetries::NewAuthenticator,
        ),
        (seen(|seen| seen.new_identifier), ObservedRetries::NewIdentifier),
    ];
    let mut kinds = kinds.into_iter().filter(|(seen, _)| *seen).map(|(_, kind)| kind);
    let first = kinds.next()?;
    Some(kinds.next().map_or(first, |_| ObservedRetries::Mixed))
}

/// `new`, unless it is about what is shown: within a tenth.
fn steady(old: Option<u32>, new: Option<u32>) -> Option<u32> {
    match (old, new) {
        (Some(old), Some(new)) if old.abs_diff(new) <= old / 10 => Some(old),
        (old, new) => new.or(old),
    }
}

/// Reports have them normalised, perhaps without the domain that the spec has.
fn probes(reports: &[PodReport<'_>], configured: &[String]) -> Option<Vec<String>> {
    let is_configured = |name: &str| {
        let name = name.to_lowercase();
        configured.iter().any(|each| {
            let each = each.to_lowercase();
            each == name
                || each.strip_suffix(&name).is_some_and(|rest| rest.ends_with('\\'))
                || each.strip_prefix(&name).is_some_and(|rest| rest.starts_with('@'))
        })
    };
    let names: BTreeSet<&String> = reports
        .iter()
        .flat_map(|report| report.observed.probes.keys())
        .filter(|name| !name.is_empty() && is_configured(name))
        .collect();
    let names: Vec<String> = names.into_iter().take(MAX_PROBES).cloned().collect();
    (!names.is_empty()).then_some(names)
}

fn client_addresses(
    reports: &[PodReport<'_>],
    clients: &BTreeSet<IpAddr>,
    before: &[ObservedClientAddress],
    now: Timestamp,
) -> Vec<ObservedClientAddress> {
    let old = |client: &IpAddr| {
        let address = client.to_string();
        let found = before.iter().find(|old| old.address == address).cloned();
        found.unwrap_or(ObservedClientAddress {
            address,
            ..ObservedClientAddress::default()
        })
    };
    let rows: Vec<(ObservedClientAddress, ObservedClientAddress)> = clients
        .iter()
        .take(MAX_ADDRESSES)
        .map(|client| (old(client), client_address(reports, client, old(client), now)))
        .collect();
    // When one time is due, all are written.
    let due = |(old, new): &(ObservedClientAddress, ObservedClientAddress)| match (
        &old.last_request,
        &new.last_request,
    ) {
        (Some(old), Some(new)) => time::until(old.0, new.0) >= STEP,
        (old, new) => old != new,
    };
    let due = rows.iter().any(due);
    rows.into_iter()
        .map(|(old, mut new)| {
            if !due {
                new.last_request = old.last_request;
            }
            new
        })
        .collect()
}

/// What is known of one address now.
fn client_address(
    reports: &[PodReport<'_>],
    client: &IpAddr,
    old: ObservedClientAddress,
    now: Timestamp,
) -> ObservedClientAddress {
    let seen: Vec<&ObservedAddress> = addresses(reports)
        .filter(|(address, _)| *address == client)
        .map(|(_, seen)| seen)
        .collect();
    let shown = old.last_request.map(|shown| shown.0);
    // A clock that is ahead must not show a time to come.
    let newest = seen.iter().filter_map(|seen| at(seen.last_request));
    let newest = newest.map(|at| at.min(now)).chain(shown).max();
    let failed_lately = |seen: &&&ObservedAddress| {
        let last = seen.last_failed.and_then(at);
        last.is_some_and(|last| time::until(last, now) < WRONG_FOR)
    };
    let wrong = seen.iter().filter(failed_lately);
    let wrong = wrong.map(|seen| seen.failed.max(1)).reduce(u32::saturating_add);
    ObservedClientAddress {
        address: old.address,
        last_request: newest.map(time::floor),
        wrong_secret_requests: wrong.map_or(0, |wrong| power(10, wrong).max(old.wrong_secret_requests)),
    }
}

#[cfg(test)]
mod tests {
    use proxy_config::observed::Observed;

    use super::*;

    const DC1: [u8; 4] = [10, 0, 0, 10];
    const START: u64 = 1_800_000_000;

    fn clients() -> BTreeSet<IpAddr> {
        [DC1, [10, 0, 0, 11]].map(IpAddr::from).into()
    }

    fn report(after: u64) -> Observed {
        let seen = ObservedAddress {
            last_request: START + after,
            last_authenticated: Some(START + after),
            signed: 1 + u32::try_from(after).unwrap(),
            same_packet: 1,
            retry_interval_ms: Some(19_960),
            ..ObservedAddress::default()
        };
        Observed {
            addresses: [(IpAddr::from(DC1), seen)].into(),
            longest_wait_ms: Some(39_200),
            probes: [("fakeusername".to_owned(), START), ("jane".to_owned(), START)].into(),
            ..Observed::default()
        }
    }

    fn show(pods: &[Observed], before: Option<&ObservedDirectory>, after: u64) -> Option<ObservedDirectory> {
        let reports: Vec<PodReport<'_>> = pods
            .iter()
            .map(|observed| PodReport {
                observed,
                configured: true,
            })
            .collect();
        let names = ["CORP\\FakeUserName".to_owned()];
        summary(&reports, &clients(), &names, before, at(START + after).unwrap())
    }

    #[test]
    fn reports_of_several_pods_are_one_and_name_no_user() {
        let mut other = report(60);
        other.moved = 3;
        let seen = other.addresses.get_mut(&IpAddr::from(DC1)).unwrap();
        seen.unsigned = 4;
        seen.new_identifier = 1;
        let shown = show(&[report(0), other], None, 60).unwrap();
        assert_eq!(shown.signs, Some(ObservedSigning::Sometimes));
        assert_eq!(shown.retries, Some(ObservedRetries::Mixed));
        assert_eq!(shown.moves_to_another_address, Some(true));
        assert_eq!(shown.retry_interval_milliseconds, Some(19_960));
        assert_eq!(shown.longest_wait_seconds, Some(40));
        assert_eq!(shown.probe_users, ["fakeusername"]);
        let times: Vec<Option<u64>> = shown
            .addresses
            .iter()
            .map(|each| Some(u64::try_from(each.last_request.as_ref()?.0.as_second()).unwrap()))
            .collect();
        assert_eq!(times, [Some(START + 60), None]);
    }

    #[test]
    fn nothing_is_shown_until_the_directory_asks() {
        assert_eq!(show(&[], None, 0), None);
        assert_eq!(show(&[Observed::default()], None, 0), None);
    }

    #[test]
    fn logins_of_ten_minutes_write_the_status_once() {
        let first = show(&[report(0)], None, 0).unwrap();
        for after in [1, 30, 300, 599] {
            assert_eq!(
                show(&[report(after)], Some(&first), after).as_ref(),
                Some(&first),
                "{after}"
            );
        }
        assert_ne!(show(&[report(600)], Some(&first), 600).unwrap(), first);
    }

    #[test]
    fn a_pod_that_restarts_forgets_and_the_status_does_not() {
        let first = show(&[report(0)], None, 0).unwrap();
        assert_eq!(show(&[Observed::default()], Some(&first), 900).unwrap(), first);
        assert_eq!(show(&[], Some(&first), 900).unwrap(), first);
    }

    #[test]
    fn requests_under_a_wrong_secret_are_counted_coarsely_and_for_an_hour() {
        let failing = |count, last| {
            let mut report = report(last);
            let seen = report.addresses.get_mut(&IpAddr::from(DC1)).unwrap();
            seen.failed = count;
            seen.failing_since = (count > 0).then_some(START);
            seen.last_failed = Some(START + last);
            report
        };
        let count = |shown: &ObservedDirectory| shown.addresses[0].wrong_secret_requests;
        let first = show(&[failing(7, 0), failing(5, 0)], None, 0).unwrap();
        assert_eq!(count(&first), 10);
        let more = show(&[failing(99, 10)], Some(&first), 10).unwrap();
        assert_eq!(more, first, "more of the same is no news");
        let good = show(&[failing(0, 10)], Some(&more), 60).unwrap();
        assert_eq!(good, first, "a good request in between is none either");
        assert_eq!(count(&show(&[failing(0, 10)], Some(&good), 4000).unwrap()), 0);
    }

    #[test]
    fn a_clock_that_is_ahead_shows_no_time_to_come() {
        let shown = show(&[report(5000)], None, 0).unwrap();
        assert_eq!(
            shown.addresses[0].last_request,
            Some(time::floor(at(START).unwrap()))
        );
    }
}
