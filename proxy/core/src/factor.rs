//! What the engine and a provider say to each other: a factor request and a verdict, never a RADIUS byte.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use proxy_config::{ClientName, Secret};

use crate::counters::closed_set;
use crate::peers::PushHandle;

/// A login inside one engine, never used twice by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId(pub u64);

/// A user's name after normalisation: what limits, duplicates and stores are keyed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(pub(crate) String);

impl UserName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A factor keyword that a user can type: `push`, `phone2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keyword {
    /// Which factor.
    pub factor: KeywordFactor,
    /// Which of the user's devices, from 1, in the provider's order.
    pub device: Option<u8>,
}

/// The factor of a [`Keyword`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeywordFactor {
    /// The provider chooses.
    Auto,
    /// A push.
    Push,
    /// A telephone call.
    Phone,
    /// Codes by SMS.
    Sms,
}

impl KeywordFactor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Push, Self::Phone, Self::Sms, Self::Auto];

    /// The word that is typed, in small letters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Push => "push",
            Self::Phone => "phone",
            Self::Sms => "sms",
        }
    }
}

/// As it is typed: `push`, `phone2`.
impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.factor.word())?;
        self.device.map_or(Ok(()), |device| write!(f, "{device}"))
    }
}

/// What the user gave as second factor.
#[derive(Clone)]
pub enum Credential {
    /// Nothing that names a factor (empty, or text that may be somebody's password and is not passed on): the
    /// configured default.
    Default,
    /// A factor keyword.
    Keyword(Keyword),
    /// Something of the shape of a passcode.
    Passcode(Secret),
    /// CHAP or MS-CHAP: the text cannot be read, only guesses can be tried. Keywords and the empty text were tried
    /// already.
    Response(std::sync::Arc<dyn ResponseCheck>),
    /// The password attributes themselves, for an upstream server that decides about them.
    Forward(Forwarded),
    /// Nothing new: the login goes on with a push that another proxy has started, and no second one may be.
    Follow(PushHandle),
}

/// Tries guesses against a CHAP or MS-CHAP response.
pub trait ResponseCheck: Send + Sync {
    /// Whether `guess` is what was typed.
    fn matches(&self, guess: &[u8]) -> bool;
}

/// A password as it is passed to an upstream server.
#[derive(Clone)]
pub enum Forwarded {
    /// The text of User-Password, to be encrypted again for the upstream server.
    Pap(Secret),
    /// CHAP-Password (17 bytes) and the challenge (CHAP-Challenge, else the Request Authenticator).
    Chap {
        /// Identifier and response.
        password: Secret,
        /// The challenge it answers.
        challenge: Vec<u8>,
    },
    /// Microsoft's attributes, each as (vendor type, value) of vendor 311.
    MsChap(Vec<(u8, Secret)>),
}

/// What a provider is asked.
#[derive(Clone)]
pub struct FactorRequest {
    /// Which login it is about.
    pub login: LoginId,
    /// Who logs in.
    pub user: UserName,
    /// The name as the client sent it, for a provider whose users have domains. Control and bidi characters are
    /// still in it.
    pub user_as_sent: String,
    /// What was given as second factor.
    pub credential: Credential,
    /// Which client asks.
    pub client: ClientName,
    /// The address that the request came from.
    pub source: IpAddr,
    /// The user's own address, where the client tells it.
    pub user_address: Option<IpAddr>,
    /// When the client must be answered, from the time of asking: what is to be said to it is said by then.
    pub answer_within: Duration,
    /// How long the verdict is of use, from the time of asking. A push that is approved after its client was answered
    /// still serves a further try.
    pub of_use: Duration,
    /// Whether the request proved a shared secret. Who proves none must cost nobody anything who does.
    pub proved: bool,
    /// Whether it answers an Access-Challenge.
    pub continues: Continues,
    /// Whether a push, call or SMS may be started for it; `false` during a cool-down, over a limit, or when the
    /// request proved no shared secret.
    pub may_push: bool,
    /// Attributes to pass to an upstream server: type and value, in the order of the request.
    pub attributes: Vec<(u8, Vec<u8>)>,
}

/// Whether a login answers a question that an earlier one was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continues {
    /// It gave back the State of a challenge of this user, source and proxy, which is used up by it.
    State,
    /// It does not: the client knows Access-Challenge and sent no State.
    Nothing,
    /// Nobody can tell: the client knows no Access-Challenge, and its users answer by logging in again.
    Untold,
}

/// A provider's end of a login.
#[derive(Clone)]
pub enum Verdict {
    /// Approved: the only one that can become an Access-Accept.
    Approved(Approval),
    /// Refused.
    Refused(Refusal),
}

/// How a login was approved. Made by providers and by the engine's own exemption and fail-open rules.
#[derive(Clone)]
pub struct Approval {
    /// The factor that approved it, as records show it.
    pub factor: Factor,
    /// Why, when it was not the factor itself.
    pub basis: Basis,
    /// What the user is told.
    pub message: Option<String>,
    /// The typed text, found by trying; an MS-CHAPv2 success answer is computed from it.
    pub found_text: Option<Secret>,
    /// Attributes of an upstream server's Access-Accept to pass back: type and value.
    pub attributes: Vec<(u8, Vec<u8>)>,
}

/// Why a login was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The factor was proved.
    Factor,
    /// The provider lets the user in without one (Duo's bypass).
    ProviderBypass,
    /// The policy names the user as exempt.
    Exempt,
    /// The provider could not be asked, and the fail mode is `safe`.
    FailOpen,
    /// The factor was proved by a code, but that it was not used elsewhere before could not be asked.
    OncePerPod,
    /// A code that was given out beforehand, for when the device is away, and works once.
    ScratchCode,
}

/// Why a login was refused, and what the user is told.
#[derive(Clone)]
pub struct Refusal {
    /// The factor that was tried, when one was.
    pub factor: Option<Factor>,
    /// Why.
    pub reason: RefusalReason,
    /// What the user is told.
    pub message: Option<String>,
}

/// A factor, as records and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Factor {
    /// None was asked.
    None,
    /// The provider's own choice.
    Auto,
    /// A push.
    Push,
    /// A telephone call.
    Phone,
    /// Codes by SMS.
    Sms,
    /// A passcode.
    Passcode,
    /// An upstream server's decision.
    Upstream,
}

impl From<KeywordFactor> for Factor {
    fn from(keyword: KeywordFactor) -> Self {
        match keyword {
            KeywordFactor::Auto => Self::Auto,
            KeywordFactor::Push => Self::Push,
            KeywordFactor::Phone => Self::Phone,
            KeywordFactor::Sms => Self::Sms,
        }
    }
}

closed_set! {
    /// Why a login was refused: one closed set for records, metrics and answers.
    RefusalReason {
        /// The user or the provider said no.
        Denied => "denied",
        /// The user reported the push as fraud.
        Fraud => "fraud",
        /// Nobody answered in time.
        TimedOut => "timed_out",
        /// The passcode is wrong.
        WrongPasscode => "wrong_passcode",
        /// The passcode was right and had been used before.
        PasscodeReplayed => "passcode_replayed",
        /// The user may not log in at the provider now.
        LockedOut => "locked_out",
        /// The provider does not know the user.
        UnknownUser => "unknown_user",
        /// The user has no device enrolled.
        NotEnrolled => "not_enrolled",
        /// No device of the user can do the factor.
        FactorUnavailable => "factor_unavailable",
        /// The typed word is the name of a factor that other products have.
        UnknownFactor => "unknown_factor",
        /// Codes were sent; the user logs in again with one.
        CodesSent => "codes_sent",
        /// The provider wants a number compared, which cannot be shown over RADIUS.
        NumberChallenge => "number_challenge",
        /// The factor cannot work with this password method.
        MethodCannotCarry => "method_cannot_carry",
        /// The typed text is none of the few things it can be.
        NothingMatched => "nothing_matched",
        /// A limit or cool-down of this proxy.
        Throttled => "throttled",
        /// Another login of the user is waiting for a push.
        PushPending => "push_pending",
        /// Another proxy has used the push's approval.
        ApprovalUsed => "approval_used",
        /// The push is approved, but too few of the proxies that could have used the approval answer.
        PeersSilent => "peers_silent",
        /// The user name is too long, empty or not UTF-8.
        BadUserName => "bad_user_name",
        /// The provider limits the rate.
        ProviderThrottled => "provider_throttled",
        /// The provider refused the proxy's own credentials.
        ProviderCredentials => "provider_credentials",
        /// The provider could not be reached: name, connection, TLS or time.
        ProviderUnreachable => "provider_unreachable",
        /// The provider answered with an error of its own.
        ProviderError => "provider_error",
        /// What the provider answered cannot be understood.
        ProviderMalformed => "provider_malformed",
        /// Used codes could not be remembered, and the policy is to deny then.
        StoreUnavailable => "store_unavailable",
        /// The proxy is ending and starts nothing new.
        Draining => "draining",
        /// The request proves no shared secret, and what it asks for would start a push.
        Unproven => "unproven",
        /// The State of a challenge is unknown, used up or too old.
        StaleState => "stale_state",
        /// The request has no password that can be read: EAP, or none at all.
        NoPassword => "no_password",
    }
}

impl Factor {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Push => "push",
            Self::Phone => "phone",
            Self::Sms => "sms",
            Self::Passcode => "passcode",
            Self::Upstream => "upstream",
        }
    }
}

impl Basis {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Factor => "factor",
            Self::ProviderBypass => "provider_bypass",
            Self::Exempt => "exempt",
            Self::FailOpen => "fail_open",
            Self::OncePerPod => "once_per_pod",
            Self::ScratchCode => "scratch_code",
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}
