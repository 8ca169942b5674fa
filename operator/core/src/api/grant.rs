//! DirectoryGrant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Allows namespaces to use directories of AWS Directory Service. Without a grant a RadiusProxy isn't accepted: anyone who
/// can create one could otherwise use the operator's AWS permissions.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "radius-mfa.dev",
    version = "v1alpha1",
    kind = "DirectoryGrant",
    plural = "directorygrants",
    shortname = "dg",
    category = "radius-mfa",
    status = "DirectoryGrantStatus",
    derive = "PartialEq",
    doc = "Allows namespaces to use directories of AWS Directory Service",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Users",
        type_ = "integer",
        json_path = ".status.userCount",
        description = "RadiusProxy resources that use this grant"
    ),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(
        name = "Directories",
        type_ = "string",
        json_path = ".spec.directories",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.namespaces) || has(self.namespaceSelector)").message("spec has neither namespaces nor namespaceSelector; name namespaces, or select them by their labels"))]
pub struct DirectoryGrantSpec {
    /// Namespaces that may use the directories, by exact name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// Selects further namespaces that may use the directories, by their labels. It must have at least one requirement.
    /// Anyone who can label namespaces can then give them the directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)").message("spec.namespaceSelector is empty and would select every namespace; give it matchLabels or matchExpressions"))]
    pub namespace_selector: Option<LabelSelector>,
    /// Directories that the namespaces may use.
    #[schemars(length(min = 1, max = 64))]
    pub directories: Vec<GrantedDirectories>,
}

/// Directories of one region and account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedDirectories {
    /// AWS region of the directories, such as eu-central-1.
    #[schemars(regex(pattern = "^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    pub region: String,
    /// Ids of the directories, such as d-1234567890.
    #[schemars(length(min = 1, max = 256), inner(regex(pattern = "^d-[0-9a-f]{10}$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub directory_ids: Vec<String>,
    /// ARN of the role that the operator assumes for these directories, with the external id `<cluster>/<namespace>/<name>`
    /// of the RadiusProxy. If left out, the operator uses its own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = "^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"),
        length(max = 2048)
    )]
    pub role_arn: Option<String>,
}

/// Observed state of a DirectoryGrant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryGrantStatus {
    /// Generation that the status is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Condition Accepted: whether the grant is in effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Number of RadiusProxy resources that use this grant.
    #[serde(default)]
    pub user_count: u32,
    /// RadiusProxy resources that use this grant, at most 256. When several grants allow the same directory, the first
    /// by name is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<GrantUser>,
}

/// A RadiusProxy that uses a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantUser {
    /// Namespace of the RadiusProxy.
    pub namespace: String,
    /// Name of the RadiusProxy.
    pub name: String,
    /// Id of its directory.
    pub directory_id: String,
    /// Region of its directory.
    pub region: String,
}
