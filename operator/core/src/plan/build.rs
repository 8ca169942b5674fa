//! Input to Plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use proxy_config::{ConfigDigest, DigestKey, Secret};

use super::accept::{Judgement, judge};
use super::actions::Told;
use super::desired::{client_addresses, digest_key, kept_pair};
use super::upgrade::upgrade;
use super::{FinalizerChange, Plan, deletion, operators, ownership, status};
use crate::api::{ConditionType, ObservedDirectory, RadiusProxyStatus};
use crate::conditions::{Draft, Reason, Truth, ready, stamp};
use crate::config::{self, ConfigProblem, Rendered};
use crate::directory_client::{self, PodReport};
use crate::input::{Directory, Input, ReportedProblem};
use crate::names::FINALIZER;
use crate::objects::{self, Owner, Template};
use crate::registration::decide::{Case, Verdict, decide};
use crate::registration::ledger::Ledger;
use crate::registration::servers::{Proxy, Servers, compare, proxies};
use crate::rotation::{Pair, secret_digest};
use crate::secrets::{self, SecretProblem, Sources};

/// Plans everything for one RadiusProxy. Total: what is wrong becomes a condition.
#[must_use]
pub fn plan(input: &Input, now: Timestamp) -> Plan {
    let input = &*ownership::without_planted_secret(input);
    if input.proxy.metadata.deletion_timestamp.is_some() {
        return deletion::plan(input, now);
    }
    let directory = input.directory.described().map(Directory::canonical);
    let mut plan = Round::new(input, directory.as_ref(), now).plan();
    operators::sign(&mut plan, input, now);
    plan
}

/// The finalizer as it is.
pub(super) fn has_finalizer(input: &Input) -> bool {
    let finalizers = input.proxy.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == FINALIZER)
}

/// One round of planning: what is known after reading the input.
pub(super) struct Round<'a> {
    pub(super) input: &'a Input,
    pub(super) now: Timestamp,
    pub(super) owner: Owner<'a>,
    pub(super) before: Option<&'a RadiusProxyStatus>,
    pub(super) directory: Option<&'a Directory>,
    pub(super) key_file: Secret,
    pub(super) key: DigestKey,
    pub(super) ledger: Ledger,
    pub(super) clients: BTreeSet<IpAddr>,
    pub(super) sources: Result<Sources, Vec<SecretProblem>>,
    /// The configuration of now; `None` when it cannot be made, and the pods keep the last good one.
    pub(super) rendered: Option<Rendered>,
    pub(super) problem: Option<ConfigProblem>,
    /// The secrets that the pods accept after this round.
    pub(super) pair: Option<Pair>,
    pub(super) pair_before: Option<Pair>,
}

/// What registration is decided by, beside the directory itself.
struct Evidence<'a> {
    proxies: &'a [Proxy<'a>],
    servers: &'a Servers,
    reports: &'a [PodReport<'a>],
    observed: Option<&'a ObservedDirectory>,
}

impl<'a> Round<'a> {
    fn new(input: &'a Input, directory: Option<&'a Directory>, now: Timestamp) -> Self {
        let before = input.proxy.status.as_ref();
        let key_file = digest_key(input);
        let key = config::key_of(&key_file);
        let mut ledger = Ledger::read(before);
        ledger.learn(
            input.outcome.as_ref(),
            directory,
            &key,
            input.proxy.metadata.generation,
            now,
        );
        ledger.retry_after_stage(before, directory);
        let mut round = Self {
            input,
            now,
            owner: Owner::of(input),
            before,
            directory,
            key_file,
            key,
            ledger,
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

    fn plan(mut self) -> Plan {
        let set = self.input.stateful_set.as_ref();
        let running = set.is_some();
        let template = Template::new(&self.owner, &self.input.settings, set);
        let refused = template.problem().map(|message| ConfigProblem {
            reason: Reason::ConfigInvalid,
            message: message.to_owned(),
        });
        let judgement = judge(self.input, self.problem.as_ref().or(refused.as_ref()), self.now);
        // A spec that is not accepted starts nothing, and stops nothing that runs.
        // Who waits for another to let go of the directory is there when it does.
        let waits = judgement.condition.reason == Reason::DirectoryTaken && self.directory.is_some();
        let starts = (judgement.condition.is_true() || waits) && self.rendered.is_some();
        let apply = running || starts;
        let taken = judgement.condition.reason == Reason::NameConflict;
        let fresh = self.rendered.clone().filter(|_| apply && !taken);
        let mounted = fresh
            .as_ref()
            .filter(|_| !self.input.outcomes.configuration_failed());
        let digest = self.digest(mounted, running);
        let mut proxies = proxies(self.input, digest.as_ref());
        let upgrade = upgrade(&self, &template, &proxies, &judgement);
        for proxy in &mut proxies {
            proxy.joins = upgrade.eligible.contains(&proxy.ordinal);
            proxy.keeps = upgrade.retained.contains(&proxy.ordinal);
        }
        let replicas = upgrade.replicas;
        let have = self
            .directory
            .filter(|d| d.radius_status.is_some())
            .and_then(|d| d.radius_settings.as_ref());
        let network = self.directory.map(|d| d.network).unwrap_or_default();
        let applied = self.ledger.applied.as_ref().map(|applied| &applied.settings);
        let both = (have, applied);
        let servers = compare(self.input, &proxies, network, both, replicas, self.now);
        let reports = directory_client::reports(self.input, digest.as_ref());
        let observed = self.observed(&reports);
        let mut ledger = std::mem::take(&mut self.ledger);
        let evidence = Evidence {
            proxies: &proxies,
            servers: &servers,
            reports: &reports,
            observed: observed.as_ref(),
        };
        let verdict = self.verdict(&judgement, &mut ledger, &evidence, digest.is_some());
        self.ledger = ledger;

        let words = upgrade.message.as_deref().filter(|_| running);
        let available = status::available(self.input, &proxies, apply && !taken, words, replicas, self.now);
        let drafts = self.conditions(&judgement, &verdict, available);
        let seen = status::Seen {
            input: self.input,
            owner: &self.owner,
            proxies: &proxies,
            servers: &servers,
            directory: self.directory,
        };
        let mut status = status::tables(&seen, self.before);
        if let Some(directory) = &mut status.directory {
            directory.observed = observed;
        }
        status.config_digest = digest.as_ref().map(ToString::to_string);
        status.conditions = self.stamped(&drafts);
        status.surge.clone_from(&upgrade.surge);
        self.ledger.clone().write_into(&mut status);
        let (requeue_after, describe_after) =
            self.times(&judgement, &verdict, [upgrade.again, servers.again]);
        let apply = apply && !taken;
        let peers = objects::peer_addresses(&self.owner, &self.input.pods);
        // Who is told to read them anew finds them there.
        let peers_digest = apply.then(|| objects::peers_digest(&peers));
        let told = Told {
            config: digest.as_ref().map(ToString::to_string),
            peers: peers_digest,
        };
        Plan {
            finalizer: if self.has_directory() && judgement.may_write && !has_finalizer(self.input) {
                FinalizerChange::Add
            } else {
                FinalizerChange::Keep
            },
            apply: if apply {
                self.objects(fresh.as_ref(), &peers, &template, &upgrade)
            } else {
                Vec::new()
            },
            adopt: self.input.orphans.iter().filter(|_| apply).cloned().collect(),
            pods: self.pod_patches(&proxies, &told, &template, &upgrade),
            tags: self.tags(&judgement, verdict.write.is_some()),
            events: self.events(&drafts, &verdict, &upgrade),
            write: verdict.write,
            status,
            delete: self.deletions(upgrade.delete),
            upgrading: upgrade.layout.upgrading,
            requeue_after,
            describe_after,
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

    fn verdict(
        &self,
        judgement: &Judgement,
        ledger: &mut Ledger,
        evidence: &Evidence<'_>,
        configured: bool,
    ) -> Verdict {
        let Some(spec) = &self.input.proxy.spec.directory else {
            let mut verdict = Verdict::hold(Reason::NoDirectory, "there is no directory to register with");
            verdict.condition.truth = Truth::True;
            return verdict;
        };
        let (Some(directory), Some(pair), true, true) =
            (self.directory, &self.pair, judgement.may_write, configured)
        else {
            ledger.differs_since = None;
            let message = "nothing is written to AWS until the spec is accepted and the Secrets are ready";
            return Verdict::hold(Reason::Blocked, message);
        };
        let mounted = self.rendered.is_some() && !self.input.outcomes.configuration_failed();
        if !mounted && !self.is_applied(ledger, pair) {
            // The digest that pods report is of the configuration made last. After a crash the Secret may be a newer one,
            // and only that of the configuration of now would tell who has it.
            ledger.differs_since = None;
            let message =
                "AWS gets another shared secret once the Secrets are ready and the configuration can be made";
            return Verdict::hold(Reason::Blocked, message);
        }
        if ledger.applied.is_none() && self.nobody_could_log_in() {
            ledger.differs_since = None;
            let message =
                "RADIUS is not switched on or taken over while no user could log in; see SecretsReady";
            return Verdict::hold(Reason::Blocked, message);
        }
        let meta = &self.input.proxy.metadata;
        let owner = self.input.settings.cluster.owner(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let case = Case {
            input: self.input,
            spec,
            directory,
            servers: evidence.servers,
            proxies: evidence.proxies,
            reports: evidence.reports,
            observed: evidence.observed,
            pair,
            key: &self.key,
            owner: &owner,
            now: self.now,
        };
        decide(&case, ledger)
    }

    /// Whether AWS was given the secret that it is to have.
    fn is_applied(&self, ledger: &Ledger, pair: &Pair) -> bool {
        let digest = secret_digest(&self.key, &pair.current);
        let applied = ledger.applied.as_ref();
        applied.is_some_and(|applied| applied.secret_digest == digest)
    }

    fn conditions(&self, judgement: &Judgement, verdict: &Verdict, available: Draft) -> Vec<Draft> {
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
                    Reason::TotpUserTwice
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
        let mut drafts = vec![judgement.condition.clone(), secrets];
        drafts.extend(stalled);
        drafts.extend([available, verdict.condition.clone()]);
        let told = if self.has_directory() {
            "the proxies serve and are registered".to_owned()
        } else {
            "the proxies serve".to_owned()
        };
        drafts.push(ready(&drafts, told));
        drafts
    }

    /// Whether every login would fail, by what is known of the provider's credentials and the seeds.
    fn nobody_could_log_in(&self) -> bool {
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
