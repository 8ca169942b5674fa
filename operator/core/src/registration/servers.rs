//! Which addresses AWS should have, by the pods there are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::ConfigDigest;

use super::balancer::{Balancer, Listed};
use crate::api::{AddressSource, RegisteredServer, RegisteredSettings};
use crate::input::{Input, NetworkType, PodState, canonical_address};
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

/// A pod as registration sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxy<'a> {
    pub(crate) pod: &'a PodState,
    /// The number in its name; the highest there is when it has none.
    pub(crate) ordinal: u32,
    /// It is registered when it serves.
    pub(crate) joins: bool,
    /// It stays registered when it is.
    pub(crate) keeps: bool,
    /// It answers: containers ready, not terminating, on a node that is there.
    pub(crate) alive: bool,
    /// It reports the current configuration.
    pub(crate) configured: bool,
}

impl Proxy<'_> {
    /// Rule 2: what is registered newly answers with the current configuration.
    pub(crate) const fn serves(&self) -> bool {
        self.alive && self.configured
    }
}

/// The pods, in the order of their names' ordinals.
pub(crate) fn proxies<'a>(input: &'a Input, digest: Option<&ConfigDigest>) -> Vec<Proxy<'a>> {
    let names = crate::names::ObjectNames::new(input.proxy.metadata.name.as_deref().unwrap_or_default());
    let mut proxies: Vec<Proxy<'a>> = input
        .pods
        .iter()
        .filter(|pod| !pod.ended)
        .map(|pod| Proxy {
            pod,
            ordinal: names.ordinal(&pod.name).unwrap_or(u32::MAX),
            joins: true,
            keeps: true,
            alive: pod.containers_ready && pod.deleted.is_none() && pod.node_ready,
            configured: digest.is_some_and(|digest| {
                input
                    .reports
                    .get(&pod.uid)
                    .is_some_and(|report| report.digest == *digest)
            }),
        })
        .collect();
    proxies.sort_by_key(|proxy| (proxy.ordinal, &proxy.pod.name, &proxy.pod.uid));
    proxies
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
    /// Registered addresses that nothing has any more, and since when.
    pub(crate) gone: Vec<(String, Time)>,
    /// Whether a registered server answers.
    pub(crate) one_answers: bool,
    /// Whether every replica serves the current configuration.
    pub(crate) all_serve: bool,
    /// How many servers are registered with all of their addresses: pods, or addresses where the spec lists those.
    pub(crate) registered: usize,
    /// How many there should be.
    pub(crate) wanted: usize,
    /// What AWS has, for people.
    pub(crate) table: Vec<RegisteredServer>,
    /// When time alone changes this.
    pub(crate) again: Option<Timestamp>,
}

/// Compares. `have` is what AWS describes, `applied` what this RadiusProxy wrote last, `replicas` how many pods there should
/// be.
pub(crate) fn compare<'a>(
    input: &Input,
    proxies: &[Proxy<'_>],
    network: NetworkType,
    (have, applied): (Option<&'a RegisteredSettings>, Option<&'a RegisteredSettings>),
    replicas: u32,
    now: Timestamp,
) -> Servers {
    let spec = &input.proxy.spec;
    let addresses = |settings: Option<&'a RegisteredSettings>| -> Vec<&'a String> {
        let settings = settings.into_iter();
        settings
            .flat_map(|s| s.servers.iter().chain(&s.servers_ipv6))
            .collect()
    };
    let (have, mut own) = (addresses(have), addresses(applied));
    own.retain(|address| have.contains(address));
    let serving = proxies.iter().filter(|p| p.joins && p.serves()).count();
    let mut servers = Servers {
        all_serve: serving >= replicas as usize && serving > 0,
        ..Servers::default()
    };
    let balancer = Balancer {
        seen: &input.load_balancer,
        own: &own,
        network,
        settle: input.settings.settle,
        removal_after: input.settings.removal_after,
        now,
    };
    let listed = balancer.listed();
    let mut want = Addresses::default();
    match spec.addresses.source {
        AddressSource::PodIp | AddressSource::HostIp => {
            let host = spec.addresses.source == AddressSource::HostIp;
            for proxy in proxies {
                let stays = proxy.pod.deleted.is_none();
                let keeps = stays && proxy.keeps;
                let mut own = Addresses::default();
                of_pod(proxy.pod, host).for_each(|address| own.add(&address.to_string(), network));
                let whole = !own.is_empty() && own.all().all(|address| have.contains(&address));
                servers.registered += usize::from(whole);
                for address in of_pod(proxy.pod, host) {
                    let text = address.to_string();
                    let registered = have.contains(&&text);
                    if (proxy.joins && proxy.serves()) || (keeps && registered) {
                        want.add(&text, network);
                    } else if stays && registered {
                        servers.leaving.push(text);
                    }
                    servers.one_answers |= registered && proxy.alive;
                }
            }
            servers.wanted = replicas as usize;
        }
        AddressSource::LoadBalancer | AddressSource::Static => {
            let list: Vec<String> = if spec.addresses.source == AddressSource::Static {
                spec.addresses.fixed.clone()
            } else {
                servers.again = listed.again;
                listed.addresses.iter().map(IpAddr::to_string).collect()
            };
            // Behind these addresses somebody must answer before they are registered or changed.
            for address in list.iter().filter(|_| serving > 0) {
                want.add(address, network);
            }
            servers.one_answers = list
                .iter()
                .any(|address| have.contains(&&canonical_address(address)))
                && proxies.iter().any(|p| p.alive);
            let mut listed = Addresses::default();
            list.iter().for_each(|address| listed.add(address, network));
            servers.wanted = listed.all().count();
            servers.registered = listed.all().filter(|address| have.contains(address)).count();
        }
    }
    let before = input
        .proxy
        .status
        .as_ref()
        .map_or(&[][..], |s| &s.registered_servers);
    for address in &have {
        let row = row(input, proxies, address, before, (&balancer, &listed));
        if let Some(since) = &row.without_pod_since {
            servers.gone.push(((*address).clone(), since.clone()));
        }
        servers.table.push(row);
    }
    let registered: BTreeSet<&str> = servers.table.iter().map(|row| row.address.as_str()).collect();
    servers.missing = want
        .v4
        .iter()
        .chain(&want.v6)
        .filter(|address| !registered.contains(address.as_str()))
        .cloned()
        .collect();
    servers.want = want;
    servers
}

fn of_pod(pod: &PodState, host: bool) -> impl Iterator<Item = IpAddr> {
    let list = if host { &pod.host_ips } else { &pod.ips };
    list.iter().map(IpAddr::to_canonical)
}

/// One registered address with the pod behind it.
fn row(
    input: &Input,
    proxies: &[Proxy<'_>],
    address: &str,
    before: &[RegisteredServer],
    (balancer, listed): (&Balancer<'_>, &Listed),
) -> RegisteredServer {
    let addresses = &input.proxy.spec.addresses;
    let (pod, known, ready) = match addresses.source {
        AddressSource::PodIp | AddressSource::HostIp => {
            let host = addresses.source == AddressSource::HostIp;
            let is = |p: &&Proxy<'_>| of_pod(p.pod, host).any(|a| a.to_string() == address);
            // Of a terminating pod and its successor at one address, the successor counts.
            let pod = proxies
                .iter()
                .filter(is)
                .min_by_key(|p| (p.pod.deleted.is_some(), !p.alive));
            (pod, pod.is_some(), pod.is_some_and(|p| p.alive))
        }
        AddressSource::LoadBalancer => (
            None,
            listed.addresses.iter().any(|a| a.to_string() == address),
            proxies.iter().any(|p| p.alive),
        ),
        AddressSource::Static => (
            None,
            addresses.fixed.iter().any(|a| canonical_address(a) == address),
            proxies.iter().any(|p| p.alive),
        ),
    };
    let since = before
        .iter()
        .find(|row| row.address == address)
        .and_then(|row| row.without_pod_since.clone());
    RegisteredServer {
        address: address.to_owned(),
        pod: pod.map(|p| p.pod.name.clone()),
        node: pod.and_then(|p| p.pod.node.clone()),
        zone: pod.and_then(|p| p.pod.zone.clone()),
        ready: known && ready,
        without_pod_since: (!known).then(|| {
            let absent = balancer.absent_since(address).unwrap_or(balancer.now);
            since.unwrap_or_else(|| time::floor(absent))
        }),
    }
}
