//! What the pods read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use proxy_config::{ConfigDigest, DigestKey};

use super::Owner;
use crate::names::{CONFIG_KEY, PEERS_KEY, WRITTEN_BY_LABEL, peer_port};
use crate::observed::PodState;
use crate::secrets::Files;

/// The configuration file.
pub(crate) fn config_map(owner: &Owner<'_>, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(owner.names.config_map()),
        data: Some(BTreeMap::from([(CONFIG_KEY.to_owned(), text.to_owned())])),
        ..ConfigMap::default()
    }
}

/// Addresses that a proxy takes.
const MOST_PEERS: usize = 64;

/// Where the pods hear each other, one a line, sorted: every pod that has an address and may still say something, ready or
/// not, terminating or not. The primary address only, since that is what it speaks from.
pub(crate) fn peer_addresses(owner: &Owner<'_>, pods: &[PodState]) -> String {
    let port = peer_port(owner.proxy.spec.port);
    let addresses: BTreeSet<SocketAddr> = pods
        .iter()
        .filter(|pod| !pod.ended && owner.names.ordinal(&pod.name).is_some())
        .filter_map(|pod| Some(SocketAddr::new(pod.ips.first()?.to_canonical(), port)))
        .collect();
    addresses
        .iter()
        .take(MOST_PEERS)
        .map(|a| format!("{a}\n"))
        .collect()
}

/// The digest of the peers' addresses: 32 characters.
pub(crate) fn peers_digest(addresses: &str) -> String {
    let key = DigestKey::new(b"peers".to_vec());
    let digest = ConfigDigest::compute(&key, [("", addresses.as_bytes())]);
    digest.as_str().chars().take(32).collect()
}

/// The pods' addresses, for the pods.
pub(crate) fn peers(owner: &Owner<'_>, addresses: &str) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(owner.names.peers()),
        data: Some(BTreeMap::from([(PEERS_KEY.to_owned(), addresses.to_owned())])),
        ..ConfigMap::default()
    }
}

/// Where the proxies remember used TOTP codes. Without data: that is theirs.
pub(crate) fn used_codes(owner: &Owner<'_>, map: u32) -> ConfigMap {
    let mut metadata = owner.metadata(owner.names.used_codes(map));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(WRITTEN_BY_LABEL.to_owned(), "proxies".to_owned());
    ConfigMap {
        metadata,
        ..ConfigMap::default()
    }
}

/// Secret files.
pub(crate) fn secret(owner: &Owner<'_>, name: String, files: &Files) -> Secret {
    Secret {
        metadata: owner.metadata(name),
        type_: Some("Opaque".to_owned()),
        data: Some(
            files
                .iter()
                .map(|(name, content)| (name.clone(), ByteString(content.expose().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}
