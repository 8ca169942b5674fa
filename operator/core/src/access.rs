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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn proxy(namespace: &str) -> RadiusProxy {
        serde_json::from_value(json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "mfa", "namespace": namespace},
            "spec": {
                "directory": {"id": "d-1234567890", "region": "eu-central-1"},
                "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}},
            },
        }))
        .unwrap()
    }

    fn grant(name: &str, changed: &Value) -> DirectoryGrant {
        let mut spec = json!({"namespaces": ["auth", "other"], "directoryIds": ["d-1234567890"], "region": "eu-central-1"});
        for (field, value) in changed.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let grant = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": name},
            "spec": spec});
        serde_json::from_value(grant).unwrap()
    }

    fn of(namespace: &str, grants: &[DirectoryGrant]) -> Result<DirectoryAccess, NoAccess> {
        access(&proxy(namespace), grants, &ClusterName::parse("prod").unwrap())
    }

    #[test]
    fn a_grant_is_for_its_namespaces_directories_and_region_alone() {
        assert_eq!(of("auth", &[]), Err(NoAccess::NoGrant));
        let own = of("auth", &[grant("g", &json!({}))]).unwrap();
        assert_eq!((own.region.as_str(), own.role), ("eu-central-1", None));
        assert_eq!(of("elsewhere", &[grant("g", &json!({}))]), Err(NoAccess::NoGrant));
        for other in [
            json!({"namespaces": ["other"]}),
            json!({"directoryIds": ["d-1234567891"]}),
            json!({"region": "us-east-1"}),
        ] {
            assert_eq!(
                of("auth", &[grant("g", &other)]),
                Err(NoAccess::NoGrant),
                "{other}"
            );
        }
    }

    #[test]
    fn a_role_is_assumed_with_an_external_id_of_the_radius_proxys_own() {
        let arn = "arn:aws:iam::123456789012:role/mfa";
        let grants = [grant("g", &json!({"roleArn": arn}))];
        let external_id = |namespace| of(namespace, &grants).unwrap().role.unwrap().external_id;
        assert_eq!(external_id("auth"), "prod/auth/mfa");
        assert_eq!(external_id("other"), "prod/other/mfa");
    }

    #[test]
    fn of_several_grants_the_first_by_name_decides_and_one_that_is_being_deleted_does_not() {
        let role = |n: u8| json!({"roleArn": format!("arn:aws:iam::12345678901{n}:role/mfa")});
        let mut grants = [grant("b", &role(2)), grant("a", &role(1))];
        let arn = |grants: &[DirectoryGrant]| of("auth", grants).unwrap().role.unwrap().arn;
        assert!(arn(&grants).contains("123456789011"));
        grants[1].metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert!(arn(&grants).contains("123456789012"));
    }
}
