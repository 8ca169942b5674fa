//! The clients of the configuration file.

use std::net::IpAddr;

use proxy_config::file;

use super::{CURRENT_KEY, ConfigInput, PREVIOUS_KEY, RADIUS_FOLDER};
use crate::api::{ClientSpec, MessageAuthenticatorPolicy};

/// The one client that no `spec.clients` can be called.
const DIRECTORY_CLIENT: &str = "directory";

/// The directory as a client.
pub(super) fn directory_client(from: &ConfigInput<'_>) -> Option<file::Client> {
    let directory = from.spec.directory.as_ref()?;
    Some(file::Client {
        name: DIRECTORY_CLIENT.to_owned(),
        networks: from.directory_clients.iter().map(IpAddr::to_string).collect(),
        secret_files: [CURRENT_KEY, PREVIOUS_KEY]
            .map(|key| format!("{RADIUS_FOLDER}/{key}"))
            .to_vec(),
        directory: true,
        timeout_seconds: directory.timeout_seconds,
        retries: directory.retries,
        message_authenticator: file::MessageAuthenticator::Auto,
        unauthenticated_push: directory.unauthenticated_push,
        challenge: false,
        requests_per_second: None,
        user_address_attribute: None,
        accept_attributes: Vec::new(),
    })
}

/// The file with a client's shared secret.
pub(super) fn client_key(name: &str) -> String {
    format!("client-{name}")
}

/// A client of the spec.
pub(super) fn client(client: &ClientSpec) -> file::Client {
    file::Client {
        name: client.name.clone(),
        networks: client.networks.clone(),
        secret_files: vec![format!("{RADIUS_FOLDER}/{}", client_key(&client.name))],
        directory: false,
        timeout_seconds: client.timeout_seconds,
        retries: client.retries,
        message_authenticator: match client.message_authenticator {
            MessageAuthenticatorPolicy::Auto => file::MessageAuthenticator::Auto,
            MessageAuthenticatorPolicy::Always => file::MessageAuthenticator::Always,
            MessageAuthenticatorPolicy::Never => file::MessageAuthenticator::Never,
        },
        unauthenticated_push: client.unauthenticated_push,
        challenge: client.challenge,
        requests_per_second: client.requests_per_second,
        user_address_attribute: client.user_address_attribute.clone(),
        accept_attributes: client
            .accept_attributes
            .iter()
            .map(|(name, value)| file::Attribute {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
    }
}
