//! References to Secrets of the RadiusProxy's namespace. Every reference can choose its keys.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

fn secret_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
    })
}

fn key_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"})
}

fn key_names(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 64, "items": key_name(generator)})
}

/// A shared secret in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Key in the Secret.
    #[serde(default = "secret_key")]
    #[schemars(schema_with = "key_name")]
    pub key: String,
}

/// A password in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordKeyRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Key in the Secret.
    #[serde(default = "password_key")]
    #[schemars(schema_with = "key_name")]
    pub key: String,
}

/// A user name and a password in a Secret of the same namespace, such as one of type kubernetes.io/basic-auth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BasicAuthSecretRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Keys in the Secret.
    #[serde(default)]
    pub keys: BasicAuthKeys,
}

/// Keys of a user name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BasicAuthKeys {
    /// Key of the user name.
    #[serde(default = "username_key")]
    #[schemars(schema_with = "key_name")]
    pub username: String,
    /// Key of the password.
    #[serde(default = "password_key")]
    #[schemars(schema_with = "key_name")]
    pub password: String,
}

impl Default for BasicAuthKeys {
    fn default() -> Self {
        Self {
            username: username_key(),
            password: password_key(),
        }
    }
}

/// Credentials of a Duo application in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DuoCredentialsRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Keys in the Secret.
    #[serde(default)]
    pub keys: DuoCredentialKeys,
}

/// Keys of a Duo application's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DuoCredentialKeys {
    /// Key of the integration key (also called client id).
    #[serde(default = "ikey")]
    #[schemars(schema_with = "key_name")]
    pub ikey: String,
    /// Key of the secret key (also called client secret).
    #[serde(default = "skey")]
    #[schemars(schema_with = "key_name")]
    pub skey: String,
}

impl Default for DuoCredentialKeys {
    fn default() -> Self {
        Self {
            ikey: ikey(),
            skey: skey(),
        }
    }
}

/// Credentials for Okta in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OktaCredentialsRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Key in the Secret. Defaults to privateKey with credentials: OAuth, and to token with credentials: Token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_name")]
    pub key: Option<String>,
}

/// TOTP seeds in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeedsSecretRef {
    /// Name of the Secret.
    #[schemars(schema_with = "secret_name")]
    pub name: String,
    /// Keys in the Secret that hold seeds. Defaults to every key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "key_names")]
    pub keys: Vec<String>,
}

fn secret_key() -> String {
    "secret".to_owned()
}

fn password_key() -> String {
    "password".to_owned()
}

fn username_key() -> String {
    "username".to_owned()
}

fn ikey() -> String {
    "ikey".to_owned()
}

fn skey() -> String {
    "skey".to_owned()
}
