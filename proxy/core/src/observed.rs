//! How AWS Directory Service behaves as a RADIUS client, observed from the requests of clients with `directory = true`. AWS
//! documents little of it; the result appears in the directory's status.
//!
//! The observer decides nothing about logins, and it is bounded. Names and texts are kept as one keyed digest each.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proxy_config::observed::{MAX_ADDRESSES, Observed, ObservedAddress};
use radius::core::rfc2865;

use crate::bounded::Bounded;
use crate::counters::{DropReason, RequestCode};
use crate::duplicates::Key;
use crate::packet::{Request, RequestKind};
use crate::time::Now;
use crate::verify::{Proof, Verified};

/// Unanswered logins that are watched for retries. A busy directory has fewer of them at once. Retries of a forgotten login
/// are not observed.
const LOGINS: usize = 1_024;
/// Names of probes.
const PROBES: usize = 16;
/// Packets closer together than this are no retries: the client asks several servers at once, or the network delivered a
/// packet twice. `RadiusTimeout` is at least one second.
const TOGETHER: Duration = Duration::from_millis(250);

/// A login among the observed ones: a digest of its user and, where it can be read, of what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ObservedLogin(u64);

/// How often what is observed has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservedChanges {
    /// All changes.
    pub any: u64,
    /// Changes that are worth a report at once: the first request of an address, a secret that begins to fail or to work
    /// again, another way of signing or retrying, a probe.
    pub notable: u64,
}

pub(crate) struct Observer {
    /// Addresses that have authenticated themselves.
    authenticated: Bounded<IpAddr, ObservedAddress>,
    /// The others, in their own room: a source address can be forged.
    others: Bounded<IpAddr, ObservedAddress>,
    logins: Bounded<u64, Login>,
    digests: RandomState,
    /// Observations that belong to no single address.
    total: Observed,
    changes: ObservedChanges,
}

/// A login that may be retried: its first packet, and its newest.
struct Login {
    first: Duration,
    last: Duration,
    from: SocketAddr,
    identifier: u8,
    authenticator: [u8; 16],
    has_moved: bool,
    is_answered: bool,
}

/// The part of an address's observations whose changes are notable.
type NotableState = (bool, [bool; 6]);

impl Observer {
    pub(crate) fn new() -> Self {
        Self {
            authenticated: Bounded::new(MAX_ADDRESSES),
            others: Bounded::new(MAX_ADDRESSES),
            logins: Bounded::new(LOGINS),
            digests: RandomState::new(),
            total: Observed::default(),
            changes: ObservedChanges::default(),
        }
    }

    /// A directory's datagram, before anything is decided about it. `longest` is the longest time that a login takes.
    pub(crate) fn request(
        &mut self,
        now: Now,
        from: SocketAddr,
        code: RequestCode,
        request: &Result<Verified<Request<'_>>, DropReason>,
        longest: Duration,
    ) -> Option<ObservedLogin> {
        let source = from.ip().to_canonical();
        let was_authenticated = self.authenticated.get(&source).is_some();
        let proof = request.as_ref().ok().map(Verified::proof);
        let is_authenticated = proof.is_some_and(|proof| proof != Proof::None);
        let mut address = self
            .authenticated
            .remove(&source)
            .or_else(|| self.others.remove(&source));
        let before = address.as_ref().map(notable_state);
        let observed = address.get_or_insert_default();
        let access = code == RequestCode::AccessRequest;
        note(
            observed,
            now.unix.as_secs(),
            access,
            proof,
            request.as_ref().err(),
        );
        let had_moved = self.total.moved > 0;
        let login = request
            .as_ref()
            .ok()
            .and_then(|request| self.packet(now.monotonic, from, request, longest, observed));
        let is_notable = before != Some(notable_state(observed)) || had_moved != (self.total.moved > 0);
        if let Some(address) = address {
            let room = if is_authenticated || was_authenticated {
                &mut self.authenticated
            } else {
                &mut self.others
            };
            room.insert(source, address);
        }
        self.changed(is_notable);
        login
    }

    /// A probe with a known name.
    pub(crate) fn probe(&mut self, now: Now, name: &str) {
        let probes = &mut self.total.probes;
        if probes.len() < PROBES || probes.contains_key(name) {
            probes.insert(name.to_owned(), now.unix.as_secs());
            self.changed(true);
        }
    }

    /// The packet with this key was answered. From now on only a retransmission of it is a retry of the login.
    pub(crate) fn answered(&mut self, login: Option<ObservedLogin>, key: &Key) {
        let Some(ObservedLogin(digest)) = login else {
            return;
        };
        if let Some(newest) = self.logins.touch(&digest)
            && newest.from == key.from
            && newest.identifier == key.identifier
        {
            newest.is_answered = true;
        }
    }

    /// Forgets addresses that belong to no directory any more, and names that are no longer probes'.
    pub(crate) fn retain(&mut self, is_directory: impl Fn(IpAddr) -> bool, is_probe: impl Fn(&str) -> bool) {
        let mut forgets = false;
        for room in [&mut self.authenticated, &mut self.others] {
            let gone: Vec<IpAddr> = room
                .iter()
                .map(|(address, _)| *address)
                .filter(|address| !is_directory(*address))
                .collect();
            forgets |= !gone.is_empty();
            for address in gone {
                room.remove(&address);
            }
        }
        let probes = self.total.probes.len();
        self.total.probes.retain(|name, _| is_probe(name));
        if forgets || self.total.probes.len() < probes {
            self.changed(false);
        }
    }

    pub(crate) fn changes(&self) -> ObservedChanges {
        self.changes
    }

    /// Everything observed. If there are too many addresses, the authenticated ones come first, then the most recent.
    pub(crate) fn report(&self) -> Observed {
        let mut others: Vec<_> = self.others.iter().collect();
        others.sort_by_key(|(_, address)| std::cmp::Reverse(address.last_request));
        let addresses = self.authenticated.iter().chain(others).take(MAX_ADDRESSES);
        Observed {
            addresses: addresses
                .map(|(address, observed)| (*address, observed.clone()))
                .collect(),
            ..self.total.clone()
        }
    }

    /// Observes a valid packet of a login.
    fn packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        request: &Verified<Request<'_>>,
        longest: Duration,
        address: &mut ObservedAddress,
    ) -> Option<ObservedLogin> {
        let packet = request.packet();
        let user = packet.value(rfc2865::USER_NAME_TYPE)?;
        if packet.kind != RequestKind::Access {
            return None;
        }
        let digest = self.digests.hash_one((user, request.pap()));
        let fresh = Login {
            first: now,
            last: now,
            from,
            identifier: packet.identifier,
            authenticator: packet.authenticator,
            has_moved: false,
            is_answered: false,
        };
        match self.logins.touch(&digest) {
            Some(login) if goes_on(login, &fresh, longest) => {
                let interval = now.saturating_sub(login.last);
                if interval >= TOGETHER {
                    retried(login, &fresh, interval, address, &mut self.total);
                }
            }
            Some(login) => *login = fresh,
            None => {
                self.logins.insert(digest, fresh);
            }
        }
        Some(ObservedLogin(digest))
    }

    fn changed(&mut self, is_notable: bool) {
        self.changes.any = self.changes.any.wrapping_add(1);
        if is_notable {
            self.changes.notable = self.changes.notable.wrapping_add(1);
        }
    }
}

/// Notes a datagram of an address: with `proof` if it was verified, with `dropped` if it wasn't.
fn note(
    address: &mut ObservedAddress,
    now: u64,
    is_access: bool,
    proof: Option<Proof>,
    dropped: Option<&DropReason>,
) {
    address.last_request = now;
    let is_wrong = matches!(
        dropped,
        Some(DropReason::BadSecret | DropReason::BadMessageAuthenticator)
    );
    if is_wrong {
        address.failing_since.get_or_insert(now);
        address.last_failed = Some(now);
        address.failed = address.failed.saturating_add(1);
        return;
    }
    if proof.is_some_and(|proof| proof != Proof::None) {
        address.last_authenticated = Some(now);
        address.failing_since = None;
        address.failed = 0;
    }
    let is_unsigned = matches!(
        dropped,
        Some(DropReason::NoMessageAuthenticator | DropReason::UnprovenProxyState)
    );
    match proof {
        Some(Proof::MessageAuthenticator) if is_access => address.signed = address.signed.saturating_add(1),
        Some(Proof::Pap | Proof::None) => address.unsigned = address.unsigned.saturating_add(1),
        _ if is_access && is_unsigned => address.unsigned = address.unsigned.saturating_add(1),
        _ => {}
    }
}

fn is_same_packet(login: &Login, packet: &Login) -> bool {
    login.from == packet.from
        && login.identifier == packet.identifier
        && login.authenticator == packet.authenticator
}

/// Whether the packet is a further one of the login, and not the user's next login.
fn goes_on(login: &Login, packet: &Login, longest: Duration) -> bool {
    packet.first.saturating_sub(login.first) <= longest
        && (!login.is_answered || is_same_packet(login, packet))
}

/// Notes a further packet of a login: a retry, or the login that goes on at another address of the directory.
fn retried(
    login: &mut Login,
    packet: &Login,
    interval: Duration,
    address: &mut ObservedAddress,
    total: &mut Observed,
) {
    if login.from.ip() != packet.from.ip() {
        total.moved = total.moved.saturating_add(u32::from(!login.has_moved));
        login.has_moved = true;
    } else {
        let count = if is_same_packet(login, packet) {
            &mut address.same_packet
        } else if login.from == packet.from && login.identifier == packet.identifier {
            &mut address.new_authenticator
        } else {
            &mut address.new_identifier
        };
        *count = count.saturating_add(1);
        let shortest = address.retry_interval_ms.get_or_insert(u32::MAX);
        *shortest = (*shortest).min(milliseconds(interval));
    }
    let waited = milliseconds(packet.last.saturating_sub(login.first));
    total.longest_wait_ms = total.longest_wait_ms.max(Some(waited));
    login.last = packet.last;
    login.from = packet.from;
    login.identifier = packet.identifier;
    login.authenticator = packet.authenticator;
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn notable_state(address: &ObservedAddress) -> NotableState {
    let counts = [
        address.signed,
        address.unsigned,
        address.same_packet,
        address.new_authenticator,
        address.new_identifier,
        u32::from(address.last_authenticated.is_some()),
    ];
    (address.failing_since.is_some(), counts.map(|count| count > 0))
}
