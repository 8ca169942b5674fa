//! UDP in batches: one system call takes up to 32 datagrams, one sends as many, and each answer leaves from the
//! address that its request came to (a host may have several).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{RwLock, RwLockReadGuard};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
pub use proxy_core::outputs::{Datagram, SocketId};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::locks::{read, write};

mod drops;
mod receive;
mod send;

pub use drops::ReceiveBufferDrops;
pub use receive::Receiver;
pub use send::Sender;

/// Datagrams in one system call at most. With more, the other threads and the client have less to do meanwhile.
pub const BATCH: usize = 32;
/// As much as the system lets us have: a burst waits here while the engine works.
const SOCKET_BUFFER: usize = 8 << 20;
/// Local addresses that are told apart; more of them are answered from the system's choice.
const MAX_PATHS: usize = 1024;

/// More threads than this would wait for the decisions of the others.
const MAX_THREADS: usize = 4;

/// How many threads sockets are worth: as many as there are processors for them.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS)
}

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
        let mut paths = write(&self.paths);
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
        read(&self.paths)
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
