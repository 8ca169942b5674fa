//! The sender of a packet and the typed text, as far as the proxy can tell: both decide whether a packet is a retry.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clients::Client;
use crate::random::TextDigest;

/// The sender of a login's packets.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) source: IpAddr,
    /// The name of the directory that the address belongs to. One domain controller may continue a login of another.
    pub(crate) directory: Option<Arc<str>>,
    /// The login has continued from another address of the directory. It does so once at most.
    pub(crate) moved: bool,
    /// The user's own address, if the client sends it.
    pub(crate) user_address: Option<IpAddr>,
    /// Digest of the typed text; `None` if no packet may join.
    pub(crate) text: Option<TextDigest>,
    /// The text is the user's own: neither empty nor a keyword nor a passcode, which anybody could have typed.
    pub(crate) own_text: bool,
    /// A packet has proved a secret. Packets that prove none can't join from then on.
    pub(crate) proved: bool,
    /// A packet of the user has arrived that can't be a retry of this login.
    pub(crate) rival_seen: bool,
}

impl Sender {
    /// Whether a packet of `other` can be a retry of this login, by address and text.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.resembles(other) && (self.source == other.source || !self.moved)
    }

    /// The same, whether or not the login has moved to another address before.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        let one_directory = self.directory.is_some() && self.directory == other.directory;
        TextDigest::same(self.text, other.text)
            && (self.source == other.source || one_directory)
            && self.user_address == other.user_address
            && (other.proved || !self.proved)
    }

    /// Whether the login can still be told from a rival's.
    pub(crate) fn is_distinct(&self) -> bool {
        self.own_text || !self.rival_seen
    }

    /// A packet of `other` has joined.
    pub(crate) fn joined_by(&mut self, other: &Self) {
        self.moved |= self.source != other.source;
        self.source = other.source;
        self.proved |= other.proved;
    }

    /// A packet of `other` can't be a retry of this login. A packet that proves no secret is no evidence against a
    /// login that proved one, since anybody could have sent it.
    pub(crate) fn rivalled_by(&mut self, other: &Self) {
        self.rival_seen |= other.proved || !self.proved;
    }
}

/// The name that the addresses of a directory have in common.
pub(crate) fn directory(client: &Client) -> Option<Arc<str>> {
    client.config.directory.then(|| Arc::clone(&client.name))
}

/// The shortest time after which a client retries: its timeout less the tolerance for timers and networks.
pub(crate) fn soonest(timeout: Duration) -> Duration {
    timeout - tolerance(timeout)
}

/// How early or late a retry may be: a twentieth of the timeout.
pub(crate) fn tolerance(timeout: Duration) -> Duration {
    timeout / 20
}

/// How far a packet is off the client's schedule, if it arrives `since` after the last one. `None` if it is too early for a
/// retry.
pub(crate) fn off_schedule(since: Duration, timeout: Duration) -> Option<Duration> {
    if since < soonest(timeout) {
        return None;
    }
    let past = since.as_nanos().checked_rem(timeout.as_nanos())?;
    let off = past.min(timeout.as_nanos() - past);
    Some(Duration::from_nanos(u64::try_from(off).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_comes_a_timeout_or_several_after_the_last_packet() {
        let timeout = Duration::from_secs(20);
        let off = |milliseconds| off_schedule(Duration::from_millis(milliseconds), timeout);
        assert_eq!(off(18_999), None);
        assert_eq!(off(19_000), Some(Duration::from_secs(1)));
        assert_eq!(off(20_000), Some(Duration::ZERO));
        assert_eq!(off(29_000), Some(Duration::from_secs(9)));
        assert_eq!(off(41_000), Some(Duration::from_secs(1)));
    }
}
