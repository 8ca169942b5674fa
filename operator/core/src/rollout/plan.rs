//! The whole plan, put together from its parts.

use jiff::Timestamp;
use proxy_config::ConfigDigest;

use super::acceptance::{Acceptance, accept};
use super::conditions::{available, conditions, registered};
use super::context::RolloutContext;
use super::known_directory::KnownDirectory;
use super::ownership::Vouched;
use super::proxy_pods::proxies;
use super::steps::Digests;
use super::upgrade::upgrade;
use super::{
    FinalizerChange, RolloutPlan, deletion, desired_registration, ownership, second_operator, status, steps,
};
use crate::api::{DeletionPolicy, ObservedDirectory};
use crate::conditions::{Reason, set_conditions};
use crate::config::{ConfigProblem, Rendered};
use crate::directory_client::{self, PodReport};
use crate::objects::{self, Template};
use crate::observed::{ObjectId, RolloutInput};
use crate::outcomes::LastingFailure;

/// Plans everything for one RadiusProxy. It is total: a problem becomes a condition.
#[must_use]
pub fn plan(input: &RolloutInput, now: Timestamp) -> RolloutPlan {
    let input = &*ownership::without_planted_secret(input);
    if input.proxy.metadata.deletion_timestamp.is_some() {
        let mut plan = deletion::plan(input, now);
        if plan.finalizer == FinalizerChange::Keep && deletion::has_finalizer(input) {
            deletion::follow_clients(&mut plan, input, || {
                let directory = input.registration.as_ref().and_then(KnownDirectory::of);
                assemble(&RolloutContext::new(input, directory.as_ref(), now))
            });
        }
        return plan;
    }
    let directory = input.registration.as_ref().and_then(KnownDirectory::of);
    let mut plan = assemble(&RolloutContext::new(input, directory.as_ref(), now));
    second_operator::sign(&mut plan, input, now);
    plan
}

/// Puts the plan together.
fn assemble(context: &RolloutContext<'_>) -> RolloutPlan {
    let set = context.input.stateful_set.as_ref();
    let running = set.is_some();
    let template = Template::new(&context.owner, &context.input.settings, set);
    let refused = template.problem().map(|message| ConfigProblem {
        reason: Reason::ConfigInvalid,
        message: message.to_owned(),
    });
    let acceptance = accept(
        context.input,
        context.problem.as_ref().or(refused.as_ref()),
        context.now,
    );
    // A spec that is not accepted starts nothing, and stops nothing that runs.
    // Start the pods while another RadiusProxy still holds the directory, so that they can take over at once.
    let waits = acceptance.condition.reason == Reason::DirectoryConflict && context.directory.is_some();
    let starts = (acceptance.condition.is_true() || waits) && context.rendered.is_some();
    let apply = running || starts;
    let taken = acceptance.condition.reason == Reason::NameConflict;
    let fresh = context.rendered.clone().filter(|_| apply && !taken);
    let mounted = fresh
        .as_ref()
        .filter(|_| !context.input.outcomes.configuration_failed());
    let digest = digest(context, mounted, running);
    let mut proxies = proxies(context.input, digest.as_ref());
    let upgrade = upgrade(context, &template, &proxies, &acceptance);
    for proxy in &mut proxies {
        proxy.is_eligible = upgrade.eligible.contains(&proxy.ordinal);
        proxy.is_retained = upgrade.retained.contains(&proxy.ordinal);
    }
    let replicas = upgrade.replicas;
    let reports = directory_client::reports(context.input, digest.as_ref());
    let observed = observed(context, &reports);
    let registering = desired_registration::registering(
        context,
        &acceptance,
        &proxies,
        &reports,
        replicas,
        digest.is_some(),
    );
    let registered = registered(context, &registering, &reports, observed.as_ref());

    let progress = upgrade.message.as_deref().filter(|_| running);
    let available = available(
        context.input,
        &proxies,
        apply && !taken,
        progress,
        replicas,
        context.now,
    );
    let drafts = conditions(context, &acceptance, registered, available);
    let seen = status::StatusInput {
        input: context.input,
        owner: &context.owner,
        proxies: &proxies,
        registration: context
            .held()
            .and_then(|registration| registration.status.as_ref()),
    };
    let mut status = status::tables(&seen, context.before);
    if let Some(directory) = &mut status.directory {
        directory.observed = observed;
    }
    status.config_digest = digest.as_ref().map(ToString::to_string);
    status.conditions = set_conditions(
        &drafts,
        context.before.map_or(&[][..], |s| &s.conditions),
        context.input.proxy.metadata.generation,
        context.now,
    );
    let failure = context.input.registration_failure.as_ref();
    let shown_at = failure
        .map(LastingFailure::shown_from)
        .filter(|at| *at > context.now);
    let requeue_after = steps::requeue_after(context, [upgrade.again, registering.again, shown_at]);
    let apply = apply && !taken;
    let peers = objects::peer_addresses(&context.owner, &context.input.pods);
    // Pods that read them again find them applied.
    let peers_digest = apply.then(|| objects::peers_digest(&peers));
    let digests = Digests {
        config: digest.as_ref().map(ToString::to_string),
        peers: peers_digest,
    };
    RolloutPlan {
        finalizer: finalizer(context, &acceptance),
        registration: registering.spec,
        apply: if apply {
            steps::objects(context, fresh.as_ref(), &peers, &template, &upgrade)
        } else {
            Vec::new()
        },
        adopt: adoptions(context, apply),
        pods: steps::pod_patches(context, &proxies, &digests, &template, &upgrade),
        events: steps::events(context, &drafts, &upgrade),
        status,
        delete: steps::deletions(context, upgrade.delete),
        upgrading: upgrade.layout.upgrading,
        requeue_after,
    }
}

/// Objects to take over. A Secret that nobody vouches for is taken over only together with other content.
fn adoptions(context: &RolloutContext<'_>, apply: bool) -> Vec<ObjectId> {
    let vouched = context.vouched == Vouched::Yes && context.input.radius_secret.is_some();
    let may = vouched || context.rendered.is_some();
    let adopts = |id: &&ObjectId| apply && (may || !ownership::is_radius_secret(context.input, id));
    context.input.orphans.iter().filter(adopts).cloned().collect()
}

/// How the directory sends requests, as observed by the pods.
fn observed(context: &RolloutContext<'_>, reports: &[PodReport<'_>]) -> Option<ObservedDirectory> {
    let before = context
        .before
        .and_then(|status| status.directory.as_ref()?.observed.as_ref());
    let probes = &context.input.proxy.spec.policy.probe_users;
    directory_client::summary(reports, &context.clients, probes, before, context.now)
}

/// The configuration that pods should report: the current one, or the last valid one.
fn digest(context: &RolloutContext<'_>, fresh: Option<&Rendered>, running: bool) -> Option<ConfigDigest> {
    let last = context
        .before
        .and_then(|s| s.config_digest.as_deref())
        .filter(|_| running);
    fresh
        .map(|rendered| rendered.digest.clone())
        .or_else(|| last.map(ConfigDigest::from_reported))
}

/// A deletion has to wait if it means DisableRadius or if another RadiusProxy takes over: the pods have to answer until then.
fn finalizer(context: &RolloutContext<'_>, acceptance: &Acceptance) -> FinalizerChange {
    let spec = context.input.proxy.spec.directory.as_ref();
    let disables = spec.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Disable);
    let has = deletion::has_finalizer(context.input);
    // One that waits may hold the directory by the time it is deleted.
    let waits = acceptance.condition.reason == Reason::DirectoryConflict && !context.input.proxy.spec.suspend;
    let holds = context.holds && acceptance.may_write;
    if disables && (holds || waits) || holds && context.input.successor_waits {
        if has {
            FinalizerChange::Keep
        } else {
            FinalizerChange::Add
        }
    } else if has && !disables && !context.input.successor_waits {
        FinalizerChange::Remove
    } else {
        FinalizerChange::Keep
    }
}
