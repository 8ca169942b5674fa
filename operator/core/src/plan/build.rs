//! Input to Plan.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use proxy_config::{ConfigDigest, DigestKey, Secret, SharedSecret};

use super::accept::{Judgement, judge};
use super::{
    FinalizerChange, GateChange, Object, ObjectKind, ObjectRef, Plan, PodPatch, deletion, events, status,
};
use crate::api::{AddressSource, ConditionType, RadiusProxyStatus};
use crate::conditions::{Draft, Reason, Truth, ready, stamp};
use crate::config::{self, CURRENT_KEY, ConfigProblem, DIGEST_KEY, Ingredients, PREVIOUS_KEY, Rendered};
use crate::input::{Directory, Input, PodState, RadiusStatus};
use crate::names::{FINALIZER, OWNER_TAG, OWNER_UID_TAG};
use crate::objects::{self, Owner};
use crate::registration::decide::{Case, Verdict, decide};
use crate::registration::ledger::Ledger;
use crate::registration::servers::{Proxy, Servers, compare, proxies};
use crate::registration::{gate, words};
use crate::rotation::{self, Held, Pair};
use crate::secrets::{self, SecretProblem, Sources};
use crate::time;

/// When nothing else asks for another look.
const AT_REST: Duration = Duration::from_secs(600);
/// While something is expected to pass.
const SOON: Duration = Duration::from_secs(15);
/// While AWS works on a write.
const WORKING: Duration = Duration::from_secs(3);

/// Plans everything for one RadiusProxy. Total: what is wrong becomes a condition.
#[must_use]
pub fn plan(input: &Input, now: Timestamp) -> Plan {
    if input.proxy.metadata.deletion_timestamp.is_some() {
        return deletion::plan(input, now);
    }
    let round = Round::new(input, now);
    round.plan()
}

/// The digest key's file, and whether it had to be made.
pub(super) fn digest_key(input: &Input) -> Secret {
    let kept = input.radius_secret.as_ref().and_then(|s| s.data.get(DIGEST_KEY));
    kept.filter(|key| !key.expose().is_empty())
        .cloned()
        .unwrap_or_else(|| Secret::new(hex::encode(input.entropy.digest_key()).into_bytes()))
}

/// The finalizer as it is.
pub(super) fn has_finalizer(input: &Input) -> bool {
    let finalizers = input.proxy.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == FINALIZER)
}

/// 48 characters of 64: 288 bits.
fn generated_secret(input: &Input) -> Option<SharedSecret> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text: Vec<u8> = input
        .entropy
        .shared_secret()
        .iter()
        .take(48)
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)).copied())
        .collect();
    SharedSecret::parse(&text).ok()
}

/// The secrets in the owned Secret.
fn kept_pair(input: &Input) -> Option<Pair> {
    let data = &input.radius_secret.as_ref()?.data;
    let parse = |key: &str| SharedSecret::parse(data.get(key)?.expose()).ok();
    let current = parse(CURRENT_KEY)?;
    let previous = parse(PREVIOUS_KEY).filter(|previous| *previous != current);
    Some(Pair { current, previous })
}

/// One round of planning: what is known after reading the input.
struct Round<'a> {
    input: &'a Input,
    now: Timestamp,
    owner: Owner<'a>,
    before: Option<&'a RadiusProxyStatus>,
    directory: Option<&'a Directory>,
    key_file: Secret,
    key: DigestKey,
    ledger: Ledger,
    clients: BTreeSet<IpAddr>,
    sources: Result<Sources, Vec<SecretProblem>>,
    /// The configuration of now; `None` when it cannot be made, and the pods keep the last good one.
    rendered: Option<Rendered>,
    problem: Option<ConfigProblem>,
    /// The secrets that the pods accept after this round.
    pair: Option<Pair>,
    pair_before: Option<Pair>,
}

impl<'a> Round<'a> {
    fn new(input: &'a Input, now: Timestamp) -> Self {
        let before = input.proxy.status.as_ref();
        let directory = input.directory.described();
        let key_file = digest_key(input);
        let key = config::key_of(&key_file);
        let mut ledger = Ledger::read(before);
        ledger.learn(input.outcome.as_ref(), directory, &key, now);
        let mut round = Self {
            input,
            now,
            owner: Owner::new(&input.proxy),
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

    fn has_directory(&self) -> bool {
        self.input.proxy.spec.directory.is_some()
    }

    /// When AWS has had the present secret for long enough that no domain controller uses the one before it.
    fn rotation_ends(&self) -> Option<Timestamp> {
        let completed = self.ledger.applied.as_ref()?.completed_time.as_ref()?;
        Some(time::after(completed, self.input.settings.rotation_grace))
    }

    fn next_pair(&self, sources: &Sources) -> Option<Pair> {
        if !self.has_directory() {
            return None;
        }
        let kept = self.pair_before.clone();
        let wanted = sources
            .directory
            .clone()
            .or_else(|| kept.as_ref().map(|pair| pair.current.clone()))
            .or_else(|| generated_secret(self.input))?;
        let completed = self
            .directory
            .is_some_and(|d| d.radius_status == Some(RadiusStatus::Completed));
        let held = Held {
            key: &self.key,
            applied: self.ledger.applied.as_ref(),
            pending: self.ledger.pending.as_ref(),
            settled: completed && self.rotation_ends().is_some_and(|end| self.now >= end),
        };
        Some(rotation::next(&wanted, kept, held))
    }

    fn render(&mut self) {
        self.pair.clone_from(&self.pair_before);
        let Ok(sources) = &self.sources else {
            return;
        };
        if self.has_directory() && self.clients.is_empty() {
            return;
        }
        let pair = self.next_pair(sources);
        let rendered = config::render(&Ingredients {
            spec: &self.input.proxy.spec,
            name: self.owner.names.workload(),
            directory_clients: &self.clients,
            sources,
            pair: pair.as_ref(),
            digest_key: &self.key_file,
            provider_host_suffixes: self.input.settings.provider_host_suffixes.as_deref(),
        });
        match rendered {
            Ok(rendered) => {
                self.rendered = Some(rendered);
                self.pair = pair;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn plan(mut self) -> Plan {
        let judgement = judge(self.input, self.problem.as_ref(), self.now);
        let running = self.input.stateful_set.is_some();
        // A spec that is not accepted starts nothing, and stops nothing that runs.
        let apply = running || (judgement.condition.is_true() && self.rendered.is_some());
        let taken = judgement.condition.reason == Reason::NameTaken;
        let fresh = self.rendered.clone().filter(|_| apply && !taken);
        let digest = self.digest(fresh.as_ref(), running);
        let proxies = proxies(self.input, digest.as_ref());
        let have = self
            .directory
            .filter(|d| d.radius_status.is_some())
            .and_then(|d| d.radius_settings.as_ref());
        let network = self.directory.map(|d| d.network).unwrap_or_default();
        let servers = compare(self.input, &proxies, network, have, self.now);
        let mut ledger = std::mem::take(&mut self.ledger);
        let verdict = self.verdict(&judgement, &mut ledger, &proxies, &servers, digest.is_some());
        self.ledger = ledger;

        let available = status::available(self.input, &proxies, apply && !taken);
        let drafts = self.conditions(&judgement, &verdict, available);
        let seen = status::Seen {
            input: self.input,
            owner: &self.owner,
            proxies: &proxies,
            servers: &servers,
            directory: self.directory,
        };
        let mut status = status::tables(&seen, self.before);
        status.config_digest = digest.as_ref().map(ToString::to_string);
        status.conditions = self.stamped(&drafts);
        self.ledger.clone().write_into(&mut status);
        let (requeue_after, describe_after) = self.times(&judgement, &verdict);
        Plan {
            finalizer: if self.has_directory() && judgement.may_write && !has_finalizer(self.input) {
                FinalizerChange::Add
            } else {
                FinalizerChange::Keep
            },
            apply: if apply && !taken {
                self.objects(fresh.as_ref())
            } else {
                Vec::new()
            },
            pods: self.pod_patches(&proxies, digest.as_ref()),
            tags: self.tags(&judgement, verdict.write.is_some()),
            events: self.events(&drafts, &verdict),
            write: verdict.write,
            status,
            delete: self.deletions(),
            requeue_after,
            describe_after,
        }
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
        proxies: &[Proxy<'_>],
        servers: &Servers,
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
        let meta = &self.input.proxy.metadata;
        let owner = self.input.settings.cluster.owner(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let case = Case {
            input: self.input,
            spec,
            directory,
            servers,
            proxies,
            pair,
            key: &self.key,
            owner: &owner,
            now: self.now,
        };
        decide(&case, ledger)
    }

    fn conditions(&self, judgement: &Judgement, verdict: &Verdict, available: Draft) -> Vec<Draft> {
        let secrets = match &self.sources {
            Err(problems) => {
                let reason = problems.first().map_or(Reason::SecretMissing, |p| p.reason);
                let told: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
                (Truth::False, reason, told.join("; "))
            }
            Ok(sources) if !sources.complaints.is_empty() => {
                let told = format!(
                    "{}. These users cannot log in; the others can. `radius-proxy totp enrol --user USER` prints a good line",
                    sources.complaints.join("; ")
                );
                (Truth::False, Reason::TotpSeedsMalformed, told)
            }
            Ok(_) => (
                Truth::True,
                Reason::SecretsReady,
                "every Secret is there and holds what it should".to_owned(),
            ),
        };
        let secrets = Draft::new(ConditionType::SecretsReady, secrets.0, secrets.1, secrets.2);
        let mut drafts = vec![
            judgement.condition.clone(),
            secrets,
            available,
            verdict.condition.clone(),
        ];
        let told = if self.has_directory() {
            "the proxies serve and are registered".to_owned()
        } else {
            "the proxies serve".to_owned()
        };
        drafts.push(ready(&drafts, told));
        drafts
    }

    fn stamped(&self, drafts: &[Draft]) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        let before = self.before.map_or(&[][..], |s| &s.conditions);
        stamp(drafts, before, self.input.proxy.metadata.generation, self.now)
    }

    /// Everything there should be; secrets before the configuration that names them, the network policy and the
    /// configuration before the pods.
    fn objects(&self, fresh: Option<&Rendered>) -> Vec<Object> {
        let owner = &self.owner;
        let pods = self.pod_names();
        let mut objects = vec![
            Object::ServiceAccount(Box::new(objects::service_account(owner))),
            Object::Role(Box::new(objects::role(owner, pods))),
            Object::RoleBinding(Box::new(objects::role_binding(owner))),
        ];
        objects.extend((0..pods).map(|ordinal| Object::Lease(Box::new(objects::lease(owner, ordinal)))));
        if let Some(fresh) = fresh {
            for (name, files) in [
                (owner.names.radius_secret(), &fresh.radius),
                (owner.names.provider_secret(), &fresh.provider),
                (owner.names.seeds_secret(), &fresh.seeds),
            ] {
                objects.push(Object::Secret(Box::new(objects::secret(owner, name, files))));
            }
            objects.push(Object::ConfigMap(Box::new(objects::config_map(
                owner,
                &fresh.text,
            ))));
        }
        objects.push(Object::NetworkPolicy(Box::new(objects::network_policy(
            owner,
            &self.clients,
        ))));
        objects.push(Object::Service(Box::new(objects::headless_service(owner))));
        if self.wants_load_balancer() {
            objects.push(Object::Service(Box::new(objects::load_balancer(owner))));
        }
        objects.push(Object::PodDisruptionBudget(Box::new(objects::disruption_budget(
            owner,
        ))));
        objects.push(Object::StatefulSet(Box::new(objects::stateful_set(
            owner,
            &self.input.settings,
        ))));
        objects
    }

    /// How many pods may exist, by name: those there should be, and those that are still there.
    fn pod_names(&self) -> u32 {
        let existing = self
            .input
            .pods
            .iter()
            .filter_map(|pod| self.owner.names.ordinal(&pod.name))
            .map(|ordinal| ordinal.saturating_add(1));
        // A bound, whatever pods somebody labels as ours.
        existing
            .max()
            .unwrap_or_default()
            .min(32)
            .max(self.input.proxy.spec.replicas)
    }

    fn wants_load_balancer(&self) -> bool {
        let spec = &self.input.proxy.spec;
        spec.directory.is_some() && spec.addresses.source == AddressSource::LoadBalancer
    }

    fn pod_patches(&self, proxies: &[Proxy<'_>], digest: Option<&ConfigDigest>) -> Vec<PodPatch> {
        let ours = self.ledger.applied.is_some();
        proxies
            .iter()
            .filter(|proxy| proxy.pod.deleted.is_none())
            .filter_map(|proxy| {
                let gate: Option<GateChange> = gate::change(proxy, self.input, self.directory, ours);
                let config_digest = digest
                    .map(ToString::to_string)
                    .filter(|digest| proxy.pod.config_digest.as_ref() != Some(digest));
                (gate.is_some() || config_digest.is_some()).then(|| PodPatch {
                    name: proxy.pod.name.clone(),
                    uid: proxy.pod.uid.clone(),
                    config_digest,
                    gate,
                })
            })
            .collect()
    }

    /// Ownership, for whoever comes to the directory without this cluster.
    fn tags(&self, judgement: &Judgement, writes: bool) -> Vec<(String, String)> {
        let (Some(directory), true) = (self.directory, judgement.may_write) else {
            return Vec::new();
        };
        let meta = &self.input.proxy.metadata;
        let owner = self.input.settings.cluster.owner(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let wanted = [
            (OWNER_TAG.to_owned(), owner),
            (OWNER_UID_TAG.to_owned(), meta.uid.clone().unwrap_or_default()),
        ];
        let missing = match &directory.tags {
            Some(tags) => wanted.iter().any(|(key, value)| tags.get(key) != Some(value)),
            None => true,
        };
        // Beside a write always; else only to repair what is seen to be wrong, and not again and again.
        let repair = self.ledger.applied.is_some()
            && self.ledger.pending.is_none()
            && directory
                .tags
                .as_ref()
                .is_some_and(|tags| !tags.contains_key(OWNER_TAG))
            && self.input.tag_failure.is_none()
            && !self.input.proxy.spec.suspend;
        if missing && (writes || repair) {
            wanted.to_vec()
        } else {
            Vec::new()
        }
    }

    fn events(&self, drafts: &[Draft], verdict: &Verdict) -> Vec<super::Event> {
        let before = self.before.map_or(&[][..], |s| &s.conditions);
        let mut list = events::of_conditions(before, drafts);
        list.extend(verdict.write.as_ref().map(events::of_write));
        if let Some(directory) = self.directory {
            let changes = words::changes(&self.ledger, directory);
            let drift = self.before.and_then(|s| s.drift.as_ref());
            list.extend(events::of_drift(drift, &self.ledger.drift, &changes));
        }
        let rotates = |pair: &Option<Pair>| pair.as_ref().is_some_and(rotation::under_way);
        list.extend(events::of_rotation(
            rotates(&self.pair_before),
            rotates(&self.pair),
        ));
        list
    }

    /// Pods on lost nodes, which no kubelet will ever confirm as gone; and a Service that is no longer wanted.
    fn deletions(&self) -> Vec<ObjectRef> {
        let lost = |pod: &&PodState| {
            let overdue = |deleted: Timestamp, wait: Duration| {
                deleted.saturating_add(wait).is_ok_and(|due| self.now >= due)
            };
            !pod.node_ready
                && pod
                    .deleted
                    .zip(self.input.settings.force_delete_after)
                    .is_some_and(|(deleted, wait)| overdue(deleted, wait))
        };
        let mut list: Vec<ObjectRef> = self
            .input
            .pods
            .iter()
            .filter(lost)
            .map(|pod| ObjectRef {
                kind: ObjectKind::PodByForce,
                name: pod.name.clone(),
                uid: Some(pod.uid.clone()),
            })
            .collect();
        if !self.wants_load_balancer() && !self.input.load_balancer.is_empty() {
            list.push(ObjectRef {
                kind: ObjectKind::Service,
                name: self.owner.names.load_balancer(),
                uid: None,
            });
        }
        list
    }

    /// When to look again, and how old the description may be then.
    fn times(&self, judgement: &Judgement, verdict: &Verdict) -> (Duration, Duration) {
        let working = self.has_directory()
            && judgement.may_write
            && (verdict.write.is_some()
                || self.ledger.pending.is_some()
                || self.ledger.applied.as_ref().is_some_and(|applied| {
                    applied.completed_time.is_none() && self.ledger.trouble.is_none()
                })
                || self
                    .directory
                    .is_some_and(|d| d.radius_status == Some(RadiusStatus::Creating)));
        if verdict.write.is_some() {
            return (Duration::from_secs(1), Duration::from_secs(1));
        }
        let mut requeue = if working { WORKING } else { AT_REST };
        let mut describe = if working { WORKING } else { Duration::MAX };
        if self.has_directory() && !judgement.may_write {
            requeue = requeue.min(SOON);
            describe = SOON;
        }
        let mut at = |then: Option<Timestamp>| {
            if let Some(then) = then {
                // Never in a hurry: what is due now was decided now.
                requeue = requeue.min(time::until(self.now, then).max(Duration::from_secs(1)));
            }
        };
        at(verdict.again);
        if self.pair.as_ref().is_some_and(rotation::under_way) {
            at(self.rotation_ends());
        }
        for pod in self.input.pods.iter().filter(|pod| !pod.node_ready) {
            let wait = self.input.settings.force_delete_after;
            at(pod
                .deleted
                .zip(wait)
                .and_then(|(deleted, wait)| deleted.saturating_add(wait).ok()));
        }
        (requeue, describe)
    }
}

/// Where the directory's requests come from: as described, or as it was known last.
fn client_addresses(directory: Option<&Directory>, before: Option<&RadiusProxyStatus>) -> BTreeSet<IpAddr> {
    match directory {
        Some(directory) if !directory.client_addresses.is_empty() => directory.client_addresses.clone(),
        _ => before
            .and_then(|status| status.directory.as_ref())
            .into_iter()
            .flat_map(|directory| &directory.client_addresses)
            .filter_map(|text| text.parse().ok())
            .collect(),
    }
}
