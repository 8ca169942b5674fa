//! What tests share: configurations, and a client that builds requests and reads answers by its own code.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};

use crate::factor::{Approval, Basis, Factor, Refusal, RefusalReason};
use crate::{Now, Settings};

pub(crate) mod client;
pub(crate) mod vectors;

pub(crate) const SECRET: &str = "testing123";
pub(crate) const OLD_SECRET: &str = "previous-secret";

/// A configuration of one client, 192.0.2.0/24 and 2001:db8::/32, with a timeout of 20 s and one retry; `more` is TOML
/// that goes before the clients.
pub(crate) fn config(more: &str) -> Config {
    config_with(more, "")
}

/// The same with more lines for the client.
pub(crate) fn config_with(more: &str, client: &str) -> Config {
    let provider = if more.contains("[provider.") {
        ""
    } else {
        "[provider.duo]\napi_host = \"api-1.duosecurity.com\"\nintegration_key_file = \"ikey\"\nsecret_key_file = \"skey\"\n"
    };
    let text = format!(
        "{provider}{more}\n[[clients]]\nname = \"test\"\nnetworks = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
         secret_files = [\"secret\", \"old\"]\ntimeout_seconds = 20\nretries = 1\n{client}\n"
    );
    let contents = BTreeMap::from(
        [
            ("ikey", "DIWJ8X6AEYOR5OMC6TQ1"),
            ("skey", "Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep"),
            ("secret", SECRET),
            ("old", OLD_SECRET),
            ("peers", "0123456789abcdef0123456789abcdef"),
        ]
        .map(|(path, text)| (path.to_owned(), Secret::new(text.as_bytes().to_vec()))),
    );
    Config::check(&ConfigFile::parse(&text).unwrap(), &contents).unwrap()
}

pub(crate) fn settings(config: Config) -> Settings {
    Settings::check(Arc::new(config)).ok().unwrap()
}

/// So many milliseconds after the test began.
pub(crate) fn at(milliseconds: u64) -> Now {
    Now {
        monotonic: std::time::Duration::from_millis(1_000_000 + milliseconds),
        unix: std::time::Duration::from_millis(1_700_000_000_000 + milliseconds),
    }
}

pub(crate) fn approval(factor: Factor) -> Approval {
    Approval {
        factor,
        basis: Basis::Factor,
        message: Some("Success. Logging you in...".to_owned()),
        found_text: None,
        attributes: Vec::new(),
    }
}

pub(crate) fn refusal(reason: RefusalReason) -> Refusal {
    Refusal {
        factor: Some(Factor::Push),
        reason,
        message: None,
    }
}

pub(crate) const PEERS: &str =
    "[server.peers]\nlisten = \"[::]:1814\"\naddresses = [\"proxies:1814\"]\nkey_file = \"peers\"\n";

pub(crate) const UPSTREAM: &str = "[provider.radius]\n[[provider.radius.servers]]\naddress = \"192.0.2.250:1812\"\n\
                                   secret_file = \"secret\"\n";

pub(crate) const TOTP: &str = "[provider.totp]\nseed_folders = [\"seeds\"]\n";
