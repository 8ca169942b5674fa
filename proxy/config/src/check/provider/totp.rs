//! `[provider.totp]` checked.

use crate::check::Check;
use crate::file;
use crate::model::{CodeStore, Redis, SeedFile, Totp, UsedCodes};

use super::{host_and_port, is_link_local};

/// ConfigMaps that used codes are spread over, at most.
const MAX_CONFIG_MAPS: usize = 64;
const REDIS: &str = "provider.totp.used_codes.redis";

impl Check<'_> {
    pub(super) fn totp(&mut self, raw: &file::Totp, keyed: bool) -> Option<Totp> {
        if raw.seed_folders.is_empty() {
            self.problem(
                "provider.totp.seed_folders",
                "is empty; name at least one folder of otpauth:// URIs",
            );
        }
        let skew_steps = self.range("provider.totp.skew_steps", raw.skew_steps, 0..=10);
        let prefixes: Vec<String> = raw.seed_folders.iter().map(|f| format!("{f}/")).collect();
        let seeds = self
            .contents
            .iter()
            .filter(|(path, _)| prefixes.iter().any(|prefix| path.starts_with(prefix.as_str())))
            .map(|(path, text)| SeedFile {
                path: path.clone(),
                text: text.clone(),
            })
            .collect();
        let store = self.code_store(&raw.used_codes)?;
        if store != CodeStore::Memory && !keyed {
            self.problem(
                "provider.totp.used_codes",
                "has a store, in which users appear only as keyed digests; name the key by server.digest_key_file, the \
                 same on every proxy",
            );
        }
        Some(Totp {
            seeds,
            skew_steps,
            used_codes: UsedCodes {
                store,
                when_unavailable: raw.used_codes.when_unavailable,
            },
        })
    }

    fn code_store(&mut self, raw: &file::UsedCodes) -> Option<CodeStore> {
        match (&raw.kubernetes, &raw.redis) {
            (None, None) => Some(CodeStore::Memory),
            (Some(kubernetes), None) => {
                let names = &kubernetes.config_maps;
                if !(1..=MAX_CONFIG_MAPS).contains(&names.len()) {
                    let message = format!("names {}; it must be 1 to {MAX_CONFIG_MAPS}", names.len());
                    self.problem("provider.totp.used_codes.kubernetes.config_maps", message);
                }
                Some(CodeStore::Kubernetes {
                    config_maps: names.clone(),
                })
            }
            (None, Some(redis)) => self.redis(redis).map(CodeStore::Redis),
            (Some(_), Some(_)) => {
                self.problem(
                    "provider.totp.used_codes",
                    "has both kubernetes and redis; one store must decide",
                );
                None
            }
        }
    }

    fn redis(&mut self, raw: &file::RedisStore) -> Option<Redis> {
        let password = raw
            .password_file
            .as_deref()
            .map(|path| self.secret(format!("{REDIS}.password_file"), path));
        let database = self.range(format!("{REDIS}.database"), raw.database, 0..=65_535);
        let ca_bundle = self.ca_bundle(&format!("{REDIS}.ca_bundle"), raw.ca_bundle.as_deref());
        if ca_bundle.is_some() && !raw.tls {
            self.problem(format!("{REDIS}.ca_bundle"), "is of no use with tls = false");
        }
        let Some((host, port)) = host_and_port(&raw.address) else {
            let message = format!("is {:?}; write host:port, such as valkey.mfa:6379", raw.address);
            self.problem(format!("{REDIS}.address"), message);
            return None;
        };
        if is_link_local(&host) {
            let message = format!("is {:?}; a link-local address is refused", raw.address);
            self.problem(format!("{REDIS}.address"), message);
        }
        let password = match password {
            Some(read) => Some(read?),
            None => None,
        };
        Some(Redis {
            host,
            port,
            tls: raw.tls,
            ca_bundle,
            username: raw.username.clone(),
            password,
            database,
        })
    }
}
