//! The one bridge from the file to the checked configuration. It reports every problem, not the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::file::{self, ConfigFile};
use crate::model::{
    CaseRule, Client, ClientName, Config, Exempt, Limits, PeerKey, Peers, Policy, RecordSink, TypedText,
    UserNameRule,
};
use crate::{DigestKey, Problem, Problems, Secret, SharedSecret};

mod provider;

/// Hosts a provider may be at when the file says nothing: Duo's and Okta's own.
pub const DEFAULT_PROVIDER_HOST_SUFFIXES: [&str; 6] = [
    "duosecurity.com",
    "duofederal.com",
    "okta.com",
    "oktapreview.com",
    "okta-emea.com",
    "okta-gov.com",
];

/// Names and addresses of other proxies at most, in the configuration.
const MAX_PEERS: usize = 16;
/// The same in a file, which may name those that end and those that begin.
const MAX_PEERS_IN_FILE: usize = 64;
/// 32 characters of hex are 128 bits.
const MIN_PEER_KEY: usize = 32;

/// Contents of the files that a configuration names, by the path as the configuration writes it; for a folder, by
/// that path, a slash and the file's name. A path that could not be read is absent.
pub type Contents = BTreeMap<String, Secret>;

/// Why files could not be read, by the path as the configuration writes it.
pub type Unreadable = BTreeMap<String, String>;

impl Config {
    /// Checks a configuration file together with the contents of the files that it names.
    ///
    /// # Errors
    /// Every problem found, each with the field, the value (unless it is secret) and the bound.
    pub fn check(file: &ConfigFile, contents: &Contents) -> Result<Self, Problems> {
        Self::check_read(file, contents, &Unreadable::new())
    }

    /// The same, where it is known why files could not be read.
    ///
    /// # Errors
    /// As for [`Config::check`].
    pub fn check_read(
        file: &ConfigFile,
        contents: &Contents,
        unreadable: &Unreadable,
    ) -> Result<Self, Problems> {
        let mut check = Check {
            contents,
            unreadable,
            problems: Vec::new(),
        };
        let config = check.config(file);
        check.problems.sort();
        match config {
            Some(config) if check.problems.is_empty() => Ok(config),
            _ => Err(Problems(check.problems)),
        }
    }
}

/// A check under way: each method returns what it could make and notes what it could not.
struct Check<'a> {
    contents: &'a Contents,
    unreadable: &'a Unreadable,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, field: impl Display, message: impl Display) {
        self.problems.push(Problem {
            field: field.to_string(),
            message: message.to_string(),
        });
    }

    fn range(&mut self, field: impl Display, value: u32, bounds: RangeInclusive<u32>) -> u32 {
        if !bounds.contains(&value) {
            self.problem(
                field,
                format!("is {value}; it must be {} to {}", bounds.start(), bounds.end()),
            );
        }
        value
    }

    fn seconds(&mut self, field: impl Display, value: u32, bounds: RangeInclusive<u32>) -> Duration {
        Duration::from_secs(u64::from(self.range(field, value, bounds)))
    }

    fn socket(&mut self, field: impl Display, text: &str, example: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(
                field,
                format!("is {text:?}; write an address, not a name, and a port, such as {example:?}"),
            );
        }
        address
    }

    fn unread(&mut self, field: impl Display, path: &str) {
        let message = match self.unreadable.get(path) {
            Some(cause) => format!("the file {path:?} cannot be read: {cause}"),
            None => format!("the file {path:?} is missing or cannot be read"),
        };
        self.problem(field, message);
    }

    /// The content of a file that must hold something.
    fn secret(&mut self, field: impl Display, path: &str) -> Option<Secret> {
        let Some(content) = self.contents.get(path) else {
            self.unread(field, path);
            return None;
        };
        let trimmed = content.trim_end();
        if trimmed.expose().is_empty() {
            self.problem(field, format!("the file {path:?} is empty"));
            return None;
        }
        Some(trimmed)
    }

    fn shared_secret(&mut self, field: impl Display, path: &str) -> Option<SharedSecret> {
        let Some(content) = self.contents.get(path) else {
            self.unread(field, path);
            return None;
        };
        match SharedSecret::parse(content.expose()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.problem(field, format!("the file {path:?}: {error}"));
                None
            }
        }
    }

    fn config(&mut self, file: &ConfigFile) -> Option<Config> {
        let server = &file.server;
        if server.listen.is_empty() {
            self.problem(
                "server.listen",
                "is empty; name at least one address, such as \"[::]:1812\"",
            );
        }
        let listen = server
            .listen
            .iter()
            .enumerate()
            .filter_map(|(i, text)| self.socket(format!("server.listen[{i}]"), text, "[::]:1812"))
            .collect();
        let admin = server
            .admin
            .as_deref()
            .and_then(|text| self.socket("server.admin", text, "127.0.0.1:9090"));
        let records = match server.records.as_str() {
            "stdout" => RecordSink::Stdout,
            path => RecordSink::File(path.to_owned()),
        };
        let drain = self.seconds("server.drain_seconds", server.drain_seconds, 0..=600);
        let digest_key = server
            .digest_key_file
            .as_deref()
            .and_then(|path| self.secret("server.digest_key_file", path))
            .map(|key| DigestKey::new(key.expose().to_vec()));
        let clients = self.clients(&file.clients);
        let policy = self.policy(&file.policy);
        let provider = self.provider(
            &file.provider,
            server.provider_host_suffixes.as_deref(),
            server.digest_key_file.is_some(),
        );
        Some(Config {
            listen,
            admin,
            records,
            application: server.application.clone(),
            drain,
            digest_key,
            peers: server.peers.as_ref().and_then(|peers| self.peers(peers)),
            clients,
            provider: provider?,
            policy,
        })
    }

    fn peers(&mut self, raw: &file::Peers) -> Option<Peers> {
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
        let file = raw.addresses_file.as_deref();
        if let Some((path, content)) = file.and_then(|path| Some((path, self.contents.get(path)?))) {
            addresses.extend(self.peers_in_file(path, content));
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

    fn peers_in_file(&mut self, path: &str, content: &Secret) -> Vec<(String, u16)> {
        let field = "server.peers.addresses_file";
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

    fn clients(&mut self, clients: &[file::Client]) -> Vec<Client> {
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
            unproven_push: raw.unproven_push,
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

    /// Exempt users, by the names that logins have after normalisation. One that another name would stand for is refused:
    /// `CORP\svc` would exempt the `svc` of every domain, unseen.
    fn exempt(&mut self, names: &[String], rule: UserNameRule) -> Exempt {
        let mut exempt = Exempt::new();
        for (i, name) in names.iter().enumerate() {
            let at = format!("policy.exempt_users[{i}]");
            match rule.normalise(name) {
                None => self.problem(
                    at,
                    format!("is {name:?}; a name has 1 to {} bytes", rule.max_bytes),
                ),
                Some(normal) if normal.to_lowercase() != name.to_lowercase() => self.problem(
                    at,
                    format!("is {name:?}, which policy.user_names makes {normal:?} of, whoever has it; write {normal:?}"),
                ),
                Some(normal) => {
                    exempt.insert(normal);
                }
            }
        }
        exempt
    }

    fn policy(&mut self, raw: &file::Policy) -> Policy {
        let max_bytes = self.range("policy.user_names.max_bytes", raw.user_names.max_bytes, 1..=253);
        let delimiter = raw.typed_text.delimiter.as_deref().and_then(|text| {
            let mut chars = text.chars();
            let one = chars.next().filter(|_| chars.next().is_none());
            if one.is_none() {
                self.problem(
                    "policy.typed_text.delimiter",
                    format!("is {text:?}; it must be one character"),
                );
            }
            one
        });
        let passcode_suffix_length = raw
            .typed_text
            .passcode_suffix_length
            .map(|length| self.range("policy.typed_text.passcode_suffix_length", length, 6..=8) as usize);
        let limits = &raw.limits;
        let at = |field: &str| format!("policy.limits.{field}");
        let user_names = UserNameRule {
            strip_domain: raw.user_names.strip_domain,
            case: if raw.user_names.lower_case {
                CaseRule::Lower
            } else {
                CaseRule::Keep
            },
            max_bytes: max_bytes as usize,
        };
        Policy {
            user_names,
            typed_text: TypedText {
                delimiter,
                passcode_suffix_length,
            },
            exempt: self.exempt(&raw.exempt_users, user_names),
            limits: Limits {
                pushes_per_user_per_minute: self.range(
                    at("pushes_per_user_per_minute"),
                    limits.pushes_per_user_per_minute,
                    1..=60,
                ),
                logins_per_user_per_minute: self.range(
                    at("logins_per_user_per_minute"),
                    limits.logins_per_user_per_minute,
                    1..=600,
                ),
                requests_per_client_per_second: self.range(
                    at("requests_per_client_per_second"),
                    limits.requests_per_client_per_second,
                    1..=1_000_000,
                ),
                pending: self.range(at("pending"), limits.pending, 1..=1_000_000) as usize,
                push_cool_down: self.seconds(
                    at("push_cool_down_seconds"),
                    limits.push_cool_down_seconds,
                    0..=3600,
                ),
            },
        }
    }
}

/// `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|inner| inner.parse::<IpAddr>().is_ok())?,
        None if host.contains(':') || host.is_empty() || host.len() > 253 => return None,
        None => host,
    };
    Some((host.to_owned(), port))
}

/// 1 to 63 characters of `a-z`, `0-9`, `-`, `.`
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// An address or a CIDR; host bits are cleared and IPv4-mapped IPv6 becomes IPv4, as sources of packets do.
fn parse_network(text: &str) -> Option<IpNet> {
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

#[cfg(test)]
mod tests;
