//! Objects of the Kubernetes API as far as decisions need them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proxy_config::Secret;

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
    /// The annotation [`crate::names::RESTARTED_AT_ANNOTATION`] of its pod template.
    pub restarted_at: Option<String>,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountState {
    /// Its uid.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
}
