//! Messages about registration: what is wrong, and what to do next.

use jiff::Timestamp;

use super::decide::{Context, Decision};
use super::record::{FAILED, RegistrationRecord};
use super::{ACTIVE, same_but_servers};
use crate::api::{DirectoryRegistrationSpec, LastFailure, RegisteredSettings};
use crate::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use crate::conditions::{ConditionStatus, Reason};
use crate::observed::Directory;
use crate::time;

/// The RadiusProxy that holds the directory.
pub(crate) fn holder(spec: &DirectoryRegistrationSpec) -> String {
    format!("{}/{}", spec.claimed_by.namespace, spec.claimed_by.name)
}

/// A write that failed.
pub(crate) fn failure(failure: &LastFailure, spec: &DirectoryRegistrationSpec) -> (Reason, String) {
    if failure.kind == FAILED {
        return (Reason::RadiusFailed, failed(spec));
    }
    let class = AwsErrorClass::from_name(&failure.kind).unwrap_or(AwsErrorClass::Refused);
    let operation = failure.operation.as_deref().and_then(AwsOperation::from_name);
    aws(class, operation, &failure.message, spec)
}

/// What a failed AWS call means and what to do.
pub(crate) fn aws_failure(failure: &AwsFailure, spec: &DirectoryRegistrationSpec) -> (Reason, String) {
    aws(failure.class, Some(failure.operation), &failure.to_string(), spec)
}

fn aws(
    class: AwsErrorClass,
    operation: Option<AwsOperation>,
    message: &str,
    spec: &DirectoryRegistrationSpec,
) -> (Reason, String) {
    let action = operation.map_or("the call", AwsOperation::iam_action);
    let (id, region) = (&spec.directory_id, &spec.region);
    let (reason, next) = match class {
        AwsErrorClass::NoCredentials => (
            Reason::NoAwsCredentials,
            "The operator has no valid AWS credentials: bind its service account to an IAM role (IRSA or EKS Pod Identity)"
                .to_owned(),
        ),
        AwsErrorClass::InvalidCredentials => (
            Reason::AwsCredentialsInvalid,
            "AWS rejects the operator's credentials: they are unknown, expired or wrongly signed. Check the role \
             of its service account and the clock of its node"
                .to_owned(),
        ),
        AwsErrorClass::AccessDenied => (
            Reason::AwsAccessDenied,
            format!("Allow {action} on directory {id} in the policy of the operator's role (or the grant's roleArn)"),
        ),
        AwsErrorClass::Throttled => (
            Reason::AwsThrottled,
            "AWS limits the rate of calls of this account and region; the operator retries the call later".to_owned(),
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
            "AWS refuses the settings; compare spec.directory with the directory's page in the console".to_owned(),
        ),
        AwsErrorClass::NotSent => {
            let message = "The write was not sent: the leader's lease was about to end, and two leaders must not \
                write at the same time. The operator sends it once this replica has renewed the lease or another \
                replica leads. If this persists, check whether the API server is slow or the operator lacks CPU \
                time.";
            return (Reason::LeaseEnding, message.to_owned());
        }
        AwsErrorClass::Service => (
            Reason::AwsUnreachable,
            "AWS answers with an internal error; the operator retries the call later".to_owned(),
        ),
        AwsErrorClass::Unreachable => (
            Reason::AwsUnreachable,
            format!(
                "AWS Directory Service in {region} does not answer. Check the operator's network path to AWS \
                 (NAT gateway, VPC endpoint, proxy)"
            ),
        ),
    };
    (reason, format!("{next}. AWS says: {message}."))
}

/// AWS gives no reason for Failed: the documented causes, in the order in which they are found.
fn failed(spec: &DirectoryRegistrationSpec) -> String {
    format!(
        "AWS reports Failed: the directory could not reach the proxies, or did not accept their answers. Check \
         that the security group \
         {}_controllers allows UDP out to the proxies, that the proxies' security group and network ACLs allow that UDP port \
         in from it, that the pods' addresses are routable from the directory (otherwise see spec.addresses), \
             and protocol {:?}. The operator sets the shared secret itself.",
        spec.directory_id,
        spec.desired
            .as_ref()
            .map_or("PAP", |desired| desired.settings.protocol.as_str())
    )
}

/// A stage in which nothing is written.
pub(crate) fn stage_holds(directory: &Directory) -> String {
    format!(
        "the directory's stage is {}; the operator writes RADIUS settings once the directory leaves that stage. \
         Check the directory in the AWS console",
        stage(directory)
    )
}

/// A stage in which AWS may refuse writes.
pub(crate) fn stage_note(directory: &Directory) -> Option<String> {
    (directory.stage != ACTIVE).then(|| {
        format!(
            "The directory's stage is {}: AWS may refuse changes until it is Active. Check the directory in the \
             AWS console.",
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
pub(crate) fn changes(record: &RegistrationRecord, directory: &Directory) -> String {
    if record.drift.disabled {
        return "RADIUS was switched off".to_owned();
    }
    match (&record.applied, &directory.radius_settings) {
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

/// AWS has what it should have.
pub(super) fn in_sync(context: &Context<'_>) -> Decision {
    let servers = context.servers;
    let problem = context
        .desired
        .address_problem
        .as_ref()
        .filter(|problem| !problem.passing);
    if servers.registered < servers.wanted || !servers.gone.is_empty() {
        let rest = if context.by_load_balancer() && !servers.gone.is_empty() {
            missed(context)
        } else {
            context.desired.waiting_for.clone()
        };
        let more = context.desired.address_problem.as_ref();
        let more = more.map_or_else(String::new, |problem| format!("; {}", problem.message));
        let message = format!(
            "{} of {} servers registered; {rest}{more}",
            servers.registered, servers.wanted,
        );
        return Decision::hold(Reason::ServersMissing, message);
    }
    let message = format!("AWS has completed with {} servers", servers.registered);
    let mut decision = Decision::hold(Reason::Registered, message);
    decision.condition.status = ConditionStatus::True;
    if let Some(problem) = problem {
        decision.condition.reason = Reason::NameNotResolved;
        let message = &decision.condition.message;
        decision.condition.message = format!("{message}; what is registered stays: {}", problem.message);
    }
    decision
}

/// Which registered addresses the load balancer no longer has.
fn missed(context: &Context<'_>) -> String {
    let gone: Vec<&str> = context
        .servers
        .gone
        .iter()
        .map(|(address, _)| address.as_str())
        .collect();
    let first = context.servers.gone.iter().map(|(_, since)| since).min();
    let due = first.map_or(Timestamp::MAX, |since| {
        time::after(since, context.input.settings.removal_after)
    });
    format!(
        "{} is no longer an address of the load balancer: it is removed with the next write, at {} at the latest",
        gone.join(", "),
        time::clock(due)
    )
}
