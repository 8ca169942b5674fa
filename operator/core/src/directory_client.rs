//! AWS as a RADIUS client: what the pods have observed of it, merged. All are plain functions of the reports and the time.
//!
//! [`read`] parses one pod's report, [`is_news`] says whether a newer one is worth another look, [`shown`] is the status,
//! [`warnings`] says where it disagrees with the spec, and [`mismatch`] tells a shared secret that was changed at AWS.

mod mismatch;
mod summary;
mod warnings;

use std::time::Duration;

use jiff::Timestamp;
use proxy_config::ConfigDigest;
use proxy_config::observed::{MAX_BYTES, Observed};

use crate::observed::RolloutInput;

pub(crate) use mismatch::mismatch;
pub(crate) use summary::summary;
pub(crate) use warnings::{Context, warnings};

/// How far the clocks of two nodes, or of a node and the operator, may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How far behind a shown time of a last request may be.
const STEP: Duration = Duration::from_secs(600);

/// Why a report cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is longer than a report can be.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not what a proxy writes.
    #[error("it is not the JSON of a report")]
    Malformed,
}

/// Parses the annotation of a pod's Lease.
///
/// # Errors
/// The text is too long, or not a report.
pub fn read(text: &str) -> Result<Observed, Unreadable> {
    if text.len() > MAX_BYTES {
        return Err(Unreadable::TooLong);
    }
    serde_json::from_str(text).map_err(|_| Unreadable::Malformed)
}

/// Whether a report says something that changes a decision or the status. Most reports only count a few more logins.
#[must_use]
pub fn is_news(before: Option<&Observed>, after: Option<&Observed>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => before != after && coarse(before) != coarse(after),
        _ => before != after,
    }
}

/// A report without what changes with every login.
fn coarse(observed: &Observed) -> Observed {
    let step = STEP.as_secs();
    let seen = |count: u32| count.min(1);
    let mut coarse = observed.clone();
    coarse.moved = seen(coarse.moved);
    coarse.longest_wait_ms = coarse.longest_wait_ms.map(|wait| power(2, wait));
    for address in coarse.addresses.values_mut() {
        address.last_request /= step;
        // While requests fail, it matters for how long they do.
        let each = if address.failing_since.is_some() { 10 } else { step };
        for time in [&mut address.last_authenticated, &mut address.last_failed] {
            *time = time.map(|time| time / each);
        }
        address.failed = power(10, address.failed);
        address.retry_interval_ms = address.retry_interval_ms.map(|interval| interval / 500);
        for count in [
            &mut address.signed,
            &mut address.unsigned,
            &mut address.same_packet,
            &mut address.new_authenticator,
            &mut address.new_identifier,
        ] {
            *count = power(10, *count);
        }
    }
    coarse
}

/// The highest power of `base` that is at most `number`; 0 of 0.
const fn power(base: u32, number: u32) -> u32 {
    match number.checked_ilog(base) {
        Some(exponent) => base.pow(exponent),
        None => 0,
    }
}

/// What one pod reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodReport<'a> {
    pub(crate) observed: &'a Observed,
    /// Whether the pod runs the current configuration: another one may lack the current shared secret.
    pub(crate) configured: bool,
}

/// The reports of the pods there are.
pub(crate) fn reports<'a>(input: &'a RolloutInput, digest: Option<&ConfigDigest>) -> Vec<PodReport<'a>> {
    input
        .pods
        .iter()
        .filter_map(|pod| input.reports.get(&pod.uid))
        .filter_map(|report| {
            Some(PodReport {
                observed: report.observed.as_ref()?,
                configured: digest.is_some_and(|digest| report.digest == *digest),
            })
        })
        .collect()
}

/// A time as reports have it.
fn at(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proxy_config::observed::ObservedAddress;

    use super::*;

    fn report(change: impl FnOnce(&mut ObservedAddress)) -> Observed {
        let mut address = ObservedAddress {
            last_request: 1_800_000_000,
            last_authenticated: Some(1_800_000_000),
            signed: 20,
            ..ObservedAddress::default()
        };
        change(&mut address);
        Observed {
            addresses: [(IpAddr::from([10, 0, 0, 10]), address)].into(),
            ..Observed::default()
        }
    }

    #[test]
    fn a_report_is_read_within_its_bound_and_nothing_else_is() {
        let text = serde_json::to_string(&report(|_| ())).unwrap();
        assert_eq!(read(&text), Ok(report(|_| ())));
        assert_eq!(read("{}"), Ok(Observed::default()));
        assert_eq!(read(""), Err(Unreadable::Malformed));
        assert_eq!(read(r#"{"moved": -1}"#), Err(Unreadable::Malformed));
        assert_eq!(read(r#"{"addresses": {"jane": {}}}"#), Err(Unreadable::Malformed));
        let long = format!("{{}}{}", " ".repeat(MAX_BYTES));
        assert_eq!(read(&long), Err(Unreadable::TooLong));
    }

    #[test]
    fn one_more_login_is_no_news_and_a_failing_one_is() {
        let before = report(|_| ());
        let news = |change: fn(&mut ObservedAddress)| is_news(Some(&before), Some(&report(change)));
        assert!(!news(|address| {
            address.last_request += 30;
            address.last_authenticated = Some(1_800_000_030);
            address.signed = 25;
        }));
        assert!(news(|address| address.last_request += 900));
        assert!(news(|address| address.unsigned = 1));
        assert!(news(|address| address.same_packet = 1));
        assert!(news(|address| {
            address.failing_since = Some(1_800_000_001);
            address.last_failed = Some(1_800_000_001);
            address.failed = 1;
        }));
        assert!(is_news(None, Some(&before)) && is_news(Some(&before), None));
    }

    #[test]
    fn a_probe_is_news_since_it_tells_what_failed_settings_did_not_fail_for() {
        let probed = |at: u64| Observed {
            probes: [("fakeusername".to_owned(), at)].into(),
            ..report(|_| ())
        };
        assert!(is_news(
            Some(&probed(1_800_000_001)),
            Some(&probed(1_800_000_002))
        ));
    }

    #[test]
    fn while_requests_fail_each_ten_seconds_are_news() {
        let failing = |last: u64| {
            report(|address| {
                address.failing_since = Some(1_800_000_000);
                address.last_failed = Some(last);
                address.failed = 3;
            })
        };
        let first = failing(1_800_000_001);
        assert!(!is_news(Some(&first), Some(&failing(1_800_000_002))));
        assert!(is_news(Some(&first), Some(&failing(1_800_000_011))));
    }
}
