//! The configuration that the pods should read: the current one, or the last valid one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_config::{Secret, SharedSecret};

use super::context::RolloutContext;
use super::known_directory::KnownDirectory;
use super::ownership::Vouched;
use crate::api::RadiusProxyStatus;
use crate::config::{self, CURRENT_KEY, ConfigInput, DIGEST_KEY, PREVIOUS_KEY};
use crate::observed::{RadiusStatus, RolloutInput};
use crate::rotation::{self, KnownSecrets, SecretPair};
use crate::secrets::ResolvedSecrets;

/// The digest key's file: the stored one, or a new one.
pub(super) fn digest_key(input: &RolloutInput) -> Secret {
    let kept = input.radius_secret.as_ref().and_then(|s| s.data.get(DIGEST_KEY));
    kept.filter(|key| !key.expose().is_empty())
        .cloned()
        .unwrap_or_else(|| Secret::new(hex::encode(input.entropy.digest_key()).into_bytes()))
}

/// 48 characters of 64: 288 bits.
fn generated_secret(input: &RolloutInput) -> Option<SharedSecret> {
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
pub(super) fn kept_pair(input: &RolloutInput) -> Option<SecretPair> {
    let data = &input.radius_secret.as_ref()?.data;
    let parse = |key: &str| SharedSecret::parse(data.get(key)?.expose()).ok();
    let current = parse(CURRENT_KEY)?;
    let previous = parse(PREVIOUS_KEY).filter(|previous| *previous != current);
    Some(SecretPair { current, previous })
}

fn next_pair(context: &RolloutContext<'_>, sources: &ResolvedSecrets) -> Option<SecretPair> {
    if !context.has_directory() {
        return None;
    }
    let kept = context.pair_before.clone();
    let wanted = sources
        .directory
        .clone()
        .or_else(|| kept.as_ref().map(|pair| pair.current.clone()))
        .or_else(|| generated_secret(context.input))?;
    let completed = context
        .directory
        .is_some_and(|d| d.radius_status == Some(RadiusStatus::Completed));
    let held = KnownSecrets {
        key: &context.key,
        applied: context.record.applied.as_ref(),
        pending: context.record.pending.as_ref(),
        unconfirmed: context.record.unconfirmed_secret.as_deref(),
        settled: completed && context.rotation_ends().is_some_and(|end| context.now >= end),
    };
    Some(rotation::next(&wanted, kept, held))
}

pub(super) fn render(context: &mut RolloutContext<'_>) {
    context.pair.clone_from(&context.pair_before);
    context.wanted_secret = context.pair.as_ref().map(|pair| pair.current.clone());
    let Ok(sources) = &context.sources else {
        return;
    };
    if context.vouched == Vouched::NotYet {
        return;
    }
    if context.has_directory() && context.clients.is_empty() {
        return;
    }
    let next = next_pair(context, sources);
    let wanted = next.as_ref().map(|pair| pair.current.clone());
    // Another shared secret comes once the registration has it; the rest of the configuration doesn't wait.
    let known = context.pair_before.clone();
    let known = known.filter(|_| context.input.outcomes.registration_failed());
    let pair = known.or(next);
    let rendered = config::render(&ConfigInput {
        spec: &context.input.proxy.spec,
        name: context.owner.names.workload(),
        directory_clients: &context.clients,
        sources,
        pair: pair.as_ref(),
        digest_key: &context.key_file,
        provider_host_suffixes: context.input.settings.provider_host_suffixes.as_deref(),
    });
    match rendered {
        Ok(rendered) => {
            context.rendered = Some(rendered);
            context.pair = pair;
            context.wanted_secret = wanted;
        }
        Err(problem) => context.problem = Some(problem),
    }
}

/// Where the directory's requests come from: as described, or as it was known last.
pub(super) fn client_addresses(
    directory: Option<&KnownDirectory>,
    before: Option<&RadiusProxyStatus>,
) -> BTreeSet<IpAddr> {
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
