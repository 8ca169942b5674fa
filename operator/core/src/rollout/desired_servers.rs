//! The addresses that should be registered.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::context::RolloutContext;
use super::load_balancer::{Balancer, Listed};
use super::proxy_pods::{ProxyPod, of_pod};
use crate::api::{AddressSource, DesiredServer, RegisteredSettings, ServerState};
use crate::dns::NoAddress;
use crate::names::ObjectNames;
use crate::registration::all_servers;
use crate::time;

/// How long a name may have no address before it is reported: a new load balancer's takes minutes, and name servers fail for
/// moments.
const PASSES_WITHIN: Duration = Duration::from_secs(180);

/// Addresses to register.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) list: Vec<DesiredServer>,
    /// When time alone changes them.
    pub(super) again: Option<Timestamp>,
    pub(super) problem: Option<Problem>,
}

/// Why addresses aren't known.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) message: String,
    /// The time until which no one has to act.
    pub(super) passing_until: Option<Timestamp>,
}

pub(super) fn servers(context: &RolloutContext<'_>, proxies: &[ProxyPod<'_>]) -> Servers {
    let addresses = &context.input.proxy.spec.addresses;
    match addresses.source {
        AddressSource::PodIp | AddressSource::HostIp => {
            let host = addresses.source == AddressSource::HostIp;
            let list = proxies
                .iter()
                .flat_map(|proxy| of_pod(proxy.pod, host).map(move |address| of_proxy(proxy, address)));
            Servers {
                list: list.collect(),
                ..Servers::default()
            }
        }
        AddressSource::Static => Servers {
            list: (addresses.fixed.iter())
                .map(|address| behind(address.clone(), proxies))
                .collect(),
            ..Servers::default()
        },
        AddressSource::LoadBalancer => balanced(context, proxies),
    }
}

/// The addresses of the load balancer, and those that it had.
fn balanced(context: &RolloutContext<'_>, proxies: &[ProxyPod<'_>]) -> Servers {
    let all = |settings: &RegisteredSettings| all_servers(settings);
    let settings = context.directory.filter(|d| d.radius_status.is_some());
    let have = settings
        .and_then(|d| d.radius_settings.as_ref())
        .map(all)
        .unwrap_or_default();
    let applied = context
        .record
        .applied
        .as_ref()
        .map(|applied| all(&applied.settings));
    let applied = applied.unwrap_or_default();
    let own: Vec<&String> = applied.iter().filter(|address| have.contains(address)).collect();
    let balancer = Balancer {
        seen: &context.input.load_balancer,
        own: &own,
        network: context.directory.map(|d| d.network).unwrap_or_default(),
        settle: context.input.settings.settle,
        removal_after: context.input.settings.removal_after,
        now: context.now,
    };
    let Listed { addresses, again } = balancer.listed();
    let mut list: Vec<DesiredServer> = addresses
        .iter()
        .map(|address| behind(address.to_string(), proxies))
        .collect();
    let absent = have
        .iter()
        .filter(|address| list.iter().all(|server| server.address != **address));
    let absent: Vec<DesiredServer> = absent
        .filter_map(|address| {
            Some(DesiredServer {
                address: address.clone(),
                state: ServerState::Absent,
                absent_since: Some(Time(balancer.absent_since(address)?)).map(|time| time::floor(time.0)),
                ..DesiredServer::default()
            })
        })
        .collect();
    let problem = unresolved(context).or_else(|| {
        let message = if context.input.load_balancer.is_empty() {
            "the Service of type LoadBalancer has no address yet; see its events, and whether a controller serves its class"
        } else if again.is_some() || !context.input.load_balancer.is_known() {
            "the load balancer's host name is being resolved"
        } else {
            return None;
        };
        list.is_empty().then(|| Problem {
            message: message.to_owned(),
            passing_until: Some(Timestamp::MAX),
        })
    });
    list.extend(absent);
    Servers { list, again, problem }
}

/// The host name of the load balancer that has been without an address for the longest time.
fn unresolved(context: &RolloutContext<'_>) -> Option<Problem> {
    let names = context.input.load_balancer.names.iter();
    let (name, failure) = names
        .filter_map(|name| Some((&name.name, name.failure?)))
        .min_by_key(|(_, failure)| failure.since)?;
    let service = ObjectNames::new(context.owner.names.workload()).load_balancer();
    let (says, next) = match failure.why {
        NoAddress::NoSuchName => (
            "DNS says that it does not exist",
            "See whether the load balancer is still there, and whether the operator's name servers know its zone",
        ),
        NoAddress::NoRecord => (
            "DNS has no address for it",
            "See whether the load balancer is active and has healthy targets",
        ),
        NoAddress::NoAnswer => (
            "the operator's name servers do not answer",
            "See whether the operator's pod reaches them (dnsPolicy and dnsConfig of the chart, NetworkPolicy)",
        ),
        NoAddress::ServerError => (
            "the operator's name servers answer with an error",
            "See whether they know its zone (dnsPolicy and dnsConfig of the chart)",
        ),
    };
    let message = format!(
        "{name} has no address since {}: {says}. {next}; `kubectl describe service {service}` shows the load balancer's \
         side. It is looked up again every few seconds.",
        time::clock(failure.since)
    );
    let end = time::later(failure.since, PASSES_WITHIN);
    Some(Problem {
        message,
        passing_until: (context.now < end).then_some(end),
    })
}

fn of_proxy(proxy: &ProxyPod<'_>, address: IpAddr) -> DesiredServer {
    let state = if proxy.pod.deleted.is_some() {
        ServerState::Terminates
    } else if proxy.is_eligible && proxy.serves() {
        ServerState::Serves
    } else if proxy.is_retained {
        ServerState::Keeps
    } else {
        ServerState::Leaves
    };
    DesiredServer {
        address: address.to_string(),
        pod: Some(proxy.pod.name.clone()),
        node: proxy.pod.node.clone(),
        zone: proxy.pod.zone.clone(),
        alive: proxy.alive,
        state,
        absent_since: None,
    }
}

/// An address that leads to all proxies.
fn behind(address: String, proxies: &[ProxyPod<'_>]) -> DesiredServer {
    DesiredServer {
        address,
        alive: proxies.iter().any(|proxy| proxy.alive),
        state: ServerState::Serves,
        ..DesiredServer::default()
    }
}
