//! A source port: 256 identifiers, so 256 requests in flight (RFC 2865 section 2.5 and 3).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::answer::{Answer, Flaw};
use super::packet::{Header, LONGEST};
use super::peer::Peer;
use crate::locks::lock;

const IDENTIFIERS: usize = 256;
/// After an error that is no answer of the network.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// What came in for a request.
#[derive(Debug)]
pub(super) struct Heard {
    /// The number that the request was given.
    pub(super) tag: usize,
    pub(super) what: Result<Answer, Flaw>,
}

/// Which request is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Status,
}

/// A connected socket and the requests that wait on it.
pub(super) struct Lane {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    slots: Arc<Mutex<Slots>>,
    reader: AbortHandle,
}

struct Slots {
    table: Vec<Slot>,
    /// Identifiers are used in turn, so that each rests as long as possible.
    next: usize,
    used: usize,
    idle_since: Instant,
}

#[derive(Default)]
struct Slot {
    waiting: Option<Waiting>,
    /// The request before: its late or repeated answer is not a wrong one, and shows that the server lives.
    before: Option<([u8; 16], Kind)>,
}

struct Waiting {
    authenticator: [u8; 16],
    kind: Kind,
    tag: usize,
    to: mpsc::Sender<Heard>,
}

/// A request's place on a lane. Dropped, its identifier is free again.
pub(super) struct Seat {
    lane: Arc<Lane>,
    pub(super) header: Header,
}

impl Lane {
    /// Opens a source port towards a server. It must be called inside the runtime.
    pub(super) fn open(server: SocketAddr, peer: Arc<Peer>) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        // Connected: the system passes nothing else on, and tells when nobody listens there.
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let mut table = Vec::new();
        table.resize_with(IDENTIFIERS, Slot::default);
        let slots = Arc::new(Mutex::new(Slots {
            table,
            next: 0,
            used: 0,
            idle_since: Instant::now(),
        }));
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&slots), peer)).abort_handle();
        Ok(Self {
            socket,
            server,
            slots,
            reader,
        })
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Since when nothing waits on it; `None` when something does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let slots = lock(&self.slots);
        (slots.used == 0).then_some(slots.idle_since)
    }

    /// A place for one request, whose answers go to `to`; `None` when all are taken.
    pub(super) fn seat(
        self: &Arc<Self>,
        authenticator: [u8; 16],
        kind: Kind,
        tag: usize,
        to: &mpsc::Sender<Heard>,
    ) -> Option<Seat> {
        let identifier = lock(&self.slots).take(Waiting {
            authenticator,
            kind,
            tag,
            to: to.clone(),
        })?;
        Some(Seat {
            lane: Arc::clone(self),
            header: Header {
                identifier,
                authenticator,
            },
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Seat {
    /// Sends the request, or sends it again.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        match self.lane.socket.send(packet).await {
            // The error is of a datagram sent before; this one was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.lane.socket.send(packet).await.map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.lane.slots).free(self.header.identifier);
    }
}

impl Slots {
    fn take(&mut self, waiting: Waiting) -> Option<u8> {
        if self.used >= IDENTIFIERS {
            return None;
        }
        let (before, after) = (0..self.next, self.next..IDENTIFIERS);
        let free = after
            .chain(before)
            .find(|index| self.table.get(*index).is_some_and(|slot| slot.waiting.is_none()))?;
        self.table.get_mut(free)?.waiting = Some(waiting);
        self.next = (free + 1) % IDENTIFIERS;
        self.used += 1;
        u8::try_from(free).ok()
    }

    fn free(&mut self, identifier: u8) {
        let Some(slot) = self.table.get_mut(usize::from(identifier)) else {
            return;
        };
        if let Some(waiting) = slot.waiting.take() {
            slot.before = Some((waiting.authenticator, waiting.kind));
            self.used -= 1;
            self.idle_since = Instant::now();
        }
    }

    /// Finds whose answer a datagram is, and verifies it.
    fn receive(&self, datagram: &[u8], peer: &Peer) {
        let Some(slot) = datagram.get(1).and_then(|id| self.table.get(usize::from(*id))) else {
            return;
        };
        let current = slot.waiting.as_ref().map(|waiting| {
            let what = peer.verify(datagram, &waiting.authenticator, waiting.kind);
            (waiting, what)
        });
        if current
            .as_ref()
            .is_none_or(|(_, what)| *what == Err(Flaw::Signature))
            && let Some((before, kind)) = slot.before
        {
            let late = peer.verify(datagram, &before, kind);
            if late.is_ok() {
                peer.heard_late(kind);
            }
            if late != Err(Flaw::Signature) {
                return;
            }
        }
        let Some((waiting, what)) = current else {
            return;
        };
        peer.heard(&what, waiting.kind);
        // Full: the login has sixteen answers already.
        let _ = waiting.to.try_send(Heard {
            tag: waiting.tag,
            what,
        });
    }
}

async fn read(socket: Arc<UdpSocket>, slots: Arc<Mutex<Slots>>, peer: Arc<Peer>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                if let Some(datagram) = buffer.get(..length) {
                    lock(&slots).receive(datagram, &peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => peer.refused(),
            Err(error) => {
                tracing::debug!(server = peer.name(), %error, "receiving failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let mut table = Vec::new();
        table.resize_with(IDENTIFIERS, Slot::default);
        Slots {
            table,
            next: 0,
            used: 0,
            idle_since: Instant::now(),
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            authenticator: [1; 16],
            kind: Kind::Access,
            tag: 0,
            to: mpsc::channel(1).0,
        }
    }

    #[test]
    fn identifiers_are_used_in_turn_and_never_twice_at_once() {
        let mut slots = slots();
        let taken: Vec<u8> = (0..=255).filter_map(|_| slots.take(waiting())).collect();
        assert_eq!(taken, (0..=255).collect::<Vec<u8>>());
        assert_eq!(slots.take(waiting()), None);
        slots.free(7);
        slots.free(7);
        slots.free(200);
        assert_eq!(slots.used, 254);
        assert_eq!(slots.take(waiting()), Some(7));
        slots.free(7);
        // 7 is free again, and has rested least.
        assert_eq!(slots.take(waiting()), Some(200));
        assert_eq!(slots.take(waiting()), Some(7));
    }
}
