//! Taking datagrams, many with one system call.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use super::{BATCH, Local, SocketId, Sockets};

/// A RADIUS packet is at most so long (RFC 2865 section 3); what follows is padding.
const MAX_PACKET: usize = 4096;

/// Buffers for receiving, used again and again.
pub struct Receiver {
    buffer: Vec<u8>,
    arrived: Vec<Arrived>,
    /// One for each socket: the kernel writes back how much of a header it used, which is the same for every datagram
    /// of a socket.
    headers: Vec<MultiHeaders<SockaddrStorage>>,
}

struct Arrived {
    from: SocketAddr,
    path: SocketId,
    /// Where its bytes are: not every datagram of a batch has a sender that counts.
    chunk: usize,
    length: usize,
}

impl Receiver {
    /// For these sockets.
    #[must_use]
    pub fn new(sockets: &Sockets) -> Self {
        let control = || Some(cmsg_space!(libc::in6_pktinfo));
        Self {
            buffer: vec![0; BATCH * MAX_PACKET],
            arrived: Vec::with_capacity(BATCH),
            headers: sockets
                .sockets
                .iter()
                .map(|_| MultiHeaders::preallocate(BATCH, control()))
                .collect(),
        }
    }

    /// Takes up to 32 datagrams from one socket, for [`Receiver::arrived`]. Returns how many there are: 0 when none is
    /// waiting.
    ///
    /// # Errors
    /// What the system reports of one earlier datagram; the next call goes on.
    pub fn receive(&mut self, sockets: &Sockets, index: usize) -> io::Result<usize> {
        self.arrived.clear();
        let (Some(bound), Some(headers)) = (sockets.sockets.get(index), self.headers.get_mut(index)) else {
            return Ok(0);
        };
        let mut chunks = self.buffer.chunks_exact_mut(MAX_PACKET);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let fd = bound.socket.as_raw_fd();
        let results = match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(results) => results,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        for (chunk, message) in results.enumerate() {
            let Some(from) = message.address.as_ref().and_then(to_std) else {
                continue;
            };
            let cmsgs = message.cmsgs().ok();
            let local = cmsgs.and_then(|mut cmsgs| cmsgs.find_map(|c| local_of(&c)));
            self.arrived.push(Arrived {
                from,
                path: sockets.path((index, local)),
                chunk,
                length: message.bytes,
            });
        }
        Ok(self.arrived.len())
    }

    /// The datagrams that were taken last, in their order: from where, by which path, and what.
    pub fn arrived(&self) -> impl ExactSizeIterator<Item = (SocketAddr, SocketId, &[u8])> {
        self.arrived.iter().map(|arrived| {
            let start = arrived.chunk * MAX_PACKET;
            let end = start + arrived.length.min(MAX_PACKET);
            let bytes = self.buffer.get(start..end).unwrap_or_default();
            (arrived.from, arrived.path, bytes)
        })
    }
}

fn local_of(message: &ControlMessageOwned) -> Option<Local> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Local::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if address.is_unicast_link_local() {
                info.ipi6_ifindex
            } else {
                0
            };
            Some(Local::V6(address, interface))
        }
        _ => None,
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::new(v4.ip(), v4.port())));
    }
    address.as_sockaddr_in6().map(|v6| {
        SocketAddr::V6(SocketAddrV6::new(
            v6.ip(),
            v6.port(),
            v6.flowinfo(),
            v6.scope_id(),
        ))
    })
}
