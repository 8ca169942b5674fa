//! The end of a registration whose holder is being deleted or gone, without a successor.
//!
//! Nothing here needs a Secret, a pod or another object of the holder's namespace: those may be gone already.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::is_fresh;
use super::record::{DESCRIPTION_LAG, RegistrationRecord};
use super::tags::Tagged;
use super::{
    Candidate, DirectoryCall, DirectoryWrite, RegistrationInput, WriteReason, all_servers, backoff, messages,
    same, tags, takes_writes,
};
use crate::api::{DeletionPolicy, DirectoryRegistrationSpec, PendingWrite, WriteRecord};
use crate::aws::{AwsErrorClass, AwsOperation};
use crate::conditions::Reason;
use crate::names::ABANDON_ANNOTATION;
use crate::observed::{Directory, DirectoryObservation, RadiusStatus};
use crate::time;

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// AWS is dealt with, for this reason. `loud` when AWS may ask servers that end.
    Done { why: String, loud: bool },
    /// Not yet, for this reason.
    Wait(Reason, String, Option<Timestamp>),
    /// DisableRadius.
    Disable,
}

pub(super) fn step(
    input: &RegistrationInput,
    holder: Option<&Candidate>,
    directory: Option<&Directory>,
    record: &RegistrationRecord,
    now: Timestamp,
) -> Step {
    let spec = &input.registration.spec;
    let id = &spec.directory_id;
    if record.applied.is_none() && record.pending.is_none() {
        return match record.disabled() {
            Some(disabled) => switched_off(input, disabled, now),
            None => Step::Done {
                why: format!("nothing is registered with directory {id}"),
                loud: false,
            },
        };
    }
    let loud = |why: String| Step::Done { why, loud: true };
    let left = "its users cannot log in unless something else answers at the registered addresses";
    if holder.is_some_and(|holder| holder.abandons) {
        return loud(format!(
            "the annotation {ABANDON_ANNOTATION} says to leave directory {id} as it is: {left}"
        ));
    }
    // What the rollout wrote may be older than the spec; it tells of a holder that is gone.
    let desired = spec.desired.as_ref();
    let desired = desired.filter(|desired| desired.holder_uid == spec.claimed_by.uid);
    let says = |holder: &Candidate| (holder.deletion_policy, holder.suspended);
    let said = || desired.map(|desired| (desired.deletion_policy, desired.suspend));
    let says = holder.map(says).or_else(said);
    if matches!(says, Some((DeletionPolicy::Retain, _))) {
        return loud(format!(
            "the RADIUS settings of directory {id} stay, as spec.directory.deletionPolicy: Retain says: {left}"
        ));
    }
    if matches!(says, Some((_, true))) {
        return loud(format!(
            "spec.suspend is true, so the RADIUS settings of directory {id} stay: {left}"
        ));
    }
    let Some(holder) = holder else {
        return loud(format!(
            "RadiusProxy {} is gone, so the RADIUS settings of directory {id} stay: {left}",
            messages::holder(spec)
        ));
    };
    disable_step(input, holder, directory, record, now)
}

/// Adds how to end a deletion that is stuck.
fn stuck(spec: &DirectoryRegistrationSpec, message: &str) -> String {
    let holder = &spec.claimed_by;
    format!(
        "{message} To delete the RadiusProxy without changing AWS: kubectl annotate -n {} rp {} {ABANDON_ANNOTATION}=true",
        holder.namespace, holder.name
    )
}

fn disable_step(
    input: &RegistrationInput,
    holder: &Candidate,
    directory: Option<&Directory>,
    record: &RegistrationRecord,
    now: Timestamp,
) -> Step {
    let spec = &input.registration.spec;
    let wait = |reason, message: &str| Step::Wait(reason, stuck(spec, message), None);
    let progress = |message: String| Step::Wait(Reason::Deregistering, message, None);
    if !holder.granted {
        let message = "RADIUS cannot be switched off: no DirectoryGrant allows it.";
        return wait(Reason::NoGrant, message);
    }
    let failure = match &input.directory {
        DirectoryObservation::Failed { failure, .. } => Some(failure),
        _ => None,
    };
    if failure.is_some_and(|failure| failure.class == AwsErrorClass::NotFound) {
        let why = format!(
            "AWS has no directory {} in region {} of this account. If it exists elsewhere, its RADIUS settings \
             stay and may name servers that no longer exist",
            spec.directory_id, spec.region
        );
        return Step::Done { why, loud: true };
    }
    // Why it stands still, where AWS cannot be asked: a call is repeated for as long as it takes.
    let unasked = failure.map(|failure| {
        let (reason, message) = messages::aws_failure(failure, spec);
        wait(reason, &message)
    });
    // Whose the settings are is decided by what was seen since the deletion, whose time is cut to whole seconds.
    let since = holder
        .deleted
        .map(|since| time::later(since, Duration::from_secs(1)));
    let fresh = |directory: &&Directory| since.is_none_or(|since| directory.as_of >= since);
    let Some(directory) = directory.filter(fresh) else {
        return unasked.unwrap_or_else(|| progress("waiting for AWS to describe the directory".to_owned()));
    };
    if let Some(pending) = &record.pending {
        let message = format!("{} was sent; waiting for AWS", pending.operation);
        return unasked.unwrap_or_else(|| progress(message));
    }
    if !takes_writes(&directory.stage) {
        let message = format!("{}.", messages::stage_holds(directory));
        return wait(Reason::DirectoryNotActive, &message);
    }
    if lags(directory, record) {
        return wait(
            Reason::Deregistering,
            "AWS accepted the settings; waiting for it to describe them.",
        );
    }
    if record.suspects() {
        return progress("waiting for a second description of a change that somebody made".to_owned());
    }
    if directory.radius_status.is_none() {
        return is_off(spec);
    }
    let described_by = record
        .disabled()
        .map(|last| time::after(&last.time, DESCRIPTION_LAG));
    if described_by.is_some_and(|lag| directory.as_of < lag) {
        return progress("AWS accepted DisableRadius; waiting for it to describe that".to_owned());
    }
    if !is_ours(input, record, directory) {
        return somebody_elses(spec, record, directory);
    }
    if directory.radius_status == Some(RadiusStatus::Creating) {
        let message =
            "AWS is changing the directory's RADIUS settings; the operator switches RADIUS off afterwards.";
        return wait(Reason::Deregistering, message);
    }
    if !is_fresh(directory, now) {
        return unasked.unwrap_or_else(|| progress("waiting for AWS to describe the directory".to_owned()));
    }
    in_backoff(spec, record, directory, now).unwrap_or(Step::Disable)
}

/// The operator has switched RADIUS off. Domain controllers learn of it one by one, and ask the pods until then.
fn switched_off(input: &RegistrationInput, disabled: &WriteRecord, now: Timestamp) -> Step {
    let until = time::after(&disabled.time, input.settings.rotation_grace);
    if now < until {
        let message = "RADIUS is switched off; the proxies answer until every domain controller knows";
        return Step::Wait(Reason::Deregistering, message.to_owned(), Some(until));
    }
    is_off(&input.registration.spec)
}

fn is_off(spec: &DirectoryRegistrationSpec) -> Step {
    Step::Done {
        why: format!("RADIUS is switched off in directory {}", spec.directory_id),
        loud: false,
    }
}

/// Whether the description may be the one from before a write.
fn lags(directory: &Directory, record: &RegistrationRecord) -> bool {
    let Some(applied) = record.applied.as_ref().filter(|_| record.disabled().is_none()) else {
        return false;
    };
    let lags = directory.as_of < time::after(&applied.time, DESCRIPTION_LAG);
    let described = directory.radius_settings.as_ref();
    let shown = described.is_some_and(|d| same(d, &applied.settings)) && directory.radius_status.is_some();
    lags && !shown
}

fn in_backoff(
    spec: &DirectoryRegistrationSpec,
    record: &RegistrationRecord,
    directory: &Directory,
    now: Timestamp,
) -> Option<Step> {
    let failure = record.last_failure.as_ref()?;
    let (at, _) = backoff::retry_at(failure);
    if failure.operation.as_deref() != Some(AwsOperation::DisableRadius.as_str()) || now >= at {
        return None;
    }
    let (reason, mut message) = messages::failure(failure, spec);
    if let Some(note) = messages::stage_note(directory) {
        message = format!("{message} {note}");
    }
    Some(Step::Wait(reason, stuck(spec, &message), Some(at)))
}

/// The settings stay. If they still name servers that end with this RadiusProxy, no one can log in.
fn somebody_elses(
    spec: &DirectoryRegistrationSpec,
    record: &RegistrationRecord,
    directory: &Directory,
) -> Step {
    let described = directory
        .radius_settings
        .as_ref()
        .map(all_servers)
        .unwrap_or_default();
    let own = record
        .applied
        .as_ref()
        .map(|applied| all_servers(&applied.settings));
    let own = own.unwrap_or_default();
    let ending: Vec<&str> = described
        .iter()
        .filter(|server| own.contains(server))
        .map(String::as_str)
        .collect();
    let mut why = format!(
        "somebody else has changed the RADIUS settings of directory {}, so they stay",
        spec.directory_id
    );
    if !ending.is_empty() {
        why = format!(
            "{why}. They name {}, which ends with this RadiusProxy: users cannot log in unless something else \
             answers there",
            ending.join(", ")
        );
    }
    Step::Done {
        why,
        loud: !ending.is_empty(),
    }
}

/// Whether what AWS describes is what the operator applied, and no other cluster has tagged it.
fn is_ours(input: &RegistrationInput, record: &RegistrationRecord, directory: &Directory) -> bool {
    let tagged = tags::tagged(input, record, directory);
    let tagged_by_another = matches!(tagged, Tagged::Other(_) | Tagged::SameName(_));
    let applied = record.applied.as_ref().map(|applied| &applied.settings);
    let same = applied
        .zip(directory.radius_settings.as_ref())
        .is_some_and(|(applied, described)| same(applied, described));
    same && !tagged_by_another
}

/// DisableRadius.
pub(super) fn disable(
    spec: &DirectoryRegistrationSpec,
    record: &mut RegistrationRecord,
    now: Timestamp,
) -> DirectoryWrite {
    let operation = AwsOperation::DisableRadius.as_str();
    let time = time::ceil(now);
    let id = format!("{operation}-{}", time.0.as_second());
    let message = format!(
        "{}: spec.directory.deletionPolicy is Disable",
        WriteReason::Deletion.text()
    );
    let pending = PendingWrite {
        id: id.clone(),
        operation: operation.to_owned(),
        holder_uid: spec.claimed_by.uid.clone(),
        secret_digest: String::new(),
        settings: None,
        shows: true,
        servers_before: Vec::new(),
        taken_over_from: None,
        time,
    };
    record.send(pending, WriteReason::Deletion, &message);
    DirectoryWrite {
        id,
        directory_id: spec.directory_id.clone(),
        call: DirectoryCall::Disable,
        reason: WriteReason::Deletion,
        message,
    }
}
