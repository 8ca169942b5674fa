//! Whether AWS is written to now, and what people are told of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::DigestKey;

use super::difference::Difference;
use super::ledger::Ledger;
use super::secret_mismatch::besides;
use super::servers::{Proxy, Servers};
use super::words;
use super::{all_servers, same, takes_writes, wanted_settings};
use crate::api::{
    AddressSource, ConditionType, DirectorySpec, LastWrite, ObservedDirectory, PendingWrite,
    RegisteredSettings,
};
use crate::aws::AwsOperation;
use crate::conditions::{Draft, Reason, Truth};
use crate::directory_client::{self, PodReport};
use crate::input::{Directory, Input, RadiusStatus};
use crate::plan::{DirectoryCall, DirectoryWrite, RadiusSettings, WriteReason};
use crate::rotation::{Pair, secret_digest};
use crate::time;

/// How old a description may be that a write is decided by: somebody else may have written since.
const FRESH: Duration = Duration::from_secs(10);
/// The same, after AWS's answer: where AWS takes long, nothing fresher can be had.
pub(crate) const FRESH_AFTER_ANSWER: Duration = Duration::from_secs(5);
/// How long a write waits for pods that are starting when no registered server answers: two writes in a row take AWS longer.
const START_TOGETHER: Duration = Duration::from_secs(4);
/// How long AWS may take to describe a directory: the deadline of the call. A write is not decided by what took longer.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// Whether a write may be decided by a description.
#[must_use]
pub fn is_fresh(directory: &Directory, now: Timestamp) -> bool {
    let took = time::until(directory.as_of, directory.answered);
    let limit = FRESH.max(took + FRESH_AFTER_ANSWER);
    took <= LONGEST_ANSWER && time::until(directory.as_of, now) <= limit
}

/// Everything that the decision is made of.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) input: &'a Input,
    pub(crate) spec: &'a DirectorySpec,
    pub(crate) directory: &'a Directory,
    pub(crate) servers: &'a Servers,
    pub(crate) proxies: &'a [Proxy<'a>],
    /// What the pods have observed of the directory.
    pub(crate) reports: &'a [PodReport<'a>],
    /// The same as the status shows it.
    pub(crate) observed: Option<&'a ObservedDirectory>,
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
    /// Whether the directory has to be described first.
    pub(crate) look: bool,
}

impl Verdict {
    pub(crate) fn hold(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition: Draft::new(ConditionType::Registered, Truth::False, reason, message),
            write: None,
            again: None,
            look: false,
        }
    }

    /// Adds sentences to what people are told.
    fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            let message = &mut self.condition.message;
            *message = format!("{}. {note}", message.trim_end_matches('.'));
        }
    }

    pub(super) fn until(mut self, again: Timestamp) -> Self {
        self.again = Some(again);
        self
    }
}

/// Decides. `ledger` gets what has to be remembered, before it is relied on.
pub(crate) fn decide(case: &Case<'_>, ledger: &mut Ledger) -> Verdict {
    let mut verdict = decide_write(case, ledger);
    if ledger.repairs_secret() && verdict.condition.reason == Reason::Registering {
        // One event, and one reason until it is over.
        verdict.condition.reason = Reason::SecretMismatch;
        let message = &verdict.condition.message;
        verdict.condition.message = format!("the shared secret is written back: {message}");
    }
    if takes_writes(&case.directory.stage) {
        verdict.note(words::stage_note(case.directory));
    }
    verdict.note(case.warnings(ledger));
    verdict.note(case.input.outcomes.tags_note());
    verdict
}

fn decide_write(case: &Case<'_>, ledger: &mut Ledger) -> Verdict {
    let wanted = case.settings();
    let mismatch = case.secret_mismatch(ledger);
    let repair = || case.repair_of_secret(mismatch.as_ref()?, ledger);
    let difference = match case.difference(&wanted, ledger) {
        Some(difference) if difference.due.is_none_or(|due| due <= case.now) => Some(difference),
        later => repair().or(later),
    };
    let at_rest = |ledger: &Ledger| {
        let mut verdict = case.in_sync();
        if let Some(mismatch) = &mismatch {
            case.tell_mismatch(&mut verdict, mismatch, ledger);
        }
        verdict
    };
    let differs = difference.is_some() || mismatch.is_some();
    if let Some(mut hold) = case.hands_off(ledger, differs) {
        hold.note(mismatch.as_ref().map(besides));
        return hold;
    }
    let Some(difference) = difference else {
        ledger.differs_since = None;
        // What was refused is no longer wanted.
        ledger.trouble = None;
        return at_rest(ledger);
    };
    if case.servers.want.is_empty() {
        // The old list stays: a wrong server costs a time-out, no server costs every login.
        return case.nothing_to_register();
    }
    if let Some(due) = difference.due.filter(|due| case.now < *due) {
        ledger.differs_since = None;
        let mut verdict = at_rest(ledger);
        verdict.again = Some(verdict.again.map_or(due, |again| again.min(due)));
        return verdict;
    }
    if let Some(mut hold) = case.backs_off(ledger, &wanted) {
        hold.note(mismatch.as_ref().map(besides));
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
    let settled_at = if urgent {
        case.starting_until(&since).min(settled_at)
    } else {
        settled_at
    };
    if !case.servers.all_serve && case.now < settled_at {
        let message = format!(
            "{}; waiting for all {} proxies to serve, until {} at most, so that AWS is written to once",
            difference.words,
            case.input.proxy.spec.replicas,
            time::clock(settled_at)
        );
        return Verdict::hold(Reason::Settling, message).until(settled_at);
    }
    if !is_fresh(case.directory, case.now) {
        let message = format!(
            "{}; looking at the directory once more before writing.",
            difference.words
        );
        let mut verdict = case.under_way(ledger, Reason::Settling, message);
        verdict.look = true;
        return verdict;
    }
    if !case
        .input
        .outcomes
        .allow_write(case.operation(ledger) == AwsOperation::EnableRadius)
    {
        let message =
            "AWS is written to once the finalizer is set and the NetworkPolicy is applied; see Stalled";
        return Verdict::hold(Reason::Blocked, message);
    }
    case.write(ledger, wanted, &difference)
}

impl Case<'_> {
    /// Until when pods that are starting are waited for although no registered server answers.
    fn starting_until(&self, since: &Time) -> Timestamp {
        let starts = |p: &Proxy<'_>| {
            p.joins && !p.alive && p.pod.deleted.is_none() && p.pod.node_ready && p.pod.waiting.is_none()
        };
        if self.proxies.iter().any(starts) {
            time::after(since, START_TOGETHER)
        } else {
            self.now
        }
    }

    /// The settings that AWS should have.
    fn settings(&self) -> RegisteredSettings {
        let mut settings = wanted_settings(self.spec, self.input.proxy.spec.port);
        settings.servers.clone_from(&self.servers.want.v4);
        settings.servers_ipv6.clone_from(&self.servers.want.v6);
        settings
    }

    /// Where the spec and what was observed of the directory disagree.
    fn warnings(&self, ledger: &Ledger) -> Vec<String> {
        let context = directory_client::Context {
            spec: self.spec,
            provider: &self.input.proxy.spec.provider,
            port: self.input.proxy.spec.port,
            reports: self.reports,
            shown: self.observed,
            directory: self.directory,
            applied: ledger.applied.as_ref(),
        };
        directory_client::warnings(&context, self.now)
    }

    /// AWS has what it should have.
    fn in_sync(&self) -> Verdict {
        let servers = self.servers;
        let unresolved = self.unresolved();
        if servers.registered < servers.wanted || !servers.gone.is_empty() {
            let rest = if self.by_load_balancer() && !servers.gone.is_empty() {
                words::missed(servers, self.input)
            } else {
                words::not_serving(self.proxies, self.input)
            };
            let more = unresolved.map_or_else(String::new, |unresolved| format!("; {}", unresolved.words));
            let message = format!(
                "{} of {} servers registered; {rest}{more}",
                servers.registered, servers.wanted,
            );
            return Verdict::hold(Reason::ServersMissing, message);
        }
        let message = format!("AWS has completed with {} servers", servers.registered);
        let mut verdict = Verdict::hold(Reason::Registered, message);
        verdict.condition.truth = Truth::True;
        if let Some(unresolved) = unresolved {
            verdict.again = unresolved.passing_until;
            if unresolved.passing_until.is_none() {
                let told = format!(
                    "{}; what is registered stays: {}",
                    verdict.condition.message, unresolved.words
                );
                verdict.condition.reason = Reason::NameNotResolved;
                verdict.condition.message = told;
            }
        }
        verdict
    }

    /// A host name of the load balancer that DNS has no address for.
    fn unresolved(&self) -> Option<words::Unresolved> {
        if self.by_load_balancer() {
            words::unresolved(self.input, self.now)
        } else {
            None
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
        if let Some(unresolved) = self.unresolved() {
            let passes = unresolved.passing_until;
            let reason = passes.map_or(Reason::NameNotResolved, |_| Reason::WaitingForAddresses);
            let message = format!("the load balancer has no address yet: {}", unresolved.words);
            let mut verdict = Verdict::hold(reason, message);
            verdict.again = passes;
            return verdict;
        }
        let message = match source {
            AddressSource::LoadBalancer if self.input.load_balancer.is_empty() => {
                "the Service of type LoadBalancer has no address yet; see its events, and whether a controller serves its class"
            }
            AddressSource::LoadBalancer
                if self.servers.again.is_some() || !self.input.load_balancer.is_known() =>
            {
                "the load balancer's host name is being resolved"
            }
            AddressSource::LoadBalancer => {
                "the load balancer has no address of the directory's family (IPv4 or IPv6); the annotation \
                 service.beta.kubernetes.io/aws-load-balancer-ip-address-type: dualstack can give it one"
            }
            _ => {
                "the proxies have no address of the directory's family (IPv4 or IPv6); a dual-stack cluster, or \
                 spec.addresses, can give them one"
            }
        };
        Verdict::hold(Reason::WaitingForAddresses, message)
    }

    /// Something is done about a difference. Another try is no news: a trouble stays what people see until it is over.
    fn under_way(&self, ledger: &Ledger, reason: Reason, message: String) -> Verdict {
        let trouble = ledger.trouble.as_ref();
        match trouble.map(|trouble| words::trouble(trouble, self.spec)) {
            Some((reason, trouble)) => Verdict::hold(reason, format!("{trouble} Another try: {message}")),
            None => Verdict::hold(reason, message),
        }
    }

    fn operation(&self, ledger: &Ledger) -> AwsOperation {
        ledger.fallback().unwrap_or(match self.directory.radius_status {
            None | Some(RadiusStatus::Failed) => AwsOperation::EnableRadius,
            Some(_) => AwsOperation::UpdateRadius,
        })
    }

    fn write(&self, ledger: &mut Ledger, mut shown: RegisteredSettings, difference: &Difference) -> Verdict {
        let operation = self.operation(ledger);
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
            servers_before: have
                .filter(|have| same(have, &shown))
                .map(all_servers)
                .unwrap_or_default(),
            time: time.clone(),
        });
        let message = format!("{}: {}", words::why(difference.reason), difference.words);
        if difference.reason == WriteReason::SecretMismatch {
            ledger.drift.secret_repair_time = Some(time.clone());
        }
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
        let told = format!("{} is sent ({message}).", operation.as_str());
        Verdict {
            write: Some(DirectoryWrite {
                id,
                directory_id: self.spec.id.clone(),
                call,
                reason: difference.reason,
                message,
            }),
            ..self.under_way(ledger, Reason::Registering, told)
        }
    }
}
