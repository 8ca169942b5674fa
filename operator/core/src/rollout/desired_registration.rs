//! What this RadiusProxy wants of its directory's registration, by its pods and its spec.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::acceptance::Acceptance;
use super::context::RolloutContext;
use super::desired_servers::servers;
use super::proxy_pods::{ProxyPod, not_serving};
use crate::api::{
    AddressProblem, AdoptionPolicy, AppliedSettings, DeletionPolicy, DesiredRegistration, DirectoryClaim,
    DirectoryRegistrationSpec, DirectorySpec, PodWithoutSecret, RegisteredSettings, ReportedMismatch,
    SharedSecretSource,
};
use crate::conditions::Reason;
use crate::directory_client::{PodReport, mismatch};
use crate::observed::RadiusStatus;
use crate::outcomes::Step;
use crate::rotation::secret_digest;
use crate::time;

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
        .wanted_secret
        .as_ref()
        .map(|secret| secret_digest(&context.key, secret));
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
    let directory = context.input.proxy.spec.directory.as_ref();
    let disables = directory.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Disable);
    if disables && context.input.outcomes.failed(&Step::Finalizer) {
        return Some(
            "nothing is written to AWS until the finalizer is set, by which a deletion waits for DisableRadius; see Stalled",
        );
    }
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
    let uid = context.input.proxy.metadata.uid.as_ref();
    let of_this = |applied: &AppliedSettings| Some(&applied.holder_uid) == uid;
    if !context.record.applied.as_ref().is_some_and(of_this) && context.nobody_could_log_in() {
        return Some(
            "RADIUS is neither switched on nor taken over while no user could log in; see SecretsReady",
        );
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

/// Whether a pod is starting and nothing stands in its way.
fn starts(proxy: &ProxyPod<'_>) -> bool {
    let pod = proxy.pod;
    proxy.is_eligible && !proxy.alive && pod.deleted.is_none() && pod.node_ready && pod.waiting.is_none()
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
