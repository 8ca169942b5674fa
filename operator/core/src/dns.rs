//! Where a load balancer is: what DNS has said of its host names, and for how long.
//!
//! An answer is not the truth: servers of DNS rotate addresses, give a part of a long list, answer with an error, or not at
//! all. So what one answer says counts once another has said the same, and no failure takes an address away.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::time;

/// Addresses that are taken from an answer for one family, the lowest ones.
const MOST_IN_ANSWER: usize = 16;
/// Addresses that are remembered of one name.
const MOST_REMEMBERED: usize = 64;
/// How long an address is remembered that is in no answer any more.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// When to look a name up again after a change or a failure.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(15);

/// Where a load balancer is, as its Service and DNS say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    /// The addresses that the Service has.
    pub addresses: Vec<IpAddr>,
    /// The host names that the Service has.
    pub names: Vec<HostName>,
}

impl LoadBalancer {
    /// Whether the Service has nothing yet, or is not there.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    /// Whether an address of it is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.addresses.is_empty() || self.names.iter().any(|name| name.since.is_some())
    }
}

/// A host name of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without a dot at its end.
    pub name: String,
    /// Since when there are answers with addresses; `None` while there was none.
    pub since: Option<Timestamp>,
    /// Every address that an answer had in the last hour, sorted.
    pub addresses: Vec<NamedAddress>,
    /// When an address was last there again that had been in no answer for a while: of such a name the answers are parts.
    pub came_back: Option<Timestamp>,
    /// Why the last look brought no address.
    pub failure: Option<NameFailure>,
}

/// An address of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// The address, IPv4-mapped ones as IPv4.
    pub address: IpAddr,
    /// Since when every answer has it; where `absent`, since when every answer had it.
    pub since: Timestamp,
    /// Since when no answer has it.
    pub absent: Option<Timestamp>,
    /// Whether a second answer said the same: there, or not there.
    pub confirmed: bool,
}

/// A lookup without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameFailure {
    /// Why.
    pub why: NoAddress,
    /// When lookups began to fail, for this or another reason.
    pub since: Timestamp,
}

/// Why a lookup returned no address; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAddress {
    /// NXDOMAIN (RFC 1035 section 4.1.1, RCODE 3).
    NoSuchName,
    /// The name exists, without an address.
    NoRecord,
    /// No name server answered in time.
    NoAnswer,
    /// The name servers answered with an error, such as SERVFAIL or REFUSED.
    ServerError,
}

impl NoAddress {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchName => "no_such_name",
            Self::NoRecord => "no_record",
            Self::NoAnswer => "no_answer",
            Self::ServerError => "server_error",
        }
    }
}

/// The result of a lookup: the addresses of each family, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of the A records.
    pub v4: Result<BTreeSet<IpAddr>, NoAddress>,
    /// Of the AAAA records.
    pub v6: Result<BTreeSet<IpAddr>, NoAddress>,
}

impl Answer {
    /// Why it has no address at all; what can pass by itself first.
    #[must_use]
    pub fn failure(&self) -> Option<NoAddress> {
        let families = [&self.v4, &self.v6];
        if families.iter().any(|f| f.as_ref().is_ok_and(|a| !a.is_empty())) {
            return None;
        }
        let why = |f: &&Result<BTreeSet<IpAddr>, NoAddress>| f.as_ref().err().copied();
        let all = || families.iter().filter_map(why);
        let passing = |why: &NoAddress| matches!(why, NoAddress::NoAnswer | NoAddress::ServerError);
        let one = all().find(passing).or_else(|| all().next());
        Some(one.unwrap_or(NoAddress::NoRecord))
    }

    /// Without what no directory can reach: a name server that blocks a name answers with such an address.
    fn of_use(&self) -> Self {
        let reachable = |address: &IpAddr| match address {
            IpAddr::V4(v4) => {
                !(v4.is_unspecified()
                    || v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.is_broadcast())
            }
            IpAddr::V6(v6) => {
                !(v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast())
            }
        };
        let kept = |family: &Result<BTreeSet<IpAddr>, NoAddress>| {
            let addresses = family.as_ref().map_err(|why| *why)?;
            Ok(addresses
                .iter()
                .map(IpAddr::to_canonical)
                .filter(reachable)
                .collect())
        };
        Self {
            v4: kept(&self.v4),
            v6: kept(&self.v6),
        }
    }
}

impl HostName {
    /// A name that was not looked up yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.trim_end_matches('.').to_ascii_lowercase(),
            since: None,
            addresses: Vec::new(),
            came_back: None,
            failure: None,
        }
    }

    /// Takes the result of a lookup. Returns whether it changed anything.
    pub fn take(&mut self, answer: &Answer, now: Timestamp) -> bool {
        let before = self.clone();
        let answer = answer.of_use();
        if let Some(why) = answer.failure() {
            let since = self.failure.map_or(now, |failure| failure.since);
            self.failure = Some(NameFailure { why, since });
            return *self != before;
        }
        self.failure = None;
        self.since.get_or_insert(now);
        let mut given = BTreeSet::new();
        for family in [&answer.v4, &answer.v6].into_iter().flatten() {
            given.extend(family.iter().take(MOST_IN_ANSWER));
        }
        let said = |address: &IpAddr| {
            let family = if address.is_ipv4() { &answer.v4 } else { &answer.v6 };
            // A family of which nobody answered is as it was.
            !matches!(family, Err(NoAddress::NoAnswer | NoAddress::ServerError))
        };
        for known in &mut self.addresses {
            let is_given = given.remove(&known.address);
            if is_given && known.absent.take().is_some() {
                self.came_back = Some(now);
                (known.since, known.confirmed) = (now, false);
            } else if is_given || known.absent.is_some() {
                known.confirmed |= is_given || said(&known.address);
            } else if said(&known.address) {
                (known.absent, known.confirmed) = (Some(now), false);
            }
        }
        self.addresses
            .extend(given.into_iter().map(|address| NamedAddress {
                address,
                since: now,
                absent: None,
                confirmed: false,
            }));
        self.forget(now);
        *self != before
    }

    /// When to look again: `interval`, or sooner where another answer has to confirm the last.
    #[must_use]
    pub fn look_again(&self, interval: Duration) -> Duration {
        let settled = self.failure.is_none() && self.addresses.iter().all(|each| each.confirmed);
        if settled {
            interval
        } else {
            interval.min(UNSETTLED_INTERVAL)
        }
    }

    fn forget(&mut self, now: Timestamp) {
        let old = |absent: Timestamp| absent.saturating_add(FORGET_AFTER).is_ok_and(|end| end <= now);
        self.addresses.retain(|each| !each.absent.is_some_and(old));
        // Those that are there come first, then those that left last.
        let left = |each: &NamedAddress| each.absent.map(|absent| time::until(absent, now));
        self.addresses.sort_by_key(|each| (left(each), each.address));
        self.addresses.truncate(MOST_REMEMBERED);
        self.addresses.sort_by_key(|each| each.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn v4(addresses: &[&str]) -> Answer {
        Answer {
            v4: Ok(set(addresses)),
            v6: Ok(BTreeSet::new()),
        }
    }

    fn failed(why: NoAddress) -> Answer {
        Answer {
            v4: Err(why),
            v6: Err(why),
        }
    }

    fn present(host: &HostName) -> Vec<String> {
        let there = host.addresses.iter().filter(|each| each.absent.is_none());
        there.map(|each| each.address.to_string()).collect()
    }

    #[test]
    fn the_same_answer_in_another_order_is_no_news_once_it_is_confirmed() {
        let mut host = HostName::new("NLB.example.com.");
        assert_eq!(host.name, "nlb.example.com");
        assert!(host.take(&v4(&["10.0.0.2", "10.0.0.1"]), at(0)));
        assert_eq!(host.look_again(60 * S), UNSETTLED_INTERVAL);
        assert!(host.take(&v4(&["10.0.0.1", "10.0.0.2"]), at(15)));
        assert!(!host.take(&v4(&["10.0.0.2", "10.0.0.1"]), at(75)));
        assert_eq!(host.look_again(60 * S), 60 * S);
        assert_eq!(host.look_again(5 * S), 5 * S);
        assert_eq!(present(&host), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_failed_or_empty_look_takes_no_address_away_and_keeps_the_time_of_the_first() {
        let mut host = HostName::new("a");
        host.take(&v4(&["10.0.0.1"]), at(0));
        assert!(host.take(&failed(NoAddress::NoAnswer), at(60)));
        assert!(!host.take(&failed(NoAddress::NoAnswer), at(75)));
        assert!(host.take(&v4(&[]), at(90)));
        let failure = host.failure.unwrap();
        assert_eq!((failure.why, failure.since), (NoAddress::NoRecord, at(60)));
        assert_eq!(present(&host), ["10.0.0.1"]);
        host.take(&v4(&["10.0.0.1"]), at(105));
        assert_eq!(host.failure, None);
    }

    #[test]
    fn an_address_that_leaves_and_returns_is_told_with_its_times() {
        let mut host = HostName::new("a");
        host.take(&v4(&["10.0.0.1", "10.0.0.2"]), at(0));
        host.take(&v4(&["10.0.0.1"]), at(60));
        assert_eq!(host.addresses[1].absent, Some(at(60)));
        assert!(!host.addresses[1].confirmed);
        host.take(&v4(&["10.0.0.1"]), at(75));
        assert!(host.addresses[1].confirmed && host.came_back.is_none());
        host.take(&v4(&["10.0.0.1", "10.0.0.2"]), at(90));
        assert_eq!((host.addresses[1].since, host.came_back), (at(90), Some(at(90))));
        host.take(&v4(&["10.0.0.1"]), at(100));
        host.take(&v4(&["10.0.0.1"]), at(100 + 3600));
        assert_eq!(host.addresses.len(), 1);
    }

    #[test]
    fn a_family_of_which_nobody_answers_stays_as_it_was() {
        let mut host = HostName::new("a");
        let both = Answer {
            v4: Ok(set(&["10.0.0.1"])),
            v6: Ok(set(&["fd00::1"])),
        };
        host.take(&both, at(0));
        let half = Answer {
            v6: Err(NoAddress::ServerError),
            ..both.clone()
        };
        host.take(&half, at(60));
        assert_eq!((present(&host).len(), host.failure), (2, None));
        host.take(&v4(&["10.0.0.1"]), at(120));
        assert_eq!(present(&host), ["10.0.0.1"]);
        assert_eq!(
            failed(NoAddress::NoSuchName).failure(),
            Some(NoAddress::NoSuchName)
        );
        assert_eq!(
            Answer {
                v4: Ok(set(&[])),
                ..half
            }
            .failure(),
            Some(NoAddress::ServerError)
        );
    }

    #[test]
    fn an_address_that_no_directory_can_reach_is_none() {
        let mut host = HostName::new("a");
        host.take(&v4(&["10.0.0.1", "127.0.0.1", "0.0.0.0"]), at(0));
        assert_eq!(present(&host), ["10.0.0.1"]);
        for blocked in [
            "0.0.0.0",
            "127.0.0.53",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            host.take(&v4(&[blocked]), at(60));
            assert_eq!(
                host.failure.map(|failure| failure.why),
                Some(NoAddress::NoRecord),
                "{blocked}"
            );
        }
        for blocked in ["::", "::1", "fe80::1", "ff02::1"] {
            let answer = Answer {
                v4: Ok(BTreeSet::new()),
                v6: Ok(set(&[blocked])),
            };
            host.take(&answer, at(60));
            assert!(host.failure.is_some(), "{blocked}");
        }
        assert_eq!(present(&host), ["10.0.0.1"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut host = HostName::new("a");
        for second in 0..40_u8 {
            let many: Vec<String> = (0..40).map(|n| format!("10.0.{second}.{n}")).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            host.take(&v4(&many), at(second.into()));
            assert_eq!(present(&host).len(), MOST_IN_ANSWER);
        }
        assert_eq!(host.addresses.len(), MOST_REMEMBERED);
    }
}
