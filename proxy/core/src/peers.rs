//! What the proxies of one group tell each other about pushes that are on somebody's phone.
//!
//! The caller carries the messages, authenticated, encrypted and each at most once; any of them may be lost, late or out
//! of order. What the protocol guarantees all the same is in `docs/adr/0002-pending-pushes-over-pods.md`.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One run of one proxy: a random number, drawn at its start. What a run has promised dies with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance(pub u64);

/// A push, over all proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PushId {
    /// Who started it.
    pub origin: Instance,
    /// Which of its logins it was.
    pub number: u64,
}

/// The provider's own name for a push, by which any proxy can follow it: opaque here, at most [`PushHandle::MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushHandle(String);

impl PushHandle {
    /// Longer ones are not announced: a message is one datagram.
    pub const MAX: usize = 640;

    /// Takes a handle over; `None` when it is too long.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (text.len() <= Self::MAX).then_some(Self(text))
    }

    /// The handle, for the provider that made it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PushHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A message about one push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// Which push.
    pub push: PushId,
    /// What about it.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// It was started.
    Announce(Box<Announcement>),
    /// The announcement has come, or a vote that was given unasked.
    Seen,
    /// These have seen it, the origin among them. From now on its approval needs their votes, and each may follow it.
    Arm(Vec<Instance>),
    /// The list has come.
    Armed,
    /// The sender wants the right to use the approval.
    Claim {
        /// Whether the client has come to it with its next try, and so left whoever else follows.
        adopts: bool,
        /// Which of the sender's claims for this push it is.
        round: u32,
        /// The list of members, as in [`Body::Arm`]: the list itself may have been lost.
        members: Vec<Instance>,
    },
    /// The answer to a claim, or a vote that is given unasked.
    Vote {
        /// The claim's number; 0 when nobody has asked.
        round: u32,
        /// What is said.
        vote: Vote,
    },
    /// A rival of the login was seen: from now on only a text of the user's own joins.
    Rival,
    /// It has ended: used, denied or given up.
    Ended,
    /// The end has come.
    Forgotten,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// The sender's one vote for this push is the claimer's, for good.
    Yes,
    /// The vote is another's, or the push has ended here.
    No,
    /// The sender had the right to the approval, has not used it, and gives it to the claimer.
    Yield,
}

/// What others must know to follow a push, and to tell who may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The user, normalised.
    pub user: String,
    /// The address that the login came from.
    pub source: IpAddr,
    /// The name of the directory that the address belongs to.
    pub directory: Option<String>,
    /// Whether the login has gone on from another address of the directory.
    pub moved: bool,
    /// The user's own address, where the client tells it.
    pub user_address: Option<IpAddr>,
    /// What was typed, as a digest whose key only the proxies have; `None` where it cannot be read.
    pub text: Option<[u8; 16]>,
    /// Whether the text is neither empty nor a keyword nor a passcode.
    pub own_text: bool,
    /// Whether the request proved its secret.
    pub proved: bool,
    /// Whether a packet of the user has come that cannot be the same person's.
    pub rival_seen: bool,
    /// The provider's name for the push.
    pub handle: PushHandle,
    /// Milliseconds since the client's last packet.
    pub age: u64,
    /// The client's timeout in milliseconds.
    pub timeout: u64,
    /// For how many milliseconds more the client may come with a further try of the same login.
    pub open: u64,
    /// In how many milliseconds the login is over, whoever follows it.
    pub ends: u64,
}

/// A message and who is to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToPeer {
    /// One proxy; `None` for all.
    pub to: Option<Instance>,
    /// What it is told.
    pub message: PeerMessage,
}
