//! What to do for one RadiusProxy, as plain values.
//!
//! # Order of the steps
//! 1. Add the finalizer ([`RolloutPlan::finalizer`]).
//! 2. Write the [`RolloutPlan::registration`], at the resource version that was planned from. The Secret follows, so AWS
//!    never gets a shared secret that the proxies no longer accept.
//! 3. [`RolloutPlan::adopt`] and [`RolloutPlan::apply`], in order.
//! 4. Patch the [`RolloutPlan::pods`].
//! 5. Write the [`RolloutPlan::status`].
//! 6. [`RolloutPlan::delete`].
//! 7. Publish the [`RolloutPlan::events`].
//! 8. Remove the finalizer.
//!
//! Each step is tried unless a step that it depends on failed ([`crate::outcomes`]): the configuration depends on the Secrets,
//! the StatefulSet on both, and 6 to 8 on the status. If 1 to 4 fail in another way than the plan assumed, the reconciliation
//! ends before the status, and the next one follows at once.

mod acceptance;
mod conditions;
mod configuration;
mod context;
mod deletion;
mod desired_registration;
mod desired_servers;
mod events;
mod known_directory;
mod load_balancer;
pub mod ownership;
mod plan;
mod proxy_pods;
mod readiness_gate;
pub mod second_operator;
mod status;
mod steps;
mod upgrade;

use std::time::Duration;

use crate::api::{DirectoryRegistrationSpec, RadiusProxyStatus};
use crate::events::Event;
use crate::objects::Object;
use crate::observed::ObjectId;
use crate::registration::FinalizerChange;

pub use events::of_outcomes;
pub use plan::plan;
pub use status::without_observation;

/// Everything to do for one RadiusProxy.
#[derive(Debug, Clone)]
pub struct RolloutPlan {
    /// The finalizer [`crate::names::FINALIZER`].
    pub finalizer: FinalizerChange,
    /// The spec of the directory's registration: to create with [`crate::names::FINALIZER`] when there is none, otherwise to
    /// apply when it differs.
    pub registration: Option<DirectoryRegistrationSpec>,
    /// Objects to apply by server-side apply (force, field manager [`crate::names::FIELD_MANAGER`]), in this order. The
    /// list is always complete; the caller may skip objects that it knows to be applied.
    pub apply: Vec<Object>,
    /// Objects whose owner is gone, to be taken over before anything is applied ([`ownership`]).
    pub adopt: Vec<ObjectId>,
    /// Patches of pods.
    pub pods: Vec<PodPatch>,
    /// The whole status, to write when it differs.
    pub status: RadiusProxyStatus,
    /// Objects to delete; absent ones are fine.
    pub delete: Vec<ObjectRef>,
    /// Whether pods are being brought to another image or template: one of the operator's concurrent rollouts.
    pub upgrading: bool,
    /// Events to publish once.
    pub events: Vec<Event>,
    /// The longest time until the next plan.
    pub requeue_after: Duration,
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
