//! The addresses of a load balancer: current ones, unconfirmed ones and missing ones.
//!
//! Each write blocks logins, so an address of a host name joins once two answers had it and it has settled; where nothing of
//! this RadiusProxy is registered yet, as soon as a second answer is no longer than the first. One that the answers no longer
//! have leaves with the next write, or, like a pod that is gone, after a while by a write of its own.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::dns::{HostName, LoadBalancer, NamedAddress};
use crate::observed::NetworkType;
use crate::time::later;

/// The longest list that is registered.
const MOST_REGISTERED: usize = 16;
/// How long it counts that the answers of a name are parts of a longer list.
const ROTATES_FOR: Duration = Duration::from_secs(3600);

/// The current state of a load balancer.
pub(super) struct Balancer<'a> {
    pub(super) seen: &'a LoadBalancer,
    /// Addresses at AWS that this RadiusProxy applied. Addresses that somebody else registered aren't kept.
    pub(super) own: &'a [&'a String],
    /// The families that the directory has.
    pub(super) network: NetworkType,
    pub(super) settle: Duration,
    /// How long to wait for a missing address of a name whose answers are parts of a longer list.
    pub(super) removal_after: Duration,
    pub(super) now: Timestamp,
}

/// The addresses to register.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) addresses: Vec<IpAddr>,
    /// When time alone changes this.
    pub(super) again: Option<Timestamp>,
}

impl Listed {
    /// Takes an address from `from` on.
    fn from(&mut self, address: IpAddr, from: Timestamp, now: Timestamp) {
        if from <= now {
            self.addresses.push(address);
        } else {
            self.wait(from);
        }
    }

    /// Keeps an address until `end`.
    fn until(&mut self, address: IpAddr, end: Timestamp, now: Timestamp) {
        if now < end {
            self.addresses.push(address);
            self.wait(end);
        }
    }

    fn wait(&mut self, time: Timestamp) {
        self.again = Some(self.again.map_or(time, |again| again.min(time)));
    }
}

impl Balancer<'_> {
    /// What should be registered now.
    pub(super) fn listed(&self) -> Listed {
        let mut listed = Listed::default();
        listed.addresses.extend(&self.seen.addresses);
        for name in &self.seen.names {
            for each in &name.addresses {
                match each.absent {
                    None => self.there(name, each, &mut listed),
                    Some(absent) => self.missed(name, each, absent, &mut listed),
                }
            }
        }
        self.unheard_of(&mut listed);
        listed.addresses.retain(|address| self.network.has(address));
        // In one order and without doubles, however they came; what is registered leaves last.
        let key = |address: &IpAddr| (!self.is_registered(*address), *address);
        listed.addresses.sort_by_key(key);
        listed.addresses.dedup();
        listed.addresses.truncate(MOST_REGISTERED);
        listed.addresses.sort();
        listed
    }

    /// Since when a registered address is in no answer; `None` when nothing is known of it.
    pub(super) fn absent_since(&self, address: &str) -> Option<Timestamp> {
        let address: IpAddr = address.parse().ok()?;
        let all = self.seen.names.iter().flat_map(|name| &name.addresses);
        all.filter(|each| each.address == address)
            .filter_map(|each| each.absent)
            .max()
    }

    /// Answers have it.
    fn there(&self, name: &HostName, each: &NamedAddress, listed: &mut Listed) {
        if self.is_registered(each.address) {
            listed.addresses.push(each.address);
        } else if self.own.is_empty() {
            let mut there = name.addresses.iter().filter(|each| each.absent.is_none());
            if there.all(|each| each.confirmed) {
                listed.addresses.push(each.address);
            } else if let Some(since) = name.since {
                // No two answers may ever be the same: then it is what the last one has.
                listed.from(each.address, later(since, self.settle), self.now);
            }
        } else if each.confirmed {
            listed.from(each.address, later(each.since, self.settle), self.now);
        }
    }

    /// Answers had it.
    fn missed(&self, name: &HostName, each: &NamedAddress, absent: Timestamp, listed: &mut Listed) {
        if !self.is_registered(each.address) {
            return;
        }
        let rotates = name
            .came_back
            .is_some_and(|time| self.now < later(time, ROTATES_FOR));
        if !each.confirmed {
            listed.addresses.push(each.address);
        } else if rotates {
            listed.until(each.address, later(absent, self.removal_after), self.now);
        } else {
            listed.until(each.address, later(absent, self.settle), self.now);
        }
    }

    /// What is registered and was in no answer that this process had: it had none yet, or few, or the name is another.
    fn unheard_of(&self, listed: &mut Listed) {
        let names = &self.seen.names;
        let heard_of = |address: &IpAddr| {
            let mut all = names.iter().flat_map(|name| &name.addresses);
            all.any(|each| each.address == *address)
        };
        let registered = self.own.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        let unheard: Vec<IpAddr> = registered.filter(|address| !heard_of(address)).collect();
        let can_tell = names.iter().map(|name| {
            let confirmed = name.addresses.iter().any(|each| each.confirmed);
            name.since
                .filter(|_| confirmed)
                .map(|since| later(since, self.settle))
        });
        for address in unheard {
            match can_tell.clone().collect::<Option<Vec<_>>>() {
                // While a name has not been answered, nobody knows whose address this is.
                None => listed.addresses.push(address),
                Some(times) => {
                    if let Some(last) = times.into_iter().max() {
                        listed.until(address, last, self.now);
                    }
                }
            }
        }
    }

    fn is_registered(&self, address: IpAddr) -> bool {
        let text = address.to_string();
        self.own.contains(&&text)
    }
}
