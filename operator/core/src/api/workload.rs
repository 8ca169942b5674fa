//! Where the pods run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Where the pods run, beside the spread over zones and nodes that they always have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingSpec {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Further affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// The pods' PriorityClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// The API server takes a quantity as a number, too (`cpu: 1`), and gives it back as one; the type knows text only.
/// Without this, one such RadiusProxy would make a list of all of them unreadable.
pub(super) fn resources<'de, D>(deserializer: D) -> Result<Option<ResourceRequirements>, D::Error>
where
    D: Deserializer<'de>,
{
    let mut resources = Value::deserialize(deserializer)?;
    for part in ["limits", "requests"] {
        let quantities = resources.get_mut(part).and_then(Value::as_object_mut);
        for quantity in quantities
            .into_iter()
            .flat_map(|quantities| quantities.values_mut())
        {
            if quantity.is_number() {
                *quantity = Value::String(quantity.to_string());
            }
        }
    }
    serde_json::from_value(resources).map_err(D::Error::custom)
}
