//! What this RadiusProxy wants of its directory's registration, by its pods and its spec.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acceptance::Acceptance;
use super::context::RolloutContext;
use super::load_balancer::{Balancer, Listed};
use super::proxy_pods::{ProxyPod, not_serving, of_pod};
use crate::api::{
    AddressProblem, AddressSource, AdoptionPolicy, DesiredRegistration, DesiredServer, DirectoryClaim,
    DirectoryRegistrationSpec, DirectorySpec, PodWithoutSecret, RegisteredSettings, ReportedMismatch,
    ServerState, SharedSecretSource,
};
use crate::conditions::Reason;
use crate::directory_client::{PodReport, mismatch};
use crate::dns::NoAddress;
use crate::names::ObjectNames;
use crate::observed::RadiusStatus;
use crate::rotation::secret_digest;
use crate::time;

/// How long a name may have no address before it is reported: a new load balancer's takes minutes, and name servers fail for
/// moments.
const PASSES_WITHIN: Duration = Duration::from_secs(180);
/// The longest message that a registration is given.
const MAX_MESSAGE: usize = 1_000;

/// What is wanted, and when time alone changes it.
#[derive(Debug, Default)]
pub(super) struct Registering {
    pub(super) spec: Option<DirectoryRegistrationSpec>,
    pub(super) again: Option<Timestamp>,
}

pub(super) fn registering(
    context: &RolloutContext<'_>,
    acceptance: &Acceptance,
    proxies: &[ProxyPod<'_>],
    reports: &[PodReport<'_>],
    replicas: u32,
    configured: bool,
) -> Registering {
    let meta = &context.input.proxy.metadata;
    let Some(directory) = context.input.proxy.spec.directory.as_ref() else {
        return Registering::default();
    };
    let before = context
        .input
        .registration
        .as_ref()
        .map(|registration| &registration.spec);
    let may_claim = !matches!(
        acceptance.condition.reason,
        Reason::NoGrant | Reason::NameConflict
    );
    if !(context.holds || (before.is_none() && may_claim)) {
        return Registering::default();
    }
    let uid = meta.uid.clone().unwrap_or_default();
    let claim = || DirectoryClaim {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: uid.clone(),
    };
    let servers = servers(context, proxies);
    let spec = &context.input.proxy.spec;
    let digest = context
        .pair
        .as_ref()
        .map(|pair| secret_digest(&context.key, &pair.current));
    let serving = proxies
        .iter()
        .filter(|proxy| proxy.is_eligible && proxy.serves())
        .count();
    let address_problem = servers.problem.clone().map(|problem| AddressProblem {
        passing: problem.passing_until.is_some(),
        message: problem.message,
    });
    let again = [
        servers.again,
        servers.problem.and_then(|problem| problem.passing_until),
    ];
    let desired = DesiredRegistration {
        holder_uid: uid.clone(),
        holder_generation: meta.generation.unwrap_or_default(),
        suspend: spec.suspend,
        settings: wanted_settings(directory, spec.port),
        deletion_policy: directory.deletion_policy,
        drift_policy: directory.drift_policy,
        adopt: directory.adoption_policy == AdoptionPolicy::Adopt,
        pods_without_secret: pods_without_secret(context, proxies, digest.as_deref()),
        shared_secret: digest.map(|digest| SharedSecretSource {
            secret_name: context.owner.names.radius_secret(),
            digest,
        }),
        address_source: spec.addresses.source,
        servers: servers.list,
        replicas,
        serving_replicas: u32::try_from(serving).unwrap_or(u32::MAX),
        starting: proxies.iter().any(starts),
        waiting_for: crate::conditions::cut(&not_serving(proxies, context.input), MAX_MESSAGE),
        blocked: blocked(context, acceptance, configured)
            .unwrap_or_default()
            .to_owned(),
        address_problem,
        secret_mismatch: secret_mismatch(context, directory, reports),
    };
    Registering {
        spec: Some(DirectoryRegistrationSpec {
            directory_id: directory.id.clone(),
            region: directory.region.clone(),
            claimed_by: before.map_or_else(claim, |before| before.claimed_by.clone()),
            desired: Some(desired),
        }),
        again: again.into_iter().flatten().min(),
    }
}

/// Why the directory must not get any settings now.
fn blocked(context: &RolloutContext<'_>, acceptance: &Acceptance, configured: bool) -> Option<&'static str> {
    if !configured || context.pair.is_none() || !acceptance.may_write {
        return Some("nothing is written to AWS until the spec is accepted and the Secrets are ready");
    }
    let mounted = context.rendered.is_some() && !context.input.outcomes.configuration_failed();
    if !mounted && !is_applied(context) {
        // The digest that pods report is of the configuration made last. After a crash the Secret may be newer, and only
        // the digest of the present configuration would tell which pods have it.
        return Some(
            "AWS gets another shared secret once the Secrets are ready and the configuration can be made",
        );
    }
    let is_off = context
        .directory
        .is_some_and(|directory| directory.radius_status.is_none());
    if is_off && context.input.outcomes.network_policy_failed() {
        return Some("RADIUS is switched on once the NetworkPolicy is applied; see Stalled");
    }
    if context.record.applied.is_none() && context.nobody_could_log_in() {
        return Some("RADIUS is not switched on or taken over while no user could log in; see SecretsReady");
    }
    None
}

/// Whether AWS was given the secret that it is to have.
fn is_applied(context: &RolloutContext<'_>) -> bool {
    let digest = context
        .pair
        .as_ref()
        .map(|pair| secret_digest(&context.key, &pair.current));
    let applied = context
        .record
        .applied
        .as_ref()
        .map(|applied| &applied.secret_digest);
    applied.is_some() && applied == digest.as_ref()
}

/// Pods that lack a secret that AWS was not given yet.
fn pods_without_secret(
    context: &RolloutContext<'_>,
    proxies: &[ProxyPod<'_>],
    digest: Option<&str>,
) -> Vec<PodWithoutSecret> {
    let applied = context
        .record
        .applied
        .as_ref()
        .map(|applied| applied.secret_digest.as_str());
    if digest.is_none() || applied == digest {
        return Vec::new();
    }
    proxies
        .iter()
        .filter(|proxy| proxy.pod.deleted.is_none() && !proxy.serves())
        .map(|proxy| PodWithoutSecret {
            pod: proxy.pod.name.clone(),
            alive: proxy.alive,
        })
        .collect()
}

fn secret_mismatch(
    context: &RolloutContext<'_>,
    directory: &DirectorySpec,
    reports: &[PodReport<'_>],
) -> Option<ReportedMismatch> {
    let applied = context.record.applied.as_ref()?;
    let completed = applied.completed_time.as_ref()?;
    let rests = context.record.pending.is_none()
        && !context.record.drifted()
        && context.directory?.radius_status == Some(RadiusStatus::Completed);
    if !(rests && is_applied(context)) {
        return None;
    }
    let timeout = Duration::from_secs(directory.timeout_seconds.into());
    let clients = &context.directory?.client_addresses;
    let found = mismatch(reports, clients, completed.0, timeout, context.now)?;
    Some(ReportedMismatch {
        addresses: found.addresses.iter().map(IpAddr::to_string).collect(),
        since: time::floor(found.since),
        recent: found.recent,
    })
}

fn servers(context: &RolloutContext<'_>, proxies: &[ProxyPod<'_>]) -> Servers {
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
    let all = |settings: &RegisteredSettings| crate::registration::all_servers(settings);
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

/// Addresses to register.
#[derive(Debug, Default)]
struct Servers {
    list: Vec<DesiredServer>,
    /// When time alone changes them.
    again: Option<Timestamp>,
    problem: Option<Problem>,
}

/// Why addresses aren't known.
#[derive(Debug, Clone)]
struct Problem {
    message: String,
    /// Until when nobody has to do anything.
    passing_until: Option<Timestamp>,
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

/// Whether a pod is starting and nothing stands in its way.
fn starts(proxy: &ProxyPod<'_>) -> bool {
    let pod = proxy.pod;
    proxy.is_eligible && !proxy.alive && pod.deleted.is_none() && pod.node_ready && pod.waiting.is_none()
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

/// What the spec wants, without servers.
fn wanted_settings(directory: &DirectorySpec, port: u32) -> RegisteredSettings {
    RegisteredSettings {
        servers: Vec::new(),
        servers_ipv6: Vec::new(),
        port,
        timeout_seconds: directory.timeout_seconds,
        retries: directory.retries,
        protocol: directory.protocol.as_str().to_owned(),
        display_label: directory.display_label.clone(),
        use_same_username: directory.use_same_username,
    }
}
