//! What is made at scale: teams with a namespace and an AWS account each, their directories, their RadiusProxy resources. Pure.
//!
//! AWS allows some tens of directories in an account and region, so a thousand of them are those of many accounts: each has a
//! role of its own, which the operator assumes.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The region of every directory.
pub(crate) const REGION: &str = "eu-central-1";
/// The name of the Secret with the provider's credentials in each namespace.
const CREDENTIALS: &str = "duo";

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    /// RadiusProxy resources, each with a directory.
    pub(crate) proxies: u32,
    /// Pods of each.
    pub(crate) replicas: u32,
    /// AWS accounts, each with a namespace, a role and a grant.
    pub(crate) accounts: u32,
}

impl World {
    /// The namespace of RadiusProxy `n`.
    pub(crate) fn namespace(self, n: u32) -> String {
        team(n % self.accounts.max(1))
    }

    /// The name of RadiusProxy `n`.
    pub(crate) fn name(self, n: u32) -> String {
        format!("mfa-{n:04}")
    }

    /// The directory of RadiusProxy `n`.
    pub(crate) fn directory(self, n: u32) -> String {
        format!("d-{:010x}", 0x90_6700_0000_u64 + u64::from(n))
    }

    /// Namespaces, credentials and grants, to be applied before everything else.
    pub(crate) fn foundations(self) -> Value {
        let teams = (0..self.accounts).flat_map(|account| {
            let namespace = team(account);
            let directories: Vec<String> = (0..self.proxies)
                .filter(|n| n % self.accounts.max(1) == account)
                .map(|n| self.directory(n))
                .collect();
            [
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace,
                       "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}),
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS, "namespace": namespace},
                       "stringData": {"ikey": "DISIMULATOR000000001", "skey": "simulatorsimulatorsimulatorsimulator0000"}}),
                json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": namespace},
                       "spec": {"namespaces": [namespace],
                                "directories": [{"directoryIds": directories, "region": REGION, "roleArn": role(account)}]}}),
            ]
        });
        json!({"apiVersion": "v1", "kind": "List", "items": teams.collect::<Vec<_>>()})
    }

    /// RadiusProxy `n`.
    pub(crate) fn proxy(self, n: u32) -> Value {
        json!({
            "apiVersion": "radius-mfa.dev/v1alpha1",
            "kind": "RadiusProxy",
            "metadata": {"name": self.name(n), "namespace": self.namespace(n)},
            "spec": {
                "replicas": self.replicas,
                "directory": {"id": self.directory(n), "region": REGION, "protocol": "PAP"},
                "provider": {"duo": {
                    "apiHost": "api-00000000.duosecurity.com",
                    "credentialsSecretRef": {"name": CREDENTIALS},
                    "factors": ["Push"],
                }},
            },
        })
    }

    /// The configuration of the simulated AWS: the accounts' roles, and every directory with two domain controllers, which
    /// are content with any servers after half a second.
    pub(crate) fn simulated(self) -> String {
        let mut text =
            "[settings.probe]\nwithout_controllers = \"complete\"\nmin_creating_ms = 500\n".to_owned();
        for account in 0..self.accounts {
            let _ = write!(
                text,
                "[[roles]]\narn = \"{}\"\ntrusted = [\"*\"]\n",
                role(account)
            );
        }
        for n in 0..self.proxies {
            let (high, low) = (n / 250, n % 250 + 1);
            let _ = write!(
                text,
                "[[directories]]\nid = \"{}\"\ntype = \"MicrosoftAD\"\nname = \"corp{n}.example.com\"\nregion = \"{REGION}\"\n\
                 static_controllers = [{{address = \"10.60.{high}.{low}\"}}, {{address = \"10.61.{high}.{low}\"}}]\n",
                self.directory(n)
            );
        }
        text
    }
}

fn team(account: u32) -> String {
    format!("team-{account:02}")
}

fn role(account: u32) -> String {
    format!(
        "arn:aws:iam::{:012}:role/mfa",
        100_000_000_000_u64 + u64::from(account)
    )
}

#[cfg(test)]
mod tests {
    use operator_core::api::{DirectoryGrant, RadiusProxy};

    use super::*;

    const WORLD: World = World {
        proxies: 1000,
        replicas: 3,
        accounts: 20,
    };

    #[test]
    fn every_directory_is_granted_to_the_namespace_that_names_it() {
        let foundations = WORLD.foundations();
        let grants: Vec<DirectoryGrant> = foundations["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["kind"] == "DirectoryGrant")
            .map(|item| serde_json::from_value(item.clone()).unwrap())
            .collect();
        assert_eq!(grants.len(), 20);
        for n in 0..WORLD.proxies {
            let proxy: RadiusProxy = serde_json::from_value(WORLD.proxy(n)).unwrap();
            let directory = proxy.spec.directory.unwrap();
            let namespace = proxy.metadata.namespace.unwrap();
            assert!(grants.iter().any(|grant| {
                let mut directories = grant.spec.directories.iter();
                grant.spec.namespaces.contains(&namespace)
                    && directories.any(|granted| granted.directory_ids.contains(&directory.id))
            }));
        }
    }

    #[test]
    fn every_directory_is_simulated() {
        let text = WORLD.simulated();
        assert_eq!(text.matches("[[directories]]").count(), 1000);
        assert!(text.contains("id = \"d-90670003e7\""));
    }
}
