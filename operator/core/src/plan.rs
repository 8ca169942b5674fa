//! The rollout's plan: what has to be done for one RadiusProxy, as plain values.
//!
//! # Order of the steps
//! 1. [`Plan::finalizer`] `Add`; 2. [`Plan::registration`]; 3. [`Plan::adopt`] and [`Plan::apply`], in order; 4. [`Plan::pods`]; 5. [`Plan::status`];
//!    6. [`Plan::delete`]; 7. [`Plan::events`]; 8. [`Plan::finalizer`] `Remove`.
//!
//! 2 is written at the registration's resource version that was planned from, and before the Secret is applied: so AWS is never
//! given a shared secret that the proxies no longer accept.
//!
//! All steps are tried, but those that depend on one that failed ([`crate::outcomes`]): the configuration needs its Secrets,
//! the StatefulSet both, and 6 to 8 the
//! status. A round in which 1 to 4 fail in another way than was planned with ends before the status, and the next one
//! follows at once.

mod accept;
mod actions;
mod balancer;
mod build;
mod deletion;
mod desired;
mod events;
mod gate;
mod known;
pub mod operators;
pub mod ownership;
mod pods;
mod registering;
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

use crate::api::{DirectoryRegistrationSpec, RadiusProxyStatus};
use crate::names::WRITTEN_BY_LABEL;
use crate::observed::ObjectId;
use crate::outcomes::Step;

pub use build::plan;
pub use events::of_outcomes;
pub use status::without_observation;

pub use crate::events::Event;
pub use crate::registration::{
    DirectoryCall, DirectoryWrite, FinalizerChange, LONGEST_ANSWER, RadiusSettings, WriteReason, is_fresh,
};

/// What has to be done for one RadiusProxy.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The finalizer [`crate::names::FINALIZER`].
    pub finalizer: FinalizerChange,
    /// What the directory's registration should say: created with [`crate::names::FINALIZER`] when there is none, else
    /// applied when it differs.
    pub registration: Option<DirectoryRegistrationSpec>,
    /// Objects to apply by server-side apply (force, field manager [`crate::names::FIELD_MANAGER`]), in this order. All
    /// there should be, each time; whoever executes may leave out what he knows to be applied already.
    pub apply: Vec<Object>,
    /// Objects whose owner is gone, to be taken over before anything is applied ([`ownership`]).
    pub adopt: Vec<ObjectId>,
    /// Patches of pods.
    pub pods: Vec<PodPatch>,
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
