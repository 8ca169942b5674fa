//! How a call to a provider can fail, and what becomes of the login then.

use std::fmt;
use std::time::Duration;

use proxy_config::FailMode;
use proxy_core::factor::{Approval, Basis, Factor, RefusalReason, Verdict};

use super::refused;

/// Which call of a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The first: who is the user, and with which devices.
    Preauth,
    /// The one that starts a push or checks a passcode.
    Auth,
    /// The one that asks what became of it.
    Status,
    /// The one that marks a code as used.
    Store,
    /// A call outside a login: time, credentials.
    Check,
}

impl Step {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preauth => "preauth",
            Self::Auth => "auth",
            Self::Status => "status",
            Self::Store => "store",
            Self::Check => "check",
        }
    }
}

/// What kind of failure it was: a closed set, so that no text decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// The host name has no address.
    Dns,
    /// No connection, or it was lost.
    Connect,
    /// A certificate that is not trusted, or TLS that cannot be agreed on.
    Tls,
    /// The HTTP proxy wants a user name and password, or refused the configured ones.
    ProxyPassword,
    /// No answer in time.
    Timeout,
    /// This proxy had no time or no connection for the call: it didn't ask the provider, or didn't read the answer in time.
    Busy,
    /// 5xx.
    ServerError,
    /// 429.
    Throttled,
    /// The proxy's own credentials are refused.
    Credentials,
    /// Any other 4xx.
    ClientError,
    /// An answer that cannot be understood.
    Malformed,
}

impl FaultClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::ProxyPassword,
        Self::Timeout,
        Self::Busy,
        Self::ServerError,
        Self::Throttled,
        Self::Credentials,
        Self::ClientError,
        Self::Malformed,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ProxyPassword => "proxy_password",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::ServerError => "5xx",
            Self::Throttled => "429",
            Self::Credentials => "credentials",
            Self::ClientError => "4xx",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the provider is away, which `failMode: safe` is for. A refused key, a refused request, a rate limit or
    /// a certificate that is not trusted is not absence: it would stay, and switch the second factor off unseen. What this
    /// proxy was too busy for is none either: anybody could bring it about.
    const fn is_absence(self) -> bool {
        match self {
            Self::Dns | Self::Connect | Self::Timeout | Self::ServerError | Self::Malformed => true,
            Self::Tls
            | Self::ProxyPassword
            | Self::Busy
            | Self::Throttled
            | Self::Credentials
            | Self::ClientError => false,
        }
    }

    const fn reason(self) -> RefusalReason {
        match self {
            Self::Dns | Self::Connect | Self::Tls | Self::ProxyPassword | Self::Timeout => {
                RefusalReason::ProviderUnreachable
            }
            Self::Busy => RefusalReason::Throttled,
            Self::ServerError | Self::ClientError => RefusalReason::ProviderError,
            Self::Throttled => RefusalReason::ProviderThrottled,
            Self::Credentials => RefusalReason::ProviderCredentials,
            Self::Malformed => RefusalReason::ProviderMalformed,
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Of which kind.
    pub class: FaultClass,
    /// The provider's code or the error of the connection, for the log: no URL, no key, nothing typed.
    pub detail: String,
    /// How long the provider wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The provider's own number for it, where it has one.
    pub code: Option<u32>,
    /// Whether the provider may have acted on the call: one that failed before it was sent may be made again.
    pub may_have_arrived: bool,
}

impl Fault {
    /// A failure after the request was sent.
    #[must_use]
    pub fn after_sending(class: FaultClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            detail: detail.into(),
            retry_after: None,
            code: None,
            may_have_arrived: true,
        }
    }

    /// A failure before anything was sent.
    #[must_use]
    pub fn before_sending(class: FaultClass, detail: impl Into<String>) -> Self {
        Self {
            may_have_arrived: false,
            ..Self::after_sending(class, detail)
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.detail)
    }
}

/// Whether `failMode: safe` opens for a failed call of a provider that answers no other.
pub(super) const fn opens(step: Step, class: FaultClass) -> bool {
    matches!(step, Step::Preauth) && class.is_absence()
}

/// What becomes of a login whose call failed. Only the first step fails open, only with `failMode: safe`, and only
/// when the provider is away: a push that was sent, or a passcode that was typed, is never taken for approved.
#[must_use]
pub fn verdict(step: Step, class: FaultClass, fail_mode: FailMode) -> Verdict {
    if fail_mode == FailMode::Safe && opens(step, class) {
        return Verdict::Approved(Approval {
            factor: Factor::None,
            basis: Basis::FailOpen,
            message: None,
            found_text: None,
            attributes: Vec::new(),
        });
    }
    let message = match class.reason() {
        RefusalReason::ProviderThrottled | RefusalReason::Throttled => {
            "The second factor is overloaded. Try again in a minute."
        }
        _ => "The second factor cannot be checked now. Tell your administrator if this goes on.",
    };
    refused(None, class.reason(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(step: Step, class: FaultClass, mode: FailMode) -> bool {
        match verdict(step, class, mode) {
            Verdict::Approved(approval) => {
                assert_eq!(approval.basis, Basis::FailOpen);
                true
            }
            Verdict::Refused(_) => false,
        }
    }

    #[test]
    fn only_an_absent_provider_opens_only_in_preauth_and_only_when_safe() {
        for class in FaultClass::ALL {
            let expected = match class.name() {
                "dns" | "connect" | "timeout" | "5xx" | "malformed" => true,
                "tls" | "proxy_password" | "busy" | "429" | "credentials" | "4xx" => false,
                other => panic!("{other} has no row in this table"),
            };
            assert_eq!(opens(Step::Preauth, class, FailMode::Safe), expected, "{class:?}");
            assert!(!opens(Step::Preauth, class, FailMode::Secure), "{class:?}");
            for step in [Step::Auth, Step::Status, Step::Check] {
                for mode in [FailMode::Safe, FailMode::Secure] {
                    assert!(!opens(step, class, mode), "{step:?} {class:?} {mode:?}");
                }
            }
        }
    }

    #[test]
    fn each_class_has_its_reason() {
        for (class, reason) in [
            (FaultClass::Dns, RefusalReason::ProviderUnreachable),
            (FaultClass::Connect, RefusalReason::ProviderUnreachable),
            (FaultClass::Tls, RefusalReason::ProviderUnreachable),
            (FaultClass::Timeout, RefusalReason::ProviderUnreachable),
            (FaultClass::ProxyPassword, RefusalReason::ProviderUnreachable),
            (FaultClass::Busy, RefusalReason::Throttled),
            (FaultClass::ServerError, RefusalReason::ProviderError),
            (FaultClass::Throttled, RefusalReason::ProviderThrottled),
            (FaultClass::Credentials, RefusalReason::ProviderCredentials),
            (FaultClass::ClientError, RefusalReason::ProviderError),
            (FaultClass::Malformed, RefusalReason::ProviderMalformed),
        ] {
            let Verdict::Refused(refusal) = verdict(Step::Auth, class, FailMode::Safe) else {
                panic!("{class:?} was approved");
            };
            assert_eq!(refusal.reason, reason, "{class:?}");
        }
    }
}
