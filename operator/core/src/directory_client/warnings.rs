//! Differences between the observed directory and the spec. They stop nothing; the condition mentions them.

use std::time::Duration;

use jiff::Timestamp;

use super::{PodReport, SKEW, at};
use crate::api::{
    AppliedSettings, AuthenticationProtocol, DirectorySpec, ObservedDirectory, ObservedSigning, ProviderSpec,
};
use crate::observed::RadiusStatus;
use crate::time;

/// Number of retries to observe before they count as the directory's waiting time.
const RETRIES: u32 = 10;
/// How long other addresses must have sent requests, since AWS completed, before a silent one is reported.
const SILENT_FOR: Duration = Duration::from_secs(1800);
/// Requests that others have to have sent.
const REQUESTS: u32 = 20;

/// The input of the warnings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) spec: &'a DirectorySpec,
    pub(crate) provider: &'a ProviderSpec,
    pub(crate) port: u32,
    pub(crate) reports: &'a [PodReport<'a>],
    pub(crate) shown: Option<&'a ObservedDirectory>,
    pub(crate) radius_status: Option<RadiusStatus>,
    pub(crate) applied: Option<&'a AppliedSettings>,
}

/// One sentence or more for each.
pub(crate) fn warnings(context: &Context<'_>, now: Timestamp) -> Vec<String> {
    let Some(shown) = context.shown else {
        return Vec::new();
    };
    [
        probe_counts_as_dead(context),
        never_asked(context, shown, now),
        unsigned(context, shown),
        short_patience(context, shown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn sum(context: &Context<'_>, count: fn(&proxy_config::observed::ObservedAddress) -> u32) -> u32 {
    context
        .reports
        .iter()
        .flat_map(|report| report.observed.addresses.values())
        .map(count)
        .fold(0, u32::saturating_add)
}

fn short_patience(context: &Context<'_>, shown: &ObservedDirectory) -> Option<String> {
    let (wait, interval) = (shown.longest_wait_seconds?, shown.retry_interval_milliseconds?);
    let retries = sum(context, |seen| {
        let same_port = seen.same_packet.saturating_add(seen.new_authenticator);
        same_port.saturating_add(seen.new_identifier)
    });
    let timeout = context.spec.timeout_seconds;
    let short = wait.saturating_add(interval.div_ceil(1000)) < timeout;
    (short && retries >= RETRIES).then(|| {
        format!(
            "The directory sends a retry about every {} s, and no login was seen to wait for more than {wait} s, although \
             spec.directory.timeoutSeconds is {timeout}: it may give up earlier than that. A push that is approved \
             later serves the user's next try.",
            interval.div_ceil(1000)
        )
    })
}

fn unsigned(context: &Context<'_>, shown: &ObservedDirectory) -> Option<String> {
    let spec = context.spec;
    let which = match shown.signs? {
        ObservedSigning::Always => return None,
        ObservedSigning::Sometimes => "some of its requests",
        ObservedSigning::Never => "its requests",
    };
    let served = spec.protocol == AuthenticationProtocol::Pap || spec.unauthenticated_push;
    // With TOTP the proxy knows the codes itself, and sends nothing to anybody.
    (!served && context.provider.totp.is_none()).then(|| {
        format!(
            "The directory sends {which} without Message-Authenticator. With {} such a request proves no shared secret, so \
             that it starts no push and is refused. Set spec.directory.protocol: PAP, or spec.directory.unauthenticatedPush: \
             true if nobody else can send packets with the directory's addresses.",
            spec.protocol.as_str()
        )
    })
}

fn never_asked(context: &Context<'_>, shown: &ObservedDirectory, now: Timestamp) -> Option<String> {
    let completed = context.applied?.completed_time.as_ref()?;
    let told_from = time::after(completed, SILENT_FOR);
    let last = shown
        .addresses
        .iter()
        .filter_map(|each| each.last_request.as_ref());
    let asks = last.max_by_key(|last| last.0)?;
    let requests = sum(context, |seen| seen.signed.saturating_add(seen.unsigned));
    if now < told_from || asks.0 < told_from || requests < REQUESTS {
        return None;
    }
    let silent: Vec<&str> = shown
        .addresses
        .iter()
        .filter(|each| each.last_request.is_none())
        .map(|each| each.address.as_str())
        .collect();
    (!silent.is_empty()).then(|| {
        format!(
            "{} has never asked the proxies, although others of the directory do. Check that the security group \
             {}_controllers and the network ACLs of its subnet allow UDP port {} out to the proxies, and that the proxies' \
             allow it in: logins that go through it fail otherwise.",
            silent.join(", "),
            context.spec.id,
            context.port
        )
    })
}

/// AWS says Failed although its probe was answered under the right secret: it wants another answer than a Reject.
fn probe_counts_as_dead(context: &Context<'_>) -> Option<String> {
    let written = context.applied?.time.0;
    if context.radius_status != Some(RadiusStatus::Failed) {
        return None;
    }
    // By the pod's clock, and AWS probes at once.
    let since = |seconds: u64| at(seconds).filter(|at| time::later(*at, SKEW) >= written);
    let observed = || context.reports.iter().map(|report| report.observed);
    let authenticated = observed()
        .flat_map(|observed| observed.addresses.values())
        .any(|seen| seen.last_authenticated.and_then(since).is_some());
    let probed = observed()
        .flat_map(|observed| observed.probes.values())
        .any(|seconds| since(*seconds).is_some());
    (authenticated && probed).then(|| {
        "The proxies have answered the directory's probe since the settings were written, and the shared secret was right: \
         network and secret work. AWS seems to count the probe's Access-Reject as a server that is dead. A probe never gets \
         an Access-Accept, since that would be a user without a second factor. See whether people can log in all the same; \
         if not, ask AWS Support which answer the probe expects."
            .to_owned()
    })
}
