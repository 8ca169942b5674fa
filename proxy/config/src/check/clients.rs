//! `[[clients]]`: who may ask.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Check;
use crate::file;
use crate::model::{Client, ClientName};

impl Check<'_> {
    pub(super) fn clients(&mut self, clients: &[file::Client]) -> Vec<Client> {
        if clients.is_empty() {
            self.problem(
                "clients",
                "is empty; nobody could ask anything. Add a [[clients]] table",
            );
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut networks: BTreeMap<IpNet, usize> = BTreeMap::new();
        let mut checked = Vec::with_capacity(clients.len());
        for (i, raw) in clients.iter().enumerate() {
            if let Some(other) = names.insert(&raw.name, i) {
                self.problem(
                    format!("clients[{i}].name"),
                    format!("{:?} is clients[{other}]'s too", raw.name),
                );
            }
            if let Some(client) = self.client(i, raw) {
                for network in &client.networks {
                    if let Some(other) = networks.insert(*network, i) {
                        let message =
                            format!("{network} is listed in clients[{other}] too; one client must own it");
                        self.problem(format!("clients[{i}].networks"), message);
                    }
                }
                checked.push(client);
            }
        }
        checked
    }

    fn client(&mut self, i: usize, raw: &file::Client) -> Option<Client> {
        let at = |field: &str| format!("clients[{i}].{field}");
        if !is_label(&raw.name) {
            let message = format!("is {:?}; write 1 to 63 of a-z, 0-9, '-' and '.'", raw.name);
            self.problem(at("name"), message);
        }
        if raw.networks.is_empty() {
            self.problem(at("networks"), "is empty; name at least one address or CIDR");
        }
        let mut networks = Vec::with_capacity(raw.networks.len());
        for text in &raw.networks {
            match parse_network(text) {
                Some(network) if !networks.contains(&network) => networks.push(network),
                Some(_) => {}
                None => {
                    self.problem(
                        at("networks"),
                        format!("{text:?} is neither an address nor a CIDR"),
                    );
                }
            }
        }
        let mut secrets = Vec::new();
        match raw.secret_files.len() {
            1 | 2 => {
                for path in &raw.secret_files {
                    secrets.push(self.shared_secret(at("secret_files"), path)?);
                }
            }
            n => self.problem(at("secret_files"), format!("names {n} files; it must be 1 or 2")),
        }
        if raw.directory && raw.challenge {
            self.problem(
                at("challenge"),
                "is true, but AWS Directory Service has no Access-Challenge",
            );
        }
        let timeout = self.seconds(at("timeout_seconds"), raw.timeout_seconds, 1..=50);
        let retries = self.range(at("retries"), raw.retries, 0..=10);
        let requests_per_second = raw
            .requests_per_second
            .map(|count| self.range(at("requests_per_second"), count, 1..=1_000_000));
        let mut secrets = secrets.into_iter();
        Some(Client {
            name: ClientName(raw.name.clone()),
            networks,
            secret: secrets.next()?,
            previous_secret: secrets.next(),
            directory: raw.directory,
            timeout,
            retries,
            message_authenticator: raw.message_authenticator,
            unauthenticated_push: raw.unauthenticated_push,
            challenge: raw.challenge,
            requests_per_second,
            user_address_attribute: raw.user_address_attribute.clone(),
            accept_attributes: raw
                .accept_attributes
                .iter()
                .map(|a| (a.name.clone(), a.value.clone()))
                .collect(),
        })
    }
}

/// 1 to 63 characters of `a-z`, `0-9`, `-`, `.`
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// An address or a CIDR; host bits are cleared and IPv4-mapped IPv6 becomes IPv4, as sources of packets do.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => match text.parse::<IpNet>().ok()? {
            IpNet::V6(mapped) if mapped.prefix_len() >= 96 && mapped.addr().to_ipv4_mapped().is_some() => {
                IpNet::new(mapped.addr().to_canonical(), mapped.prefix_len() - 96).ok()?
            }
            network => network,
        },
    };
    Some(network.trunc())
}
