//! An object of any kind that is applied.

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

use crate::names::WRITTEN_BY_LABEL;
use crate::observed::ObjectId;
use crate::outcomes::Step;

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
