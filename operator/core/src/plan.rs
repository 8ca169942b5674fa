//! What has to be done, as plain values.
//!
//! # The order of doing it
//! 1. [`Plan::finalizer`] `Add`; 2. [`Plan::adopt`] and [`Plan::apply`], in order; 3. [`Plan::pods`]; 4. [`Plan::status`]; 5. [`Plan::tags`]; 6. [`Plan::write`], one
//!    AWS call; 7. [`Plan::delete`]; 8. [`Plan::events`]; 9. [`Plan::finalizer`] `Remove`.
//!
//! All steps are tried, but those that depend on one that failed ([`crate::outcomes`]): the configuration needs its Secrets,
//! the StatefulSet both, the status the finalizer and the NetworkPolicy where it announces the first write, and 5 to 9 the
//! status. A round in which 1 to 3 fail in another way than was planned with ends before the status, and the next one
//! follows at once.
//!
//! The status is written *before* AWS is called: it holds the write as pending, with a keyed digest of its secret, so that
//! a crash between the two is noticed by the next leader. How the write ended goes into [`crate::input::WriteOutcome`] of
//! the next round, which has to follow at once.

mod accept;
mod actions;
mod build;
mod deletion;
mod desired;
mod events;
pub mod operators;
pub mod ownership;
mod status;
mod upgrade;

#[cfg(test)]
mod scenarios;

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use proxy_config::SharedSecret;

use crate::api::{RadiusProxyStatus, RegisteredSettings};
use crate::aws::AwsOperation;
use crate::input::ObjectId;
use crate::names::WRITTEN_BY_LABEL;
use crate::outcomes::Step;

pub use build::plan;
pub use events::of_outcomes;
pub use status::without_observation;

pub use crate::registration::decide::{LONGEST_ANSWER, is_fresh};

/// What has to be done for one RadiusProxy.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The finalizer [`crate::names::FINALIZER`].
    pub finalizer: FinalizerChange,
    /// Objects to apply by server-side apply (force, field manager [`crate::names::FIELD_MANAGER`]), in this order. All
    /// there should be, each time; whoever executes may leave out what he knows to be applied already.
    pub apply: Vec<Object>,
    /// Objects whose owner is gone, to be taken over before anything is applied ([`ownership`]).
    pub adopt: Vec<ObjectId>,
    /// Patches of pods.
    pub pods: Vec<PodPatch>,
    /// Ownership tags to add to the directory.
    pub tags: Vec<(String, String)>,
    /// The one write to AWS.
    pub write: Option<DirectoryWrite>,
    /// The whole status, to be written when it differs from what is there.
    pub status: RadiusProxyStatus,
    /// Objects to delete; absent ones are fine.
    pub delete: Vec<ObjectRef>,
    /// Whether pods are being brought to another image or template: one of the operator's concurrent rollouts.
    pub upgrading: bool,
    /// What people are told, once.
    pub events: Vec<Event>,
    /// When to plan again at the latest.
    pub requeue_after: Duration,
    /// How old the directory's description may be in the next plan.
    pub describe_after: Duration,
}

/// What happens to the finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalizerChange {
    /// Nothing.
    Keep,
    /// Added, before everything else.
    Add,
    /// Removed, after everything else.
    Remove,
}

/// An object to apply.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is the Kubernetes kind of its name")]
pub enum Object {
    ServiceAccount(Box<ServiceAccount>),
    Role(Box<Role>),
    RoleBinding(Box<RoleBinding>),
    Lease(Box<Lease>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    NetworkPolicy(Box<NetworkPolicy>),
    Service(Box<Service>),
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    StatefulSet(Box<StatefulSet>),
}

/// Runs `$body` with `$object` bound to the Kubernetes object in any variant.
macro_rules! with_object {
    ($self:expr, $object:ident => $body:expr) => {
        match $self {
            Object::ServiceAccount($object) => $body,
            Object::Role($object) => $body,
            Object::RoleBinding($object) => $body,
            Object::Lease($object) => $body,
            Object::Secret($object) => $body,
            Object::ConfigMap($object) => $body,
            Object::NetworkPolicy($object) => $body,
            Object::Service($object) => $body,
            Object::PodDisruptionBudget($object) => $body,
            Object::StatefulSet($object) => $body,
        }
    };
}

impl Object {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Role(_) => "Role",
            Self::RoleBinding(_) => "RoleBinding",
            Self::Lease(_) => "Lease",
            Self::Secret(_) => "Secret",
            Self::ConfigMap(_) => "ConfigMap",
            Self::NetworkPolicy(_) => "NetworkPolicy",
            Self::Service(_) => "Service",
            Self::PodDisruptionBudget(_) => "PodDisruptionBudget",
            Self::StatefulSet(_) => "StatefulSet",
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        with_object!(self, object => object.metadata.name.as_deref().unwrap_or_default())
    }

    /// Kind and name.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        ObjectId {
            kind: self.kind(),
            name: self.name().to_owned(),
        }
    }

    /// The step that applies it.
    #[must_use]
    pub fn step(&self) -> Step {
        Step::Apply(self.kind(), self.name().to_owned())
    }

    /// Whether it may be deleted and created again where a field of it can't change: all of its content is in the plan,
    /// and nobody outside has its address.
    #[must_use]
    pub fn may_be_created_again(&self) -> bool {
        match self {
            Self::ConfigMap(map) => {
                let labels = map.metadata.labels.as_ref();
                !labels.is_some_and(|labels| labels.contains_key(WRITTEN_BY_LABEL))
            }
            Self::Service(service) => {
                let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
                kind != Some("LoadBalancer")
            }
            _ => false,
        }
    }

    /// The object as JSON with `apiVersion` and `kind`, equal for equal objects.
    ///
    /// # Errors
    /// None that can happen with these types; serde's signature has one.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        with_object!(self, object => serde_json::to_value(object))
    }
}

impl fmt::Debug for Object {
    /// Kind and name only: a Secret's own Debug shows its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Only this one, as the delete's precondition.
    pub uid: Option<String>,
}

/// Kinds that are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A pod, with its own grace period.
    Pod,
    /// A pod on a lost node: with grace period 0.
    PodByForce,
    /// A Service that is no longer wanted.
    Service,
}

/// What is patched in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPatch {
    /// Its name.
    pub name: String,
    /// Its uid, as the patch's precondition: another pod of the name must not be touched.
    pub uid: String,
    /// The new value of [`crate::names::CONFIG_DIGEST_ANNOTATION`].
    pub config_digest: Option<String>,
    /// The new value of [`crate::names::PEERS_DIGEST_ANNOTATION`].
    pub peers_digest: Option<String>,
    /// A new image.
    pub image: Option<ImageChange>,
    /// The new value of the label [`crate::names::REVISION_LABEL`]; the annotation [`crate::names::IN_PLACE_ANNOTATION`] is
    /// taken away in the same patch.
    pub revision: Option<String>,
    /// The new status of the condition [`crate::names::READINESS_GATE`] (patch of the subresource `status`).
    pub gate: Option<GateChange>,
}

/// An image that is changed in a running pod. A refusal is the outcome of [`Step::PodImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChange {
    /// `spec.containers[proxy].image`.
    pub image: String,
    /// The revision that has this image.
    pub revision: String,
    /// The new value of [`crate::names::IN_PLACE_ANNOTATION`], in the same patch.
    pub marker: String,
}

/// The readiness gate of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateChange {
    /// `status`.
    pub open: bool,
    /// `reason`.
    pub reason: &'static str,
    /// `message`.
    pub message: String,
}

/// One call of EnableRadius, UpdateRadius or DisableRadius.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryWrite {
    /// Names the write; equal to `status.pendingWrite.id`.
    pub id: String,
    /// The directory.
    pub directory_id: String,
    /// What is called.
    pub call: DirectoryCall,
    /// Why, for metrics.
    pub reason: WriteReason,
    /// Why, in words.
    pub message: String,
}

/// The call and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryCall {
    /// EnableRadius.
    Enable(Box<RadiusSettings>),
    /// UpdateRadius.
    Update(Box<RadiusSettings>),
    /// DisableRadius.
    Disable,
}

impl DirectoryCall {
    /// Whether it switches RADIUS on.
    #[must_use]
    pub const fn enables(&self) -> bool {
        matches!(self, Self::Enable(_))
    }

    /// Which operation it is.
    #[must_use]
    pub const fn operation(&self) -> AwsOperation {
        match self {
            Self::Enable(_) => AwsOperation::EnableRadius,
            Self::Update(_) => AwsOperation::UpdateRadius,
            Self::Disable => AwsOperation::DisableRadius,
        }
    }
}

/// All of `RadiusSettings`: an update replaces every member, so every member is always sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiusSettings {
    /// Everything but the secret. `servers` goes to RadiusServers, `servers_ipv6` to RadiusServersIpv6; an empty list is
    /// left out of the call.
    pub shown: RegisteredSettings,
    /// SharedSecret.
    pub secret: SharedSecret,
}

/// Why AWS is written to; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteReason {
    /// RADIUS was not configured.
    FirstRegistration,
    /// Somebody else's settings are replaced, as the adoption policy says.
    Adoption,
    /// Servers came or went.
    Servers,
    /// The spec has other settings.
    Settings,
    /// The shared secret changed.
    Secret,
    /// Somebody changed the settings.
    Drift,
    /// Somebody changed the shared secret.
    SecretMismatch,
    /// The last try ended in Failed, or was not answered.
    Retry,
    /// The RadiusProxy is deleted.
    Deletion,
}

impl WriteReason {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstRegistration => "first_registration",
            Self::Adoption => "adoption",
            Self::Servers => "servers",
            Self::Settings => "settings",
            Self::Secret => "secret",
            Self::Drift => "drift",
            Self::SecretMismatch => "secret_mismatch",
            Self::Retry => "retry",
            Self::Deletion => "deletion",
        }
    }
}

/// A Kubernetes Event about the RadiusProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `type`: Warning or Normal.
    pub warning: bool,
    /// `reason`, CamelCase.
    pub reason: &'static str,
    /// `action`, CamelCase.
    pub action: &'static str,
    /// `note`, at most 1,024 bytes.
    pub note: String,
}
