//! The holds: reasons not to write to AWS now, in the order of the checks. docs/operations.md lists them by name.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Context, Decision, DescribeNext, FRESH_AFTER_ANSWER, OutOfSync, is_fresh};
use super::difference::someone_serves;
use super::tags::Tagged;
use super::{WriteReason, backoff, fingerprint, messages, secret_mismatch, tag_digest, takes_writes};
use crate::api::DriftPolicy;
use crate::conditions::{ConditionStatus, Reason};
use crate::observed::RadiusStatus;
use crate::registration::record::FAILED;
use crate::time;

/// A reason not to write to AWS now.
pub(crate) struct Hold {
    /// Its name in the status and in the documentation.
    pub(crate) name: &'static str,
    /// Whether it applies.
    pub(crate) check: fn(&Context<'_>) -> Option<Decision>,
}

macro_rules! holds {
    ($($check:ident => $name:literal,)*) => { &[$(Hold { name: $name, check: $check },)*] };
}

/// All of them. The first that applies decides.
pub(crate) const HOLDS: &[Hold] = holds! {
    suspended => "Suspended",
    awaits_answer => "AwaitsAnswer",
    stage_takes_no_writes => "StageTakesNoWrites",
    other_cluster => "OtherCluster",
    unmanaged_settings => "UnmanagedSettings",
    aws_works => "AwsWorks",
    awaits_description => "AwaitsDescription",
    contended => "Contended",
    drift_is_reported => "DriftIsReported",
    stays_disabled => "StaysDisabled",
    in_sync => "InSync",
    nothing_to_register => "NothingToRegister",
    successor_awaited => "SuccessorAwaited",
    in_backoff => "InBackoff",
    pods_lack_secret => "PodsLackSecret",
    settles => "Settles",
    description_is_old => "DescriptionIsOld",
};

/// How long the ownership tags count that a takeover or a repair is decided by.
const TAGS_COUNT_FOR: Duration = Duration::from_secs(30);

/// How long a write waits for pods that are starting when no registered server answers: two writes in a row take AWS longer.
const START_TOGETHER: Duration = Duration::from_secs(4);

/// The hold while the holder is in a namespace that the operator doesn't work in.
pub(crate) const HOLDER_NOT_WATCHED: &str = "HolderNotWatched";
/// The hold while something is missing that every other decision needs.
pub(super) const BLOCKED: &str = "Blocked";
/// The hold while the holder is being deleted.
pub(super) const RELEASING: &str = "Releasing";

/// The names of all holds, in their order.
#[must_use]
pub fn hold_names() -> Vec<&'static str> {
    let listed = HOLDS.iter().map(|hold| hold.name);
    [HOLDER_NOT_WATCHED, RELEASING, BLOCKED]
        .into_iter()
        .chain(listed)
        .collect()
}

fn soon(context: &Context<'_>) -> Timestamp {
    time::after(&time::floor(context.now), Duration::from_secs(5))
}

fn suspended(context: &Context<'_>) -> Option<Decision> {
    if !context.desired.suspend {
        return None;
    }
    let differs = context.difference.is_some() || context.mismatch.is_some();
    let more = if differs {
        "; what AWS has is not what there should be"
    } else {
        ""
    };
    let message = format!("spec.suspend is true: nothing is written to AWS{more}");
    let mut decision = Decision::hold(Reason::Suspended, message).out_of_sync(OutOfSync::Clear);
    if !differs {
        decision.condition.status = ConditionStatus::True;
    }
    Some(beside_mismatch(context, decision))
}

/// Mentions a changed shared secret in addition to another reason.
fn beside_mismatch(context: &Context<'_>, mut decision: Decision) -> Decision {
    decision.note(context.mismatch.map(secret_mismatch::besides));
    decision
}

fn awaits_answer(context: &Context<'_>) -> Option<Decision> {
    let pending = context.record.pending.as_ref()?;
    let message = format!("{} was sent; waiting for AWS's answer", pending.operation);
    let failure = context.record.last_failure.as_ref();
    let failure = failure.map(|failure| messages::failure(failure, context.spec));
    let (reason, message) = failure.unwrap_or((Reason::Registering, message));
    Some(Decision::hold(reason, message).until(soon(context)))
}

fn stage_takes_no_writes(context: &Context<'_>) -> Option<Decision> {
    (!takes_writes(&context.directory.stage)).then(|| {
        let message = messages::stage_holds(context.directory);
        beside_mismatch(context, Decision::hold(Reason::DirectoryNotActive, message))
    })
}

/// Whether the next write may replace settings that the operator doesn't manage. It counts for one write.
pub(super) fn adopts(context: &Context<'_>) -> bool {
    let used = context.record.adoption.as_ref();
    context.desired.adopt && used.is_none_or(|used| used.holder_uid != context.desired.holder_uid)
}

fn tag<'a>(context: &'a Context<'_>, key: &str) -> Option<&'a String> {
    context.directory.tags.as_ref()?.get(key)
}

fn tagged<'a>(context: &'a Context<'_>) -> Tagged<'a> {
    super::tags::tagged(context.input, context.record, context.directory)
}

/// A cluster of the same name and another uid, when nothing says that it writes, too.
pub(super) fn takes_back<'a>(context: &'a Context<'_>) -> Option<&'a str> {
    match tagged(context) {
        Tagged::SameName(uid) if context.record.applied.is_none() => Some(uid),
        _ => None,
    }
}

fn other_cluster(context: &Context<'_>) -> Option<Decision> {
    if adopts(context) || context.directory.radius_status.is_none() {
        return None;
    }
    let (reason, message) = match tagged(context) {
        Tagged::Other(owner) => {
            let key = &context.keys.owner;
            let message = format!(
                "the directory's tag {key} says that {owner} holds its RADIUS settings. Suspend or delete that RadiusProxy, and \
                 set spec.directory.adoptionPolicy: Adopt to take over with one write"
            );
            (Reason::DirectoryConflict, message)
        }
        Tagged::SameName(uid) if context.record.applied.is_some() => {
            let message = format!(
                "another cluster of the name {} (uid {uid}) writes to the directory too. Nothing is written: give one of the two \
                 clusters another clusterName, or delete or suspend one RadiusProxy and set \
                 spec.directory.adoptionPolicy: Adopt here to take the directory back",
                context.input.settings.cluster
            );
            (Reason::Contended, message)
        }
        _ => return None,
    };
    Some(beside_mismatch(context, Decision::hold(reason, message)))
}

/// Settings that the operator didn't make are replaced by the adoption policy only. A cluster that was rebuilt takes its
/// directory back, unless the settings aren't those that it applied.
fn unmanaged_settings(context: &Context<'_>) -> Option<Decision> {
    let directory = context.directory;
    let is_off = directory.radius_status.is_none() || directory.has_forgotten_settings();
    let is_free = is_off || context.record.applied.is_some();
    if is_free || adopts(context) {
        return None;
    }
    let adopt = "they stay. Set spec.directory.adoptionPolicy: Adopt to replace them with one write";
    let message = match (tagged(context), tag(context, &context.keys.applied)) {
        (Tagged::Ours, None) => return None,
        (Tagged::Ours | Tagged::SameName(_), Some(applied)) => {
            let described = context.directory.radius_settings.clone().unwrap_or_default();
            let digest = tag_digest(&described);
            if applied.split(' ').any(|known| known == digest) {
                return None;
            }
            format!(
                "the directory's tags name this cluster, but its RADIUS settings are not those that it applied: somebody \
                 changed them since; {adopt}"
            )
        }
        _ => {
            let unread = match &context.directory.tags {
                None => " (its tags cannot be read: allow ds:ListTagsForResource)",
                Some(_) => "",
            };
            format!("the directory has RADIUS settings that the operator did not make{unread}; {adopt}")
        }
    };
    Some(Decision::hold(Reason::UnmanagedSettings, message))
}

fn aws_works(context: &Context<'_>) -> Option<Decision> {
    (context.directory.radius_status == Some(RadiusStatus::Creating)).then(|| {
        let message = "AWS is changing the directory's RADIUS settings; this takes seconds to minutes";
        Decision::hold(Reason::Registering, message).until(soon(context))
    })
}

fn awaits_description(context: &Context<'_>) -> Option<Decision> {
    context.record.awaits_description(context.directory).then(|| {
        let message = "AWS accepted the settings; waiting for it to describe them";
        Decision::hold(Reason::Registering, message).until(soon(context))
    })
}

fn contended(context: &Context<'_>) -> Option<Decision> {
    let generation = Some(context.desired.holder_generation);
    (context.record.drifted() && context.record.contended(generation)).then(|| {
        let changes = messages::changes(context.record, context.directory);
        let message = format!(
            "somebody else changed the RADIUS settings twice within an hour ({changes}). Nothing is written until the \
             spec of this RadiusProxy is changed, or the settings are as they were: find out who it is first (CloudTrail: \
             UpdateRadius, EnableRadius, DisableRadius)"
        );
        Decision::hold(Reason::Contended, message)
    })
}

fn drift_is_reported(context: &Context<'_>) -> Option<Decision> {
    let reported = context.record.drifted() && context.desired.drift_policy == DriftPolicy::Report;
    reported.then(|| {
        let changes = messages::changes(context.record, context.directory);
        let message = format!(
            "somebody else changed the RADIUS settings ({changes}). The operator leaves them \
             (spec.directory.driftPolicy: Report)"
        );
        Decision::hold(Reason::Drifted, message)
    })
}

fn stays_disabled(context: &Context<'_>) -> Option<Decision> {
    let disabled = context.record.drift.disabled && context.desired.drift_policy != DriftPolicy::Enforce;
    disabled.then(|| {
        let message = "RADIUS was switched off in AWS: users log in WITHOUT a second factor. Set \
                       spec.directory.driftPolicy: Enforce to have it switched on again";
        Decision::hold(Reason::RadiusDisabled, message)
    })
}

fn in_sync(context: &Context<'_>) -> Option<Decision> {
    context.difference.is_none().then(|| Decision {
        // A write that was refused is no longer wanted.
        forgets_failure: true,
        ..at_rest(context)
    })
}

/// What the condition says while nothing has to be written.
fn at_rest(context: &Context<'_>) -> Decision {
    let decision = messages::in_sync(context).out_of_sync(OutOfSync::Clear);
    match context.mismatch {
        Some(mismatch) => secret_mismatch::report(context, decision, mismatch),
        None => decision,
    }
}

/// The old list stays: a wrong server costs a time-out, no server costs every login.
fn nothing_to_register(context: &Context<'_>) -> Option<Decision> {
    if !context.servers.want.is_empty() {
        return None;
    }
    if !someone_serves(context) {
        let message = format!("nothing to register yet: {}", context.desired.waiting_for);
        return Some(Decision::hold(Reason::WaitingForProxies, message));
    }
    if let Some(problem) = &context.desired.address_problem {
        let reason = if problem.passing {
            Reason::WaitingForAddresses
        } else {
            Reason::NameNotResolved
        };
        let message = format!("the load balancer has no address yet: {}", problem.message);
        return Some(Decision::hold(reason, message));
    }
    let message = if context.by_load_balancer() {
        "the load balancer has no address of the directory's family (IPv4 or IPv6); the annotation \
         service.beta.kubernetes.io/aws-load-balancer-ip-address-type: dualstack can give it one"
    } else {
        "the proxies have no address of the directory's family (IPv4 or IPv6); a dual-stack cluster, or \
         spec.addresses, can give them one"
    };
    Some(Decision::hold(Reason::WaitingForAddresses, message))
}

/// There are only servers to remove. Waiting for their successors makes both one write.
fn successor_awaited(context: &Context<'_>) -> Option<Decision> {
    let due = context
        .difference
        .as_ref()?
        .due
        .filter(|due| context.now < *due)?;
    Some(at_rest(context).until(due))
}

/// AWS failed or refused a while ago: the same settings wait, others may go at once.
fn in_backoff(context: &Context<'_>) -> Option<Decision> {
    let failure = context.record.last_failure.as_ref()?;
    let (same_at, other_at) = backoff::retry_at(failure);
    let print = fingerprint(&context.secret.key, &context.wanted, &context.secret.digest);
    let at = if print == failure.tried { same_at } else { other_at };
    if context.now >= at {
        return None;
    }
    let (reason, message) = messages::failure(failure, context.spec);
    let change = if failure.kind == FAILED {
        ", or at once when the spec or the servers change"
    } else {
        ""
    };
    let message = format!("{message} The next try is at {}{change}", time::clock(at));
    Some(beside_mismatch(
        context,
        Decision::hold(reason, message).until(at),
    ))
}

fn settled_at(context: &Context<'_>) -> Timestamp {
    time::after(&context.since, context.input.settings.settle)
}

/// AWS gets only a secret that every proxy that answers accepts already. A proxy that doesn't answer is awaited for a while:
/// it will start with the new configuration.
fn pods_lack_secret(context: &Context<'_>) -> Option<Decision> {
    let applied = context.record.applied.as_ref();
    if applied.is_some_and(|applied| applied.secret_digest == context.secret.digest) {
        return None;
    }
    let settled_at = settled_at(context);
    let pods = context.desired.pods_without_secret.iter();
    let lagging: Vec<&str> = pods
        .filter(|pod| pod.alive || context.now < settled_at)
        .map(|pod| pod.pod.as_str())
        .collect();
    (!lagging.is_empty()).then(|| {
        let message = format!(
            "AWS gets the shared secret once every proxy reports a configuration with it; waiting for {}",
            lagging.join(", ")
        );
        Decision::hold(Reason::WaitingForConfiguration, message)
            .until(settled_at.max(soon(context)))
            .out_of_sync(OutOfSync::Start)
    })
}

fn settles(context: &Context<'_>) -> Option<Decision> {
    let urgent = context.directory.radius_status.is_some() && !context.servers.one_answers;
    let mut settled_at = settled_at(context);
    if urgent {
        let together = time::after(&context.since, START_TOGETHER);
        settled_at = settled_at.min(if context.desired.starting {
            together
        } else {
            context.now
        });
    }
    if context.servers.all_serve || context.now >= settled_at {
        return None;
    }
    let message = format!(
        "{}; waiting for all {} proxies to serve, until {} at most, so that one write to AWS is enough",
        context.difference.as_ref()?.message,
        context.desired.replicas,
        time::clock(settled_at)
    );
    let decision = Decision::hold(Reason::Settling, message).until(settled_at);
    Some(decision.out_of_sync(OutOfSync::Start))
}

/// Whether the tags were read recently, and since the change was seen that they are to explain.
fn tags_count(context: &Context<'_>) -> bool {
    let directory = context.directory;
    let took = time::until(directory.as_of, directory.answered);
    let age = time::until(directory.tags_as_of, context.now);
    let changed = context
        .record
        .drift
        .times
        .last()
        .filter(|time| time.0 <= context.now);
    let since_change = changed.is_none_or(|changed| directory.tags_as_of >= changed.0);
    since_change && age <= TAGS_COUNT_FOR.max(took + FRESH_AFTER_ANSWER)
}

/// A write needs a recent description; one that may undo somebody else's change also needs recent tags.
fn description_is_old(context: &Context<'_>) -> Option<Decision> {
    let difference = context.difference.as_ref()?;
    let directory = context.directory;
    let by_tags = matches!(difference.reason, WriteReason::Drift | WriteReason::Adoption);
    let describe_next = if by_tags && !tags_count(context) {
        DescribeNext::DirectoryAndTags
    } else if !is_fresh(directory, context.now) {
        DescribeNext::Directory
    } else {
        return None;
    };
    let message = format!(
        "{}; describing the directory again before writing.",
        difference.message
    );
    Some(Decision {
        describe_next,
        ..context
            .under_way(Reason::Settling, message)
            .out_of_sync(OutOfSync::Start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_page_lists_the_holds_in_their_order() {
        let page = include_str!("../../../../docs/operations.md");
        let rows = page
            .lines()
            .skip_while(|line| !line.starts_with("| Hold |"))
            .skip(2);
        let listed: Vec<&str> = rows
            .map_while(|row| row.strip_prefix("| ")?.split(" |").next())
            .collect();
        assert_eq!(listed, hold_names());
    }
}
