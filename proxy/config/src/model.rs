//! The checked configuration: what is invalid has no value here.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

pub use crate::file::{
    DuoFactor, FailMode, MessageAuthenticator as MessageAuthenticatorPolicy, OktaFactor, SignatureVersion,
    StoreOutage,
};
use crate::{DigestKey, Secret, SharedSecret};

/// A configuration that was checked as a whole. Made by [`Config::check`].
#[derive(Debug, Clone)]
pub struct Config {
    /// UDP addresses for RADIUS; never empty.
    pub listen: Vec<SocketAddr>,
    /// TCP address of the admin port.
    pub admin: Option<SocketAddr>,
    /// TCP address of health alone.
    pub health: Option<SocketAddr>,
    /// Where login records go.
    pub records: RecordSink,
    /// What the user is logging in to, as push messages show it.
    pub application: Option<String>,
    /// How long pending logins are answered after SIGTERM.
    pub drain: Duration,
    /// The key of the configuration digest, when one is named.
    pub digest_key: Option<DigestKey>,
    /// The other proxies of the group.
    pub peers: Option<Peers>,
    /// Clients; never empty, no network twice.
    pub clients: Vec<Client>,
    /// What asks the second factor.
    pub provider: Provider,
    /// Names, typed text, exempt users, limits.
    pub policy: Policy,
}

/// Proxies that serve the same clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// UDP address for their datagrams.
    pub listen: SocketAddr,
    /// Where they are: host (a name or an address) and port; none while the file of addresses has none.
    pub addresses: Vec<(String, u16)>,
    /// The key that they share.
    pub key: PeerKey,
}

/// The key that the proxies of a group share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKey(pub(crate) Secret);

impl PeerKey {
    /// The bytes. A purpose derives its own key from them (HMAC) and uses none of them itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Where login records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordSink {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(String),
}

/// A client's name: 1 to 63 characters of `a-z`, `0-9`, `-`, `.`
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(pub(crate) String);

impl ClientName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A RADIUS client, or a group of them with one secret.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its name in records and metrics.
    pub name: ClientName,
    /// Source networks; never empty, host bits cleared, IPv4-mapped addresses as IPv4.
    pub networks: Vec<IpNet>,
    /// The secret of now.
    pub secret: SharedSecret,
    /// The one still accepted while it rotates.
    pub previous_secret: Option<SharedSecret>,
    /// AWS Directory Service: never challenged, never answered with silence.
    pub directory: bool,
    /// How long the client waits for one try.
    pub timeout: Duration,
    /// How often it tries again.
    pub retries: u32,
    /// When Message-Authenticator is demanded.
    pub message_authenticator: MessageAuthenticatorPolicy,
    /// Whether CHAP and MS-CHAPv1 without Message-Authenticator may start a push.
    pub unauthenticated_push: bool,
    /// Whether Access-Challenge is understood; never with `directory`.
    pub challenge: bool,
    /// New requests of one of its addresses within a second; the policy's number when absent.
    pub requests_per_second: Option<u32>,
    /// The attribute with the user's own address.
    pub user_address_attribute: Option<String>,
    /// Attributes added to every Access-Accept: dictionary name and text.
    pub accept_attributes: Vec<(String, String)>,
}

impl Client {
    /// How long after its first packet a login is answered at the latest: timeout × (retries + 1).
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.timeout.saturating_mul(self.retries.saturating_add(1))
    }
}

/// What asks the second factor.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Duo's Auth API.
    Duo(Duo),
    /// Okta's Factors API.
    Okta(Okta),
    /// RFC 6238, checked here.
    Totp(Totp),
    /// Another RADIUS server.
    Radius(Upstream),
}

impl Provider {
    /// The name in records and metrics: `duo`, `okta`, `totp`, `radius`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Duo(_) => "duo",
            Self::Okta(_) => "okta",
            Self::Totp(_) => "totp",
            Self::Radius(_) => "radius",
        }
    }
}

/// An https origin that a provider may be called at: host, and port when it is not 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiHost {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ApiHost {
    /// The host name or address, lower case, without port (an IPv6 address in brackets).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `https://host[:port]`, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> String {
        if self.port == 443 {
            format!("https://{}", self.host)
        } else {
            format!("https://{}:{}", self.host, self.port)
        }
    }
}

/// An HTTP proxy that calls to a provider go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// `http://host:port`.
    pub url: String,
    /// What the proxy asks for, where it does.
    pub login: Option<ProxyLogin>,
}

/// User name and password for an HTTP proxy: UTF-8 text, and no colon in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyLogin {
    /// The user name.
    pub username: Secret,
    /// The password.
    pub password: Secret,
}

/// An application of Duo's Auth API.
#[derive(Debug, Clone)]
pub struct Duo {
    /// Its API host.
    pub api_host: ApiHost,
    /// The integration key. Not secret by itself, still not shown.
    pub integration_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// Factors in order of preference; never empty.
    pub factors: Vec<DuoFactor>,
    /// What happens when preauth cannot be asked.
    pub fail_mode: FailMode,
    /// How requests are signed.
    pub signature_version: SignatureVersion,
    /// An HTTP proxy for the calls.
    pub http_proxy: Option<HttpProxy>,
    /// PEM certificates trusted instead of the system's.
    pub ca_bundle: Option<String>,
}

/// Okta's Factors API.
#[derive(Debug, Clone)]
pub struct Okta {
    /// The organisation's origin.
    pub org: ApiHost,
    /// How the proxy proves itself.
    pub credentials: OktaCredentials,
    /// Factors in order of preference; never empty.
    pub factors: Vec<OktaFactor>,
    /// Appended to a user name without a domain.
    pub login_suffix: Option<String>,
    /// What happens when the user or the factors cannot be asked.
    pub fail_mode: FailMode,
    /// An HTTP proxy for the calls.
    pub http_proxy: Option<HttpProxy>,
    /// PEM certificates trusted instead of the system's.
    pub ca_bundle: Option<String>,
}

/// How the proxy proves itself to Okta.
#[derive(Debug, Clone)]
pub enum OktaCredentials {
    /// An API token.
    Token(Secret),
    /// An OAuth service app.
    Oauth {
        /// Its client id.
        client_id: String,
        /// Its RSA private key in PEM.
        private_key: Secret,
        /// The key's id.
        key_id: Option<String>,
    },
}

/// RFC 6238 codes, checked by the proxy itself.
#[derive(Debug, Clone)]
pub struct Totp {
    /// Every file of the seed folders: its path and its text of otpauth:// URIs, one a line.
    pub seeds: Vec<SeedFile>,
    /// Accepted steps before and after the present one, 0 to 10.
    pub skew_steps: u32,
    /// Where used codes are remembered.
    pub used_codes: UsedCodes,
}

/// Where used codes are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedCodes {
    /// The store; with any but the memory there is a digest key.
    pub store: CodeStore,
    /// What becomes of a right code while the store cannot be asked.
    pub when_unavailable: StoreOutage,
}

/// A store of used codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeStore {
    /// The memory of this process.
    Memory,
    /// ConfigMaps of the pod's own namespace.
    Kubernetes {
        /// Their names, 1 to 64.
        config_maps: Vec<String>,
    },
    /// A server of Redis' protocol.
    Redis(Redis),
}

/// A server of Redis' protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// PEM certificates trusted instead of the system's.
    pub ca_bundle: Option<String>,
    /// The user, where it is not the default one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u32,
}

/// A file with seeds. The lines are parsed by the provider, so that one bad line costs one user and not all.
#[derive(Debug, Clone)]
pub struct SeedFile {
    /// Its path, as messages name it.
    pub path: String,
    /// otpauth:// URIs, one a line.
    pub text: Secret,
}

/// Another RADIUS server decides.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Servers in order of preference, 1 to 8.
    pub servers: Vec<UpstreamServer>,
    /// How long one server is given for one try.
    pub timeout: Duration,
    /// Tries for each server before the next is asked.
    pub tries: u32,
    /// Whether an answer without Message-Authenticator is refused.
    pub require_message_authenticator: bool,
    /// Whether health is asked by Status-Server.
    pub status_server: bool,
    /// Request attributes passed on, by dictionary name.
    pub forward_attributes: Vec<String>,
    /// Access-Accept attributes passed back, by dictionary name.
    pub return_attributes: Vec<String>,
}

/// One upstream server.
#[derive(Debug, Clone)]
pub struct UpstreamServer {
    /// Host name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The secret shared with it.
    pub secret: SharedSecret,
}

/// Names, typed text, exempt users, limits.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How user names are normalised.
    pub user_names: UserNameRule,
    /// What typed text may mean beside a factor keyword and a passcode.
    pub typed_text: TypedText,
    /// Users without a second factor, normalised.
    pub exempt: Exempt,
    /// User names of a directory's probes, normalised. None of them is exempt.
    pub probe_users: BTreeSet<String>,
    /// The longest time that one login takes.
    pub login: Duration,
    /// Throttles.
    pub limits: Limits,
}

/// How user names are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserNameRule {
    /// Whether `DOMAIN\u` and `u@domain` become `u`.
    pub strip_domain: bool,
    /// Whether case is folded.
    pub case: CaseRule,
    /// Longest accepted name in bytes, 1 to 253.
    pub max_bytes: usize,
}

impl UserNameRule {
    /// Normalises a name as a client sent it, or as a seed or an exemption writes it: white space around it is left
    /// out, then the domain and upper case, if the rule says so.
    ///
    /// `None` when the name is longer than the rule allows, or nothing is left of it.
    #[must_use]
    pub fn normalise(&self, name: &str) -> Option<String> {
        if name.len() > self.max_bytes {
            return None;
        }
        let mut rest = name.trim();
        if self.strip_domain {
            // A NetBIOS domain ends at the first backslash, a UPN's suffix begins at the last at sign: the user's own
            // part can hold the other character of each.
            if let Some((_, user)) = rest.split_once('\\') {
                rest = user;
            } else if let Some((user, _)) = rest.rsplit_once('@') {
                rest = user;
            }
        }
        let name = match self.case {
            CaseRule::Lower => rest.trim().to_lowercase(),
            CaseRule::Keep => rest.trim().to_owned(),
        };
        (!name.is_empty()).then_some(name)
    }
}

/// What becomes of upper case in a user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseRule {
    /// `Jane` becomes `jane`.
    Lower,
    /// Kept.
    Keep,
}

/// Exact, normalised names of exempt users.
pub type Exempt = BTreeSet<String>;

/// What typed text may mean beside a factor keyword and a passcode. Both are off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypedText {
    /// What follows the last of this character is the factor or passcode.
    pub delimiter: Option<char>,
    /// The last so many characters are the passcode, 6 to 8.
    pub passcode_suffix_length: Option<usize>,
}

/// Throttles; see [`crate::file::Limits`] for the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pushes and calls for one user within a minute.
    pub pushes_per_user_per_minute: u32,
    /// Logins of one user within a minute.
    pub logins_per_user_per_minute: u32,
    /// New requests of one client address within a second.
    pub requests_per_client_per_second: u32,
    /// Logins that wait for a provider at once.
    pub pending: usize,
    /// How long no push is started for a user after a denied one.
    pub push_cool_down: Duration,
}
