//! The condition Accepted: whether the operator may and can act on the spec.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use std::net::IpAddr;

use super::known_directory::{KnownDirectory, mirrored};
use super::ownership::{Vouched, vouched};
use super::second_operator;
use crate::access::{NoAccess, access};
use crate::api::{
    AuthenticationProtocol, ConditionType, DirectorySpec, DuoFactor, OktaFactor, RadiusProxySpec,
};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason};
use crate::config::ConfigProblem;
use crate::objects::Owner;
use crate::observed::{NetworkType, RolloutInput};
use crate::registration::HOLDER_NOT_WATCHED;
use crate::registration::messages::holder;

/// Above this AWS "cannot retry with another RADIUS server" within one login.
const FAIL_OVER_TIMEOUT: u32 = 20;
/// Memory of a login that waits for the provider, in bytes.
const LOGIN_BYTES: f64 = 16_000.0;
/// Memory of a proxy without logins, in bytes.
const BASE_BYTES: f64 = 24.0 * MIB;
const MIB: f64 = 1_048_576.0;
/// Whether the operator may and can act on the spec.
#[derive(Debug)]
pub(super) struct Acceptance {
    pub(super) condition: ConditionDraft,
    /// Whether the RadiusProxy may use its directory: it is granted, its own, and of a fit type.
    pub(super) may_write: bool,
}

fn refused(status: ConditionStatus, (reason, message): (Reason, String)) -> Acceptance {
    Acceptance {
        condition: ConditionDraft::new(ConditionType::Accepted, status, reason, message),
        may_write: false,
    }
}

/// Decides. `problem` is what the proxies would refuse in the configuration.
pub(super) fn accept(input: &RolloutInput, problem: Option<&ConfigProblem>, now: Timestamp) -> Acceptance {
    if let Some(message) = name_conflicts(input) {
        return refused(ConditionStatus::False, (Reason::NameConflict, message));
    }
    if let Some(spec) = &input.proxy.spec.directory
        && let Err(refusal) = directory(input, spec)
    {
        return refusal;
    }
    let condition = match problem {
        Some(problem) => ConditionDraft::new(
            ConditionType::Accepted,
            ConditionStatus::False,
            problem.reason,
            &problem.message,
        ),
        None => {
            let warnings = warnings(input);
            let (reason, message) = if let Some(second) = second_operator::second(input, now) {
                let message = format!("{second} {}", warnings.join(" "));
                (Reason::OtherOperator, message.trim_end().to_owned())
            } else if warnings.is_empty() {
                (Reason::Accepted, "the spec can be acted on".to_owned())
            } else {
                (Reason::AcceptedWithWarnings, warnings.join(" "))
            };
            ConditionDraft::new(ConditionType::Accepted, ConditionStatus::True, reason, message)
        }
    };
    Acceptance {
        condition,
        may_write: true,
    }
}

/// Objects of other owners under names that are needed.
fn name_conflicts(input: &RolloutInput) -> Option<String> {
    let conflicts: Vec<String> = input
        .foreign
        .iter()
        .map(|foreign| match &foreign.controller {
            Some(controller) => format!("{} (controlled by {controller})", foreign.object),
            None => format!("{} (without the labels of this operator)", foreign.object),
        })
        .collect();
    (!conflicts.is_empty()).then(|| {
        format!(
            "the operator needs these names, and doesn't change objects of other owners: {}. Delete them, or \
             create the RadiusProxy under another name",
            conflicts.join(", ")
        )
    })
}

fn directory(input: &RolloutInput, spec: &DirectorySpec) -> Result<(), Acceptance> {
    let namespace = input.proxy.metadata.namespace.as_deref().unwrap_or_default();
    let (id, region) = (&spec.id, &spec.region);
    if access(
        &input.proxy,
        input.namespace_labels.as_ref(),
        &input.grants,
        &input.settings.cluster,
    ) == Err(NoAccess::NoGrant)
    {
        let message = format!(
            "no DirectoryGrant allows namespace {namespace} to use directory {id} in region {region}; ask the \
             owner of the AWS account to add namespace and directory to one (kubectl get directorygrants)"
        );
        return Err(refused(ConditionStatus::False, (Reason::NoGrant, message)));
    }
    let unknown = || {
        let message = format!("directory {id} in region {region} was not described yet");
        refused(ConditionStatus::Unknown, (Reason::DirectoryUnknown, message))
    };
    let Some(registration) = &input.registration else {
        return Err(unknown());
    };
    if !registration.is_held_by(&input.proxy) {
        let hold = registration
            .status
            .as_ref()
            .and_then(|status| status.hold.as_ref());
        if let Some(hold) = hold.filter(|hold| hold.name == HOLDER_NOT_WATCHED) {
            let refusal = (Reason::DirectoryConflict, hold.message.clone());
            return Err(refused(ConditionStatus::False, refusal));
        }
        let message = format!(
            "RadiusProxy {} holds this directory in this region; delete one of the two, or move the directory: spec.suspend: \
             true there, and spec.directory.adoptionPolicy: Adopt here",
            holder(&registration.spec)
        );
        return Err(refused(
            ConditionStatus::False,
            (Reason::DirectoryConflict, message),
        ));
    }
    match mirrored(registration, ConditionType::Described) {
        Some(described) if described.is_true() && vouched(input) == Vouched::NotYet => {
            let message = format!(
                "Secret {} has no owner, as after a restore, and the tags of directory {id} can't be read, which say whether AWS \
                 holds its shared secret: allow ds:ListTagsForResource, or set spec.directory.adoptionPolicy: Adopt to give \
                 AWS a new one",
                Owner::new(&input.proxy).names.radius_secret()
            );
            Err(refused(
                ConditionStatus::Unknown,
                (Reason::DirectoryUnknown, message),
            ))
        }
        Some(described) if described.is_true() => Ok(()),
        // The registration may not have seen yet that there is a grant again.
        Some(described) if described.reason != Reason::NoGrant => {
            Err(refused(described.status, (described.reason, described.message)))
        }
        _ => Err(unknown()),
    }
}

/// What will work, but not as people may think.
fn warnings(input: &RolloutInput) -> Vec<String> {
    let spec = &input.proxy.spec;
    let mut warnings = Vec::new();
    if spec.replicas == 1 {
        warnings.push(
            "spec.replicas is 1: while the proxy restarts or moves, nobody can log in. Fail-over needs at least \
             two."
                .to_owned(),
        );
    }
    warnings.extend(little_memory(spec, &input.settings.default_resources));
    let Some(directory) = &spec.directory else {
        return warnings;
    };
    if directory.timeout_seconds > FAIL_OVER_TIMEOUT {
        warnings.push(format!(
            "spec.directory.timeoutSeconds is {}: above {FAIL_OVER_TIMEOUT} fail-over is off, because AWS \
             doesn't try another server within one login.",
            directory.timeout_seconds
        ));
    }
    warnings.extend(dropped(input));
    if directory.protocol != AuthenticationProtocol::Pap {
        warnings.extend(unreadable_text(spec, directory.protocol));
    }
    warnings
}

/// More waiting logins than the container's memory limit allows.
fn little_memory(spec: &RadiusProxySpec, default: &ResourceRequirements) -> Option<String> {
    let limits = spec.resources.as_ref().unwrap_or(default).limits.as_ref();
    let limit = limits?.get("memory")?;
    let pending = spec.policy.limits.pending;
    let needed = f64::from(pending) * LOGIN_BYTES + BASE_BYTES;
    (needed > bytes(&limit.0)?).then(|| {
        format!(
            "spec.policy.limits.pending is {pending}: that many waiting logins take {:.0} MiB of memory, above \
             the limit of {}, and a proxy that reaches the limit is killed. Raise spec.resources.limits.memory \
             or lower pending.",
            (needed / MIB).ceil(),
            limit.0
        )
    })
}

/// A quantity of memory in bytes.
fn bytes(quantity: &str) -> Option<f64> {
    let end = quantity.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = quantity.split_at(end.unwrap_or(quantity.len()));
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => MIB,
        "Gi" => MIB * 1024.0,
        "Ti" => MIB * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Listed addresses of a family that the directory does not have.
fn dropped(input: &RolloutInput) -> Option<String> {
    let network = KnownDirectory::of(input.registration.as_ref()?)?.network;
    let has = |address: &&String| match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(_)) => network != NetworkType::Ipv6,
        Ok(IpAddr::V6(_)) => network != NetworkType::Ipv4,
        Err(_) => true,
    };
    let listed = &input.proxy.spec.addresses.fixed;
    let dropped: Vec<&str> = listed.iter().filter(|a| !has(a)).map(String::as_str).collect();
    (!dropped.is_empty()).then(|| {
        format!(
            "spec.addresses.static has {}, which is not registered: the directory's network has no such family.",
            dropped.join(", ")
        )
    })
}

/// What does not work where the text that people type cannot be read: every method but PAP.
fn unreadable_text(spec: &RadiusProxySpec, protocol: AuthenticationProtocol) -> Vec<String> {
    let protocol = protocol.as_str();
    let provider = &spec.provider;
    let mut warnings = Vec::new();
    let typed = &spec.policy.typed_text;
    if typed.delimiter.is_some() || typed.passcode_suffix_length.is_some() {
        warnings.push(format!(
            "spec.policy.typedText works with PAP alone: with {protocol} the proxy cannot split what the user \
             types."
        ));
    }
    let only_codes = match (&provider.duo, &provider.okta) {
        (Some(duo), _) => duo
            .factors
            .iter()
            .all(|factor| matches!(factor, DuoFactor::Passcode | DuoFactor::Sms)),
        (None, Some(okta)) => okta.factors.iter().all(|factor| *factor != OktaFactor::Push),
        (None, None) => return warnings,
    };
    warnings.push(format!(
        "spec.directory.protocol is {protocol}: what people type cannot be read. Passcodes cannot be passed on to the provider; an \
         empty field and the words push, phone and auto work, where AWS signs its requests (Message-Authenticator)."
    ));
    if only_codes {
        warnings.push(format!(
            "Every factor of spec.provider ends in a code that has to be typed, which {protocol} cannot carry: nobody can log in. \
             Use PAP, or a factor that is pushed."
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(protocol: AuthenticationProtocol, provider: &Value, policy: &Value) -> String {
        let spec = json!({"provider": provider, "policy": policy});
        unreadable_text(&serde_json::from_value(spec).unwrap(), protocol).join(" ")
    }

    #[test]
    fn combinations_that_cannot_work_are_told_with_what_to_do() {
        use AuthenticationProtocol::{Chap, MsChapV1, MsChapV2};
        let duo = |factors| json!({"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}, "factors": factors}});
        let okta = |factors| json!({"okta": {"orgUrl": "https://x.okta.com", "credentials": "Token", "credentialsSecretRef": {"name": "okta"}, "factors": factors}});
        let totp = json!({"totp": {"seedsSecretRef": {"name": "seeds"}}});
        let none = json!({});
        let text = told(Chap, &duo(vec!["Auto"]), &none);
        assert!(
            text.contains("is CHAP") && text.contains("Passcodes cannot") && !text.contains("nobody"),
            "{text}"
        );
        for provider in [duo(vec!["Passcode", "Sms"]), okta(vec!["Totp", "Call"])] {
            let text = told(MsChapV2, &provider, &none);
            assert!(
                text.contains("which MS-CHAPv2 cannot carry: nobody can log in. Use PAP"),
                "{text}"
            );
        }
        // Codes that the proxy itself knows can be tried against the response.
        assert_eq!(told(MsChapV1, &totp, &none), "");
        let text = told(MsChapV1, &totp, &json!({"typedText": {"delimiter": ","}}));
        assert!(
            text.contains("typedText works with PAP alone: with MS-CHAPv1"),
            "{text}"
        );
    }

    #[test]
    fn more_waiting_logins_than_fit_into_the_memory_are_told() {
        let told = |pending: u32, memory: Option<&str>| {
            let mut spec = json!({"provider": {}, "policy": {"limits": {"pending": pending}}});
            if let Some(memory) = memory {
                spec["resources"] = json!({"limits": {"memory": memory}});
            }
            little_memory(
                &serde_json::from_value(spec).unwrap(),
                &crate::observed::default_resources(),
            )
        };
        assert_eq!(told(10_000, None), None);
        assert_eq!(told(20_000, Some("512Mi")), None);
        assert_eq!(told(1_000_000, Some("20G")), None);
        let text = told(1_000_000, Some("300Mi")).unwrap();
        assert!(
            text.contains("take 15283 MiB of memory, above the limit of 300Mi"),
            "{text}"
        );
        assert!(told(20_000, None).is_some());
    }
}
