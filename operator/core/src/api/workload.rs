//! Where the pods run, and changes to their template.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Where the pods run. They are always spread over zones and nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingSpec {
    /// Labels that a node must have, in addition to the operator's setting (kubernetes.io/arch and kubernetes.io/os of the
    /// image, by default). A value here replaces the value of the setting.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Changes to the pod template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplateOverrides {
    /// Labels and annotations to add to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadataOverrides>,
    /// Fields of a PodSpec to merge into the operator's own (strategic merge, as in kubectl patch): containers, volumes and
    /// environment variables are merged by name, volume mounts by path; `$patch: delete` and `$patch: replace` delete and replace. The container is named proxy.
    /// The operator refuses changes to fields that it relies on, such as the container's command, ports and probes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub spec: Map<String, Value>,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Labels and annotations to add to the pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PodMetadataOverrides {
    /// Labels to add. Labels of app.kubernetes.io and radius-mfa.dev are reserved and ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add. Annotations of radius-mfa.dev are reserved and ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub annotations: BTreeMap<String, String>,
}

/// The API server accepts a quantity as a number (`cpu: 1`) and returns it as one; the type is text only.
/// Without this, one such RadiusProxy would make a list of all of them unreadable.
pub(super) fn resources<'de, D>(deserializer: D) -> Result<Option<ResourceRequirements>, D::Error>
where
    D: Deserializer<'de>,
{
    let mut resources = Value::deserialize(deserializer)?;
    quantities_as_text(&mut resources);
    serde_json::from_value(resources).map_err(D::Error::custom)
}

/// Turns quantities that are numbers into text, wherever they are.
pub(crate) fn quantities_as_text(value: &mut Value) {
    let children: Vec<&mut Value> = match value {
        Value::Object(fields) => {
            for part in ["limits", "requests"] {
                let quantities = fields.get_mut(part).and_then(Value::as_object_mut);
                for quantity in quantities.into_iter().flat_map(Map::values_mut) {
                    if quantity.is_number() {
                        *quantity = Value::String(quantity.to_string());
                    }
                }
            }
            fields.values_mut().collect()
        }
        Value::Array(items) => items.iter_mut().collect(),
        _ => return,
    };
    children.into_iter().for_each(quantities_as_text);
}
