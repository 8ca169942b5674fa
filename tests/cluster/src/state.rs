//! What a cluster was started with, and the lock under which clusters are changed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::{Layout, base};
use crate::network::Network;

/// The content of `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The cluster's addresses.
    pub(crate) network: Network,
    /// How many nodes it has.
    pub(crate) nodes: u8,
    /// The version of Kubernetes it runs.
    pub(crate) kubernetes: String,
    /// The start of the machine it belongs to: process numbers, mounts and namespaces do not outlive it.
    boot: String,
}

impl State {
    /// The state of a new cluster.
    pub(crate) fn new(network: Network, nodes: u8, kubernetes: &str) -> Self {
        Self {
            network,
            nodes,
            kubernetes: kubernetes.to_owned(),
            boot: boot_id(),
        }
    }

    /// Reads a cluster's state; none where there is no such cluster.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>, Error> {
        read(&layout.state())
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, layout: &Layout) -> Result<(), Error> {
        let path = layout.state();
        let new = path.with_extension("new");
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        fs::write(&new, text).map_err(Error::file("write", &new))?;
        fs::rename(&new, &path).map_err(Error::file("write", &path))
    }

    /// Whether the machine was started again since.
    pub(crate) fn is_from_another_boot(&self) -> bool {
        self.boot != boot_id()
    }
}

/// The networks of all clusters of this machine.
pub(crate) fn networks_taken() -> Vec<Network> {
    let folders = fs::read_dir(base()).into_iter().flatten().flatten();
    folders
        .filter_map(|folder| read(&folder.path().join("cluster.json")).ok().flatten())
        .map(|state| state.network)
        .collect()
}

fn read(path: &Path) -> Result<Option<State>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::Content {
                path: path.to_owned(),
                what: "a cluster's state",
                reason: error.to_string(),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Held while clusters are started or ended: the choice of a network must see every other one. It is a lock on the
/// folder of all clusters, so that no file stays for it.
#[derive(Debug)]
pub(crate) struct Lock {
    _folder: File,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn take() -> Result<Self, Error> {
        loop {
            fs::create_dir_all(base()).map_err(Error::file("create", base()))?;
            let folder = File::open(base()).map_err(Error::file("open", base()))?;
            folder.lock().map_err(Error::file("lock", base()))?;
            // Whoever held the lock may have removed the folder; then this is a lock on nothing.
            let held = folder.metadata().map(|held| held.ino());
            let present = fs::metadata(base()).map(|present| present.ino());
            if let (Ok(held), Ok(present)) = (held, present)
                && held == present
            {
                return Ok(Self { _folder: folder });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only goes when no cluster is left.
        _ = fs::remove_dir(base());
    }
}
