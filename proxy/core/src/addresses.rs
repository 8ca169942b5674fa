//! What is known of each client address: which secret it proved, whether it signs, how much it asks.

use std::net::IpAddr;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::limits::{Bucket, Rate};
use crate::message_authenticator::Fingerprint;

/// Addresses that proved a secret.
const PROVED: usize = 65_536;
/// Addresses that proved none: anybody can write a source address, so they get little room, and their own.
const UNPROVED: usize = 4_096;

/// What an address has shown. Only requests that proved a secret change it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// It signs its logins with Message-Authenticator.
    pub(crate) signs: bool,
    /// Whether its first login had Proxy-State and no Message-Authenticator: an old proxy, which isn't made to sign. `None`
    /// before its first login.
    pub(crate) unsigned_proxy: Option<bool>,
    /// The secret it proved last.
    pub(crate) secret: Option<Fingerprint>,
}

pub(crate) struct Addresses {
    proved: Bounded<IpAddr, (Known, Bucket)>,
    unproved: Bounded<IpAddr, Bucket>,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        Self {
            proved: Bounded::new(PROVED),
            unproved: Bounded::new(UNPROVED),
        }
    }

    pub(crate) fn known(&self, address: IpAddr) -> Option<Known> {
        self.proved.get(&address).map(|(known, _)| *known)
    }

    /// Takes one from the rate of an address that proved a secret. `false` when it has none left. `evicted` is told
    /// when another address had to be forgotten.
    pub(crate) fn proved(&mut self, address: IpAddr, now: Duration, rate: Rate, evicted: &mut bool) -> bool {
        if let Some((_, bucket)) = self.proved.touch(&address) {
            return bucket.take(now, rate);
        }
        let mut bucket = Bucket::default();
        let granted = bucket.take(now, rate);
        *evicted = self.proved.insert(address, (Known::default(), bucket)).is_some();
        granted
    }

    /// Notes what a request shows of an address that proved a secret.
    pub(crate) fn learn(&mut self, address: IpAddr, shown: Known) {
        if let Some((known, _)) = self.proved.touch(&address) {
            known.signs |= shown.signs;
            known.unsigned_proxy = known.unsigned_proxy.or(shown.unsigned_proxy);
            known.secret = shown.secret;
        }
    }

    /// Notes that the address sent a signed login of a user whom the provider knows.
    pub(crate) fn signs(&mut self, address: IpAddr) {
        if let Some((known, _)) = self.proved.touch(&address) {
            known.signs = true;
        }
    }

    /// Takes one from the rate of an address that proved nothing. `evicted` as above.
    pub(crate) fn unproved(
        &mut self,
        address: IpAddr,
        now: Duration,
        rate: Rate,
        evicted: &mut bool,
    ) -> bool {
        if let Some(bucket) = self.unproved.touch(&address) {
            return bucket.take(now, rate);
        }
        let mut bucket = Bucket::default();
        let granted = bucket.take(now, rate);
        *evicted = self.unproved.insert(address, bucket).is_some();
        granted
    }
}
