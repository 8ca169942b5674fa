//! One small certificate authority, a certificate for every part, and the kubeconfigs that hold them.
//!
//! All of it lives and ends with the cluster, and is readable by root alone.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::error::Error;
use crate::layout::Layout;
use crate::network::Network;

const AUTHORITY: &str = "radius-mfa local cluster";

/// The files of the cluster's keys and certificates.
#[derive(Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
    api_url: String,
}

impl Pki {
    /// The files of a cluster, made or not.
    pub(crate) fn of(layout: &Layout, network: Network) -> Self {
        Self {
            folder: layout.pki(),
            api_url: network.api_url(),
        }
    }

    /// Makes what is missing for the control plane and the administrator.
    pub(crate) fn ensure(&self, layout: &Layout, network: Network) -> Result<(), Error> {
        if !self.key("ca").exists() {
            let key = new_key(AUTHORITY)?;
            let certificate = authority().self_signed(&key).map_err(refused(AUTHORITY))?;
            self.store("ca", &certificate.pem(), &key)?;
        }
        if !self.key("service-account").exists() {
            let account = new_key("service accounts")?;
            write_secret(&self.service_account_public_key(), &account.public_key_pem())?;
            write_secret(&self.key("service-account"), &account.serialize_pem())?;
        }
        self.issue("kube-apiserver", "kube-apiserver", None, &api_names(network))?;
        self.issue(
            "kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
            &[],
        )?;
        for part in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            self.kubeconfig(&self.kubeconfig_of(part), part, &format!("system:{part}"), None)?;
        }
        self.kubeconfig(&layout.kubeconfig(), "admin", "admin", Some("system:masters"))
    }

    /// Makes what is missing for a node: its serving certificate and its kubeconfig.
    pub(crate) fn ensure_node(&self, node: &str, address: IpAddr) -> Result<(), Error> {
        let names = [SanType::IpAddress(address), dns(node)?];
        self.issue(&format!("{node}-serving"), node, None, &names)?;
        let user = format!("system:node:{node}");
        self.kubeconfig(&self.kubeconfig_of(node), node, &user, Some("system:nodes"))
    }

    /// A certificate's file.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// A key's file.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The file of the key that proves service account tokens.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("service-account.pub")
    }

    /// The kubeconfig file of a part.
    pub(crate) fn kubeconfig_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.kubeconfig"))
    }

    fn issue(&self, name: &str, user: &str, group: Option<&str>, names: &[SanType]) -> Result<(), Error> {
        // The key is written last, so a certificate without one is from an interrupted start.
        if self.key(name).exists() {
            return Ok(());
        }
        let path = self.key("ca");
        let authority_key = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let authority_key = KeyPair::from_pem(&authority_key).map_err(refused(AUTHORITY))?;
        let issuer = Issuer::new(authority(), authority_key);
        let key = new_key(user)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).map_err(refused(user))?;
        self.store(name, &certificate.pem(), &key)
    }

    fn store(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<(), Error> {
        write_secret(&self.certificate(name), certificate)?;
        write_secret(&self.key(name), &key.serialize_pem())
    }

    fn kubeconfig(&self, path: &Path, name: &str, user: &str, group: Option<&str>) -> Result<(), Error> {
        if path.exists() {
            return Ok(());
        }
        self.issue(name, user, group, &[])?;
        let read = |file: PathBuf| fs::read(&file).map_err(Error::file("read", &file));
        let encoded = |file: PathBuf| read(file).map(|bytes| STANDARD.encode(bytes));
        let text = kubeconfig(
            &self.api_url,
            &encoded(self.certificate("ca"))?,
            &encoded(self.certificate(name))?,
            &encoded(self.key(name))?,
        );
        write_secret(path, &text)
    }
}

/// A kubeconfig that needs no other file; the three last are PEM in base64.
fn kubeconfig(server: &str, authority: &str, certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: local\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {authority}\n\
         users:\n\
         - name: local\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: local\n\
         \x20 context: {{cluster: local, user: local}}\n\
         current-context: local\n"
    )
}

/// The authority is never read back: its name and key make the same issuer again.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

fn api_names(network: Network) -> Vec<SanType> {
    let addresses = [
        network.api(),
        network.api_service(),
        std::net::Ipv4Addr::LOCALHOST,
    ];
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses = addresses
        .into_iter()
        .map(|address| SanType::IpAddress(address.into()));
    addresses
        .chain(names.into_iter().filter_map(|name| dns(name).ok()))
        .collect()
}

fn dns(name: &str) -> Result<SanType, Error> {
    name.try_into().map(SanType::DnsName).map_err(refused(name))
}

fn new_key(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(refused(subject))
}

fn refused(subject: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Certificate { subject, source }
}

/// Whole or not at all: a file that is there is never written again.
fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut options = fs::OpenOptions::new();
    let options = options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options
        .open(&unfinished)
        .map_err(Error::file("create", &unfinished))?;
    file.write_all(text.as_bytes())
        .map_err(Error::file("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_yaml_with_server_and_user() {
        let text = kubeconfig("https://10.88.0.1:6443", "QQ==", "Qg==", "Qw==");
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            value["clusters"][0]["cluster"]["server"],
            "https://10.88.0.1:6443"
        );
        assert_eq!(value["users"][0]["user"]["client-key-data"], "Qw==");
        assert_eq!(value["contexts"][0]["context"]["user"], "local");
    }

    #[test]
    fn the_api_server_is_named_by_address_and_by_service() {
        let network = Network::choose(&[], &[]).unwrap();
        assert_eq!(api_names(network).len(), 7);
    }
}
