//! The reasons of conditions.

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

            /// The type of Event that announces it.
            #[must_use]
            pub const fn event_type(self) -> EventType {
                match self { $(Self::$name => EventType::$event_type,)* }
            }
        }
    };
}

/// The type of Event that announces a condition's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Warning: a person has to act.
    Warning,
    /// Normal.
    Normal,
    /// No Event: the reason resolves itself in seconds or minutes.
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
    /// No proxy was started, because of another problem.
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
    /// A load balancer's host name has no address in DNS; the registered addresses stay.
    NameNotResolved => Warning,
    /// The directory is not Active.
    DirectoryNotActive => Warning,
    /// AWS is changing the settings.
    Registering => NoEvent,
    /// Churn settles before AWS is written to.
    Settling => NoEvent,
    /// Fewer servers are registered than wanted; the operator waits for more.
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
