//! Sending datagrams, many with one system call.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smallvec::SmallVec;

use super::{BATCH, Bound, Datagram, Local, Sockets};

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
        let mut run: SmallVec<[Datagram<'a>; BATCH]> = SmallVec::new();
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
        let Some((bound, local)) = path.and_then(|(index, local)| Some((sockets.sockets.get(index)?, local)))
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
        let slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> =
            run.iter().map(|d| [IoSlice::new(d.bytes)]).collect();
        let addresses: SmallVec<[Option<SockaddrStorage>; BATCH]> =
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
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let longest = Timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    // Whatever it says, the next try tells.
    let _ = poll(&mut fds, Some(&longest));
}

fn to_nix(address: SocketAddr, is_v6: bool) -> SockaddrStorage {
    let address = match address {
        SocketAddr::V4(v4) if is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        other => other,
    };
    SockaddrStorage::from(address)
}
