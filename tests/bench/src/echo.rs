//! The limit of the machine: the proxy's own batched sockets with nothing between receiving and sending.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use radius_proxy::udp::{Datagram, Receiver, Sender, SocketId, Sockets};

/// Nobody needs an echo for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Answers until it is killed, ten minutes at most.
pub(crate) fn run(listen: SocketAddr) -> Result<()> {
    ensure!(listen.ip().is_loopback(), "{listen} is not on loopback");
    let mut sockets = Sockets::bind(&[listen])?;
    let (mut receiver, mut sender) = (Receiver::new(&sockets), Sender::new());
    let mut kept: Vec<(SocketAddr, SocketId, Vec<u8>)> = Vec::new();
    let begun = std::time::Instant::now();
    while begun.elapsed() < LONGEST {
        let mut used = 0;
        receiver.receive(&mut sockets, 0, |from, socket, bytes| {
            if used == kept.len() {
                kept.push((from, socket, Vec::new()));
            }
            if let Some(place) = kept.get_mut(used) {
                (place.0, place.1) = (from, socket);
                place.2.clear();
                place.2.extend_from_slice(bytes);
            }
            used += 1;
        })?;
        if used == 0 {
            let mut fds: Vec<PollFd<'_>> = sockets
                .fds()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            // Whatever it says, the next receive tells.
            let _ = poll(&mut fds, PollTimeout::from(1000_u16));
            continue;
        }
        let answers = kept.iter().take(used).map(|(to, socket, bytes)| Datagram {
            to: *to,
            socket: *socket,
            bytes,
        });
        sender.send(&sockets, answers, |to, error| eprintln!("{to}: {error}"));
    }
    Ok(())
}
