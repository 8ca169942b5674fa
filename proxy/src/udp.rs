//! UDP in batches: one system call takes up to 64 datagrams, one sends as many, and each answer leaves from the
//! address that its request came to (a host may have several).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg,
    setsockopt,
};
pub use proxy_core::outputs::{Datagram, SocketId};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// Datagrams in one system call.
const BATCH: usize = 64;
/// A RADIUS packet is at most so long (RFC 2865 section 3); what follows is padding.
const MAX_PACKET: usize = 4096;
/// As much as the system lets us have: a burst waits here while the engine works.
const SOCKET_BUFFER: usize = 8 << 20;
/// Local addresses that are told apart; more of them are answered from the system's choice.
const MAX_PATHS: usize = 1024;

/// The address of this host that a datagram came to, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    V4(Ipv4Addr),
    /// With the interface of a link-local address, else 0.
    V6(Ipv6Addr, u32),
}

/// Bound sockets.
pub struct Sockets {
    sockets: Vec<Bound>,
    /// A [`SocketId`] of the engine is an index here. It only grows, so that an answer finds its path whichever thread
    /// sends it.
    paths: RwLock<Vec<Path>>,
}

/// A socket, and the local address that a datagram came to.
type Path = (usize, Option<Local>);

struct Bound {
    socket: Socket,
    is_v6: bool,
}

impl Sockets {
    /// Binds every address.
    ///
    /// # Errors
    /// One cannot be bound; the error says which and what to do.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, Error> {
        let sockets = addresses
            .iter()
            .map(|address| Bound::bind(*address))
            .collect::<Result<Vec<_>, _>>()?;
        let paths = (0..sockets.len()).map(|index| (index, None)).collect();
        Ok(Self {
            sockets,
            paths: RwLock::new(paths),
        })
    }

    /// The addresses that are bound, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|bound| bound.socket.local_addr().ok()?.as_socket())
            .collect()
    }

    /// The sockets' descriptors, to wait on.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|bound| bound.socket.as_fd())
    }

    /// How many sockets there are.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a proxy without sockets does not start"
    )]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    fn path(&self, path: Path) -> SocketId {
        let known = place(&self.paths(), path);
        SocketId(known.unwrap_or_else(|| self.new_path(path)))
    }

    fn new_path(&self, path: Path) -> u32 {
        let mut paths = self.paths.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place(&paths, path) {
            return place;
        }
        if paths.len() >= MAX_PATHS {
            return u32::try_from(path.0).unwrap_or(0);
        }
        paths.push(path);
        u32::try_from(paths.len() - 1).unwrap_or(0)
    }

    fn paths(&self) -> RwLockReadGuard<'_, Vec<Path>> {
        self.paths.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(paths: &[Path], path: Path) -> Option<u32> {
    let at = paths.iter().position(|known| *known == path)?;
    u32::try_from(at).ok()
}

impl Bound {
    fn bind(address: SocketAddr) -> Result<Self, Error> {
        match Self::try_bind(address) {
            // A kernel without IPv6 still has everything that "[::]" promises for IPv4.
            Err(error) if has_no_v6(&error) && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                tracing::warn!(%address, "this host has no IPv6; listening on IPv4 only");
                Self::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
            }
            result => result.map_err(|source| Error::Bind {
                kind: "UDP",
                address,
                source,
            }),
        }
    }

    fn try_bind(address: SocketAddr) -> io::Result<Self> {
        let is_v6 = address.is_ipv6();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if is_v6 {
            socket.set_only_v6(!address.ip().is_unspecified())?;
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        }
        socket.set_nonblocking(true)?;
        // The system gives what net.core.rmem_max and wmem_max allow; less is no failure.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        Ok(Self { socket, is_v6 })
    }
}

fn has_no_v6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

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

    /// Takes up to 64 datagrams from one socket, for [`Receiver::arrived`]. Returns how many there are: 0 when none is
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

/// Buffers for sending.
pub struct Sender {
    plain: MultiHeaders<SockaddrStorage>,
    from_v4: MultiHeaders<SockaddrStorage>,
    from_v6: MultiHeaders<SockaddrStorage>,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// With room for a batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            plain: MultiHeaders::preallocate(BATCH, None),
            from_v4: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(libc::in_pktinfo))),
            from_v6: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(libc::in6_pktinfo))),
        }
    }

    /// Sends datagrams in order. `failed` is called for each that the system does not take; clients ask again.
    pub fn send<'a>(
        &mut self,
        sockets: &Sockets,
        datagrams: impl Iterator<Item = Datagram<'a>>,
        mut failed: impl FnMut(SocketAddr, io::Error),
    ) {
        let mut run: Vec<Datagram<'a>> = Vec::with_capacity(BATCH);
        for datagram in datagrams {
            let breaks = run.first().is_some_and(|first| first.socket != datagram.socket);
            if breaks || run.len() == BATCH {
                self.send_run(sockets, &run, &mut failed);
                run.clear();
            }
            run.push(datagram);
        }
        self.send_run(sockets, &run, &mut failed);
    }

    /// Sends datagrams of one path.
    fn send_run(
        &mut self,
        sockets: &Sockets,
        mut run: &[Datagram<'_>],
        failed: &mut impl FnMut(SocketAddr, io::Error),
    ) {
        let path = run
            .first()
            .and_then(|first| sockets.paths().get(first.socket.0 as usize).copied());
        let Some((bound, local)) =
            path.and_then(|(index, local)| Some((sockets.sockets.get(index)?, local)))
        else {
            return;
        };
        let mut waited = false;
        while let Some(first) = run.first() {
            match self.send_some(bound, local, run) {
                Ok(sent) => run = run.get(sent.max(1)..).unwrap_or_default(),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) if !waited => {
                    waited = true;
                    wait_writable(bound.socket.as_fd());
                }
                Err(error) => {
                    failed(first.to, error.into());
                    run = run.get(1..).unwrap_or_default();
                }
            }
        }
    }

    fn send_some(&mut self, bound: &Bound, local: Option<Local>, run: &[Datagram<'_>]) -> nix::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> = run.iter().map(|d| [IoSlice::new(d.bytes)]).collect();
        let addresses: Vec<Option<SockaddrStorage>> =
            run.iter().map(|d| Some(to_nix(d.to, bound.is_v6))).collect();
        let fd = bound.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = match local {
            None => {
                let none: [ControlMessage<'_>; 0] = [];
                sendmmsg(fd, &mut self.plain, slices.iter(), &addresses, none, flags)?.count()
            }
            Some(Local::V4(address)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmmsg(fd, &mut self.from_v4, slices.iter(), &addresses, control, flags)?.count()
            }
            Some(Local::V6(address, interface)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: address.octets(),
                    },
                    ipi6_ifindex: interface,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmmsg(fd, &mut self.from_v6, slices.iter(), &addresses, control, flags)?.count()
            }
        };
        Ok(sent)
    }
}

/// A full send buffer empties within microseconds; five milliseconds are an interface that is down.
fn wait_writable(fd: BorrowedFd<'_>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let longest = Timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    // Whatever it says, the next try tells.
    let _ = poll(&mut fds, Some(&longest));
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

fn to_nix(address: SocketAddr, is_v6: bool) -> SockaddrStorage {
    let address = match address {
        SocketAddr::V4(v4) if is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        other => other,
    };
    SockaddrStorage::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Receives until `count` datagrams were seen.
    fn receive(sockets: &Sockets, count: usize) -> Vec<(SocketAddr, SocketId, Vec<u8>)> {
        let mut receiver = Receiver::new(sockets);
        let mut seen = Vec::new();
        while seen.len() < count {
            for index in 0..sockets.len() {
                receiver.receive(sockets, index).unwrap();
                let arrived = receiver.arrived();
                seen.extend(arrived.map(|(from, path, bytes)| (from, path, bytes.to_vec())));
            }
            std::thread::yield_now();
        }
        seen
    }

    #[test]
    fn one_socket_takes_both_families_and_answers_from_the_address_it_was_asked_at() {
        let sockets = Sockets::bind(&["[::]:0".parse().unwrap()]).unwrap();
        let port = sockets.addresses()[0].port();
        let mut clients = vec![("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")];
        if UdpSocket::bind("[::1]:0").is_ok() {
            clients.push(("::1", "::1"));
        }
        for (own, asked) in clients {
            let own: IpAddr = own.parse().unwrap();
            let asked: IpAddr = asked.parse().unwrap();
            let client = UdpSocket::bind((own, 0)).unwrap();
            client.send_to(b"question", (asked, port)).unwrap();
            let (from, path, bytes) = receive(&sockets, 1).remove(0);
            assert_eq!(bytes, b"question");
            let answer = Datagram {
                to: from,
                socket: path,
                bytes: b"answer",
            };
            let fail = |to, error| panic!("{to}: {error}");
            Sender::new().send(&sockets, [answer].into_iter(), fail);
            let mut buffer = [0; 16];
            let (length, peer) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], peer.ip()), (b"answer".as_slice(), asked));
        }
    }

    #[test]
    fn hundreds_of_datagrams_arrive_whole_and_in_order() {
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let to = sockets.addresses()[0];
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..200_u16 {
            client.send_to(&vec![7; usize::from(number)], to).unwrap();
        }
        let seen = receive(&sockets, 200);
        assert!(seen.iter().enumerate().all(|(n, (_, _, bytes))| bytes.len() == n));
        let answers = seen.iter().map(|(from, path, bytes)| Datagram {
            to: *from,
            socket: *path,
            bytes,
        });
        Sender::new().send(&sockets, answers, |to, error| panic!("{to}: {error}"));
        let mut buffer = [0; 512];
        for number in 0..200_usize {
            assert_eq!(client.recv(&mut buffer).unwrap(), number);
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let Err(error) = Sockets::bind(&[address]) else {
            panic!("bound twice");
        };
        let text = error.to_string();
        assert!(
            text.contains(&address.port().to_string()) && text.contains("ss -lnp"),
            "{text}"
        );
    }

    #[test]
    fn an_unsendable_datagram_costs_no_other() {
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let good = client.local_addr().unwrap();
        let mut failures = 0;
        let datagram = |to| Datagram {
            to,
            socket: SocketId(0),
            bytes: b"x",
        };
        let run = [datagram("255.255.255.255:9".parse().unwrap()), datagram(good)];
        Sender::new().send(&sockets, run.into_iter(), |_, _| failures += 1);
        assert_eq!(failures, 1);
        let mut buffer = [0; 4];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
    }
}
