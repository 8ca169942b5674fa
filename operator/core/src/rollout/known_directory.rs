//! What a rollout knows of its directory: by the registration's status, and by nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::api::{ConditionType, DirectoryRegistration, RegisteredSettings};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason};
use crate::observed::{NetworkType, RadiusStatus, RolloutInput};
use crate::time;

/// The directory as it was described last.
#[derive(Debug, Clone)]
pub(super) struct KnownDirectory {
    pub(super) network: NetworkType,
    pub(super) radius_status: Option<RadiusStatus>,
    pub(super) radius_settings: Option<RegisteredSettings>,
    pub(super) client_addresses: BTreeSet<IpAddr>,
}

impl KnownDirectory {
    /// `None` before the first description.
    pub(super) fn of(registration: &DirectoryRegistration) -> Option<Self> {
        let description = registration.status.as_ref()?.description.as_ref()?;
        let clients = description.client_addresses.iter();
        Some(Self {
            network: NetworkType::from_status(&description.network_type),
            radius_status: RadiusStatus::from_aws(&description.radius_status),
            radius_settings: description.settings.clone(),
            client_addresses: clients.filter_map(|text| text.parse().ok()).collect(),
        })
    }
}

/// The condition Registered while reconciliations of the registration fail: what its status says may be old.
pub(super) fn unobserved(input: &RolloutInput, now: Timestamp) -> Option<ConditionDraft> {
    let failure = input.registration_failure.as_ref()?;
    let message = format!(
        "the operator has failed to reconcile the directory's DirectoryRegistration since {}, so servers that change aren't \
         registered, and the rest of this status may be old: {}. Check admission policies and the operator's permissions",
        time::clock(failure.since),
        failure.message.trim_end_matches('.')
    );
    let draft = ConditionDraft::new(
        ConditionType::Registered,
        ConditionStatus::Unknown,
        Reason::ApiServerErrors,
        message,
    );
    (now >= failure.shown_from()).then_some(draft)
}

/// A condition of the registration, for the RadiusProxy's status.
pub(super) fn mirrored(registration: &DirectoryRegistration, kind: ConditionType) -> Option<ConditionDraft> {
    let conditions = &registration.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|each| each.type_ == kind.as_str())?;
    let status = [ConditionStatus::True, ConditionStatus::False]
        .into_iter()
        .find(|status| status.as_str() == condition.status);
    Some(ConditionDraft::new(
        kind,
        status.unwrap_or(ConditionStatus::Unknown),
        Reason::from_name(&condition.reason)?,
        condition.message.clone(),
    ))
}
