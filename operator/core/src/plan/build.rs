//! Input to Plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use proxy_config::{ConfigDigest, DigestKey, Secret};

use super::accept::{Acceptance, accept};
use super::actions::Digests;
use super::desired::{client_addresses, digest_key, kept_pair};
use super::known::{Known, mirrored, unobserved};
use super::pods::proxies;
use super::registering::Registering;
use super::upgrade::upgrade;
use super::{FinalizerChange, Plan, deletion, operators, ownership, status};
use crate::api::{
    ConditionType, DeletionPolicy, DirectoryRegistration, ObservedDirectory, RadiusProxyStatus,
};
use crate::conditions::{Draft, Reason, Truth, ready, stamp};
use crate::config::{self, ConfigProblem, Rendered};
use crate::directory_client::{self, PodReport};
use crate::input::{Input, ReportedProblem};
use crate::objects::{self, Owner, Template};
use crate::outcomes::LastingFailure;
use crate::registration::record::RegistrationRecord;
use crate::registration::same_but_servers;
use crate::rotation::Pair;
use crate::secrets::{self, SecretProblem, Sources};

/// Plans everything for one RadiusProxy. Total: what is wrong becomes a condition.
#[must_use]
pub fn plan(input: &Input, now: Timestamp) -> Plan {
    let input = &*ownership::without_planted_secret(input);
    if input.proxy.metadata.deletion_timestamp.is_some() {
        let mut plan = deletion::plan(input, now);
        if plan.finalizer == FinalizerChange::Keep && deletion::has_finalizer(input) {
            deletion::follow_clients(&mut plan, input, || {
                let directory = input.registration.as_ref().and_then(Known::of);
                Round::new(input, directory.as_ref(), now).plan()
            });
        }
        return plan;
    }
    let directory = input.registration.as_ref().and_then(Known::of);
    let mut plan = Round::new(input, directory.as_ref(), now).plan();
    operators::sign(&mut plan, input, now);
    plan
}

/// One round of planning: what is known after reading the input.
pub(super) struct Round<'a> {
    pub(super) input: &'a Input,
    pub(super) now: Timestamp,
    pub(super) owner: Owner<'a>,
    pub(super) before: Option<&'a RadiusProxyStatus>,
    pub(super) directory: Option<&'a Known>,
    /// Whether this RadiusProxy holds the directory.
    pub(super) holds: bool,
    pub(super) key_file: Secret,
    pub(super) key: DigestKey,
    /// What the registration remembers; empty while another holds the directory.
    pub(super) record: RegistrationRecord,
    pub(super) clients: BTreeSet<IpAddr>,
    pub(super) sources: Result<Sources, Vec<SecretProblem>>,
    /// The configuration of now; `None` when it cannot be made, and the pods keep the last good one.
    pub(super) rendered: Option<Rendered>,
    pub(super) problem: Option<ConfigProblem>,
    /// The secrets that the pods accept after this round.
    pub(super) pair: Option<Pair>,
    pub(super) pair_before: Option<Pair>,
}

impl<'a> Round<'a> {
    fn new(input: &'a Input, directory: Option<&'a Known>, now: Timestamp) -> Self {
        let before = input.proxy.status.as_ref();
        let key_file = digest_key(input);
        let key = config::key_of(&key_file);
        let held = input
            .registration
            .as_ref()
            .filter(|registration| registration.is_held_by(&input.proxy));
        let status = held.and_then(|registration| registration.status.as_ref());
        let mut round = Self {
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
        };
        round.render();
        round
    }

    fn plan(self) -> Plan {
        let set = self.input.stateful_set.as_ref();
        let running = set.is_some();
        let template = Template::new(&self.owner, &self.input.settings, set);
        let refused = template.problem().map(|message| ConfigProblem {
            reason: Reason::ConfigInvalid,
            message: message.to_owned(),
        });
        let acceptance = accept(self.input, self.problem.as_ref().or(refused.as_ref()), self.now);
        // A spec that is not accepted starts nothing, and stops nothing that runs.
        // Start the pods while another RadiusProxy still holds the directory, so that they can take over at once.
        let waits = acceptance.condition.reason == Reason::DirectoryConflict && self.directory.is_some();
        let starts = (acceptance.condition.is_true() || waits) && self.rendered.is_some();
        let apply = running || starts;
        let taken = acceptance.condition.reason == Reason::NameConflict;
        let fresh = self.rendered.clone().filter(|_| apply && !taken);
        let mounted = fresh
            .as_ref()
            .filter(|_| !self.input.outcomes.configuration_failed());
        let digest = self.digest(mounted, running);
        let mut proxies = proxies(self.input, digest.as_ref());
        let upgrade = upgrade(&self, &template, &proxies, &acceptance);
        for proxy in &mut proxies {
            proxy.joins = upgrade.eligible.contains(&proxy.ordinal);
            proxy.keeps = upgrade.retained.contains(&proxy.ordinal);
        }
        let replicas = upgrade.replicas;
        let reports = directory_client::reports(self.input, digest.as_ref());
        let observed = self.observed(&reports);
        let registering = self.registering(&acceptance, &proxies, &reports, replicas, digest.is_some());
        let registered = self.registered(&registering, &reports, observed.as_ref());

        let words = upgrade.message.as_deref().filter(|_| running);
        let available = status::available(self.input, &proxies, apply && !taken, words, replicas, self.now);
        let drafts = self.conditions(&acceptance, registered, available);
        let seen = status::Seen {
            input: self.input,
            owner: &self.owner,
            proxies: &proxies,
            registration: self.held().and_then(|registration| registration.status.as_ref()),
        };
        let mut status = status::tables(&seen, self.before);
        if let Some(directory) = &mut status.directory {
            directory.observed = observed;
        }
        status.config_digest = digest.as_ref().map(ToString::to_string);
        status.conditions = self.stamped(&drafts);
        status.surge.clone_from(&upgrade.surge);
        let failure = self.input.registration_failure.as_ref();
        let told_at = failure
            .map(LastingFailure::shown_from)
            .filter(|at| *at > self.now);
        let requeue_after = self.requeue_after([upgrade.again, registering.again, told_at]);
        let apply = apply && !taken;
        let peers = objects::peer_addresses(&self.owner, &self.input.pods);
        // Pods that read them again find them applied.
        let peers_digest = apply.then(|| objects::peers_digest(&peers));
        let digests = Digests {
            config: digest.as_ref().map(ToString::to_string),
            peers: peers_digest,
        };
        Plan {
            finalizer: self.finalizer(&acceptance),
            registration: registering.spec,
            apply: if apply {
                self.objects(fresh.as_ref(), &peers, &template, &upgrade)
            } else {
                Vec::new()
            },
            adopt: self.input.orphans.iter().filter(|_| apply).cloned().collect(),
            pods: self.pod_patches(&proxies, &digests, &template, &upgrade),
            events: self.events(&drafts, &upgrade),
            status,
            delete: self.deletions(upgrade.delete),
            upgrading: upgrade.layout.upgrading,
            requeue_after,
        }
    }

    /// How the directory asks, as far as the pods have seen.
    fn observed(&self, reports: &[PodReport<'_>]) -> Option<ObservedDirectory> {
        let before = self
            .before
            .and_then(|status| status.directory.as_ref()?.observed.as_ref());
        let probes = &self.input.proxy.spec.policy.probe_users;
        directory_client::shown(reports, &self.clients, probes, before, self.now)
    }

    /// The configuration that pods should report: the present one, or the last one that could be made.
    fn digest(&self, fresh: Option<&Rendered>, running: bool) -> Option<ConfigDigest> {
        let last = self
            .before
            .and_then(|s| s.config_digest.as_deref())
            .filter(|_| running);
        fresh
            .map(|rendered| rendered.digest.clone())
            .or_else(|| last.map(ConfigDigest::from_reported))
    }

    /// The registration, if this RadiusProxy holds the directory.
    fn held(&self) -> Option<&DirectoryRegistration> {
        self.input.registration.as_ref().filter(|_| self.holds)
    }

    /// A deletion has to wait where it means DisableRadius, or where another RadiusProxy takes over: the pods have to answer
    /// until then.
    fn finalizer(&self, acceptance: &Acceptance) -> FinalizerChange {
        let spec = self.input.proxy.spec.directory.as_ref();
        let disables = spec.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Disable);
        let has = deletion::has_finalizer(self.input);
        if self.holds && acceptance.may_write && (disables || self.input.successor_waits) {
            if has {
                FinalizerChange::Keep
            } else {
                FinalizerChange::Add
            }
        } else if has && !disables && !self.input.successor_waits {
            FinalizerChange::Remove
        } else {
            FinalizerChange::Keep
        }
    }

    /// The condition Registered.
    fn registered(
        &self,
        registering: &Registering,
        reports: &[PodReport<'_>],
        observed: Option<&ObservedDirectory>,
    ) -> Draft {
        let draft =
            |truth, reason, message: &str| Draft::new(ConditionType::Registered, truth, reason, message);
        let Some(spec) = &self.input.proxy.spec.directory else {
            let message = "there is no directory to register with";
            return draft(Truth::True, Reason::NoDirectory, message);
        };
        let desired = registering.spec.as_ref().and_then(|spec| spec.desired.as_ref());
        let Some(desired) = desired.filter(|_| self.holds) else {
            let message = "nothing is written to AWS until the spec is accepted and the Secrets are ready";
            return draft(Truth::False, Reason::Blocked, message);
        };
        if !desired.blocked.is_empty() {
            return draft(Truth::False, Reason::Blocked, &desired.blocked);
        }
        if let Some(unobserved) = unobserved(self.input, self.now) {
            return unobserved;
        }
        let mirrored = self
            .held()
            .and_then(|registration| mirrored(registration, ConditionType::Registered));
        let Some(mut registered) = mirrored else {
            let message = "the directory's registration has not been looked at yet";
            return draft(Truth::False, Reason::Registering, message);
        };
        let applied = self.record.applied.as_ref();
        let is_applied = applied.is_some_and(|applied| {
            let wanted = desired.shared_secret.as_ref().map(|secret| &secret.digest);
            same_but_servers(&applied.settings, &desired.settings) && Some(&applied.secret_digest) == wanted
        });
        if registered.is_true() && registered.reason == Reason::Registered && !is_applied {
            let message = "the registration has not followed the latest change yet";
            registered = draft(Truth::False, Reason::Registering, message);
        }
        let context = directory_client::Context {
            spec,
            provider: &self.input.proxy.spec.provider,
            port: self.input.proxy.spec.port,
            reports,
            shown: observed,
            radius_status: self.directory.and_then(|directory| directory.radius_status),
            applied,
        };
        for note in directory_client::warnings(&context, self.now) {
            let message = registered.message.trim_end_matches('.');
            registered.message = format!("{message}. {note}");
        }
        registered
    }

    fn conditions(&self, acceptance: &Acceptance, registered: Draft, available: Draft) -> Vec<Draft> {
        let secrets = match &self.sources {
            Err(problems) => {
                let reason = problems.first().map_or(Reason::SecretMissing, |p| p.reason);
                let told: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
                (Truth::False, reason, told.join("; "))
            }
            Ok(sources) if !sources.complaints.is_empty() => {
                let who = if sources.no_user {
                    "No user can log in"
                } else {
                    "These users cannot log in; the others can"
                };
                let told = format!(
                    "{}. {who}. `radius-proxy totp enrol --user USER` prints a good line",
                    sources.complaints.join("; ")
                );
                let reason = if sources.twice {
                    Reason::DuplicateTotpSeed
                } else {
                    Reason::TotpSeedsMalformed
                };
                (Truth::False, reason, told)
            }
            Ok(_) if !self.refused_by_provider().is_empty() => (
                Truth::False,
                Reason::ProviderCredentialsRefused,
                format!(
                    "the provider refuses the credentials in Secret {}, as {} say: logins that need it are refused. Compare \
                     its keys with the application's page at the provider, and mend the Secret: the proxies take it over \
                     by themselves",
                    self.provider_secret().unwrap_or("of the provider"),
                    self.refused_by_provider().join(", "),
                ),
            ),
            Ok(_) => (
                Truth::True,
                Reason::SecretsReady,
                "every Secret is there and holds what it should".to_owned(),
            ),
        };
        let secrets = Draft::new(ConditionType::SecretsReady, secrets.0, secrets.1, secrets.2);
        let stalled = self.input.outcomes.shown(self.now);
        let stalled =
            stalled.map(|(reason, told)| Draft::new(ConditionType::Stalled, Truth::True, reason, told));
        let mut drafts = vec![acceptance.condition.clone(), secrets];
        drafts.extend(stalled);
        drafts.extend([available, registered]);
        let told = if self.has_directory() {
            "the proxies serve and are registered".to_owned()
        } else {
            "the proxies serve".to_owned()
        };
        drafts.push(ready(&drafts, told));
        drafts
    }

    /// Whether every login would fail, by what is known of the provider's credentials and the seeds.
    pub(super) fn nobody_could_log_in(&self) -> bool {
        let no_user = self.sources.as_ref().is_ok_and(|sources| sources.no_user);
        let exempts = !self.input.proxy.spec.policy.exempt_users.is_empty();
        !self.refused_by_provider().is_empty() || (no_user && !exempts)
    }

    /// The pods whose provider does not take their credentials.
    fn refused_by_provider(&self) -> Vec<&str> {
        let refused = |uid: &String| {
            let report = self.input.reports.get(uid);
            report.is_some_and(|report| report.problem == Some(ReportedProblem::ProviderCredentials))
        };
        let pods = self.input.pods.iter().filter(|pod| refused(&pod.uid));
        pods.map(|pod| pod.name.as_str()).collect()
    }

    fn provider_secret(&self) -> Option<&str> {
        let provider = &self.input.proxy.spec.provider;
        let duo = provider.duo.as_ref().map(|duo| &duo.credentials_secret_ref.name);
        let okta = provider
            .okta
            .as_ref()
            .map(|okta| &okta.credentials_secret_ref.name);
        duo.or(okta).map(String::as_str)
    }

    fn stamped(&self, drafts: &[Draft]) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        let before = self.before.map_or(&[][..], |s| &s.conditions);
        stamp(drafts, before, self.input.proxy.metadata.generation, self.now)
    }
}
