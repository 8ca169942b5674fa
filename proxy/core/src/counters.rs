//! What is counted, as closed sets: every silent drop has a reason, every rare event a name.

use std::collections::HashMap;
use std::sync::Arc;

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every member, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in metrics and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

pub(crate) use closed_set;

closed_set! {
    /// Why a datagram got no answer.
    DropReason {
        /// No client has the source address.
        UnknownClient => "unknown_client",
        /// Not a RADIUS packet: too short, a Length outside 20 to 4096 or beyond the datagram, or attributes that
        /// do not add up (RFC 2865 section 3).
        Malformed => "malformed",
        /// A code other than Access-Request and Status-Server.
        UnexpectedCode => "unexpected_code",
        /// An attribute that may stand once stands more often, or has a length it cannot have.
        BadAttribute => "bad_attribute",
        /// More than 200 attributes, FreeRADIUS' `max_attributes`.
        TooManyAttributes => "too_many_attributes",
        /// Message-Authenticator is wrong under every secret of the client.
        BadMessageAuthenticator => "bad_message_authenticator",
        /// Message-Authenticator is demanded and missing.
        NoMessageAuthenticator => "no_message_authenticator",
        /// Proxy-State without Message-Authenticator: the shape of a BlastRADIUS forgery (CVE-2024-3596).
        UnprovenProxyState => "unproven_proxy_state",
        /// No secret of the client makes a plausible text of User-Password.
        BadSecret => "bad_secret",
        /// Neither a password attribute nor a Message-Authenticator that would be worth a Reject.
        NoPassword => "no_password",
        /// A retransmission of a request that is still waiting: silence until its verdict.
        DuplicatePending => "duplicate_pending",
        /// A retransmission of a request that gets no answer: a newer one of the same login has replaced it, or it
        /// was left to another proxy.
        DuplicateSilent => "duplicate_silent",
        /// Beyond the rate of its client address: Status-Server, and what proves no secret and is not of a directory.
        Throttled => "throttled",
        /// The proxy is ending: left to another one.
        Draining => "draining",
    }
}

impl DropReason {
    /// Whether it tells of a mistake or an attack, and not of an ordinary retransmission.
    pub(crate) const fn is_noteworthy(self) -> bool {
        !matches!(
            self,
            Self::DuplicatePending | Self::DuplicateSilent | Self::Draining
        )
    }
}

closed_set! {
    /// What a client's datagram asks for, by its first byte: nothing else of it is looked at.
    RequestCode {
        /// Access-Request.
        AccessRequest => "access_request",
        /// Status-Server.
        StatusServer => "status_server",
        /// Anything else.
        Other => "other",
    }
}

impl RequestCode {
    pub(crate) fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(1) => Self::AccessRequest,
            Some(12) => Self::StatusServer,
            _ => Self::Other,
        }
    }
}

/// Datagrams of each client since they were last taken, well-formed or not, proved or not: whether a client asks at all.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    counts: HashMap<Arc<str>, Counts>,
    /// The client that asked last: where it asks again, nothing is looked up.
    last: Option<(Arc<str>, Counts)>,
}

type Counts = [u64; RequestCode::ALL.len()];

impl Requests {
    pub(crate) fn count(&mut self, client: &Arc<str>, code: RequestCode) {
        if self
            .last
            .as_ref()
            .is_none_or(|(last, _)| !Arc::ptr_eq(last, client))
        {
            self.leave_last();
            self.last = Some((Arc::clone(client), Counts::default()));
        }
        if let Some((_, counts)) = &mut self.last
            && let Some(count) = counts.get_mut(code as usize)
        {
            *count = count.saturating_add(1);
        }
    }

    fn leave_last(&mut self) {
        if let Some((client, more)) = self.last.take() {
            let counts = self.counts.entry(client).or_default();
            for (count, more) in counts.iter_mut().zip(more) {
                *count = count.saturating_add(more);
            }
        }
    }

    pub(crate) fn take(&mut self, mut each: impl FnMut(&Arc<str>, RequestCode, u64)) {
        self.leave_last();
        for (client, counts) in self.counts.drain() {
            for (code, count) in RequestCode::ALL.iter().zip(counts) {
                if count > 0 {
                    each(&client, *code, count);
                }
            }
        }
    }
}

closed_set! {
    /// What else is counted.
    Event {
        /// A datagram arrived.
        Received => "received",
        /// A verified Access-Request that is no retransmission.
        AccessRequest => "access_request",
        /// A Status-Server request was answered.
        StatusServer => "status_server",
        /// A request came under the secret that is being replaced: the client has not changed over yet.
        PreviousSecret => "previous_secret",
        /// An answer was sent again, byte for byte.
        Resent => "resent",
        /// The answer to a passcode was given again, to its client's next try.
        AnsweredAgain => "answered_again",
        /// A new packet joined a pending login.
        Joined => "joined",
        /// A login with the text that its user was let in with last has passed what other texts had caused.
        KnownText => "known_text",
        /// A provider was asked.
        Asked => "asked",
        /// A provider started a push, call or SMS.
        Pushed => "pushed",
        /// A provider's verdict came for a login that had ended.
        StaleVerdict => "stale_verdict",
        /// An approval came after the answer and was kept for one further try.
        LateApprovalKept => "late_approval_kept",
        /// A further try was served by a late approval.
        LateApprovalServed => "late_approval_served",
        /// An Access-Accept was sent for the first time.
        Accepted => "accepted",
        /// An Access-Reject was sent for the first time.
        Rejected => "rejected",
        /// The directory's probe was rejected: counted here, and not as [`Event::Rejected`].
        Probe => "probe",
        /// An Access-Challenge was sent for the first time.
        Challenged => "challenged",
        /// A login got no answer.
        Silent => "silent",
        /// A user was accepted because the policy names them as exempt.
        Exempt => "exempt",
        /// A user was accepted because the provider lets them in without a factor.
        ProviderBypass => "provider_bypass",
        /// A user was accepted because the provider could not be asked and the fail mode is `safe`.
        FailOpen => "fail_open",
        /// A user was accepted by a code of which the shared store could not tell whether it was used before.
        OncePerPod => "once_per_pod",
        /// A user was accepted by a scratch code.
        ScratchCode => "scratch_code",
        /// Refused: too many requests of one client address.
        ThrottledClient => "throttled_client",
        /// Refused: too many logins of one user.
        ThrottledUser => "throttled_user",
        /// Refused: too many pushes for one user.
        ThrottledPush => "throttled_push",
        /// Refused: a push was denied a moment ago.
        CoolDown => "cool_down",
        /// Refused: too many logins are waiting.
        ThrottledPending => "throttled_pending",
        /// Refused: a push for the user is pending.
        PushPending => "push_pending",
        /// A push was announced to the other proxies.
        Announced => "announced",
        /// A login goes on with a push that another proxy has started.
        Adopted => "adopted",
        /// A login left its push to another proxy, with which the client has gone on.
        HandedOver => "handed_over",
        /// An approval had to wait for the other proxies' word.
        Claimed => "claimed",
        /// An approval was another proxy's.
        ApprovalUsed => "approval_used",
        /// A push of the group was forgotten before its time.
        EvictedPush => "evicted_push",
        /// A remembered answer was forgotten before its time to make room.
        EvictedReply => "evicted_reply",
        /// A user's limits were forgotten to make room.
        EvictedUser => "evicted_user",
        /// What is known of a client address was forgotten to make room.
        EvictedAddress => "evicted_address",
        /// A challenge was forgotten to make room.
        EvictedChallenge => "evicted_challenge",
        /// A late approval was forgotten to make room.
        EvictedLateApproval => "evicted_late_approval",
    }
}

/// How often each [`DropReason`] and [`Event`] happened since the engine was made.
#[derive(Debug, Clone)]
pub struct Counters {
    drops: [u64; DropReason::ALL.len()],
    events: [u64; Event::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            drops: [0; DropReason::ALL.len()],
            events: [0; Event::ALL.len()],
        }
    }
}

impl Counters {
    /// How many datagrams were dropped for `reason`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// How often `event` happened.
    #[must_use]
    pub fn events(&self, event: Event) -> u64 {
        self.events.get(event as usize).copied().unwrap_or_default()
    }

    pub(crate) fn dropped(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn happened(&mut self, event: Event) {
        if let Some(count) = self.events.get_mut(event as usize) {
            *count = count.saturating_add(1);
        }
    }
}
