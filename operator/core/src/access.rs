//! DirectoryGrants: whether a RadiusProxy may use its directory, and through which role.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use crate::api::{
    ConditionType, DirectoryGrant, DirectoryGrantStatus, DirectorySpec, GrantUser, GrantedDirectories,
    RadiusProxy,
};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, set_conditions};
use crate::names::ClusterName;

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// The most users that a grant's status lists.
const MAX_USERS: usize = 256;
/// The message of a grant without problems.
const IN_EFFECT: &str = "the grant is in effect";

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
    /// No DirectoryGrant allows its namespace this directory and region.
    NoGrant,
}

/// Finds the grant that allows a RadiusProxy its directory. When several do, the first by name is used, so that the answer
/// doesn't depend on the order of a cache. `labels` are those of the RadiusProxy's namespace; a namespace whose labels are
/// unknown is allowed by its name only.
///
/// # Errors
/// The RadiusProxy has no directory, or no grant allows it.
pub fn access(
    proxy: &RadiusProxy,
    labels: Option<&Labels>,
    grants: &[impl Borrow<DirectoryGrant>],
    cluster: &ClusterName,
) -> Result<DirectoryAccess, NoAccess> {
    let directory = proxy.spec.directory.as_ref().ok_or(NoAccess::NoDirectory)?;
    let (_, granted) = granted(proxy, directory, labels, grants).ok_or(NoAccess::NoGrant)?;
    let namespace = proxy.metadata.namespace.as_deref().unwrap_or_default();
    let name = proxy.metadata.name.as_deref().unwrap_or_default();
    Ok(DirectoryAccess {
        directory_id: directory.id.clone(),
        region: directory.region.clone(),
        role: granted.role_arn.as_ref().map(|arn| AssumedRole {
            arn: arn.clone(),
            external_id: cluster.owner(namespace, name),
        }),
    })
}

/// Whether a grant applies to a namespace.
#[must_use]
pub fn applies_to(grant: &DirectoryGrant, namespace: &str, labels: Option<&Labels>) -> bool {
    // A requirement such as NotIn is met by labels that aren't there, so unknown labels must not be taken for none.
    let selects = |selector: &LabelSelector| {
        labels.is_some_and(|labels| parse(selector).is_ok_and(|selector| selector.matches(labels)))
    };
    grant.metadata.deletion_timestamp.is_none()
        && (grant.spec.namespaces.iter().any(|name| name == namespace)
            || grant.spec.namespace_selector.as_ref().is_some_and(selects))
}

/// The RadiusProxy resources that use each grant, sorted, by the grant's name. `labels` are those of the namespaces, by name.
#[must_use]
pub fn users(
    grants: &[impl Borrow<DirectoryGrant>],
    proxies: &[impl Borrow<RadiusProxy>],
    labels: &BTreeMap<String, Labels>,
) -> BTreeMap<String, Vec<GrantUser>> {
    let mut users: BTreeMap<String, Vec<GrantUser>> = BTreeMap::new();
    for proxy in proxies.iter().map(Borrow::borrow) {
        let meta = &proxy.metadata;
        let (Some(namespace), Some(name), Some(directory)) =
            (&meta.namespace, &meta.name, &proxy.spec.directory)
        else {
            continue;
        };
        let grant = granted(proxy, directory, labels.get(namespace), grants);
        if let Some(grant) = grant.and_then(|(grant, _)| grant.metadata.name.clone()) {
            users.entry(grant).or_default().push(GrantUser {
                namespace: namespace.clone(),
                name: name.clone(),
                directory_id: directory.id.clone(),
                region: directory.region.clone(),
            });
        }
    }
    for users in users.values_mut() {
        users.sort();
    }
    users
}

/// The status of a grant. `users` are those in the namespaces that this operator watches: `watched`, or all when it is `None`.
/// Users elsewhere are another operator's to report, and stay. `namespaces` are all namespaces of the cluster by name, none when
/// they can't be listed.
#[must_use]
pub fn status(
    grant: &DirectoryGrant,
    users: &[GrantUser],
    watched: Option<&BTreeSet<String>>,
    namespaces: &BTreeMap<String, Labels>,
    now: Timestamp,
) -> DirectoryGrantStatus {
    let before = grant.status.clone().unwrap_or_default();
    let generation = grant.metadata.generation;
    let is_elsewhere = |user: &GrantUser| watched.is_some_and(|watched| !watched.contains(&user.namespace));
    let elsewhere = before.users.into_iter().filter(is_elsewhere);
    let mut users: Vec<GrantUser> = users.iter().cloned().chain(elsewhere).collect();
    users.sort();
    let user_count = u32::try_from(users.len()).unwrap_or(u32::MAX);
    users.truncate(MAX_USERS);
    DirectoryGrantStatus {
        observed_generation: generation,
        conditions: set_conditions(
            &[accepted(grant, namespaces)],
            &before.conditions,
            generation,
            now,
        ),
        user_count,
        users,
    }
}

fn accepted(grant: &DirectoryGrant, namespaces: &BTreeMap<String, Labels>) -> ConditionDraft {
    let draft = |status, reason, message: String| {
        ConditionDraft::new(ConditionType::Accepted, status, reason, message)
    };
    if let Some(Err(error)) = grant.spec.namespace_selector.as_ref().map(parse) {
        let message = format!(
            "spec.namespaceSelector is invalid and selects no namespace: {error}. Namespaces in spec.namespaces are allowed \
             all the same"
        );
        return draft(ConditionStatus::False, Reason::ConfigInvalid, message);
    }
    let missing = grant.spec.namespaces.iter();
    let missing: Vec<&str> = missing
        .filter(|name| !namespaces.is_empty() && !namespaces.contains_key(*name))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return draft(ConditionStatus::True, Reason::Accepted, IN_EFFECT.to_owned());
    }
    let message = format!(
        "{IN_EFFECT}. These namespaces don't exist: {}",
        missing.join(", ")
    );
    draft(ConditionStatus::True, Reason::AcceptedWithWarnings, message)
}

/// The grant that a RadiusProxy uses, and its entry for the directory.
fn granted<'a>(
    proxy: &RadiusProxy,
    directory: &DirectorySpec,
    labels: Option<&Labels>,
    grants: &'a [impl Borrow<DirectoryGrant>],
) -> Option<(&'a DirectoryGrant, &'a GrantedDirectories)> {
    let namespace = proxy.metadata.namespace.as_deref().unwrap_or_default();
    let allows = |entry: &&GrantedDirectories| {
        entry.region == directory.region && entry.directory_ids.contains(&directory.id)
    };
    grants
        .iter()
        .map(Borrow::borrow)
        .filter_map(|grant| Some((grant, grant.spec.directories.iter().find(allows)?)))
        .filter(|(grant, _)| applies_to(grant, namespace, labels))
        .min_by(|(a, _), (b, _)| a.metadata.name.cmp(&b.metadata.name))
}

/// An empty selector would select every namespace; here it selects none.
fn parse(selector: &LabelSelector) -> Result<Selector, String> {
    let parsed = Selector::try_from(selector.clone()).map_err(|error| error.to_string())?;
    if parsed.selects_all() {
        return Err("it is empty".to_owned());
    }
    Ok(parsed)
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
        let mut spec = json!({"namespaces": ["auth", "other"]});
        let mut directories = json!({"directoryIds": ["d-1234567890"], "region": "eu-central-1"});
        for (field, value) in changed.as_object().unwrap() {
            let of_grant = ["namespaces", "namespaceSelector"].contains(&field.as_str());
            let object = if of_grant { &mut spec } else { &mut directories };
            object[field] = value.clone();
        }
        spec["directories"] =
            json!([{"directoryIds": ["d-0000000000"], "region": "eu-central-1"}, directories]);
        let grant = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": name},
            "spec": spec});
        serde_json::from_value(grant).unwrap()
    }

    fn of(namespace: &str, grants: &[DirectoryGrant]) -> Result<DirectoryAccess, NoAccess> {
        access(
            &proxy(namespace),
            None,
            grants,
            &ClusterName::parse("prod").unwrap(),
        )
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
            Timestamp::UNIX_EPOCH,
        ));
        assert!(arn(&grants).contains("123456789012"));
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn namespaces_are_also_selected_by_their_labels() {
        let selector =
            |selector: &Value| grant("g", &json!({"namespaces": [], "namespaceSelector": selector}));
        let team = selector(&json!({"matchLabels": {"mfa": "yes"}}));
        let not =
            selector(&json!({"matchExpressions": [{"key": "mfa", "operator": "NotIn", "values": ["no"]}]}));
        let applies = |grant: &DirectoryGrant, labels: Option<&Labels>| applies_to(grant, "auth", labels);
        assert!(applies(&team, Some(&labels(&[("mfa", "yes")]))));
        assert!(!applies(&team, Some(&labels(&[("mfa", "no")]))));
        assert!(applies(&not, Some(&labels(&[]))));
        assert!(!applies(&not, Some(&labels(&[("mfa", "no")]))));
        assert!(
            !applies(&not, None),
            "labels that cannot be seen are not labels that aren't there"
        );
        assert!(!applies(&selector(&json!({})), Some(&labels(&[("mfa", "yes")]))));
        let malformed = json!({"matchExpressions": [{"key": "mfa", "operator": "Near"}]});
        assert!(!applies(&selector(&malformed), Some(&labels(&[]))));
    }

    #[test]
    fn a_status_names_those_who_use_the_grant_and_no_other() {
        let grants = [
            grant("b", &json!({})),
            grant("a", &json!({"namespaces": ["auth"]})),
        ];
        let mut without = proxy("other");
        without.spec.directory = None;
        without.metadata.name = Some("clients-only".to_owned());
        let proxies = [proxy("other"), proxy("auth"), proxy("elsewhere"), without];
        let users = users(&grants, &proxies, &BTreeMap::new());
        let of =
            |name: &str| -> Vec<&str> { users[name].iter().map(|user| user.namespace.as_str()).collect() };
        assert_eq!((of("a"), of("b")), (vec!["auth"], vec!["other"]));
        let many = vec![users["a"][0].clone(); 300];
        let status = status(&grants[1], &many, None, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        assert_eq!((status.user_count, status.users.len()), (300, 256));
    }

    #[test]
    fn two_operators_with_namespaces_of_their_own_leave_each_others_users_in_the_status() {
        let user = |namespace: &str| GrantUser {
            namespace: namespace.to_owned(),
            name: "mfa".to_owned(),
            directory_id: "d-1234567890".to_owned(),
            region: "eu-central-1".to_owned(),
        };
        let mut grant = grant("g", &json!({}));
        let mut write = |watched: &str, users: &[GrantUser]| {
            let watched = [watched.to_owned()].into();
            let status = status(
                &grant,
                users,
                Some(&watched),
                &BTreeMap::new(),
                Timestamp::UNIX_EPOCH,
            );
            grant.status = Some(status.clone());
            status.users
        };
        write("auth", &[user("auth")]);
        let both = [user("auth"), user("other")];
        assert_eq!(write("other", &[user("other")]), both);
        assert_eq!(write("auth", &[user("auth")]), both);
        assert_eq!(write("auth", &[]), [user("other")]);
    }

    #[test]
    fn a_status_tells_what_is_wrong_with_the_namespaces() {
        let told = |grant: &DirectoryGrant, namespaces: &[&str]| {
            let namespaces = namespaces.iter().map(|name| ((*name).to_owned(), Labels::new()));
            let status = status(grant, &[], None, &namespaces.collect(), Timestamp::UNIX_EPOCH);
            let condition = status.conditions[0].clone();
            (condition.status, condition.reason, condition.message)
        };
        let named = grant("g", &json!({}));
        assert_eq!(told(&named, &["auth", "other"]).1, "Accepted");
        let (status, reason, message) = told(&named, &["auth"]);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("True", "AcceptedWithWarnings")
        );
        assert!(message.ends_with("don't exist: other"), "{message}");
        let malformed =
            json!({"namespaceSelector": {"matchExpressions": [{"key": "mfa", "operator": "In"}]}});
        let (status, reason, message) = told(&grant("g", &malformed), &["auth", "other"]);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ConfigInvalid"));
        assert!(message.contains("spec.namespaceSelector is invalid"), "{message}");
    }
}
