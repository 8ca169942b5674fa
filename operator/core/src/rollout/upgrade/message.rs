//! Messages about an upgrade.

use std::ops::Range;

use super::context::{PodRevision, UpgradeContext, halves};
use super::replace::replaces;
use crate::observed::{Surge, SurgePhase};

/// What is under way, if something is.
pub(super) fn message(context: &UpgradeContext<'_>, surge: Option<&Surge>) -> Option<String> {
    if context.set()?.template.as_ref() != Some(&context.template.digest) {
        return Some("the StatefulSet is getting the new template".to_owned());
    }
    let Some(surge) = surge else {
        return without_surge(context);
    };
    let (lower, upper) = halves(surge.replicas);
    let (old, new) = (names(context, &lower), names(context, &upper));
    let message = match surge.phase {
        SurgePhase::Starting => {
            format!("the template needs new pods: {new} start on it, to be registered in place of {old}")
        }
        SurgePhase::Moved if context.has_left(&lower) => {
            format!("{new} are registered while {old} are replaced")
        }
        SurgePhase::Moved => format!("{new} run the new template and are registered in place of {old}"),
        SurgePhase::Returning => {
            format!("{old} run the new template and are registered again; then {new} are removed")
        }
    };
    Some(match surge.in_place_refused {
        Some(_) => format!(
            "{message} (changing the image in place was refused by the API server or a policy of the cluster)"
        ),
        None => message,
    })
}

fn without_surge(context: &UpgradeContext<'_>) -> Option<String> {
    context.revision?;
    let (n, all) = (context.n, 0..context.n);
    let current = context.with(&all, PodRevision::Current).count();
    let old = context.any(&all, PodRevision::Old);
    let image = context.any(&all, PodRevision::Changing) || context.any(&all, PodRevision::Patchable);
    if !(old || image) {
        return None;
    }
    if !context.may_begin {
        return Some(
            "the new template waits until fewer other RadiusProxy resources are being upgraded".to_owned(),
        );
    }
    let canary = context.has_canary() && !context.works(&(0..u32::MAX)) && (!old || replaces(context));
    let first = if canary {
        format!(
            "; {} has to serve on it first",
            context.rollout.owner.names.pod(n)
        )
    } else {
        String::new()
    };
    Some(if !old {
        format!(
            "the image is changed in place, one pod after the other{first}: {current} of {n} run {}",
            context.template.image
        )
    } else if replaces(context) {
        format!("the template needs new pods; they are replaced one by one{first}: {current} of {n} run it")
    } else {
        format!(
            "the template needs new pods; they are replaced once AWS may be written to: {current} of {n} run it"
        )
    })
}

fn names(context: &UpgradeContext<'_>, range: &Range<u32>) -> String {
    let name = |ordinal| context.rollout.owner.names.pod(ordinal);
    let last = range.end.saturating_sub(1);
    if range.start == last {
        name(last)
    } else {
        format!("{} to {}", name(range.start), name(last))
    }
}
