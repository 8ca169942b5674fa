//! The RadiusProxy is being deleted: what becomes of AWS. The pods go by themselves once the finalizer is gone, so they
//! answer until AWS asks them no more.
//!
//! Nothing here needs a Secret, a pod or another object of the namespace: those may be gone already.

use std::time::Duration;

use jiff::Timestamp;

use super::build::has_finalizer;
use super::desired::digest_key;
use super::{DirectoryCall, DirectoryWrite, FinalizerChange, Plan, WriteReason, events, operators};
use crate::access::access;
use crate::api::{ConditionType, DeletionPolicy, DirectorySpec, LastWrite, PendingWrite, RadiusProxyStatus};
use crate::aws::{AwsErrorClass, AwsOperation};
use crate::conditions::{Draft, Reason, Truth, stamp};
use crate::config;
use crate::input::{Directory, DirectoryObservation, Input, RadiusStatus};
use crate::names::{ABANDON_ANNOTATION, DirectoryTags};
use crate::registration::ledger::{DESCRIPTION_LAG, Ledger};
use crate::registration::{all_servers, same, takes_writes, words};
use crate::time;

/// How often AWS is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(3);

/// What to do next.
enum Step {
    /// AWS is dealt with, for this reason. `loud` when something of ours may be left behind.
    Done { why: String, loud: bool },
    /// Not yet, for this reason.
    Wait(Reason, String, Option<Timestamp>),
    /// DisableRadius.
    Disable,
}

/// Plans a deletion.
pub(super) fn plan(input: &Input, now: Timestamp) -> Plan {
    let before = input.proxy.status.clone().unwrap_or_default();
    let key = config::key_of(&digest_key(input));
    let mut ledger = Ledger::read(Some(&before));
    let directory = input.directory.described().map(Directory::canonical);
    let generation = input.proxy.metadata.generation;
    ledger.learn(input.outcome.as_ref(), directory.as_ref(), &key, generation, now);
    ledger.retry_after_stage(Some(&before), directory.as_ref());
    let mut plan = Plan {
        finalizer: FinalizerChange::Keep,
        apply: Vec::new(),
        adopt: Vec::new(),
        pods: Vec::new(),
        tags: Vec::new(),
        write: None,
        status: before,
        upgrading: false,
        delete: Vec::new(),
        events: Vec::new(),
        requeue_after: Duration::from_secs(600),
        describe_after: Duration::MAX,
    };
    if !has_finalizer(input) {
        return plan;
    }
    plan.requeue_after = LOOK;
    plan.describe_after = LOOK / 2;
    if let (Some(shown), Some(directory)) = (&mut plan.status.directory, &directory) {
        shown.stage = Some(directory.stage.clone());
    }
    match step(input, directory.as_ref(), &ledger, now) {
        Step::Done { why, loud } => {
            plan.finalizer = FinalizerChange::Remove;
            let reason = if loud {
                "DirectoryAbandoned"
            } else {
                "DirectoryReleased"
            };
            plan.events.push(events::event(loud, reason, "Delete", &why));
            return plan;
        }
        Step::Wait(reason, message, again) => {
            if let Some(again) = again {
                plan.requeue_after = time::until(now, again).max(LOOK);
            }
            tell(&mut plan, input, reason, &message, now);
        }
        Step::Disable => {
            let write = disable(input, &mut ledger, now);
            tell(
                &mut plan,
                input,
                Reason::Deregistering,
                "DisableRadius is sent",
                now,
            );
            plan.events.extend(write.as_ref().map(events::of_write));
            plan.write = write;
            plan.requeue_after = Duration::from_secs(1);
            plan.describe_after = Duration::from_secs(1);
        }
    }
    ledger.write_into(&mut plan.status);
    operators::sign(&mut plan, input, now);
    plan
}

fn step(input: &Input, directory: Option<&Directory>, ledger: &Ledger, now: Timestamp) -> Step {
    let done = |why: String| Step::Done { why, loud: false };
    let Some(spec) = &input.proxy.spec.directory else {
        return done("there is no directory".to_owned());
    };
    let annotations = input.proxy.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.get(ABANDON_ANNOTATION).is_some_and(|value| value == "true")) {
        let why = format!(
            "the annotation {ABANDON_ANNOTATION} says to leave directory {} as it is: its RADIUS settings may name servers \
             that no longer exist, and its users may be unable to log in",
            spec.id
        );
        return Step::Done { why, loud: true };
    }
    if spec.deletion_policy == DeletionPolicy::Retain {
        return done(format!(
            "the RADIUS settings of directory {} stay, as spec.directory.deletionPolicy: Retain says",
            spec.id
        ));
    }
    if ledger.applied.is_none() && ledger.pending.is_none() {
        return done(format!("nothing was ever registered with directory {}", spec.id));
    }
    if input.proxy.spec.suspend {
        let why = format!(
            "spec.suspend is true, so the RADIUS settings of directory {} stay",
            spec.id
        );
        return Step::Done { why, loud: true };
    }
    aws_step(input, spec, directory, ledger, now)
}

/// The way out of whatever is stuck.
fn stuck(input: &Input, message: &str) -> String {
    let meta = &input.proxy.metadata;
    format!(
        "{message} To delete the RadiusProxy without a word to AWS: kubectl annotate -n {} rp {} {ABANDON_ANNOTATION}=true",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

fn aws_step(
    input: &Input,
    spec: &DirectorySpec,
    directory: Option<&Directory>,
    ledger: &Ledger,
    now: Timestamp,
) -> Step {
    if access(
        &input.proxy,
        input.namespace_labels.as_ref(),
        &input.grants,
        &input.settings.cluster,
    )
    .is_err()
    {
        let message = stuck(
            input,
            "RADIUS cannot be switched off: no DirectoryGrant allows it any more.",
        );
        return Step::Wait(Reason::NoGrant, message, None);
    }
    let failure = match &input.directory {
        DirectoryObservation::Failed { failure, .. } => Some(failure),
        _ => None,
    };
    if failure.is_some_and(|failure| failure.class == AwsErrorClass::NotFound) {
        let why = format!(
            "AWS knows no directory {} in region {} of this account (any more): if it exists elsewhere, its RADIUS settings stay \
             and may name servers that no longer exist",
            spec.id, spec.region
        );
        return Step::Done { why, loud: true };
    }
    // Why it stands still, where AWS cannot be asked: a call is repeated for as long as it takes.
    let unasked = failure.map(|failure| {
        let (reason, message) = words::aws_failure(failure, spec);
        Step::Wait(reason, stuck(input, &message), None)
    });
    // Whose the settings are is decided by what was seen since the deletion, whose time is cut to whole seconds.
    let since = input.proxy.metadata.deletion_timestamp.as_ref();
    let since = since.map(|since| time::after(since, Duration::from_secs(1)));
    let fresh = |directory: &&Directory| since.is_none_or(|since| directory.as_of >= since);
    let Some(directory) = directory.filter(fresh) else {
        let message = "waiting for AWS to describe the directory".to_owned();
        return unasked.unwrap_or(Step::Wait(Reason::Deregistering, message, None));
    };
    if let Some(pending) = &ledger.pending {
        let message = format!("{} was sent; waiting for AWS", pending.operation);
        return unasked.unwrap_or(Step::Wait(Reason::Deregistering, message, None));
    }
    if let Some(wait) = stage_or_lag(directory, ledger) {
        let (reason, message) = wait;
        return Step::Wait(reason, stuck(input, &message), None);
    }
    if directory.radius_status.is_none() {
        return Step::Done {
            why: format!("RADIUS is switched off in directory {}", spec.id),
            loud: false,
        };
    }
    let disabled_at = disabled(ledger).map(|last| time::after(&last.time, DESCRIPTION_LAG));
    if disabled_at.is_some_and(|lag| directory.as_of < lag) {
        let message = "AWS took DisableRadius; waiting for it to describe that".to_owned();
        return Step::Wait(Reason::Deregistering, message, None);
    }
    if !is_ours(input, spec, ledger, directory) {
        return somebody_elses(spec, ledger, directory);
    }
    if directory.radius_status == Some(RadiusStatus::Creating) {
        let message = stuck(
            input,
            "AWS is changing the directory's RADIUS settings; RADIUS is switched off when it is done.",
        );
        return Step::Wait(Reason::Deregistering, message, None);
    }
    if let Some(trouble) = &ledger.trouble
        && trouble.operation.as_deref() == Some(AwsOperation::DisableRadius.as_str())
        && let Some((at, _)) = ledger.retry_at()
        && now < at
    {
        let (reason, mut message) = words::trouble(trouble, spec);
        if let Some(note) = words::stage_note(directory) {
            message = format!("{message} {note}");
        }
        return Step::Wait(reason, stuck(input, &message), Some(at));
    }
    Step::Disable
}

/// The last write, if it is DisableRadius and AWS has taken it.
fn disabled(ledger: &Ledger) -> Option<&LastWrite> {
    let last = ledger.last_write.as_ref()?;
    let taken = last.operation == AwsOperation::DisableRadius.as_str() && ledger.trouble.is_none();
    taken.then_some(last)
}

/// Why the directory's description cannot be acted on: it is in a stage of its own, or may be the one from before a write.
fn stage_or_lag(directory: &Directory, ledger: &Ledger) -> Option<(Reason, String)> {
    if !takes_writes(&directory.stage) {
        let message = format!("{}.", words::stage_holds(directory));
        return Some((Reason::DirectoryNotActive, message));
    }
    let applied = ledger.applied.as_ref()?;
    let lags = directory.as_of < time::after(&applied.time, DESCRIPTION_LAG) && disabled(ledger).is_none();
    let described = directory.radius_settings.as_ref();
    let shown = described.is_some_and(|d| same(d, &applied.settings)) && directory.radius_status.is_some();
    (lags && !shown).then(|| {
        let message = "AWS took the settings; waiting for it to describe them.".to_owned();
        (Reason::Deregistering, message)
    })
}

/// The settings stay. They may still name servers that end with this RadiusProxy: nobody could log in then.
fn somebody_elses(spec: &DirectorySpec, ledger: &Ledger, directory: &Directory) -> Step {
    let described = directory.radius_settings.as_ref().map(all_servers);
    let own = ledger
        .applied
        .as_ref()
        .map(|applied| all_servers(&applied.settings));
    let (described, own) = (described.unwrap_or_default(), own.unwrap_or_default());
    let ending: Vec<&str> = described
        .iter()
        .filter(|server| own.contains(server))
        .map(String::as_str)
        .collect();
    let mut why = format!(
        "the RADIUS settings of directory {} are somebody else's by now, so they stay",
        spec.id
    );
    if !ending.is_empty() {
        why = format!(
            "{why}, and they name {}, which ends with this RadiusProxy: unless somebody else answers there, users cannot log in",
            ending.join(", ")
        );
    }
    Step::Done {
        why,
        loud: !ending.is_empty(),
    }
}

/// Whether what AWS describes is what this RadiusProxy applied.
fn is_ours(input: &Input, spec: &DirectorySpec, ledger: &Ledger, directory: &Directory) -> bool {
    let meta = &input.proxy.metadata;
    let owner = input.settings.cluster.owner(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let tagged_by_another = directory
        .tags
        .as_ref()
        .and_then(|tags| tags.get(&DirectoryTags::of(&spec.region).owner))
        .is_some_and(|tag| *tag != owner);
    let applied = ledger.applied.as_ref().map(|a| &a.settings);
    let same = applied
        .zip(directory.radius_settings.as_ref())
        .is_some_and(|(applied, described)| same(applied, described));
    same && !tagged_by_another
}

fn disable(input: &Input, ledger: &mut Ledger, now: Timestamp) -> Option<DirectoryWrite> {
    let spec = input.proxy.spec.directory.as_ref()?;
    let operation = AwsOperation::DisableRadius.as_str();
    let time = time::ceil(now);
    let id = format!("{operation}-{}", time.0.as_second());
    let message = format!(
        "{}: spec.directory.deletionPolicy is Disable",
        words::why(WriteReason::Deletion)
    );
    ledger.pending = Some(PendingWrite {
        id: id.clone(),
        operation: operation.to_owned(),
        secret_digest: String::new(),
        settings: None,
        shows: true,
        servers_before: Vec::new(),
        time: time.clone(),
    });
    ledger.last_write = Some(LastWrite {
        operation: operation.to_owned(),
        reason: message.clone(),
        time,
        request_id: None,
    });
    Some(DirectoryWrite {
        id,
        directory_id: spec.id.clone(),
        call: DirectoryCall::Disable,
        reason: WriteReason::Deletion,
        message,
    })
}

/// The condition Registered, and an Event when it is news.
fn tell(plan: &mut Plan, input: &Input, reason: Reason, message: &str, now: Timestamp) {
    let registered = Draft::new(ConditionType::Registered, Truth::False, reason, message);
    let ready = Draft {
        kind: ConditionType::Ready,
        ..registered.clone()
    };
    let drafts = [registered, ready];
    let before: &RadiusProxyStatus = &plan.status;
    plan.events
        .extend(events::of_conditions(&before.conditions, &drafts));
    let stamped = stamp(&drafts, &before.conditions, input.proxy.metadata.generation, now);
    plan.status
        .conditions
        .retain(|old| !stamped.iter().any(|new| new.type_ == old.type_));
    plan.status.conditions.extend(stamped);
}
