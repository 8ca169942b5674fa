//! The Secrets with TOTP seeds that a selector finds: read again only when one of them changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use operator_core::observed::SecretContent;

use crate::object_keys::RadiusProxyKey;

/// Secrets by name.
pub(crate) type SeedSecrets = BTreeMap<String, SecretContent>;

/// What was found for each RadiusProxy that has a selector. The content is zeroised when it's dropped.
#[derive(Debug, Default)]
pub(crate) struct Seeds(Mutex<HashMap<RadiusProxyKey, Found>>);

#[derive(Debug, Default)]
struct Found {
    /// The selector.
    query: String,
    /// Counts changes, so that a list that began before one isn't kept.
    version: u64,
    is_current: bool,
    secrets: SeedSecrets,
}

impl Seeds {
    /// What a selector finds, if nothing changed since it was read; otherwise the version to read it for.
    pub(crate) fn current(&self, key: &RadiusProxyKey, query: &str) -> Result<SeedSecrets, u64> {
        let mut all = self.lock();
        let found = all.entry(key.clone()).or_default();
        if found.query != query {
            query.clone_into(&mut found.query);
            found.is_current = false;
            found.version += 1;
        }
        if found.is_current {
            Ok(found.secrets.clone())
        } else {
            Err(found.version)
        }
    }

    /// Keeps what was read for a version.
    pub(crate) fn keep(&self, key: &RadiusProxyKey, version: u64, secrets: &SeedSecrets) {
        if let Some(found) = self.lock().get_mut(key) {
            found.is_current = found.version == version;
            found.secrets.clone_from(secrets);
        }
    }

    /// The RadiusProxy has no selector, or is gone.
    pub(crate) fn forget(&self, key: &RadiusProxyKey) {
        self.lock().remove(key);
    }

    /// Whether a Secret of this name was found: one that loses its labels is a change too.
    pub(super) fn has(&self, key: &RadiusProxyKey, name: &str) -> bool {
        self.lock()
            .get(key)
            .is_some_and(|found| found.secrets.contains_key(name))
    }

    /// A Secret of the selector changed.
    pub(super) fn changed(&self, key: &RadiusProxyKey) {
        if let Some(found) = self.lock().get_mut(key) {
            found.is_current = false;
            found.version += 1;
        }
    }

    /// Any Secret may have changed.
    pub(super) fn all_changed(&self) {
        for found in self.lock().values_mut() {
            found.is_current = false;
            found.version += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RadiusProxyKey, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(names: &[&str]) -> SeedSecrets {
        let empty = || SecretContent {
            data: BTreeMap::new(),
        };
        names.iter().map(|name| ((*name).to_owned(), empty())).collect()
    }

    #[test]
    fn secrets_are_read_once_until_one_of_them_changes() {
        let (seeds, key) = (Seeds::default(), RadiusProxyKey::new("mfa", "a"));
        let version = seeds.current(&key, "mfa=totp").unwrap_err();
        seeds.keep(&key, version, &secrets(&["jane"]));
        assert_eq!(seeds.current(&key, "mfa=totp").unwrap().len(), 1);
        assert!(seeds.has(&key, "jane"));
        seeds.changed(&key);
        assert!(seeds.current(&key, "mfa=totp").is_err());
    }

    #[test]
    fn a_list_that_began_before_a_change_is_not_kept() {
        let (seeds, key) = (Seeds::default(), RadiusProxyKey::new("mfa", "a"));
        let version = seeds.current(&key, "mfa=totp").unwrap_err();
        seeds.changed(&key);
        seeds.keep(&key, version, &secrets(&["jane"]));
        assert!(seeds.current(&key, "mfa=totp").is_err());
        assert!(seeds.has(&key, "jane"));
    }

    #[test]
    fn another_selector_is_read_anew() {
        let (seeds, key) = (Seeds::default(), RadiusProxyKey::new("mfa", "a"));
        let version = seeds.current(&key, "mfa=totp").unwrap_err();
        seeds.keep(&key, version, &secrets(&["jane"]));
        assert!(seeds.current(&key, "mfa=seeds").is_err());
    }
}
