//! The configuration file as it is written: TOML, unknown keys refused, durations in seconds, secrets only as paths.
//!
//! A path is absolute or relative to the folder of the configuration file.

use serde::{Deserialize, Serialize};

use crate::ParseError;

mod provider;

pub use provider::{
    Duo, DuoFactor, FailMode, KubernetesStore, Okta, OktaCredentials, OktaFactor, Provider, ProxyUrl,
    RedisStore, SignatureVersion, StoreOutage, Totp, Upstream, UpstreamServer, UsedCodes,
};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Sockets, records, drain.
    #[serde(default)]
    pub server: Server,
    /// What asks the second factor: exactly one of `duo`, `okta`, `totp`, `radius`.
    pub provider: Provider,
    /// User names, typed text, exempt users, limits.
    #[serde(default)]
    pub policy: Policy,
    /// Who may ask. At least one.
    #[serde(default)]
    pub clients: Vec<Client>,
}

impl ConfigFile {
    /// Parses TOML.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a missing one, or a value of the wrong type; with line and column.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let file = toml::from_str(text).map_err(|error| ParseError::new(text, &error));
        file.map_err(|error| {
            let told = error.is_about_the_number_of_providers();
            told.then(|| wrong_providers(text)).flatten().unwrap_or(error)
        })
    }

    /// Every path that the file names, in the order of the file. A path of [`NamedFile::Folder`] stands for every
    /// file directly in it whose name does not begin with a dot.
    #[must_use]
    pub fn named_files(&self) -> Vec<NamedFile> {
        let mut paths: Vec<NamedFile> = Vec::new();
        paths.extend(self.server.digest_key_file.iter().cloned().map(NamedFile::File));
        if let Some(peers) = &self.server.peers {
            paths.push(NamedFile::File(peers.key_file.clone()));
            paths.extend(peers.addresses_file.iter().cloned().map(NamedFile::File));
        }
        paths.extend(self.provider.named_files());
        for client in &self.clients {
            paths.extend(client.secret_files.iter().cloned().map(NamedFile::File));
        }
        paths
    }

    /// Whether the content of a named file counts in the configuration digest. Its own key does not, nor do the addresses
    /// of the other proxies: these change while the configuration is the same.
    #[must_use]
    pub fn is_digested(&self, path: &str) -> bool {
        let addresses = self
            .server
            .peers
            .as_ref()
            .and_then(|p| p.addresses_file.as_deref());
        ![self.server.digest_key_file.as_deref(), addresses].contains(&Some(path))
    }
}

/// What to do when a file has another number of providers than one: the parser only says that it wanted one of something.
fn wrong_providers(text: &str) -> Option<ParseError> {
    let file: toml::Table = toml::from_str(text).ok()?;
    let named = match file.get("provider") {
        Some(provider) => provider.as_table()?,
        None => &toml::Table::new(),
    };
    if named.keys().any(|name| !Provider::NAMES.contains(&name.as_str())) {
        // Of a name that is none the parser tells which there are.
        return None;
    }
    let all = Provider::NAMES.map(|name| format!("[provider.{name}]"));
    match named.keys().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(ParseError::without_place(format!(
            "no provider is named, so nobody could be asked for the second factor: add one of {}",
            all.join(", ")
        ))),
        [_] => None,
        several => Some(ParseError::without_place(format!(
            "{} providers are named ({}), and a proxy asks one: keep the one that is meant and delete the tables of the \
             other{}. For two of them run two proxies",
            several.len(),
            several.join(", "),
            if several.len() > 2 { "s" } else { "" },
        ))),
    }
}

/// A path that the configuration file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedFile {
    /// One file.
    File(String),
    /// A folder of files, which may be empty.
    Folder(String),
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// UDP addresses for RADIUS authentication. `[::]` takes IPv4 as well.
    pub listen: Vec<String>,
    /// TCP address of health, metrics and the configuration digest; left out, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// TCP address of health alone, with a thread of its own; left out, health is only at `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Where login records go: `stdout`, or the path of a file that is appended to.
    pub records: String,
    /// What the user is logging in to, as push messages show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// How long pending logins are answered after SIGTERM, in seconds, 0 to 600.
    pub drain_seconds: u32,
    /// The key of the configuration digest; left out, a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_key_file: Option<String>,
    /// Host names that a provider's address may be or end in (`duosecurity.com` allows `api-1.duosecurity.com`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_host_suffixes: Option<Vec<String>>,
    /// Proxies that serve the same clients, so that a push survives the one that started it; left out, there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
}

/// `[server.peers]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// UDP address for their datagrams.
    pub listen: String,
    /// Where they are: `name:port` or `address:port`, each standing for all addresses of the name. This proxy may be
    /// among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// A file with more of them, one a line. Absent or empty, there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses_file: Option<String>,
    /// A file with the key that they share, of 32 characters or more.
    pub key_file: String,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec!["[::]:1812".to_owned()],
            admin: None,
            health: None,
            records: "stdout".to_owned(),
            application: None,
            drain_seconds: 60,
            digest_key_file: None,
            provider_host_suffixes: None,
            peers: None,
        }
    }
}

/// `[[clients]]`: a RADIUS client or a group of them. The longest matching prefix wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its name in records: 1 to 63 of `a-z`, `0-9`, `-`, `.`
    pub name: String,
    /// Addresses or CIDRs, v4 or v6.
    pub networks: Vec<String>,
    /// One or two files with the shared secret: the current one, then the one still accepted while it rotates.
    pub secret_files: Vec<String>,
    /// AWS Directory Service: never challenged, never answered with silence.
    #[serde(default)]
    pub directory: bool,
    /// The client's timeout for one try, in seconds, 1 to 50.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    /// How often the client tries again after that, 0 to 10.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Whether Message-Authenticator is demanded: `auto` (once the address has signed a login), `always`, `never`.
    #[serde(default)]
    pub message_authenticator: MessageAuthenticator,
    /// Whether CHAP and MS-CHAPv1 without Message-Authenticator may start a push (they prove no shared secret).
    #[serde(default)]
    pub unauthenticated_push: bool,
    /// Whether the client understands Access-Challenge. Never for a directory.
    #[serde(default)]
    pub challenge: bool,
    /// New requests of one address of it within a second, 1 to 1,000,000; `[policy.limits]` says it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// The attribute with the user's own address, `Calling-Station-Id` for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_address_attribute: Option<String>,
    /// Attributes added to every Access-Accept, by dictionary name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_attributes: Vec<Attribute>,
}

/// An attribute that is added to an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Dictionary name, `Class` or `Filter-Id` for example.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

const fn default_timeout() -> u32 {
    20
}

const fn default_retries() -> u32 {
    1
}

/// When Message-Authenticator (RFC 3579 section 3.2) is demanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageAuthenticator {
    /// Demanded from an address once one was seen from it.
    #[default]
    Auto,
    /// Always demanded.
    Always,
    /// Never demanded, still verified when present.
    Never,
}

/// The user name that AWS was reported to probe RADIUS servers with.
pub const DEFAULT_PROBE_USER: &str = "fakeusername";

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How user names are normalised.
    pub user_names: UserNames,
    /// What typed text may mean beside a factor keyword and a passcode.
    pub typed_text: TypedText,
    /// Users who need no second factor: exact, normalised names. Each use is counted and recorded.
    pub exempt_users: Vec<String>,
    /// User names that AWS Directory Service probes its RADIUS servers with. Such a request of a directory is answered
    /// with Access-Reject and asked of no provider.
    pub probe_users: Vec<String>,
    /// The longest time that one login takes, in seconds, 10 to 600, whatever its client's timeout and retries allow.
    pub login_seconds: u32,
    /// Throttles.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            user_names: UserNames::default(),
            typed_text: TypedText::default(),
            exempt_users: Vec::new(),
            probe_users: vec![DEFAULT_PROBE_USER.to_owned()],
            login_seconds: 60,
            limits: Limits::default(),
        }
    }
}

/// `[policy.user_names]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserNames {
    /// `DOMAIN\u` and `u@domain` become `u`. When false, the name is kept whole.
    pub strip_domain: bool,
    /// `Jane` becomes `jane`.
    pub lower_case: bool,
    /// Longest accepted name in bytes, 1 to 253.
    pub max_bytes: u32,
}

impl Default for UserNames {
    fn default() -> Self {
        Self {
            strip_domain: true,
            lower_case: true,
            max_bytes: 128,
        }
    }
}

/// `[policy.typed_text]`: both forms are off when absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedText {
    /// `password<delimiter>factor`: what follows the last delimiter is the factor or passcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// `password123456`: the last so many characters are the passcode, 6 to 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passcode_suffix_length: Option<u32>,
}

/// `[policy.limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Pushes and calls started for one user within a minute, 1 to 60.
    pub pushes_per_user_per_minute: u32,
    /// Logins of one user within a minute, pushes or not, 1 to 600.
    pub logins_per_user_per_minute: u32,
    /// New requests of one client address within a second, 1 to 1,000,000, where its client has no number of its own.
    pub requests_per_client_per_second: u32,
    /// Logins that wait for a provider at once, 1 to 1,000,000.
    pub pending: u32,
    /// How long no push is started for a user after a denied one, in seconds, 0 to 3600. Passcodes still work.
    pub push_cool_down_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pushes_per_user_per_minute: 6,
            logins_per_user_per_minute: 30,
            requests_per_client_per_second: 10_000,
            pending: 10_000,
            push_cool_down_seconds: 10,
        }
    }
}
