//! The status.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::events;
use super::known_directory::KnownDirectory;
use super::proxy_pods::ProxyPod;
use crate::api::{
    ConditionType, DirectoryRegistrationStatus, DirectoryStatus, LastWrite, RadiusProxy, RadiusProxyStatus,
};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, set_conditions};
use crate::events::Event;
use crate::objects::Owner;
use crate::observed::{PodState, RolloutInput};

const RECONCILING: &str = ConditionType::Reconciling.as_str();

/// The input of the status.
#[derive(Debug)]
pub(super) struct StatusInput<'a> {
    pub(super) input: &'a RolloutInput,
    pub(super) owner: &'a Owner<'a>,
    pub(super) proxies: &'a [ProxyPod<'a>],
    /// The status of the registration, if this RadiusProxy holds the directory.
    pub(super) registration: Option<&'a DirectoryRegistrationStatus>,
}

/// The numbers and tables of the status. What isn't observed now stays as it was.
pub(super) fn tables(seen: &StatusInput<'_>, before: Option<&RadiusProxyStatus>) -> RadiusProxyStatus {
    let count = |test: fn(&ProxyPod<'_>) -> bool| {
        let number = seen
            .proxies
            .iter()
            .filter(|p| p.pod.deleted.is_none() && p.is_eligible && test(p))
            .count();
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    let old = before.cloned().unwrap_or_default();
    let status = RadiusProxyStatus {
        observed_generation: seen.input.proxy.metadata.generation,
        replicas: count(|_| true),
        ready_replicas: count(|p| p.alive),
        configured_replicas: count(|p| p.configured),
        selector: seen.owner.selector_text(),
        image: running(seen, |pod| Some(&pod.image)).or(old.image),
        version: running(seen, |pod| seen.input.reports.get(&pod.uid)?.version.as_ref()).or(old.version),
        provider: Some(seen.input.proxy.spec.provider.name().to_owned()),
        registered_count: old.registered_count,
        desired_count: old.desired_count,
        registered_servers: old.registered_servers,
        directory: old.directory,
        last_write: old.last_write,
        ..RadiusProxyStatus::default()
    };
    match (seen.registration, &seen.input.registration) {
        (Some(registration), _) => of_registration(status, registration),
        (None, Some(registration)) if !registration.is_held_by(&seen.input.proxy) => {
            let is_described =
                KnownDirectory::of(registration).is_some_and(|known| !known.client_addresses.is_empty());
            RadiusProxyStatus {
                registered_count: 0,
                desired_count: 0,
                registered_servers: Vec::new(),
                // Until the registration has the client addresses, the proxies keep those of the status.
                directory: status.directory.filter(|_| !is_described),
                last_write: None,
                ..status
            }
        }
        _ => status,
    }
}

/// What most proxies run; of equally many the greater one, so that the order of the pods doesn't matter.
fn running<'a>(seen: &StatusInput<'a>, of: impl Fn(&'a PodState) -> Option<&'a String>) -> Option<String> {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    let alive = seen.proxies.iter().filter(|proxy| proxy.alive);
    for value in alive
        .filter_map(|proxy| of(proxy.pod))
        .filter(|value| !value.is_empty())
    {
        *counts.entry(value).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(value, count)| (*count, *value));
    most.map(|(value, _)| value.clone())
}

/// The registration's part of it.
fn of_registration(
    status: RadiusProxyStatus,
    registration: &DirectoryRegistrationStatus,
) -> RadiusProxyStatus {
    let described = registration.description.as_ref();
    RadiusProxyStatus {
        registered_count: registration.registered_count,
        desired_count: registration.desired_count,
        registered_servers: registration.servers.clone(),
        directory: described.map_or(status.directory, |directory| {
            Some(DirectoryStatus {
                kind: Some(directory.kind.clone()),
                stage: Some(directory.stage.clone()),
                radius_status: Some(directory.radius_status.clone()),
                client_addresses: directory.client_addresses.clone(),
                observed: None,
            })
        }),
        last_write: registration.writes.last().map(|last| LastWrite {
            operation: last.operation.clone(),
            reason: last.message.clone(),
            time: last.time.clone(),
            request_id: last.request_id.clone(),
        }),
        ..status
    }
}

/// The status, and Events, while nothing can be planned since `why` stands in the way of reading what a plan needs.
#[must_use]
pub fn without_observation(
    proxy: &RadiusProxy,
    why: &str,
    now: Timestamp,
) -> (RadiusProxyStatus, Vec<Event>) {
    let mut status = proxy.status.clone().unwrap_or_default();
    let message = format!(
        "the operator can't read the objects that it needs, so the rest of this status may be out of date, and \
         new pods aren't registered: {why}. Check the operator's permissions and the API server"
    );
    let reason = Reason::ApiServerErrors;
    let drafts = [
        ConditionDraft::new(
            ConditionType::Stalled,
            ConditionStatus::True,
            reason,
            message.as_str(),
        ),
        ConditionDraft::new(
            ConditionType::Ready,
            ConditionStatus::Unknown,
            reason,
            message.as_str(),
        ),
    ];
    let before = std::mem::take(&mut status.conditions);
    let events = events::of_conditions(&before, &drafts);
    let changed = set_conditions(&drafts, &before, proxy.metadata.generation, now);
    status.conditions = before;
    status
        .conditions
        .retain(|old| !changed.iter().any(|new| new.type_ == old.type_) && old.type_ != RECONCILING);
    status.conditions.extend(changed);
    (status, events)
}
