//! The one bridge from the file to the checked configuration. It reports every problem, not the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::file::{self, ConfigFile};
use crate::model::{CaseRule, Config, Exempt, Limits, Policy, RecordSink, TypedText, UserNameRule};
use crate::{DigestKey, Problem, Problems, Secret, SharedSecret};

mod clients;
mod peers;
mod provider;

pub use clients::parse_network;

/// Hosts a provider may be at when the file says nothing: Duo's and Okta's own.
pub const DEFAULT_PROVIDER_HOST_SUFFIXES: [&str; 6] = [
    "duosecurity.com",
    "duofederal.com",
    "okta.com",
    "oktapreview.com",
    "okta-emea.com",
    "okta-gov.com",
];

/// Contents of the files that a configuration names, by the path as the configuration writes it; for a folder, by
/// that path, a slash and the file's name. A path that could not be read is absent.
pub type Contents = BTreeMap<String, Secret>;

/// Why files could not be read, by the path as the configuration writes it.
pub type Unreadable = BTreeMap<String, Unread>;

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// There is no such file, in words: some may come later.
    Absent(String),
    /// It is there and cannot be read, in words.
    Failed(String),
}

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
            Some(Unread::Absent(cause) | Unread::Failed(cause)) => {
                format!("the file {path:?} cannot be read: {cause}")
            }
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
        let health = server
            .health
            .as_ref()
            .and_then(|text| self.socket("server.health", text, "127.0.0.1:9091"));
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
            health,
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

    /// A user's name after normalisation.
    fn user_name(&mut self, at: &str, name: &str, rule: UserNameRule) -> Option<String> {
        let normal = rule.normalise(name);
        if normal.is_none() {
            self.problem(
                at,
                format!("is {name:?}; a name has 1 to {} bytes", rule.max_bytes),
            );
        }
        normal
    }

    /// Exempt users, by the names that logins have after normalisation. One that another name would stand for is refused:
    /// `CORP\svc` would exempt the `svc` of every domain, unseen.
    fn exempt(&mut self, names: &[String], rule: UserNameRule) -> Exempt {
        let mut exempt = Exempt::new();
        for (i, name) in names.iter().enumerate() {
            let at = format!("policy.exempt_users[{i}]");
            match self.user_name(&at, name, rule) {
                None => {}
                Some(normal) if normal.to_lowercase() != name.to_lowercase() => self.problem(
                    at,
                    format!("is {name:?}, which policy.user_names makes {normal:?} of, whoever has it; write {normal:?}"),
                ),
                Some(normal) if normal == file::DEFAULT_PROBE_USER => self.problem(
                    at,
                    format!("is {name:?}, which AWS probes with; a probe is never accepted, so remove it"),
                ),
                Some(normal) => {
                    exempt.insert(normal);
                }
            }
        }
        exempt
    }

    /// Names that a directory's probes have after normalisation. A probe is no user: nobody of that name is exempt.
    fn probe_users(&mut self, names: &[String], rule: UserNameRule, exempt: &Exempt) -> BTreeSet<String> {
        let mut probes = BTreeSet::new();
        for (i, name) in names.iter().enumerate() {
            let at = format!("policy.probe_users[{i}]");
            match self.user_name(&at, name, rule) {
                None => {}
                Some(normal) if exempt.contains(&normal) => self.problem(
                    at,
                    format!("is {name:?}, which policy.exempt_users has too; a probe is never accepted, so keep one"),
                ),
                Some(normal) => {
                    probes.insert(normal);
                }
            }
        }
        probes
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
        let exempt = self.exempt(&raw.exempt_users, user_names);
        Policy {
            user_names,
            typed_text: TypedText {
                delimiter,
                passcode_suffix_length,
            },
            probe_users: self.probe_users(&raw.probe_users, user_names, &exempt),
            exempt,
            login: self.seconds("policy.login_seconds", raw.login_seconds, 10..=600),
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

#[cfg(test)]
mod tests;
