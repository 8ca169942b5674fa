//! The limit of the machine: the proxy's own batched sockets with nothing between receiving and sending.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use radius_proxy::udp::{Datagram, Receiver, Sender, Sockets, threads};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Nobody needs an echo for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Answers until it is killed, ten minutes at most, from as many threads as the proxy has.
pub(crate) fn run(listen: SocketAddr) -> Result<()> {
    ensure!(listen.ip().is_loopback(), "{listen} is not on loopback");
    let sockets = Sockets::bind(&[listen])?;
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(|| answer(&sockets));
        }
        answer(&sockets)
    })
}

fn answer(sockets: &Sockets) -> Result<()> {
    let (mut receiver, mut sender) = (Receiver::new(sockets), Sender::new());
    let begun = std::time::Instant::now();
    while begun.elapsed() < LONGEST {
        if receiver.receive(sockets, 0)? == 0 {
            let mut fds: Vec<PollFd<'_>> = sockets
                .fds()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let longest = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            // Whatever it says, the next receive tells.
            let _ = poll(&mut fds, Some(&longest));
            continue;
        }
        let answers = receiver
            .arrived()
            .map(|(to, socket, bytes)| Datagram { to, socket, bytes });
        sender.send(sockets, answers, |to, error| eprintln!("{to}: {error}"));
    }
    Ok(())
}
