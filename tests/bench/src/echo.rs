//! The limit of the machine: the proxy's own batched sockets with nothing between receiving and sending.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use radius_proxy::udp::{Datagram, Receiver, Sender, Sockets, threads};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Nobody needs an echo for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Answers until it is killed, ten minutes at most, from as many threads as the proxy has.
pub(crate) fn run(listen: SocketAddr) -> Result<()> {
    ensure!(listen.ip().is_loopback(), "{listen} is not on loopback");
    let sockets = Sockets::bind(&[listen])?;
    // One is at the socket at a time, as in the proxy: all of them there would be woken by each datagram.
    let door = Mutex::new(());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads())
            .map(|_| scope.spawn(|| answer(&sockets, &door)))
            .collect();
        answer(&sockets, &door)?;
        others.into_iter().try_for_each(|other| {
            other
                .join()
                .unwrap_or_else(|_| bail!("a thread has ended by itself"))
        })
    })
}

fn answer(sockets: &Sockets, door: &Mutex<()>) -> Result<()> {
    let (mut receiver, mut sender) = (Receiver::new(sockets), Sender::new());
    let begun = std::time::Instant::now();
    while begun.elapsed() < LONGEST {
        let inside = door.lock().unwrap_or_else(PoisonError::into_inner);
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
        drop(inside);
        let answers = receiver
            .arrived()
            .map(|(to, socket, bytes)| Datagram { to, socket, bytes });
        sender.send(sockets, answers, |to, error| eprintln!("{to}: {error}"));
    }
    Ok(())
}
