//! The threads that take datagrams. One at a time is at the sockets; when many datagrams wait there, the next one takes
//! its place while the first works on what it has. So a directory that asks from a single port keeps all of them busy, and
//! a quiet proxy wakes one.
//!
//! What costs most is done at once: the kernel's part, hashes of requests, records. Decisions are made one after the other
//! ([`Decider`]). Two batches may be decided in the other order than they came, as the network may deliver them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proxy_core::counters::DropReason;
use proxy_core::outputs::{DropNotice, Outputs};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::decider::{Brought, Clock, Current, Decider, Opening};
use super::lookout::Next;
use super::mailbox::Mailbox;
use super::records::Records;
use crate::locks::{lock, read};
use crate::metrics::Metrics;
use crate::udp::{Receiver, Sender, Sockets};

/// When so many datagrams came at once, more are waiting.
const MANY: usize = 16;
/// How often it is told that answers could not be sent.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What all of them share.
pub(super) struct Shared {
    pub(super) sockets: Sockets,
    pub(super) decider: Mutex<Decider>,
    pub(super) current: Current,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) records: Records,
    pub(super) clock: Clock,
    /// When it was told last that an answer could not be sent.
    pub(super) send_failure_told: Mutex<Duration>,
}

/// Runs `count` of them, this thread among them, until it was told to drain and nothing is pending, or the time for that
/// is over.
pub(super) fn run(shared: &Shared, count: usize) {
    let door = Mutex::new(());
    thread::scope(|scope| {
        for _ in 1..count {
            let another = thread::Builder::new().name("radius".to_owned());
            if let Err(error) = another.spawn_scoped(scope, || Worker::new(shared, &door).run()) {
                tracing::warn!(%error, "there is no further thread for datagrams; fewer have to do");
                break;
            }
        }
        Worker::new(shared, &door).run();
    });
    lock(&shared.decider).end(shared.clock);
}

struct Worker<'a> {
    shared: &'a Shared,
    /// Who has passed it is at the sockets.
    door: &'a Mutex<()>,
    /// The socket that is looked at first.
    first: usize,
    receiver: Receiver,
    has_waited: bool,
    outputs: Outputs,
    sender: Sender,
    lines: Vec<u8>,
}

/// Ends the program when its thread panics, as a panic does in the shipped program: in one that tests run, the other threads
/// would go on, and nobody would see it.
struct EndsAll;

impl Drop for EndsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, door: &'a Mutex<()>) -> Self {
        Self {
            shared,
            door,
            first: 0,
            receiver: Receiver::new(&shared.sockets),
            has_waited: false,
            outputs: Outputs::new(),
            sender: Sender::new(),
            lines: Vec::new(),
        }
    }

    fn run(mut self) {
        let _ends_all = EndsAll;
        let door = self.door;
        let mut inside = None;
        loop {
            let held = inside.take().unwrap_or_else(|| lock(door));
            let received = self.receive();
            inside = (received < MANY).then_some(held);
            match self.turn(inside.is_some()) {
                Next::Again => {}
                Next::Wait(longest) => self.wait(longest),
                Next::End => break,
            }
        }
    }

    /// Takes a batch from the first socket that has one.
    fn receive(&mut self) -> usize {
        let sockets = &self.shared.sockets;
        for offset in 0..sockets.len() {
            let index = (self.first + offset) % sockets.len();
            // An error of a socket is of one datagram (an ICMP answer to an earlier one): the next call goes on.
            let received = self.receiver.receive(sockets, index).unwrap_or_else(|error| {
                tracing::debug!(%error, "receiving failed");
                0
            });
            if received > 0 {
                self.first = index + 1;
                return received;
            }
        }
        0
    }

    /// Opens what came, has it decided, and sends and records what comes of it.
    fn turn(&mut self, at_sockets: bool) -> Next {
        let settings = read(&self.shared.current).clone();
        let brought = Brought {
            receiver: &self.receiver,
            opened: Opening::of(&self.receiver, settings),
            at_sockets,
            has_waited: std::mem::take(&mut self.has_waited),
        };
        let next = lock(&self.shared.decider).turn(self.shared.clock, brought, &mut self.outputs);
        self.send();
        self.shared.records.add(&self.outputs.records, &mut self.lines);
        for notice in &self.outputs.notices {
            tell(notice);
        }
        self.outputs.clear();
        next
    }

    fn send(&mut self) {
        let metrics = &self.shared.metrics;
        let mut first: Option<(SocketAddr, std::io::Error)> = None;
        let datagrams = self.outputs.datagrams();
        self.sender.send(&self.shared.sockets, datagrams, |to, error| {
            metrics.send_failures.inc();
            first.get_or_insert((to, error));
        });
        let Some((to, error)) = first else { return };
        let now = self.shared.clock.now().monotonic;
        let mut told = lock(&self.shared.send_failure_told);
        if now.saturating_sub(*told) >= TELL_EVERY {
            *told = now;
            tracing::warn!(%to, %error, "an answer could not be sent");
        }
    }

    /// Waits for a datagram, a message or the next deadline.
    fn wait(&mut self, longest: Duration) {
        self.has_waited = true;
        // Rounded up: waking just before a deadline would be waking twice.
        let longest = longest.saturating_add(Duration::from_micros(50));
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let bell = std::iter::once(self.shared.mailbox.bell());
        let mut fds: Vec<PollFd<'_>> = self
            .shared
            .sockets
            .fds()
            .chain(bell)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // A signal or an error ends the wait early, and the loop looks at everything anyway.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

fn tell(notice: &DropNotice) {
    let from = SocketAddr::new(notice.from.ip().to_canonical(), notice.from.port());
    tracing::warn!(
        %from,
        client = notice.client.as_deref(),
        reason = notice.reason.name(),
        unreported = notice.suppressed,
        "a datagram was dropped{}",
        advice(notice.reason)
    );
}

/// What to look at, of what a mistake in a configuration brings about.
const fn advice(reason: DropReason) -> &'static str {
    match reason {
        DropReason::UnknownClient => ": no client of the configuration has this address",
        DropReason::BadMessageAuthenticator | DropReason::BadSecret => {
            ": client and proxy have different shared secrets, or somebody forges the client's packets"
        }
        DropReason::NoMessageAuthenticator | DropReason::UnprovenProxyState => {
            ": the client does not sign its requests (Message-Authenticator)"
        }
        _ => "",
    }
}
