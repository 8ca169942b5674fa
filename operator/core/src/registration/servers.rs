//! Which addresses AWS should have, compared with those that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{DesiredRegistration, DesiredServer, RegisteredServer, RegisteredSettings, ServerState};
use crate::observed::{NetworkType, canonical_address};
use crate::time;

/// Addresses, by the member of RadiusSettings that they go into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Vec<String>,
    pub(crate) v6: Vec<String>,
}

impl Addresses {
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.v4.iter().chain(&self.v6)
    }

    /// Adds an address to the list of its family, if the directory has that family. A host name goes to the first.
    fn add(&mut self, address: &str, network: NetworkType) {
        let address = canonical_address(address);
        let (list, has) = match address.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv6() => (&mut self.v6, network.has(&ip)),
            Ok(ip) => (&mut self.v4, network.has(&ip)),
            Err(_) => (&mut self.v4, true),
        };
        if has && !list.contains(&address) {
            list.push(address);
        }
    }
}

/// The comparison of what AWS has and what it should have, addresses only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    /// What is written, if something is.
    pub(crate) want: Addresses,
    /// Addresses that answer and are not registered.
    pub(crate) missing: Vec<String>,
    /// Registered addresses of pods that others take over from.
    pub(crate) leaving: Vec<String>,
    /// Registered addresses that no proxy has any more, and since when.
    pub(crate) gone: Vec<(String, Time)>,
    /// Whether a registered server answers.
    pub(crate) one_answers: bool,
    /// Whether every replica serves the current configuration.
    pub(crate) all_serve: bool,
    /// How many servers are registered with all of their addresses: pods, or addresses where the spec lists those.
    pub(crate) registered: usize,
    /// How many there should be.
    pub(crate) wanted: usize,
    /// What AWS has, with the pod behind each address.
    pub(crate) table: Vec<RegisteredServer>,
}

/// Compares `have`, which AWS describes, with what the holder wants. `before` is the table of the last time.
pub(crate) fn compare(
    desired: &DesiredRegistration,
    network: NetworkType,
    have: Option<&RegisteredSettings>,
    before: &[RegisteredServer],
    now: Timestamp,
) -> Servers {
    let have: Vec<String> = have.map(super::all_servers).unwrap_or_default();
    let is_registered = |server: &DesiredServer| have.contains(&canonical_address(&server.address));
    let by_pod = desired.address_source.is_per_pod();
    let mut servers = Servers {
        all_serve: desired.serving_replicas >= desired.replicas && desired.serving_replicas > 0,
        ..Servers::default()
    };
    for server in &desired.servers {
        let registered = is_registered(server);
        match server.state {
            ServerState::Serves => servers.want.add(&server.address, network),
            ServerState::Keeps if registered => servers.want.add(&server.address, network),
            ServerState::Leaves if registered => servers.leaving.push(canonical_address(&server.address)),
            _ => {}
        }
        servers.one_answers |= registered && server.alive;
    }
    let complete = complete(desired, network, &have, by_pod);
    servers.registered = complete.values().filter(|complete| **complete).count();
    servers.wanted = if by_pod {
        desired.replicas as usize
    } else {
        complete.len()
    };
    for address in &have {
        let row = row(desired, address, before, now);
        if let Some(since) = &row.without_pod_since {
            servers.gone.push((address.clone(), since.clone()));
        }
        servers.table.push(row);
    }
    let registered: BTreeSet<&String> = have.iter().collect();
    let missing = servers.want.all().filter(|address| !registered.contains(address));
    servers.missing = missing.cloned().collect();
    servers
}

/// Each server, a pod or an address, and whether AWS has all of its addresses of the directory's families.
fn complete<'a>(
    desired: &'a DesiredRegistration,
    network: NetworkType,
    have: &[String],
    by_pod: bool,
) -> BTreeMap<&'a str, bool> {
    let mut complete = BTreeMap::new();
    for server in desired
        .servers
        .iter()
        .filter(|server| server.state != ServerState::Absent)
    {
        let mut own = Addresses::default();
        own.add(&server.address, network);
        let pod = server.pod.as_deref().filter(|_| by_pod);
        for address in own.all() {
            let whole = complete.entry(pod.unwrap_or(&server.address)).or_insert(true);
            *whole &= have.contains(address);
        }
    }
    complete
}

/// One registered address with the pod behind it.
fn row(
    desired: &DesiredRegistration,
    address: &str,
    before: &[RegisteredServer],
    now: Timestamp,
) -> RegisteredServer {
    let is = |server: &&DesiredServer| canonical_address(&server.address) == address;
    // Of a terminating pod and its successor at one address, the successor counts.
    let server = desired
        .servers
        .iter()
        .filter(is)
        .min_by_key(|server| (server.state == ServerState::Terminates, !server.alive));
    let known = server.filter(|server| server.state != ServerState::Absent);
    let since = before
        .iter()
        .find(|row| row.address == address)
        .and_then(|row| row.without_pod_since.clone());
    let absent = server.and_then(|server| server.absent_since.clone());
    RegisteredServer {
        address: address.to_owned(),
        pod: known.and_then(|server| server.pod.clone()),
        node: known.and_then(|server| server.node.clone()),
        zone: known.and_then(|server| server.zone.clone()),
        ready: known.is_some_and(|server| server.alive),
        without_pod_since: known
            .is_none()
            .then(|| since.or(absent).unwrap_or_else(|| time::floor(now))),
    }
}
