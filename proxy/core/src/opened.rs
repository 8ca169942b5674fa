//! What can be said of a datagram without the engine: whose it is, what it holds, which secret signed it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::Settings;
use crate::clients::Client;
use crate::counters::{DropReason, RequestCode};
use crate::packet::Request;
use crate::verify::{self, Signed};

/// A datagram as far as it is understood without the engine's state. Most of a login's hashing is in it, and any number
/// of threads can make it at once.
pub struct Opened<'a> {
    pub(crate) from: SocketAddr,
    /// The canonical address of `from`.
    pub(crate) source: IpAddr,
    /// What a known client asks for, well-formed or not.
    pub(crate) asked: Option<(Arc<Client>, RequestCode)>,
    pub(crate) request: Result<Signed<'a>, DropReason>,
}

impl Settings {
    /// Opens a datagram, in order of cost: the client by its address, the packet's shape, the Message-Authenticator. An
    /// IPv4-mapped source counts as IPv4.
    #[must_use]
    pub fn open<'a>(&self, from: SocketAddr, datagram: &'a [u8]) -> Opened<'a> {
        let source = from.ip().to_canonical();
        let client = self.checked().clients.find(source);
        let request = client
            .ok_or(DropReason::UnknownClient)
            .and_then(|client| verify::signature(Request::parse(datagram)?, client));
        Opened {
            from,
            source,
            asked: client.map(|client| (Arc::clone(client), RequestCode::of(datagram))),
            request,
        }
    }
}
