//! Conditions: a closed set of reasons, and messages with the next step for a person.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::ConditionType;
use crate::time;

/// The longest message of a condition that the API server takes.
const MAX_MESSAGE: usize = 32_768;
/// Where messages are cut: what people can read.
const CUT_MESSAGE: usize = 2_000;

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// True
    True,
    /// False
    False,
    /// Unknown
    Unknown,
}

impl ConditionStatus {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $event_type:ident,)*) => {
        /// Why a condition is what it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the condition has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// From a condition.
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }

            /// How people are told.
            #[must_use]
            pub const fn event_type(self) -> EventType {
                match self { $(Self::$name => EventType::$event_type,)* }
            }
        }
    };
}

/// How people are told of a condition's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// By a Warning: somebody has to do something.
    Warning,
    /// By a Normal event.
    Normal,
    /// Not at all: it passes by itself in seconds or minutes.
    NoEvent,
}

reasons! {
    /// Accepted: nothing is wrong with it.
    Accepted => NoEvent,
    /// Accepted: it will work, but not as well as it could.
    AcceptedWithWarnings => Warning,
    /// This version of the operator can't decode the object.
    Undecodable => Warning,
    /// Accepted: a second operator would work on it, too, and holds.
    OtherOperator => Warning,
    /// No DirectoryGrant names the namespace, the directory and the region.
    NoGrant => Warning,
    /// Another RadiusProxy, of this cluster or another, keeps the directory.
    DirectoryConflict => Warning,
    /// An object of a name that the operator needs has another owner.
    NameConflict => Warning,
    /// There is no such directory in this account and region.
    DirectoryNotFound => Warning,
    /// The directory is of a type without RADIUS settings of its own.
    DirectoryTypeUnsupported => Warning,
    /// Described: AWS has described the directory, and its type has RADIUS settings.
    Described => NoEvent,
    /// The directory was not described yet.
    DirectoryUnknown => NoEvent,
    /// The operator has no AWS credentials.
    NoAwsCredentials => Warning,
    /// AWS does not take the operator's credentials.
    AwsCredentialsInvalid => Warning,
    /// An IAM action is missing.
    AwsAccessDenied => Warning,
    /// AWS answers that it is asked too often.
    AwsThrottled => Warning,
    /// A write was not sent, since the leader's lease was about to end; it is sent later.
    LeaseEnding => NoEvent,
    /// AWS cannot be reached, or answers with errors of its own.
    AwsUnreachable => Warning,
    /// AWS refuses the call.
    AwsRefused => Warning,
    /// The provider's settings cannot work.
    ProviderConfigInvalid => Warning,
    /// Other settings cannot work.
    ConfigInvalid => Warning,
    /// Every Secret is there.
    SecretsReady => NoEvent,
    /// A Secret is missing.
    SecretMissing => Warning,
    /// A key of a Secret is missing.
    SecretKeyMissing => Warning,
    /// A key of a Secret is empty.
    SecretKeyEmpty => Warning,
    /// A shared secret is empty, too short, too long, or has characters that AWS refuses.
    SharedSecretInvalid => Warning,
    /// The spec names a Secret that is the operator's own.
    SecretReserved => Warning,
    /// Lines of the TOTP seeds are malformed.
    TotpSeedsMalformed => Warning,
    /// The provider refuses the credentials that it is given.
    ProviderCredentialsRefused => Warning,
    /// Users have two TOTP seeds.
    DuplicateTotpSeed => Warning,
    /// All proxies serve.
    ProxiesServe => NoEvent,
    /// Enough proxies serve, not all.
    SomeProxiesServe => NoEvent,
    /// Too few proxies serve.
    TooFewProxies => NoEvent,
    /// Proxies are being changed to a new image or template.
    Upgrading => NoEvent,
    /// The API server, a quota or an admission policy refuses an object, a patch or a pod.
    ObjectRefused => Warning,
    /// The API server, a quota or an admission policy refuses new pods.
    PodsRefused => Warning,
    /// The API server has failed to take something for a minute or more.
    ApiServerErrors => Warning,
    /// No proxy was started, since something else is wrong.
    NotStarted => NoEvent,
    /// AWS has Completed with the servers there should be.
    Registered => Normal,
    /// There is no directory to register with.
    NoDirectory => NoEvent,
    /// Nothing is registered until the RadiusProxy is accepted and its Secrets are ready.
    Blocked => NoEvent,
    /// No proxy serves the current configuration yet.
    WaitingForProxies => NoEvent,
    /// Not every proxy reports the current configuration yet.
    WaitingForConfiguration => NoEvent,
    /// The addresses to register are not known yet.
    WaitingForAddresses => NoEvent,
    /// A load balancer's host name has no address, by DNS; what is registered stays.
    NameNotResolved => Warning,
    /// The directory is not Active.
    DirectoryNotActive => Warning,
    /// AWS is changing the settings.
    Registering => NoEvent,
    /// Churn settles before AWS is written to.
    Settling => NoEvent,
    /// Fewer servers are registered than there should be; more are awaited.
    ServersMissing => NoEvent,
    /// AWS could not reach or agree with the servers.
    RadiusFailed => Warning,
    /// Nothing is written to AWS, since the spec says so.
    Suspended => Normal,
    /// Somebody else's settings are there, and the adoption policy leaves them.
    UnmanagedSettings => Warning,
    /// Somebody changed the settings, and the drift policy leaves them.
    Drifted => Warning,
    /// Somebody changes the settings again and again.
    Contended => Warning,
    /// Somebody changed the shared secret at AWS: every request of the directory fails.
    SecretMismatch => Warning,
    /// Somebody switched RADIUS off.
    RadiusDisabled => Warning,
    /// RADIUS is being switched off.
    Deregistering => NoEvent,
    /// All of the other conditions are true.
    Ready => Normal,
}

/// A condition before it has times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConditionDraft {
    pub(crate) kind: ConditionType,
    pub(crate) status: ConditionStatus,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl ConditionDraft {
    pub(crate) fn new(
        kind: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// `Ready` from the others: true when all are and every proxy serves the current configuration, else what the first says
/// that is not. So `kubectl wait` on it ends when a change has come to every pod.
pub(crate) fn ready(others: &[ConditionDraft], message: String) -> ConditionDraft {
    let unfinished = |draft: &&ConditionDraft| {
        !draft.is_true()
            || draft.kind == ConditionType::Stalled
            || matches!(draft.reason, Reason::SomeProxiesServe | Reason::Upgrading)
    };
    match others.iter().find(unfinished) {
        None => ConditionDraft::new(
            ConditionType::Ready,
            ConditionStatus::True,
            Reason::Ready,
            message,
        ),
        Some(first) => ConditionDraft {
            kind: ConditionType::Ready,
            status: match first.status {
                ConditionStatus::True if first.reason == Reason::ApiServerErrors => ConditionStatus::Unknown,
                ConditionStatus::True => ConditionStatus::False,
                other => other,
            },
            ..first.clone()
        },
    }
}

/// The conditions with times: `lastTransitionTime` moves only when the status does.
pub(crate) fn set_conditions(
    drafts: &[ConditionDraft],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    drafts
        .iter()
        .map(|draft| {
            let old = before.iter().find(|c| c.type_ == draft.kind.as_str());
            let since = old
                .filter(|old| old.status == draft.status.as_str())
                .map_or_else(|| time::floor(now), |old| old.last_transition_time.clone());
            Condition {
                type_: draft.kind.as_str().to_owned(),
                status: draft.status.as_str().to_owned(),
                reason: draft.reason.as_str().to_owned(),
                message: shortened(&draft.message),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// A message as the condition has it.
pub(crate) fn shortened(message: &str) -> String {
    cut(message, CUT_MESSAGE)
}

/// A text of at most `length` bytes, cut between characters.
pub(crate) fn cut(text: &str, length: usize) -> String {
    if text.len() <= length.min(MAX_MESSAGE) {
        return text.to_owned();
    }
    let mut end = length.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_stays_until_the_status_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let draft = |status, reason| ConditionDraft::new(ConditionType::Available, status, reason, "m");
        let first = set_conditions(
            &[draft(ConditionStatus::False, Reason::NotStarted)],
            &[],
            Some(1),
            at(1),
        );
        let second = set_conditions(
            &[draft(ConditionStatus::False, Reason::TooFewProxies)],
            &first,
            Some(2),
            at(2),
        );
        assert_eq!(second[0].last_transition_time.0, at(1));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = set_conditions(
            &[draft(ConditionStatus::True, Reason::ProxiesServe)],
            &second,
            Some(2),
            at(3),
        );
        assert_eq!(third[0].last_transition_time.0, at(3));
    }

    #[test]
    fn ready_says_what_the_first_untrue_condition_says() {
        let one = ConditionDraft::new(
            ConditionType::Accepted,
            ConditionStatus::True,
            Reason::Accepted,
            "fine",
        );
        let two = ConditionDraft::new(
            ConditionType::SecretsReady,
            ConditionStatus::False,
            Reason::SecretMissing,
            "no",
        );
        let told = ready(&[one.clone(), two], String::new());
        assert_eq!(
            (told.kind, told.status, told.reason),
            (
                ConditionType::Ready,
                ConditionStatus::False,
                Reason::SecretMissing
            )
        );
        assert!(ready(std::slice::from_ref(&one), "all".to_owned()).is_true());
        let some = ConditionDraft::new(
            ConditionType::Available,
            ConditionStatus::True,
            Reason::SomeProxiesServe,
            "1 of 2",
        );
        assert_eq!(ready(&[one, some], String::new()).status, ConditionStatus::False);
    }

    #[test]
    fn a_reason_is_what_the_api_server_takes() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(
                text.bytes().all(|b| b.is_ascii_alphanumeric()) && text.len() < 64,
                "{text}"
            );
        }
        assert_eq!(cut("ééé", 5), "é…");
    }
}
