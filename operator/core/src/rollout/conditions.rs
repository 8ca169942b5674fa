//! The conditions of a RadiusProxy.

use jiff::Timestamp;

use super::acceptance::Acceptance;
use super::context::RolloutContext;
use super::desired_registration::Registering;
use super::known_directory::{mirrored, unobserved};
use super::proxy_pods::{ProxyPod, not_serving};
use crate::api::{ConditionType, ObservedDirectory};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, progress, ready};
use crate::directory_client::{self, PodReport};
use crate::observed::RolloutInput;
use crate::registration::same_but_servers;

/// All conditions; after `Ready` only the one that says why it isn't true.
pub(super) fn conditions(
    context: &RolloutContext<'_>,
    acceptance: &Acceptance,
    registered: ConditionDraft,
    available: ConditionDraft,
) -> Vec<ConditionDraft> {
    let stalled = context.input.outcomes.shown(context.now);
    let stalled = stalled.map(|(reason, message)| {
        ConditionDraft::new(ConditionType::Stalled, ConditionStatus::True, reason, message)
    });
    let mut drafts = vec![acceptance.condition.clone(), secrets_ready(context)];
    drafts.extend(stalled);
    drafts.extend([available, registered]);
    let message = if context.has_directory() {
        "the proxies serve and are registered".to_owned()
    } else {
        "the proxies serve".to_owned()
    };
    let ready = ready(&drafts, message);
    let progress = progress(&drafts, &ready);
    drafts.push(ready);
    drafts.extend(progress);
    drafts
}

/// The condition Registered.
pub(super) fn registered(
    context: &RolloutContext<'_>,
    registering: &Registering,
    reports: &[PodReport<'_>],
    observed: Option<&ObservedDirectory>,
) -> ConditionDraft {
    let draft = |status, reason, message: &str| {
        ConditionDraft::new(ConditionType::Registered, status, reason, message)
    };
    let Some(spec) = &context.input.proxy.spec.directory else {
        let message = "spec.directory is not set";
        return draft(ConditionStatus::True, Reason::NoDirectory, message);
    };
    let desired = registering.spec.as_ref().and_then(|spec| spec.desired.as_ref());
    let Some(desired) = desired.filter(|_| context.holds) else {
        let message = "nothing is written to AWS until the spec is accepted and the Secrets are ready";
        return draft(ConditionStatus::False, Reason::Blocked, message);
    };
    if !desired.blocked.is_empty() {
        return draft(ConditionStatus::False, Reason::Blocked, &desired.blocked);
    }
    if let Some(unobserved) = unobserved(context.input, context.now) {
        return unobserved;
    }
    let mirrored = context
        .held()
        .and_then(|registration| mirrored(registration, ConditionType::Registered));
    let Some(mut registered) = mirrored else {
        let message = "the operator has not processed the DirectoryRegistration yet";
        return draft(ConditionStatus::False, Reason::Registering, message);
    };
    let applied = context.record.applied.as_ref();
    let is_applied = applied.is_some_and(|applied| {
        let wanted = desired.shared_secret.as_ref().map(|secret| &secret.digest);
        same_but_servers(&applied.settings, &desired.settings) && Some(&applied.secret_digest) == wanted
    });
    if registered.is_true() && registered.reason == Reason::Registered && !is_applied {
        let message = "the registration does not include the latest change yet";
        registered = draft(ConditionStatus::False, Reason::Registering, message);
    }
    let client = directory_client::Context {
        spec,
        provider: &context.input.proxy.spec.provider,
        port: context.input.proxy.spec.port,
        reports,
        shown: observed,
        radius_status: context.directory.and_then(|directory| directory.radius_status),
        applied,
    };
    for note in directory_client::warnings(&client, context.now) {
        let message = registered.message.trim_end_matches('.');
        registered.message = format!("{message}. {note}");
    }
    registered
}

/// The condition Available. `upgrade` describes an upgrade that is under way; `replicas` is the wanted number of pods.
pub(super) fn available(
    input: &RolloutInput,
    proxies: &[ProxyPod<'_>],
    started: bool,
    upgrade: Option<&str>,
    replicas: u32,
    now: Timestamp,
) -> ConditionDraft {
    let replicas = replicas as usize;
    let serving = proxies.iter().filter(|p| p.is_eligible && p.serves()).count();
    let draft = |status, reason, message: String| {
        ConditionDraft::new(ConditionType::Available, status, reason, message)
    };
    if !started {
        let message = "no proxy starts until the spec is accepted and the Secrets are ready";
        return draft(ConditionStatus::False, Reason::NotStarted, message.to_owned());
    }
    if let Some(upgrade) = upgrade
        && serving >= replicas.saturating_sub(1).max(1)
    {
        let message = format!("{upgrade}; {}", not_serving(proxies, input));
        return draft(ConditionStatus::True, Reason::Upgrading, message);
    }
    if serving >= replicas {
        let message = format!("{serving} of {replicas} proxies serve the current configuration");
        return draft(ConditionStatus::True, Reason::ProxiesServe, message);
    }
    let message = format!(
        "{serving} of {replicas} proxies serve the current configuration; {}",
        not_serving(proxies, input)
    );
    // What a PodDisruptionBudget of one leaves is enough.
    if serving >= replicas.saturating_sub(1).max(1) {
        draft(ConditionStatus::True, Reason::SomeProxiesServe, message)
    } else if let Some((reason, refusals)) = input.outcomes.shown(now) {
        draft(ConditionStatus::False, reason, format!("{message}. {refusals}"))
    } else {
        draft(ConditionStatus::False, Reason::TooFewProxies, message)
    }
}

/// The condition SecretsReady.
fn secrets_ready(context: &RolloutContext<'_>) -> ConditionDraft {
    let (status, reason, message) = match &context.sources {
        Err(problems) => {
            let reason = problems.first().map_or(Reason::SecretMissing, |p| p.reason);
            let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
            (ConditionStatus::False, reason, messages.join("; "))
        }
        Ok(sources) if !sources.warnings.is_empty() => {
            let who = if sources.no_user {
                "No user can log in"
            } else {
                "These users cannot log in; the others can"
            };
            let message = format!(
                "{}. {who}. `radius-proxy totp enrol --user USER` prints a valid line",
                sources.warnings.join("; ")
            );
            let reason = if sources.twice {
                Reason::DuplicateTotpSeed
            } else {
                Reason::TotpSeedsMalformed
            };
            (ConditionStatus::False, reason, message)
        }
        Ok(_) if !context.refused_by_provider().is_empty() => (
            ConditionStatus::False,
            Reason::ProviderCredentialsRefused,
            format!(
                "the provider refuses the credentials in Secret {} (reported by {}), so logins that need the \
                 provider are refused. Compare the keys with the application's page at the provider and correct \
                 the Secret. The proxies reload it",
                context.provider_secret().unwrap_or("of the provider"),
                context.refused_by_provider().join(", "),
            ),
        ),
        Ok(_) => (
            ConditionStatus::True,
            Reason::SecretsReady,
            "every Secret exists and is valid".to_owned(),
        ),
    };
    ConditionDraft::new(ConditionType::SecretsReady, status, reason, message)
}
