//! What this RadiusProxy wants of its directory's registration, by its pods and its spec.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::accept::Acceptance;
use super::balancer::{Balancer, Listed};
use super::build::Round;
use super::pods::{Proxy, not_serving, of_pod};
use crate::api::{
    AddressProblem, AddressSource, AdoptionPolicy, DeletionPolicy, DesiredRegistration, DesiredServer,
    DirectoryClaim, DirectoryRegistrationSpec, DirectorySpec, PodWithoutSecret, RegisteredSettings,
    ReportedMismatch, ServerState, SharedSecretSource,
};
use crate::conditions::Reason;
use crate::directory_client::{PodReport, mismatch};
use crate::dns::NoAddress;
use crate::input::RadiusStatus;
use crate::names::ObjectNames;
use crate::outcomes::Step;
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

impl Round<'_> {
    pub(super) fn registering(
        &self,
        acceptance: &Acceptance,
        proxies: &[Proxy<'_>],
        reports: &[PodReport<'_>],
        replicas: u32,
        configured: bool,
    ) -> Registering {
        let meta = &self.input.proxy.metadata;
        let Some(directory) = self.input.proxy.spec.directory.as_ref() else {
            return Registering::default();
        };
        let before = self
            .input
            .registration
            .as_ref()
            .map(|registration| &registration.spec);
        let may_claim = !matches!(
            acceptance.condition.reason,
            Reason::NoGrant | Reason::NameConflict
        );
        if !(self.holds || (before.is_none() && may_claim)) {
            return Registering::default();
        }
        let uid = meta.uid.clone().unwrap_or_default();
        let claim = || DirectoryClaim {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid.clone(),
        };
        let servers = self.servers(proxies);
        let spec = &self.input.proxy.spec;
        let digest = self
            .pair
            .as_ref()
            .map(|pair| secret_digest(&self.key, &pair.current));
        let serving = proxies
            .iter()
            .filter(|proxy| proxy.joins && proxy.serves())
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
            pods_without_secret: self.pods_without_secret(proxies, digest.as_deref()),
            shared_secret: digest.map(|digest| SharedSecretSource {
                secret_name: self.owner.names.radius_secret(),
                digest,
            }),
            address_source: spec.addresses.source,
            servers: servers.list,
            replicas,
            serving_replicas: u32::try_from(serving).unwrap_or(u32::MAX),
            starting: proxies.iter().any(starts),
            waiting_for: crate::conditions::cut(&not_serving(proxies, self.input), MAX_MESSAGE),
            blocked: self
                .blocked(acceptance, configured)
                .unwrap_or_default()
                .to_owned(),
            address_problem,
            secret_mismatch: self.secret_mismatch(directory, reports),
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
    fn blocked(&self, acceptance: &Acceptance, configured: bool) -> Option<&'static str> {
        let disables = self.input.proxy.spec.directory.as_ref();
        let disables = disables.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Disable);
        if disables && self.input.outcomes.failed(&Step::Finalizer) {
            return Some(
                "nothing is written to AWS until the finalizer is set, by which a deletion waits for DisableRadius; see Stalled",
            );
        }
        if !configured || self.pair.is_none() || !acceptance.may_write {
            return Some("nothing is written to AWS until the spec is accepted and the Secrets are ready");
        }
        let mounted = self.rendered.is_some() && !self.input.outcomes.configuration_failed();
        if !mounted && !self.is_applied() {
            // The digest that pods report is of the configuration made last. After a crash the Secret may be newer, and only
            // the digest of the present configuration would tell which pods have it.
            return Some(
                "AWS gets another shared secret once the Secrets are ready and the configuration can be made",
            );
        }
        let is_off = self
            .directory
            .is_some_and(|directory| directory.radius_status.is_none());
        if is_off && self.input.outcomes.network_policy_failed() {
            return Some("RADIUS is switched on once the NetworkPolicy is applied; see Stalled");
        }
        if self.record.applied.is_none() && self.nobody_could_log_in() {
            return Some(
                "RADIUS is not switched on or taken over while no user could log in; see SecretsReady",
            );
        }
        None
    }

    /// Whether AWS was given the secret that it is to have.
    fn is_applied(&self) -> bool {
        let digest = self
            .pair
            .as_ref()
            .map(|pair| secret_digest(&self.key, &pair.current));
        let applied = self.record.applied.as_ref().map(|applied| &applied.secret_digest);
        applied.is_some() && applied == digest.as_ref()
    }

    /// Pods that lack a secret that AWS was not given yet.
    fn pods_without_secret(&self, proxies: &[Proxy<'_>], digest: Option<&str>) -> Vec<PodWithoutSecret> {
        let applied = self
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
        &self,
        directory: &DirectorySpec,
        reports: &[PodReport<'_>],
    ) -> Option<ReportedMismatch> {
        let applied = self.record.applied.as_ref()?;
        let completed = applied.completed_time.as_ref()?;
        let rests = self.record.pending.is_none()
            && !self.record.drifted()
            && self.directory?.radius_status == Some(RadiusStatus::Completed);
        if !(rests && self.is_applied()) {
            return None;
        }
        let timeout = Duration::from_secs(directory.timeout_seconds.into());
        let clients = &self.directory?.client_addresses;
        let found = mismatch(reports, clients, completed.0, timeout, self.now)?;
        Some(ReportedMismatch {
            addresses: found.addresses.iter().map(IpAddr::to_string).collect(),
            since: time::floor(found.since),
            recent: found.recent,
        })
    }

    fn servers(&self, proxies: &[Proxy<'_>]) -> Servers {
        let addresses = &self.input.proxy.spec.addresses;
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
            AddressSource::LoadBalancer => self.balanced(proxies),
        }
    }

    /// The addresses of the load balancer, and those that it had.
    fn balanced(&self, proxies: &[Proxy<'_>]) -> Servers {
        let all = |settings: &RegisteredSettings| crate::registration::all_servers(settings);
        let settings = self.directory.filter(|d| d.radius_status.is_some());
        let have = settings
            .and_then(|d| d.radius_settings.as_ref())
            .map(all)
            .unwrap_or_default();
        let applied = self.record.applied.as_ref().map(|applied| all(&applied.settings));
        let applied = applied.unwrap_or_default();
        let own: Vec<&String> = applied.iter().filter(|address| have.contains(address)).collect();
        let balancer = Balancer {
            seen: &self.input.load_balancer,
            own: &own,
            network: self.directory.map(|d| d.network).unwrap_or_default(),
            settle: self.input.settings.settle,
            removal_after: self.input.settings.removal_after,
            now: self.now,
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
        let problem = self.unresolved().or_else(|| {
            let message = if self.input.load_balancer.is_empty() {
                "the Service of type LoadBalancer has no address yet; see its events, and whether a controller serves its class"
            } else if again.is_some() || !self.input.load_balancer.is_known() {
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
    fn unresolved(&self) -> Option<Problem> {
        let names = self.input.load_balancer.names.iter();
        let (name, trouble) = names
            .filter_map(|name| Some((&name.name, name.trouble?)))
            .min_by_key(|(_, trouble)| trouble.since)?;
        let service = ObjectNames::new(self.owner.names.workload()).load_balancer();
        let (says, next) = match trouble.why {
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
            time::clock(trouble.since)
        );
        let end = time::later(trouble.since, PASSES_WITHIN);
        Some(Problem {
            message,
            passing_until: (self.now < end).then_some(end),
        })
    }
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

fn of_proxy(proxy: &Proxy<'_>, address: IpAddr) -> DesiredServer {
    let state = if proxy.pod.deleted.is_some() {
        ServerState::Terminates
    } else if proxy.joins && proxy.serves() {
        ServerState::Serves
    } else if proxy.keeps {
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
fn starts(proxy: &Proxy<'_>) -> bool {
    let pod = proxy.pod;
    proxy.joins && !proxy.alive && pod.deleted.is_none() && pod.node_ready && pod.waiting.is_none()
}

/// An address that leads to all proxies.
fn behind(address: String, proxies: &[Proxy<'_>]) -> DesiredServer {
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
