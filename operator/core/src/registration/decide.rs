//! Whether AWS is written to now, and what people are told of it.

use std::fmt::Write as _;

use jiff::Timestamp;
use proxy_config::DigestKey;

use super::ledger::{FAILED, Ledger};
use super::servers::{Proxy, Servers};
use super::words;
use super::{fingerprint, same, same_but_servers, wanted_settings};
use crate::api::{
    AddressSource, AdoptionPolicy, ConditionType, DirectorySpec, DriftPolicy, LastWrite, PendingWrite,
    RegisteredSettings,
};
use crate::aws::AwsOperation;
use crate::conditions::{Draft, Reason, Truth};
use crate::input::{Directory, Input, RadiusStatus};
use crate::names::OWNER_TAG;
use crate::plan::{DirectoryCall, DirectoryWrite, RadiusSettings, WriteReason};
use crate::rotation::{Pair, secret_digest};
use crate::time;

/// Everything that the decision is made of.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) input: &'a Input,
    pub(crate) spec: &'a DirectorySpec,
    pub(crate) directory: &'a Directory,
    pub(crate) servers: &'a Servers,
    pub(crate) proxies: &'a [Proxy<'a>],
    pub(crate) pair: &'a Pair,
    pub(crate) key: &'a DigestKey,
    /// `<cluster>/<namespace>/<name>` of this RadiusProxy.
    pub(crate) owner: &'a str,
    pub(crate) now: Timestamp,
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The condition Registered.
    pub(crate) condition: Draft,
    pub(crate) write: Option<DirectoryWrite>,
    /// When to decide again, if nothing happens before.
    pub(crate) again: Option<Timestamp>,
}

impl Verdict {
    pub(crate) fn hold(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition: Draft::new(ConditionType::Registered, Truth::False, reason, message),
            write: None,
            again: None,
        }
    }

    fn until(mut self, again: Timestamp) -> Self {
        self.again = Some(again);
        self
    }
}

/// Decides. `ledger` gets what has to be remembered, before it is relied on.
pub(crate) fn decide(case: &Case<'_>, ledger: &mut Ledger) -> Verdict {
    let wanted = case.settings();
    let difference = case.difference(&wanted, ledger);
    if let Some(hold) = case.hands_off(ledger, difference.is_some()) {
        return hold;
    }
    let Some(difference) = difference else {
        ledger.differs_since = None;
        return case.in_sync();
    };
    if case.servers.want.is_empty() {
        // The old list stays: a wrong server costs a time-out, no server costs every login.
        return case.nothing_to_register();
    }
    if let Some(due) = difference.due.filter(|due| case.now < *due) {
        ledger.differs_since = None;
        let mut verdict = case.in_sync();
        verdict.again = Some(due);
        return verdict;
    }
    if let Some(hold) = case.backs_off(ledger, &wanted) {
        return hold;
    }
    let since = ledger
        .differs_since
        .get_or_insert_with(|| time::floor(case.now))
        .clone();
    let settled_at = time::after(&since, case.input.settings.settle);
    if let Some(hold) = case.proxies_lag(ledger, settled_at) {
        return hold;
    }
    let urgent = case.directory.radius_status.is_some() && !case.servers.one_answers;
    if !case.servers.all_serve && !urgent && case.now < settled_at {
        let message = format!(
            "{}; waiting for all {} proxies to serve, until {} at most, so that AWS is written to once",
            difference.words,
            case.input.proxy.spec.replicas,
            time::clock(settled_at)
        );
        return Verdict::hold(Reason::Settling, message).until(settled_at);
    }
    case.write(ledger, wanted, &difference)
}

/// What AWS should have and has not.
#[derive(Debug)]
struct Difference {
    reason: WriteReason,
    words: String,
    /// Not before this time, when it can wait: a server without a pod, whose successor is awaited.
    due: Option<Timestamp>,
}

impl Case<'_> {
    /// The settings that AWS should have.
    fn settings(&self) -> RegisteredSettings {
        let mut settings = wanted_settings(self.spec, self.input.proxy.spec.port);
        settings.servers.clone_from(&self.servers.want.v4);
        settings.servers_ipv6.clone_from(&self.servers.want.v6);
        settings
    }

    fn adopts(&self) -> bool {
        self.spec.adoption_policy == AdoptionPolicy::Adopt
    }

    /// The owner that the directory's tags name, when it is not this RadiusProxy.
    fn other_owner(&self) -> Option<&str> {
        let owner = self.directory.tags.as_ref()?.get(OWNER_TAG)?;
        (owner != self.owner).then_some(owner.as_str())
    }

    /// Reasons not to write at all, whatever the difference.
    fn hands_off(&self, ledger: &mut Ledger, differs: bool) -> Option<Verdict> {
        let directory = self.directory;
        let soon = time::after(&time::floor(self.now), std::time::Duration::from_secs(5));
        if self.input.proxy.spec.suspend {
            ledger.differs_since = None;
            let (truth, more) = if differs {
                (Truth::False, "; what AWS has is not what there should be")
            } else {
                (Truth::True, "")
            };
            let message = format!("spec.suspend is true: nothing is written to AWS{more}");
            let mut verdict = Verdict::hold(Reason::Suspended, message);
            verdict.condition.truth = truth;
            return Some(verdict);
        }
        if let Some(pending) = &ledger.pending {
            let message = format!("{} was sent; waiting for AWS's answer", pending.operation);
            let trouble = ledger
                .trouble
                .as_ref()
                .map(|trouble| words::trouble(trouble, self.spec));
            let (reason, message) = trouble.unwrap_or((Reason::Registering, message));
            return Some(Verdict::hold(reason, message).until(soon));
        }
        if directory.stage != "Active" {
            let detail = directory.stage_reason.as_deref().map(|r| format!(" ({r})"));
            let message = format!(
                "the directory's stage is {}{}; RADIUS settings can be changed when it is Active. Look at it in the AWS console",
                directory.stage,
                detail.unwrap_or_default()
            );
            return Some(Verdict::hold(Reason::DirectoryNotActive, message));
        }
        if let Some(hold) = self.somebody_elses(ledger) {
            return Some(hold);
        }
        if directory.radius_status == Some(RadiusStatus::Creating) {
            let message = "AWS is changing the directory's RADIUS settings; this takes seconds to minutes";
            return Some(Verdict::hold(Reason::Registering, message).until(soon));
        }
        if let Some(applied) = &ledger.applied {
            let described = directory.radius_settings.as_ref();
            let shown =
                described.is_some_and(|d| same(d, &applied.settings)) && directory.radius_status.is_some();
            if directory.as_of < applied.time.0 || (!shown && !ledger.drifted()) {
                let message = "AWS took the settings; waiting for it to describe them";
                return Some(Verdict::hold(Reason::Registering, message).until(soon));
            }
        }
        self.left_alone(ledger)
    }

    /// Settings that somebody else made are replaced by the adoption policy only.
    fn somebody_elses(&self, ledger: &Ledger) -> Option<Verdict> {
        if self.adopts() || self.directory.radius_status.is_none() {
            return None;
        }
        if let Some(owner) = self.other_owner() {
            let message = format!(
                "the directory's tag {OWNER_TAG} says that {owner} keeps its RADIUS settings. Delete that RadiusProxy, or set \
                 spec.directory.adoptionPolicy: Adopt to take over with one write"
            );
            return Some(Verdict::hold(Reason::DirectoryTaken, message));
        }
        let tagged = self
            .directory
            .tags
            .as_ref()
            .is_some_and(|tags| tags.get(OWNER_TAG).is_some_and(|owner| owner == self.owner));
        if ledger.applied.is_some() || tagged {
            return None;
        }
        let blind = match &self.directory.tags {
            None => " (its tags cannot be read: allow ds:ListTagsForResource)",
            Some(_) => "",
        };
        let message = format!(
            "the directory has RADIUS settings that this RadiusProxy did not make{blind}; they stay. Set \
             spec.directory.adoptionPolicy: Adopt to replace them with one write"
        );
        Some(Verdict::hold(Reason::SettingsOfOthers, message))
    }

    /// Changes from outside that are not, or no longer, written back.
    fn left_alone(&self, ledger: &Ledger) -> Option<Verdict> {
        if !ledger.drifted() {
            return None;
        }
        let changes = words::changes(ledger, self.directory);
        if let Some(until) = ledger.contended_until(self.now) {
            let message = format!(
                "somebody else changed the RADIUS settings twice within an hour ({changes}). Nothing is written until {}; \
                 find out who (CloudTrail: UpdateRadius, EnableRadius, DisableRadius), or set spec.suspend: true",
                time::clock(until)
            );
            return Some(Verdict::hold(Reason::Contended, message).until(until));
        }
        if self.spec.drift_policy == DriftPolicy::Report {
            let message = format!(
                "somebody else changed the RADIUS settings ({changes}); spec.directory.driftPolicy: Report leaves it so"
            );
            return Some(Verdict::hold(Reason::Drifted, message));
        }
        if ledger.drift.disabled && self.spec.drift_policy != DriftPolicy::Enforce {
            let message = "RADIUS was switched off in AWS: users log in WITHOUT a second factor. Set \
                           spec.directory.driftPolicy: Enforce to have it switched on again";
            return Some(Verdict::hold(Reason::SwitchedOff, message));
        }
        None
    }

    fn difference(&self, wanted: &RegisteredSettings, ledger: &Ledger) -> Option<Difference> {
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

    fn servers_differ(&self) -> Option<Difference> {
        let servers = self.servers;
        let mut words = String::new();
        if !servers.missing.is_empty() {
            let _ = write!(words, "{} to be added", servers.missing.join(", "));
        }
        let gone: Vec<&str> = servers.gone.iter().map(|(address, _)| address.as_str()).collect();
        if !gone.is_empty() {
            let join = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{join}{} to be removed", gone.join(", "));
        }
        if !servers.missing.is_empty() {
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
            due: (!servers.all_serve).then_some(due),
        })
    }

    /// AWS has what it should have.
    fn in_sync(&self) -> Verdict {
        let servers = self.servers;
        if servers.registered < servers.wanted || !servers.gone.is_empty() {
            let message = format!(
                "{} of {} servers registered; {}",
                servers.registered,
                servers.wanted,
                words::not_serving(self.proxies, self.input)
            );
            return Verdict::hold(Reason::ServersMissing, message);
        }
        let message = format!("AWS has completed with {} servers", servers.registered);
        Verdict {
            condition: Draft::new(
                ConditionType::Registered,
                Truth::True,
                Reason::Registered,
                message,
            ),
            write: None,
            again: None,
        }
    }

    fn nothing_to_register(&self) -> Verdict {
        let source = self.input.proxy.spec.addresses.source;
        if !self.proxies.iter().any(Proxy::serves) {
            let message = format!(
                "nothing to register yet: {}",
                words::not_serving(self.proxies, self.input)
            );
            return Verdict::hold(Reason::WaitingForProxies, message);
        }
        let message = match source {
            AddressSource::LoadBalancer => {
                "the Service of type LoadBalancer has no address yet; see its events, and whether a controller serves its class"
            }
            _ => {
                "the proxies have no address of the directory's family (IPv4 or IPv6); a dual-stack cluster, or \
                 spec.addresses, can give them one"
            }
        };
        Verdict::hold(Reason::WaitingForAddresses, message)
    }

    /// AWS failed or refused a while ago: what was tried waits, something else may go at once.
    fn backs_off(&self, ledger: &Ledger, wanted: &RegisteredSettings) -> Option<Verdict> {
        let trouble = ledger.trouble.as_ref()?;
        let (same_at, other_at) = ledger.retry_at()?;
        let secret = secret_digest(self.key, &self.pair.current);
        let at = if fingerprint(self.key, wanted, &secret) == trouble.tried {
            same_at
        } else {
            other_at
        };
        if self.now >= at {
            return None;
        }
        let (reason, message) = words::trouble(trouble, self.spec);
        let change = if trouble.kind == FAILED {
            ", or at once when the spec or the servers change"
        } else {
            ""
        };
        let message = format!("{message} The next try is at {}{change}", time::clock(at));
        Some(Verdict::hold(reason, message).until(at))
    }

    /// A secret that AWS gets is one that every proxy that answers accepts already. A proxy that does not answer is waited
    /// for a while: it will start with the new configuration.
    fn proxies_lag(&self, ledger: &Ledger, settled_at: Timestamp) -> Option<Verdict> {
        let new = secret_digest(self.key, &self.pair.current);
        if ledger.applied.as_ref().is_some_and(|a| a.secret_digest == new) {
            return None;
        }
        let waits =
            |p: &&Proxy<'_>| p.pod.deleted.is_none() && !p.serves() && (p.alive || self.now < settled_at);
        let lagging: Vec<&str> = self
            .proxies
            .iter()
            .filter(waits)
            .map(|p| p.pod.name.as_str())
            .collect();
        if lagging.is_empty() {
            return None;
        }
        let message = format!(
            "AWS gets the shared secret when every proxy reports a configuration that has it; waiting for {}",
            lagging.join(", ")
        );
        let again = time::after(&time::floor(self.now), std::time::Duration::from_secs(5));
        Some(Verdict::hold(Reason::WaitingForConfiguration, message).until(settled_at.max(again)))
    }

    fn write(&self, ledger: &mut Ledger, mut shown: RegisteredSettings, difference: &Difference) -> Verdict {
        let operation = ledger.fallback().unwrap_or(match self.directory.radius_status {
            None | Some(RadiusStatus::Failed) => AwsOperation::EnableRadius,
            Some(_) => AwsOperation::UpdateRadius,
        });
        let have = self.directory.radius_settings.as_ref();
        if have == Some(&shown) && self.directory.radius_status.is_some() {
            // Nothing that AWS shows would change. In another order the servers tell whether the write arrived.
            let list = if shown.servers.len() > 1 {
                &mut shown.servers
            } else {
                &mut shown.servers_ipv6
            };
            if list.len() > 1 {
                list.rotate_left(1);
            }
        }
        let time = time::ceil(self.now);
        let id = format!("{}-{}", operation.as_str(), time.0.as_second());
        ledger.pending = Some(PendingWrite {
            id: id.clone(),
            operation: operation.as_str().to_owned(),
            secret_digest: secret_digest(self.key, &self.pair.current),
            settings: Some(shown.clone()),
            shows: have != Some(&shown) || self.directory.radius_status.is_none(),
            time: time.clone(),
        });
        let message = format!("{}: {}", words::why(difference.reason), difference.words);
        ledger.last_write = Some(LastWrite {
            operation: operation.as_str().to_owned(),
            reason: message.clone(),
            time,
            request_id: None,
        });
        let settings = Box::new(RadiusSettings {
            shown,
            secret: self.pair.current.clone(),
        });
        let call = if operation == AwsOperation::UpdateRadius {
            DirectoryCall::Update(settings)
        } else {
            DirectoryCall::Enable(settings)
        };
        let told = format!("{} is sent ({message})", operation.as_str());
        Verdict {
            write: Some(DirectoryWrite {
                id,
                directory_id: self.spec.id.clone(),
                call,
                reason: difference.reason,
                message,
            }),
            ..Verdict::hold(Reason::Registering, told)
        }
    }
}
