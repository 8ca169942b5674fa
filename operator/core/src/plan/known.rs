//! What a rollout knows of its directory: by the registration's status, and by nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::api::{ConditionType, DirectoryRegistration, RadiusProxy, RegisteredSettings};
use crate::conditions::{Draft, Reason, Truth};
use crate::input::{Input, NetworkType, RadiusStatus};
use crate::names::FINALIZER;
use crate::time;

/// The directory as it was described last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) network: NetworkType,
    pub(super) radius_status: Option<RadiusStatus>,
    pub(super) radius_settings: Option<RegisteredSettings>,
    pub(super) client_addresses: BTreeSet<IpAddr>,
}

impl Known {
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

impl DirectoryRegistration {
    /// Whether it is being deleted and the operator is done with it: another party's finalizer keeps it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        let finalizers = self.metadata.finalizers.as_deref().unwrap_or_default();
        self.metadata.deletion_timestamp.is_some() && !finalizers.iter().any(|each| each == FINALIZER)
    }

    /// Whether this RadiusProxy holds the directory. One that was created again under its name does.
    #[must_use]
    pub fn is_held_by(&self, proxy: &RadiusProxy) -> bool {
        let claim = &self.spec.claimed_by;
        proxy.metadata.namespace.as_ref() == Some(&claim.namespace)
            && proxy.metadata.name.as_ref() == Some(&claim.name)
    }
}

/// The condition Registered while the rounds of the registration fail: what its status says may be old.
pub(super) fn unobserved(input: &Input, now: Timestamp) -> Option<Draft> {
    let failure = input.registration_failure.as_ref()?;
    let message = format!(
        "the operator has failed to work on the directory's DirectoryRegistration since {}, so servers that change aren't \
         registered, and the rest of this status may be old: {}. Check admission policies and the operator's permissions",
        time::clock(failure.since),
        failure.message.trim_end_matches('.')
    );
    let draft = Draft::new(
        ConditionType::Registered,
        Truth::Unknown,
        Reason::ApiServerErrors,
        message,
    );
    (now >= failure.shown_from()).then_some(draft)
}

/// A condition of the registration, for the RadiusProxy's status.
pub(super) fn mirrored(registration: &DirectoryRegistration, kind: ConditionType) -> Option<Draft> {
    let conditions = &registration.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|each| each.type_ == kind.as_str())?;
    let truth = [Truth::True, Truth::False]
        .into_iter()
        .find(|truth| truth.as_str() == condition.status);
    Some(Draft::new(
        kind,
        truth.unwrap_or(Truth::Unknown),
        Reason::from_name(&condition.reason)?,
        condition.message.clone(),
    ))
}
