//! What all parts of a plan are decided by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use proxy_config::{DigestKey, Secret, SharedSecret};

use super::configuration::{client_addresses, digest_key, kept_pair, render};
use super::known_directory::KnownDirectory;
use super::ownership::{Vouched, vouched};
use crate::api::{DirectoryRegistration, RadiusProxyStatus};
use crate::config::{self, ConfigProblem, Rendered};
use crate::objects::Owner;
use crate::observed::{ReportedProblem, RolloutInput};
use crate::registration::record::RegistrationRecord;
use crate::rotation::SecretPair;
use crate::secrets::{self, ResolvedSecrets, SecretProblem};
use crate::time;

/// What a plan is made from: the input, and what follows from it.
pub(super) struct RolloutContext<'a> {
    pub(super) input: &'a RolloutInput,
    pub(super) now: Timestamp,
    pub(super) owner: Owner<'a>,
    pub(super) before: Option<&'a RadiusProxyStatus>,
    pub(super) directory: Option<&'a KnownDirectory>,
    /// Whether this RadiusProxy holds the directory.
    pub(super) holds: bool,
    pub(super) key_file: Secret,
    pub(super) key: DigestKey,
    /// The record of the registration; empty while another holds the directory.
    pub(super) record: RegistrationRecord,
    pub(super) clients: BTreeSet<IpAddr>,
    pub(super) sources: Result<ResolvedSecrets, Vec<SecretProblem>>,
    /// The current configuration; `None` when it can't be rendered, and the pods keep the last valid one.
    pub(super) rendered: Option<Rendered>,
    pub(super) problem: Option<ConfigProblem>,
    /// The secrets that the pods accept after this plan.
    pub(super) pair: Option<SecretPair>,
    pub(super) pair_before: Option<SecretPair>,
    /// Whether the operator's own Secret may be used.
    pub(super) vouched: Vouched,
    /// The secret that AWS is to get.
    pub(super) wanted_secret: Option<SharedSecret>,
}

impl<'a> RolloutContext<'a> {
    /// Reads the input.
    pub(super) fn new(
        input: &'a RolloutInput,
        directory: Option<&'a KnownDirectory>,
        now: Timestamp,
    ) -> Self {
        let before = input.proxy.status.as_ref();
        let key_file = digest_key(input);
        let key = config::key_of(&key_file);
        let held = input
            .registration
            .as_ref()
            .filter(|registration| registration.is_held_by(&input.proxy));
        let status = held.and_then(|registration| registration.status.as_ref());
        let mut context = Self {
            input,
            now,
            owner: Owner::of(input),
            before,
            directory,
            holds: held.is_some(),
            key_file,
            key,
            record: RegistrationRecord::read(status),
            clients: client_addresses(directory, before),
            sources: secrets::read(input),
            rendered: None,
            problem: None,
            pair: None,
            pair_before: kept_pair(input),
            vouched: vouched(input),
            wanted_secret: None,
        };
        render(&mut context);
        context
    }

    pub(super) fn has_directory(&self) -> bool {
        self.input.proxy.spec.directory.is_some()
    }

    /// When AWS has had the present secret for long enough that no domain controller uses the one before it.
    pub(super) fn rotation_ends(&self) -> Option<Timestamp> {
        let completed = self.record.applied.as_ref()?.completed_time.as_ref()?;
        Some(time::after(completed, self.input.settings.rotation_grace))
    }

    /// The registration, if this RadiusProxy holds the directory.
    pub(super) fn held(&self) -> Option<&DirectoryRegistration> {
        self.input.registration.as_ref().filter(|_| self.holds)
    }

    /// Whether every login would fail, judged by the provider's credentials and the seeds.
    pub(super) fn nobody_could_log_in(&self) -> bool {
        let no_user = self.sources.as_ref().is_ok_and(|sources| sources.no_user);
        let exempts = !self.input.proxy.spec.policy.exempt_users.is_empty();
        !self.refused_by_provider().is_empty() || (no_user && !exempts)
    }

    /// The pods whose provider refuses their credentials.
    pub(super) fn refused_by_provider(&self) -> Vec<&str> {
        let refused = |uid: &String| {
            let report = self.input.reports.get(uid);
            report.is_some_and(|report| report.problem == Some(ReportedProblem::ProviderCredentials))
        };
        let pods = self.input.pods.iter().filter(|pod| refused(&pod.uid));
        pods.map(|pod| pod.name.as_str()).collect()
    }

    pub(super) fn provider_secret(&self) -> Option<&str> {
        let provider = &self.input.proxy.spec.provider;
        let duo = provider.duo.as_ref().map(|duo| &duo.credentials_secret_ref.name);
        let okta = provider
            .okta
            .as_ref()
            .map(|okta| &okta.credentials_secret_ref.name);
        duo.or(okta).map(String::as_str)
    }
}
