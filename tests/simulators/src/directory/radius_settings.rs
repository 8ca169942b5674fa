//! RadiusSettings: read from a request, shown in a description, kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    constraint::{Members, is_shared_secret},
    exception::Exception,
    settings::{ACCEPT, Settings, ShownSecret},
};
use crate::{
    radius::Protocol,
    secret::{Secret, in_the_clear, keyed_digest},
};

/// RadiusSettings as they were written, absent members included.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct RadiusSettings {
    /// IPv4 addresses or DNS names.
    pub radius_servers: Vec<String>,
    /// IPv6 addresses or DNS names.
    pub radius_servers_ipv6: Vec<String>,
    /// UDP port.
    pub radius_port: Option<u16>,
    /// Seconds.
    pub radius_timeout: Option<u32>,
    /// After the initial attempt.
    pub radius_retries: Option<u32>,
    /// With the servers.
    #[serde(with = "in_the_clear")]
    pub shared_secret: Secret,
    /// How the password is sent.
    pub authentication_protocol: Option<Protocol>,
    /// What the log-in window says.
    pub display_label: Option<String>,
    /// Whether the RADIUS user name is the directory's.
    pub use_same_username: Option<bool>,
}

impl RadiusSettings {
    /// Reads and checks the `RadiusSettings` member.
    pub(crate) fn of(members: &Map<String, Value>, settings: &Settings) -> Result<Self, Exception> {
        let mut read = Members::of(members, "radiusSettings.");
        let server = |text: &str| (1..=256).contains(&text.chars().count());
        let rule = "Member must have length less than or equal to 256, Member must have length greater than or equal to 1";
        let servers = read.texts("RadiusServers", rule, server)?;
        let servers6 = read.texts("RadiusServersIpv6", rule, server)?;
        let port = read.number("RadiusPort", 1025, 65_535)?;
        let timeout = read.number("RadiusTimeout", 1, 50)?;
        let retries = read.number("RadiusRetries", 0, 10)?;
        let pattern = ("^(\\p{LD}|\\p{Punct}| )+$", is_shared_secret as fn(&str) -> bool);
        let secret = read.text("SharedSecret", (8, 512), Some(pattern), true)?;
        let protocol = read.word("AuthenticationProtocol", &Protocol::NAMES)?;
        let label = read.text("DisplayLabel", (1, 64), None, false)?;
        let same = read.flag("UseSameUsername")?;
        read.finish(&settings.constraint_error)?;
        let checked = Self {
            radius_servers: servers.unwrap_or_default(),
            radius_servers_ipv6: servers6.unwrap_or_default(),
            radius_port: port.and_then(|port| u16::try_from(port).ok()),
            radius_timeout: timeout.and_then(|seconds| u32::try_from(seconds).ok()),
            radius_retries: retries.and_then(|retries| u32::try_from(retries).ok()),
            shared_secret: Secret::new(secret.unwrap_or_default()),
            authentication_protocol: protocol.and_then(Protocol::named),
            display_label: label.map(str::to_owned),
            use_same_username: same,
        };
        match checked.missing() {
            Some(what) if settings.incomplete_settings != ACCEPT => Err(Exception::new(
                &settings.incomplete_settings,
                format!("{what} must be given."),
            )),
            _ => Ok(checked),
        }
    }

    /// The first member without which nobody can be asked.
    fn missing(&self) -> Option<&'static str> {
        match () {
            () if self.servers().next().is_none() => Some("RadiusServers"),
            () if self.radius_port.is_none() => Some("RadiusPort"),
            () if self.shared_secret.is_empty() => Some("SharedSecret"),
            () if self.authentication_protocol.is_none() => Some("AuthenticationProtocol"),
            () => None,
        }
    }

    /// IPv4 first.
    pub fn servers(&self) -> impl Iterator<Item = &String> {
        self.radius_servers.iter().chain(&self.radius_servers_ipv6)
    }

    /// The structure in DescribeDirectories.
    pub(crate) fn described(&self, secret: ShownSecret) -> Value {
        let mut shown = Map::new();
        let mut show = |name: &str, value: Value| {
            if !value.is_null() {
                shown.insert(name.to_owned(), value);
            }
        };
        show("RadiusServers", json!(self.radius_servers));
        if !self.radius_servers_ipv6.is_empty() {
            show("RadiusServersIpv6", json!(self.radius_servers_ipv6));
        }
        show("RadiusPort", json!(self.radius_port));
        show("RadiusTimeout", json!(self.radius_timeout));
        show("RadiusRetries", json!(self.radius_retries));
        show("AuthenticationProtocol", json!(self.authentication_protocol));
        show("DisplayLabel", json!(self.display_label));
        show("UseSameUsername", json!(self.use_same_username));
        match secret {
            ShownSecret::Omitted => {}
            ShownSecret::Masked => show("SharedSecret", json!("********")),
            ShownSecret::Plain => show("SharedSecret", json!(self.shared_secret.expose())),
        }
        Value::Object(shown)
    }

    /// All but the secret, for the journal and the admin API.
    pub(crate) fn without_secret(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Some(members) = shown.as_object_mut() {
            members.remove("shared_secret");
        }
        shown
    }

    /// Tells secrets apart without showing them.
    pub(crate) fn digest(&self, key: &[u8]) -> String {
        keyed_digest(key, self.shared_secret.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        json!({
            "RadiusServers": ["10.0.0.1"], "RadiusPort": 1812, "RadiusTimeout": 20, "RadiusRetries": 4,
            "SharedSecret": "correct horse", "AuthenticationProtocol": "PAP", "DisplayLabel": "MFA",
            "UseSameUsername": true,
        })
    }

    fn with(name: &str, value: Value) -> Result<RadiusSettings, Exception> {
        let mut members = full();
        members[name] = value;
        RadiusSettings::of(members.as_object().unwrap(), &Settings::default())
    }

    #[test]
    fn every_bound_is_kept_from_both_sides() {
        let long = |letters: usize| json!("x".repeat(letters));
        for (name, value, fine) in [
            ("RadiusPort", json!(1024), false),
            ("RadiusPort", json!(1025), true),
            ("RadiusPort", json!(65535), true),
            ("RadiusPort", json!(65536), false),
            ("RadiusTimeout", json!(0), false),
            ("RadiusTimeout", json!(1), true),
            ("RadiusTimeout", json!(50), true),
            ("RadiusTimeout", json!(51), false),
            ("RadiusRetries", json!(-1), false),
            ("RadiusRetries", json!(0), true),
            ("RadiusRetries", json!(10), true),
            ("RadiusRetries", json!(11), false),
            ("SharedSecret", long(7), false),
            ("SharedSecret", long(8), true),
            ("SharedSecret", long(512), true),
            ("SharedSecret", long(513), false),
            ("SharedSecret", json!("tab\tin secret"), false),
            ("AuthenticationProtocol", json!("MS-CHAPv2"), true),
            ("AuthenticationProtocol", json!("EAP"), false),
            ("DisplayLabel", json!(""), false),
            ("DisplayLabel", long(64), true),
            ("DisplayLabel", long(65), false),
            ("RadiusServers", json!([""]), false),
            ("RadiusServers", json!([long(256)]), true),
            ("RadiusServers", json!([long(257)]), false),
            ("RadiusServers", json!([]), false),
        ] {
            assert_eq!(with(name, value.clone()).is_ok(), fine, "{name} {value}");
        }
    }

    #[test]
    fn a_wrong_type_is_no_validation_error_but_a_serialization_one() {
        assert_eq!(
            with("RadiusPort", json!("1812")).unwrap_err().name,
            "SerializationException"
        );
    }

    #[test]
    fn no_message_shows_the_secret() {
        let exception = with("SharedSecret", json!("short!")).unwrap_err();
        assert!(!exception.message.contains("short!"), "{}", exception.message);
    }
}
