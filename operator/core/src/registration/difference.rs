//! What AWS should have and has not, apart from whether it is written now.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::decide::Case;
use super::ledger::Ledger;
use super::servers::Proxy;
use super::{same_but_servers, words};
use crate::api::{AddressSource, RegisteredSettings};
use crate::input::RadiusStatus;
use crate::plan::WriteReason;
use crate::rotation::secret_digest;
use crate::time;

/// What AWS should have and has not.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) reason: WriteReason,
    pub(super) words: String,
    /// Not before this time, when it can wait: a server without a pod, whose successor is awaited.
    pub(super) due: Option<Timestamp>,
}

impl Case<'_> {
    pub(super) fn difference(&self, wanted: &RegisteredSettings, ledger: &Ledger) -> Option<Difference> {
        let now = |reason, words: String| {
            Some(Difference {
                reason,
                words,
                due: None,
            })
        };
        let Some(status) = self.directory.radius_status else {
            let reason = if ledger.drift.disabled {
                WriteReason::Drift
            } else {
                WriteReason::FirstRegistration
            };
            return now(reason, "RADIUS is off".to_owned());
        };
        let have = self.directory.radius_settings.clone().unwrap_or_default();
        let Some(applied) = &ledger.applied else {
            return now(
                WriteReason::Adoption,
                "the settings were made by somebody else".to_owned(),
            );
        };
        if status == RadiusStatus::Failed {
            return now(WriteReason::Retry, "the last try ended in Failed".to_owned());
        }
        if ledger.drifted() {
            return now(WriteReason::Drift, words::changes(ledger, self.directory));
        }
        if applied.secret_digest != secret_digest(self.key, &self.pair.current) {
            return now(WriteReason::Secret, "the shared secret changed".to_owned());
        }
        if !same_but_servers(&have, wanted) {
            return now(WriteReason::Settings, words::settings(&have, wanted));
        }
        self.servers_differ()
    }

    pub(super) fn by_load_balancer(&self) -> bool {
        self.input.proxy.spec.addresses.source == AddressSource::LoadBalancer
    }

    fn servers_differ(&self) -> Option<Difference> {
        let servers = self.servers;
        let mut words = String::new();
        if !servers.missing.is_empty() {
            let _ = write!(words, "{} to be added", servers.missing.join(", "));
        }
        let gone: Vec<&str> = servers
            .gone
            .iter()
            .map(|(address, _)| address)
            .chain(&servers.leaving)
            .map(String::as_str)
            .collect();
        if !gone.is_empty() {
            let join = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{join}{} to be removed", gone.join(", "));
        }
        if !(servers.missing.is_empty() && servers.leaving.is_empty()) {
            return Some(Difference {
                reason: WriteReason::Servers,
                words,
                due: None,
            });
        }
        // Nothing to add: a server that is gone waits for its successor, so that both are one write.
        let first = servers.gone.iter().map(|(_, since)| since).min()?;
        if !self.proxies.iter().any(Proxy::serves) {
            return None;
        }
        let due = time::after(first, self.input.settings.removal_after);
        Some(Difference {
            reason: WriteReason::Servers,
            words,
            // A load balancer's address has no successor that could be seen: it may come back.
            due: (!servers.all_serve || self.by_load_balancer()).then_some(due),
        })
    }
}
