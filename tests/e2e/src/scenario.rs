//! The two RadiusProxy resources of the demo and the tests: one with Duo, one with TOTP.

use crate::simulators::{CONNECTOR_DIRECTORY, MICROSOFT_DIRECTORY};

/// Their namespace: another than that of the examples, some of which have the same names.
pub const NAMESPACE: &str = "mfa-demo";

/// The RadiusProxy `workspaces`: Duo, for the AWS Managed Microsoft AD.
#[derive(Debug, Clone)]
pub struct DuoProxy {
    /// Where Duo's API is, host:port.
    pub api_host: String,
    /// The certificate that Duo's is signed with.
    pub ca_bundle: String,
    /// How many proxies.
    pub replicas: u32,
}

impl DuoProxy {
    /// Its name.
    pub const NAME: &str = "workspaces";
    /// The Secret with the shared secret, key `secret`.
    pub const SHARED_SECRET: &str = "workspaces-radius";

    /// The keys of the application at Duo: integration key and secret key.
    pub const KEYS: (&str, &str) = ("DISIMULATOR000000001", "simulatorsimulatorsimulatorsimulator0000");

    /// The Secrets it needs.
    #[must_use]
    pub fn secrets(shared_secret: &str) -> String {
        let (own, shared) = (Self::keys(Self::KEYS), Self::shared_secret(shared_secret));
        format!("{own}---\n{shared}")
    }

    /// The Secret with an application's keys alone.
    #[must_use]
    pub fn keys((ikey, skey): (&str, &str)) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: duo, namespace: {NAMESPACE}}}\nstringData:\n  \
             ikey: {ikey}\n  skey: {skey}\n"
        )
    }

    /// The Secret with the shared secret alone.
    #[must_use]
    pub fn shared_secret(shared_secret: &str) -> String {
        let name = Self::SHARED_SECRET;
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\nstringData:\n  \
             secret: {shared_secret}\n"
        )
    }

    /// The resource itself.
    #[must_use]
    pub fn manifest(&self) -> String {
        let secret = format!("  sharedSecretRef:\n    name: {}\n", Self::SHARED_SECRET);
        self.manifest_with(Self::NAME, MICROSOFT_DIRECTORY, &secret)
    }

    /// One like it for another directory; its shared secret is generated.
    #[must_use]
    pub fn manifest_for(&self, name: &str, directory: &str) -> String {
        self.manifest_with(name, directory, "")
    }

    fn manifest_with(&self, name: &str, directory: &str, secret: &str) -> String {
        let ca_bundle: String = self
            .ca_bundle
            .lines()
            .map(|line| format!("        {line}\n"))
            .collect();
        format!(
            "apiVersion: radius-mfa.dev/v1alpha1
kind: RadiusProxy
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  replicas: {replicas}
  directory:
    id: {directory}
    region: eu-central-1
    protocol: PAP
    timeoutSeconds: 5
    retries: 4
    displayLabel: DUO
    useSameUsername: true
    deletionPolicy: Disable
{secret}  provider:
    duo:
      apiHost: {api_host}
      credentialsSecretRef:
        name: duo
      factors: [Push]
      failMode: Secure
      caBundle: |
{ca_bundle}",
            replicas = self.replicas,
            api_host = self.api_host,
        )
    }
}

/// The RadiusProxy `vpn`: TOTP, for the AD Connector; its shared secret is generated.
#[derive(Debug, Clone, Copy)]
pub struct TotpProxy;

impl TotpProxy {
    /// Its name.
    pub const NAME: &str = "vpn";

    /// The Secret with the seeds, each an otpauth:// URI under the user's name.
    #[must_use]
    pub fn secrets(users: &[(&str, &str)]) -> String {
        let seeds: String = users
            .iter()
            .map(|(user, uri)| format!("  {user}: {uri}\n"))
            .collect();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: totp-seeds, namespace: {NAMESPACE}}}\nstringData:\n{seeds}"
        )
    }

    /// The resource itself.
    #[must_use]
    pub fn manifest() -> String {
        format!(
            "apiVersion: radius-mfa.dev/v1alpha1
kind: RadiusProxy
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  replicas: 2
  directory:
    id: {CONNECTOR_DIRECTORY}
    region: eu-central-1
    timeoutSeconds: 5
    retries: 4
    displayLabel: TOTP
  provider:
    totp:
      seedsSecretRef:
        name: totp-seeds
",
            name = Self::NAME
        )
    }
}
