//! What the engine wants done: buffers that are filled by it, emptied by the caller and used again.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::counters::DropReason;
use crate::factor::{FactorRequest, LoginId};
use crate::peers::ToPeer;
use crate::record::LoginRecord;

/// One of the caller's sockets: a request's answer leaves by the socket it came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// What one or more calls of the engine want done. The caller does it, and then calls [`Outputs::clear`]; nothing is
/// freed, so that a steady load allocates no buffer.
#[derive(Default)]
pub struct Outputs {
    /// Providers to ask. What can be answered at once may be given to [`crate::Engine::verdict`] with the same
    /// `Outputs` (take the vector out first, and put it back for its memory).
    pub asks: Vec<FactorRequest>,
    /// Logins whose verdict is of no use any more.
    pub cancels: Vec<LoginId>,
    /// Logins that are followed no more because another proxy does: their push must not be taken back.
    pub released: Vec<LoginId>,
    /// What other proxies are told.
    pub peers: Vec<ToPeer>,
    /// Finished logins, exactly one record for each.
    pub records: Vec<LoginRecord>,
    /// Dropped datagrams to be logged, at a bounded rate: a few a second, whatever arrives.
    pub notices: Vec<DropNotice>,
    bytes: Vec<u8>,
    sends: Vec<Span>,
}

/// A datagram to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// By which socket.
    pub socket: SocketId,
    /// What.
    pub bytes: &'a [u8],
}

/// That datagrams were dropped, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropNotice {
    /// Where the datagram came from.
    pub from: SocketAddr,
    /// The client that has this address.
    pub client: Option<Arc<str>>,
    /// Why it was dropped.
    pub reason: DropReason,
    /// Datagrams dropped since the notice before this one that got no notice of their own.
    pub suppressed: u64,
}

struct Span {
    to: SocketAddr,
    socket: SocketId,
    range: Range<usize>,
}

impl Outputs {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The datagrams to be sent, in order.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.sends.iter().map(|span| Datagram {
            to: span.to,
            socket: span.socket,
            bytes: self.bytes.get(span.range.clone()).unwrap_or_default(),
        })
    }

    /// Empties every buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.asks.clear();
        self.cancels.clear();
        self.released.clear();
        self.peers.clear();
        self.records.clear();
        self.notices.clear();
        self.clear_datagrams();
    }

    /// Empties the datagrams only.
    pub fn clear_datagrams(&mut self) {
        self.bytes.clear();
        self.sends.clear();
    }

    pub(crate) fn send(&mut self, to: SocketAddr, socket: SocketId, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.sends.push(Span {
            to,
            socket,
            range: start..self.bytes.len(),
        });
    }
}
