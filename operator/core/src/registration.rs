//! Registration: what AWS should have, what it has, and whether the difference is written now.
//!
//! [`servers`] compares addresses, [`ledger`] keeps what was sent and what became of it, [`decide`] puts both together. Each
//! write to AWS blocks logins while AWS works on it, so every rule here is about not writing, or about writing once.

mod balancer;
pub(crate) mod decide;
mod difference;
pub(crate) mod gate;
mod hands_off;
pub(crate) mod ledger;
mod secret_mismatch;
pub(crate) mod servers;
pub(crate) mod words;

use std::collections::BTreeSet;

use proxy_config::{ConfigDigest, DigestKey};

use crate::api::{DirectorySpec, RegisteredSettings};

/// The stage of a directory that works.
pub(crate) const ACTIVE: &str = "Active";

/// Whether AWS is written to in this stage. A directory that is Impaired or Inoperable has users all the same: AWS may
/// refuse. A stage that this version does not know is for AWS to judge, too.
pub(crate) fn takes_writes(stage: &str) -> bool {
    !matches!(
        stage,
        "Requested"
            | "Creating"
            | "Created"
            | "Restoring"
            | "RestoreFailed"
            | "Deleting"
            | "Deleted"
            | "Failed"
    )
}

/// The servers of both families, in AWS's order.
pub(crate) fn all_servers(settings: &RegisteredSettings) -> Vec<String> {
    settings
        .servers
        .iter()
        .chain(&settings.servers_ipv6)
        .cloned()
        .collect()
}

/// Whether two settings mean the same to AWS: the order of servers has no documented meaning.
pub(crate) fn same(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    same_servers(a, b) && same_but_servers(a, b)
}

pub(crate) fn same_servers(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    set(&a.servers) == set(&b.servers) && set(&a.servers_ipv6) == set(&b.servers_ipv6)
}

pub(crate) fn same_but_servers(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    let without = |settings: &RegisteredSettings| RegisteredSettings {
        servers: Vec::new(),
        servers_ipv6: Vec::new(),
        ..settings.clone()
    };
    without(a) == without(b)
}

/// What the spec wants, without servers.
pub(crate) fn wanted_settings(directory: &DirectorySpec, port: u32) -> RegisteredSettings {
    RegisteredSettings {
        servers: Vec::new(),
        servers_ipv6: Vec::new(),
        port,
        timeout_seconds: directory.timeout_seconds,
        retries: directory.retries,
        protocol: directory.protocol.as_str().to_owned(),
        display_label: directory.display_label.clone(),
        use_same_username: directory.use_same_username,
    }
}

/// What the tag on the directory says of settings: a cluster that is built anew has no key of the old one, so the digest
/// has none. It covers nothing but what everybody sees who may describe the directory.
pub(crate) fn tag_digest(settings: &RegisteredSettings) -> String {
    let mut digest = fingerprint(&DigestKey::new(b"applied".to_vec()), settings, "");
    digest.truncate(32);
    digest
}

/// A keyed digest of what is sent, to know the same again. The order of servers does not count.
pub(crate) fn fingerprint(key: &DigestKey, settings: &RegisteredSettings, secret_digest: &str) -> String {
    let mut sorted = settings.clone();
    for list in [&mut sorted.servers, &mut sorted.servers_ipv6] {
        list.sort();
        list.dedup();
    }
    let json = serde_json::to_vec(&sorted).unwrap_or_default();
    ConfigDigest::compute(
        key,
        [
            ("settings", json.as_slice()),
            ("secret", secret_digest.as_bytes()),
        ],
    )
    .as_str()
    .to_owned()
}
