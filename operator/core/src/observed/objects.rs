//! Objects of the Kubernetes API as far as decisions need them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proxy_config::Secret;
use serde::{Deserialize, Serialize};

/// The data of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretContent {
    /// Its keys.
    pub data: BTreeMap<String, Secret>,
}

/// An object by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind, such as Service.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// An object under a name that the operator needs, which belongs to another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignObject {
    /// The object.
    pub object: ObjectId,
    /// Whose it is, such as `Deployment/web`; `None` without a controller.
    pub controller: Option<String>,
}

/// The StatefulSet as far as decisions need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatefulSetState {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.currentRevision`.
    pub current_revision: String,
    /// `status.updateRevision`.
    pub update_revision: String,
    /// The annotation [`crate::names::TEMPLATE_ANNOTATION`].
    pub template: Option<String>,
    /// Whether `spec.updateStrategy.type` is OnDelete.
    pub on_delete: bool,
    /// Whether it has the annotation [`crate::names::UPGRADING_ANNOTATION`].
    pub upgrading: bool,
    /// The annotation [`crate::names::SURGE_ANNOTATION`].
    pub surge: Option<Surge>,
    /// The annotation [`crate::names::RESTARTED_AT_ANNOTATION`] of its pod template.
    pub restarted_at: Option<String>,
}

/// Progress of a surge. Pods 0 to N-1 are replaced while pods N to 2N-1 are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Surge {
    /// Current phase.
    pub phase: SurgePhase,
    /// N: `spec.replicas` as it was when the other pods were registered.
    pub replicas: u32,
    /// Revision to which a change in place was refused, if that is why new pods are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_refused: Option<String>,
}

/// The phases of a [`Surge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SurgePhase {
    /// Pods N to 2N-1 start on the new template.
    Starting,
    /// They are registered in place of pods 0 to N-1, which are then replaced.
    Moved,
    /// Pods 0 to N-1 are registered again; then the others go.
    Returning,
}

impl Surge {
    /// From the annotation; a text that isn't one is none.
    #[must_use]
    pub fn from_annotation(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of the annotation.
    pub(crate) fn to_annotation(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountState {
    /// Its uid.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
}
