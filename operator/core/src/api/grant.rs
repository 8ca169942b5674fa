//! DirectoryGrant.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Which namespaces may use which directories, written by whoever owns the AWS side. Without a grant a RadiusProxy is
/// not accepted, since the operator's AWS rights would else be everybody's.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "radius-mfa.dev",
    version = "v1alpha1",
    kind = "DirectoryGrant",
    plural = "directorygrants",
    shortname = "dg",
    category = "radius-mfa",
    derive = "PartialEq",
    doc = "Which namespaces may use which directories of AWS Directory Service",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(name = "Directories", type_ = "string", json_path = ".spec.directoryIds"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.roleArn", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryGrantSpec {
    /// Namespaces whose RadiusProxy resources may use the directories, by exact name.
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// Directory ids, such as d-1234567890.
    #[schemars(length(min = 1, max = 256), inner(regex(pattern = "^d-[0-9a-f]{10}$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub directory_ids: Vec<String>,
    /// The AWS region.
    #[schemars(regex(pattern = "^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    pub region: String,
    /// The role that the operator assumes, with the external id `<cluster>/<namespace>/<name>` of the RadiusProxy. Left
    /// out, the operator's own credentials are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = "^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"),
        length(max = 2048)
    )]
    pub role_arn: Option<String>,
}
