//! The phases of a surge.

use super::context::{PodRevision, UpgradeContext, halves};
use super::layout::held_end;
use crate::observed::{Surge, SurgePhase};

/// The surge after this rollout. One that has ended may be followed by the next at once.
pub(super) fn advance(context: &UpgradeContext<'_>, before: Option<Surge>) -> Option<Surge> {
    let mut surge = before;
    for _ in 0..3 {
        let next = next(context, surge.clone());
        if next == surge {
            break;
        }
        surge = next;
    }
    surge
}

fn next(context: &UpgradeContext<'_>, surge: Option<Surge>) -> Option<Surge> {
    let in_place_refused = || {
        context
            .refused
            .then(|| context.revision.unwrap_or_default().to_owned())
    };
    let Some(surge) = surge else {
        return needs_surge(context).then(|| Surge {
            phase: SurgePhase::Starting,
            replicas: context.n,
            in_place_refused: in_place_refused(),
        });
    };
    let (lower, upper) = halves(surge.replicas);
    let to = |phase| {
        Some(Surge {
            phase,
            ..surge.clone()
        })
    };
    match surge.phase {
        // Taken back, or another image has come that can be changed in place.
        SurgePhase::Starting if needs_no_pods(context) => None,
        // Nothing of it is registered yet: it can still become more or fewer.
        SurgePhase::Starting => {
            let (_, upper) = halves(context.n);
            Some(Surge {
                phase: if context.may_write && context.complete(&upper) {
                    SurgePhase::Moved
                } else {
                    SurgePhase::Starting
                },
                replicas: context.n,
                ..surge
            })
        }
        // AWS gets all of a half or nothing of it.
        SurgePhase::Moved if !context.lists(&upper) && !context.complete(&upper) => to(SurgePhase::Starting),
        SurgePhase::Moved if context.complete(&lower) => to(SurgePhase::Returning),
        SurgePhase::Returning if !context.lists(&lower) && !context.complete(&lower) => to(SurgePhase::Moved),
        SurgePhase::Returning if context.lists(&lower) && context.has_left(&upper) => None,
        SurgePhase::Moved | SurgePhase::Returning => Some(surge),
    }
}

fn needs_no_pods(context: &UpgradeContext<'_>) -> bool {
    let all = 0..context.n;
    context.pods(&all).count() >= all.len() && !context.any(&all, PodRevision::Old)
}

fn needs_surge(context: &UpgradeContext<'_>) -> bool {
    context.may_write
        && context.may_begin
        // Pods of a scale-down leave first: their ordinals are needed.
        && held_end(context, context.n) == context.n
        && context
            .with(&(0..context.n), PodRevision::Old)
            .any(|proxy| context.is_listed(proxy))
}
