//! What people are told about registration: what is the matter, and what to do next.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{DirectorySpec, RegisteredSettings, Trouble};
use crate::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use crate::conditions::Reason;
use crate::dns::NoAddress;
use crate::input::{Directory, Input};
use crate::plan::WriteReason;

use super::ledger::{FAILED, Ledger};
use super::servers::{Proxy, Servers};
use super::{ACTIVE, same_but_servers};
use crate::names::ObjectNames;
use crate::time;

/// How long a name may be without an answer before anybody is told: a new load balancer's takes minutes, and servers of DNS
/// fail for moments.
const PASSES_WITHIN: Duration = Duration::from_secs(180);

/// Why AWS is written to.
pub(crate) const fn why(reason: WriteReason) -> &'static str {
    match reason {
        WriteReason::FirstRegistration => "first registration",
        WriteReason::Adoption => "adoption",
        WriteReason::Servers => "servers changed",
        WriteReason::Settings => "settings changed",
        WriteReason::Secret => "new shared secret",
        WriteReason::Drift => "changed from outside",
        WriteReason::SecretMismatch => "shared secret changed from outside",
        WriteReason::Retry => "another try",
        WriteReason::Deletion => "deletion",
    }
}

/// What stands in the way, by the ledger.
pub(crate) fn trouble(trouble: &Trouble, spec: &DirectorySpec) -> (Reason, String) {
    if trouble.kind == FAILED {
        return (Reason::RadiusFailed, failed(spec));
    }
    let class = AwsErrorClass::from_label(&trouble.kind).unwrap_or(AwsErrorClass::Refused);
    let operation = trouble.operation.as_deref().and_then(AwsOperation::from_name);
    aws(class, operation, &trouble.message, spec)
}

/// What a failed AWS call means and what to do.
pub(crate) fn aws_failure(failure: &AwsFailure, spec: &DirectorySpec) -> (Reason, String) {
    aws(failure.class, Some(failure.operation), &failure.to_string(), spec)
}

fn aws(
    class: AwsErrorClass,
    operation: Option<AwsOperation>,
    message: &str,
    spec: &DirectorySpec,
) -> (Reason, String) {
    let action = operation.map_or("the call", AwsOperation::iam_action);
    let (id, region) = (&spec.id, &spec.region);
    let (reason, next) = match class {
        AwsErrorClass::NoCredentials => (
            Reason::NoAwsCredentials,
            "The operator has no valid AWS credentials: bind its service account to an IAM role (IRSA or EKS Pod Identity)"
                .to_owned(),
        ),
        AwsErrorClass::InvalidCredentials => (
            Reason::AwsCredentialsInvalid,
            "AWS does not take the operator's credentials: they are unknown, expired or wrongly signed. Check the role of its \
             service account, and the clock of its node"
                .to_owned(),
        ),
        AwsErrorClass::AccessDenied => (
            Reason::AwsAccessDenied,
            format!("Allow {action} on directory {id} in the policy of the operator's role (or the grant's roleArn)"),
        ),
        AwsErrorClass::Throttled => (
            Reason::AwsThrottled,
            "AWS limits the rate of calls of this account and region; the call is repeated later".to_owned(),
        ),
        AwsErrorClass::NotFound => (
            Reason::DirectoryNotFound,
            format!(
                "There is no directory {id} in region {region} of this account. Check spec.directory, or the account that \
                 the grant's roleArn is in"
            ),
        ),
        AwsErrorClass::InvalidParameter
        | AwsErrorClass::Unsupported
        | AwsErrorClass::Refused
        | AwsErrorClass::AlreadyExists => (
            Reason::AwsRefused,
            "AWS refuses the settings; compare spec.directory with the directory's own page in the console".to_owned(),
        ),
        AwsErrorClass::NotSent => {
            let message = "The write was not sent: the leader's lease was about to end, and two leaders must not write at once. \
                           It is sent when this replica has renewed the lease, or another one leads. Where that stays, see \
                           whether the API server is slow, and the operator short of processor time.";
            return (Reason::LeaseEnding, message.to_owned());
        }
        AwsErrorClass::Service => (
            Reason::AwsUnreachable,
            "AWS answers with an error of its own; the call is repeated later".to_owned(),
        ),
        AwsErrorClass::Unreachable => (
            Reason::AwsUnreachable,
            format!(
                "AWS Directory Service in {region} does not answer: check the operator's way out (NAT gateway, VPC endpoint, proxy)"
            ),
        ),
    };
    (reason, format!("{next}. AWS says: {message}."))
}

/// AWS gives no reason for Failed: the documented causes, in the order in which they are found.
fn failed(spec: &DirectorySpec) -> String {
    format!(
        "AWS reports Failed: the directory could not reach the proxies, or not agree with them. Check that the security group \
         {}_controllers allows UDP out to the proxies, that the proxies' security group and network ACLs allow that UDP port \
         in from it, that the pods' addresses are routable from the directory (else see spec.addresses), and protocol {:?}; \
         the shared secret is the operator's doing.",
        spec.id,
        spec.protocol.as_str()
    )
}

/// A stage in which nothing is written.
pub(crate) fn stage_holds(directory: &Directory) -> String {
    format!(
        "the directory's stage is {}; RADIUS settings are written when it has left that stage. Look at it in the AWS console",
        stage(directory)
    )
}

/// A stage in which AWS may refuse what is written.
pub(crate) fn stage_note(directory: &Directory) -> Option<String> {
    (directory.stage != ACTIVE).then(|| {
        format!(
            "The directory's stage is {}: AWS may refuse changes until it is Active. Look at it in the AWS console.",
            stage(directory)
        )
    })
}

fn stage(directory: &Directory) -> String {
    let detail = directory.stage_reason.as_deref();
    detail.map_or_else(
        || directory.stage.clone(),
        |detail| format!("{} ({detail})", directory.stage),
    )
}

/// What somebody else changed.
pub(crate) fn changes(ledger: &Ledger, directory: &Directory) -> String {
    if ledger.drift.disabled {
        return "RADIUS was switched off".to_owned();
    }
    match (&ledger.applied, &directory.radius_settings) {
        (Some(applied), Some(have)) if !same_but_servers(have, &applied.settings) => {
            settings(&applied.settings, have)
        }
        (Some(_), Some(have)) => {
            let servers: Vec<&str> = have
                .servers
                .iter()
                .chain(&have.servers_ipv6)
                .map(String::as_str)
                .collect();
            format!("the servers are now {}", servers.join(", "))
        }
        _ => "the settings were changed".to_owned(),
    }
}

/// Which settings differ, apart from servers.
pub(crate) fn settings(from: &RegisteredSettings, to: &RegisteredSettings) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, from: String, to: String| {
        if from != to {
            parts.push(format!("{name} from {from} to {to}"));
        }
    };
    part("port", from.port.to_string(), to.port.to_string());
    part(
        "timeout",
        from.timeout_seconds.to_string(),
        to.timeout_seconds.to_string(),
    );
    part("retries", from.retries.to_string(), to.retries.to_string());
    part("protocol", from.protocol.clone(), to.protocol.clone());
    part(
        "label",
        format!("{:?}", from.display_label),
        format!("{:?}", to.display_label),
    );
    part(
        "same user name",
        from.use_same_username.to_string(),
        to.use_same_username.to_string(),
    );
    parts.join(", ")
}

/// Which proxies do not serve, and why.
pub(crate) fn not_serving(proxies: &[Proxy<'_>], input: &Input) -> String {
    let mut told: Vec<String> = proxies
        .iter()
        .filter(|proxy| !proxy.serves())
        .map(|proxy| {
            let pod = proxy.pod;
            let why = if pod.deleted.is_some() {
                "is terminating".to_owned()
            } else if !pod.node_ready {
                format!(
                    "is on node {}, which is not ready",
                    pod.node.as_deref().unwrap_or("?")
                )
            } else if let Some(waiting) = &pod.waiting {
                format!("waits: {waiting}")
            } else if pod.node.is_none() {
                "is not scheduled; see `kubectl describe pod`".to_owned()
            } else if proxy.alive {
                "does not report the current configuration yet".to_owned()
            } else {
                "is not ready".to_owned()
            };
            format!("{} {why}", pod.name)
        })
        .collect();
    let replicas = input.proxy.spec.replicas as usize;
    if proxies.len() < replicas {
        told.push(format!("{} of {replicas} pods exist", proxies.len()));
    }
    if told.is_empty() {
        told.push("the rest follows".to_owned());
    }
    told.join("; ")
}

/// A host name without an address.
#[derive(Debug)]
pub(crate) struct Unresolved {
    /// What is the matter, and what to do.
    pub(crate) words: String,
    /// Until when nobody has to do anything.
    pub(crate) passing_until: Option<Timestamp>,
}

/// The host name of the load balancer that is without an address for the longest time.
pub(crate) fn unresolved(input: &Input, now: Timestamp) -> Option<Unresolved> {
    let names = input.load_balancer.names.iter();
    let (name, trouble) = names
        .filter_map(|name| Some((&name.name, name.trouble?)))
        .min_by_key(|(_, trouble)| trouble.since)?;
    let service = ObjectNames::new(input.proxy.metadata.name.as_deref().unwrap_or_default()).load_balancer();
    let (says, next) = match trouble.why {
        NoAddress::NoSuchName => (
            "DNS says that it does not exist",
            "See whether the load balancer is still there, and whether the operator's name servers know its zone",
        ),
        NoAddress::NoRecord => (
            "DNS has no address for it",
            "See whether the load balancer is active and has healthy targets",
        ),
        NoAddress::NoAnswer => (
            "the operator's name servers do not answer",
            "See whether the operator's pod reaches them (dnsPolicy and dnsConfig of the chart, NetworkPolicy)",
        ),
        NoAddress::ServerError => (
            "the operator's name servers answer with an error",
            "See whether they know its zone (dnsPolicy and dnsConfig of the chart)",
        ),
    };
    let words = format!(
        "{name} has no address since {}: {says}. {next}; `kubectl describe service {service}` shows the load balancer's \
         side. It is looked up again every few seconds.",
        time::clock(trouble.since)
    );
    let end = time::later(trouble.since, PASSES_WITHIN);
    Some(Unresolved {
        words,
        passing_until: (now < end).then_some(end),
    })
}

/// Which registered addresses the load balancer no longer has.
pub(crate) fn missed(servers: &Servers, input: &Input) -> String {
    let gone: Vec<&str> = servers.gone.iter().map(|(address, _)| address.as_str()).collect();
    let first = servers.gone.iter().map(|(_, since)| since).min();
    let due = first.map_or(Timestamp::MAX, |since| {
        time::after(since, input.settings.removal_after)
    });
    format!(
        "{} is no longer an address of the load balancer: it is removed with the next write, at {} at the latest",
        gone.join(", "),
        time::clock(due)
    )
}
