//! Whether a RadiusProxy may use its directory, and through which role.

use crate::api::{DirectoryGrant, DirectorySpec, RadiusProxy};
use crate::names::ClusterName;

/// How the directory of a RadiusProxy is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryAccess {
    /// The directory's id.
    pub directory_id: String,
    /// The region.
    pub region: String,
    /// The role to assume; `None` for the operator's own credentials.
    pub role: Option<AssumedRole>,
}

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssumedRole {
    /// Its ARN.
    pub arn: String,
    /// `sts:ExternalId`: `<cluster>/<namespace>/<name>`, so that a role can be bound to one RadiusProxy.
    pub external_id: String,
}

/// Why there is no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAccess {
    /// The RadiusProxy has no directory.
    NoDirectory,
    /// No DirectoryGrant names its namespace, directory and region.
    NoGrant,
}

/// Finds the grant that allows a RadiusProxy its directory. Of several, the first by name decides, so that the answer
/// does not depend on the order of a cache.
///
/// # Errors
/// There is no directory to use, or nobody granted it.
pub fn access(
    proxy: &RadiusProxy,
    grants: &[DirectoryGrant],
    cluster: &ClusterName,
) -> Result<DirectoryAccess, NoAccess> {
    let directory = proxy.spec.directory.as_ref().ok_or(NoAccess::NoDirectory)?;
    let namespace = proxy.metadata.namespace.as_deref().unwrap_or_default();
    let grant = grants
        .iter()
        .filter(|grant| allows(grant, namespace, directory))
        .min_by(|a, b| a.metadata.name.cmp(&b.metadata.name))
        .ok_or(NoAccess::NoGrant)?;
    let name = proxy.metadata.name.as_deref().unwrap_or_default();
    Ok(DirectoryAccess {
        directory_id: directory.id.clone(),
        region: directory.region.clone(),
        role: grant.spec.role_arn.as_ref().map(|arn| AssumedRole {
            arn: arn.clone(),
            external_id: cluster.owner(namespace, name),
        }),
    })
}

fn allows(grant: &DirectoryGrant, namespace: &str, directory: &DirectorySpec) -> bool {
    grant.metadata.deletion_timestamp.is_none()
        && grant.spec.region == directory.region
        && grant.spec.namespaces.iter().any(|n| n == namespace)
        && grant.spec.directory_ids.contains(&directory.id)
}
