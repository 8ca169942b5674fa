//! `[server.peers]`: the other proxies of the group.

use super::{Check, Unread, host_and_port};
use crate::file;
use crate::model::{PeerKey, Peers};

/// Names and addresses of other proxies at most, in the configuration.
const MAX_PEERS: usize = 16;
/// The same in a file, which may name those that end and those that begin.
pub(super) const MAX_PEERS_IN_FILE: usize = 64;
/// 32 characters of hex are 128 bits.
const MIN_PEER_KEY: usize = 32;

impl Check<'_> {
    pub(super) fn peers(&mut self, raw: &file::Peers) -> Option<Peers> {
        let listen = self.socket("server.peers.listen", &raw.listen, "[::]:1814");
        let least = usize::from(raw.addresses_file.is_none());
        if !(least..=MAX_PEERS).contains(&raw.addresses.len()) {
            let message = format!(
                "names {} addresses; it must be {least} to {MAX_PEERS}",
                raw.addresses.len()
            );
            self.problem("server.peers.addresses", message);
        }
        let mut addresses = Vec::with_capacity(raw.addresses.len());
        for (i, text) in raw.addresses.iter().enumerate() {
            addresses.extend(self.peer(format!("server.peers.addresses[{i}]"), text));
        }
        if let Some(path) = raw.addresses_file.as_deref() {
            addresses.extend(self.peers_in_file(path));
        }
        let key = self.secret("server.peers.key_file", &raw.key_file)?;
        if key.expose().len() < MIN_PEER_KEY {
            let message = format!(
                "the file {:?} has {} characters; a key has {MIN_PEER_KEY} or more",
                raw.key_file,
                key.expose().len()
            );
            self.problem("server.peers.key_file", message);
        }
        Some(Peers {
            listen: listen?,
            addresses,
            key: PeerKey(key),
        })
    }

    /// Absent, the file names nobody yet.
    fn peers_in_file(&mut self, path: &str) -> Vec<(String, u16)> {
        let field = "server.peers.addresses_file";
        let Some(content) = self.contents.get(path) else {
            if matches!(self.unreadable.get(path), Some(Unread::Failed(_))) {
                self.unread(field, path);
            }
            return Vec::new();
        };
        let Ok(text) = content.expose_str() else {
            self.problem(field, format!("the file {path:?} is not UTF-8 text"));
            return Vec::new();
        };
        let lines = text.lines().map(str::trim).enumerate();
        let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
        if lines.len() > MAX_PEERS_IN_FILE {
            let message = format!(
                "the file {path:?} has {} addresses; it may have {MAX_PEERS_IN_FILE}",
                lines.len()
            );
            self.problem(field, message);
            return Vec::new();
        }
        let read = |(i, line)| self.peer(format!("{field}: line {} of {path:?}", i + 1), line);
        lines.into_iter().filter_map(read).collect()
    }

    fn peer(&mut self, field: String, text: &str) -> Option<(String, u16)> {
        let address = host_and_port(text);
        if address.is_none() {
            self.problem(
                field,
                format!(
                    "is {text:?}; write a name or an address, and a port, such as \"proxies.mfa.svc:1814\""
                ),
            );
        }
        address
    }
}
