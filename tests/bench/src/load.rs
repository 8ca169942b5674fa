//! The load generator: bounded in flight, in count and in time, on loopback only. One thread, batched system calls.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::request::{Answer, Builder, check};

/// Requests in flight on one socket: RFC 2865's identifier has no more.
const PER_SOCKET: usize = 256;
const BATCH: usize = 64;
/// As a client's timeout: after that the same bytes are sent again.
const RETRANSMIT: Duration = Duration::from_secs(2);
/// Between two requests of a paced run there are some microseconds: it sleeps over several of them,
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);
/// and looks around so often.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// A run without a single answer for so long has failed.
const DEAD: Duration = Duration::from_secs(20);

/// Who logs in next, and with what.
pub(crate) trait Logins {
    /// Writes the user's name and returns what is typed; None when there are no more.
    fn next(&mut self, user: &mut String) -> Option<[u8; 6]>;
}

/// What a run is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Requests in flight at most.
    pub(crate) in_flight: usize,
    /// Requests in all.
    pub(crate) count: usize,
    /// Requests in a second; None: as many as are answered.
    pub(crate) rate: Option<f64>,
}

/// How a run went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) accepts: usize,
    pub(crate) rejects: usize,
    pub(crate) echoes: usize,
    pub(crate) wrong: usize,
    pub(crate) retransmissions: usize,
    pub(crate) took: Duration,
    /// Processor time of the generator's own thread: near to `took`, the generator is what limits.
    pub(crate) own: Duration,
    micros: Vec<u32>,
}

impl Outcome {
    /// Right answers of any kind.
    pub(crate) fn answers(&self) -> usize {
        self.accepts + self.rejects + self.echoes
    }

    /// Right answers in a second.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn per_second(&self) -> f64 {
        self.answers() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// A quantile of the time from a request's turn to its answer, in milliseconds.
    pub(crate) fn quantile_ms(&mut self, per_mille: usize) -> f64 {
        self.micros.sort_unstable();
        let at = (self.micros.len() * per_mille / 1000).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

struct Slot {
    request: Vec<u8>,
    due: Instant,
    sent: Instant,
    busy: bool,
}

struct Lane {
    socket: UdpSocket,
    slots: Vec<Slot>,
    free: Vec<u8>,
    to_send: Vec<u8>,
}

impl Lane {
    fn new(server: SocketAddr, slots: usize) -> Result<Self> {
        ensure!(server.ip().is_loopback(), "{server} is not on loopback");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let socket = socket2::Socket::from(socket);
        let _ = socket.set_recv_buffer_size(8 << 20);
        let now = Instant::now();
        let slot = || Slot {
            request: Vec::with_capacity(128),
            due: now,
            sent: now,
            busy: false,
        };
        let free = (0..slots.min(PER_SOCKET))
            .filter_map(|n| u8::try_from(n).ok())
            .collect();
        Ok(Self {
            socket: socket.into(),
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            free,
            to_send: Vec::new(),
        })
    }
}

/// A run under way.
pub(crate) struct Load<'a, L> {
    lanes: Vec<Lane>,
    logins: &'a mut L,
    builder: Builder,
    shape: Shape,
    begun: Instant,
    sent: usize,
    outcome: Outcome,
    user: String,
    exhausted: bool,
    /// Used for every batch, as the servers' are: what the generator spends is missing in what it can offer.
    headers: MultiHeaders<SockaddrStorage>,
    buffer: Box<[[u8; 512]; BATCH]>,
}

impl<'a, L: Logins> Load<'a, L> {
    /// Prepares sockets; nothing is sent yet.
    pub(crate) fn new(server: SocketAddr, logins: &'a mut L, shape: Shape) -> Result<Self> {
        let mut lanes = Vec::new();
        let mut left = shape.in_flight;
        while left > 0 {
            let slots = left.min(PER_SOCKET);
            lanes.push(Lane::new(server, slots)?);
            left -= slots;
        }
        let outcome = Outcome {
            micros: Vec::with_capacity(shape.count),
            ..Outcome::default()
        };
        let builder = Builder::new(crate::run::seed().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (begun, user) = (Instant::now(), String::new());
        Ok(Self {
            lanes,
            logins,
            builder,
            shape,
            begun,
            sent: 0,
            outcome,
            user,
            exhausted: false,
            headers: MultiHeaders::preallocate(BATCH, None),
            buffer: Box::new([[0; 512]; BATCH]),
        })
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        self.begun = Instant::now();
        let mut last_answer = self.begun;
        let mut last_look = self.begun;
        let own = processor_time();
        loop {
            self.fill();
            self.send()?;
            let now = Instant::now();
            if self.receive(now)? > 0 {
                last_answer = now;
            } else if self.is_over() {
                break;
            } else {
                if now.duration_since(last_answer) > DEAD {
                    bail!("nothing was answered for {} s", DEAD.as_secs());
                }
                self.wait(now);
            }
            if now.duration_since(last_look) > Duration::from_millis(100) {
                last_look = now;
                self.retransmit(now);
            }
        }
        self.outcome.took = last_answer.duration_since(self.begun);
        self.outcome.own = processor_time().saturating_sub(own);
        Ok(self.outcome)
    }

    fn is_over(&self) -> bool {
        (self.exhausted || self.sent >= self.shape.count)
            && self.lanes.iter().all(|l| l.slots.iter().all(|s| !s.busy))
    }

    /// The moment that the next request is due.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn due(&self, now: Instant) -> Instant {
        self.shape.rate.map_or(now, |rate| {
            self.begun + Duration::from_secs_f64(self.sent as f64 / rate)
        })
    }

    fn fill(&mut self) {
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            loop {
                if self.exhausted || self.sent >= self.shape.count {
                    return;
                }
                let due = self.due(now);
                if due > now {
                    return;
                }
                let Some(lane) = self.lanes.get_mut(index) else {
                    return;
                };
                let Some(id) = lane.free.pop() else { break };
                let Some(typed) = self.logins.next(&mut self.user) else {
                    self.exhausted = true;
                    return;
                };
                let Some(slot) = lane.slots.get_mut(usize::from(id)) else {
                    return;
                };
                self.builder.pap(id, &self.user, &typed, &mut slot.request);
                (slot.due, slot.sent, slot.busy) = (due, now, true);
                lane.to_send.push(id);
                self.sent += 1;
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        for lane in &mut self.lanes {
            while !lane.to_send.is_empty() {
                let batch: Vec<[IoSlice<'_>; 1]> = lane
                    .to_send
                    .iter()
                    .take(BATCH)
                    .filter_map(|id| Some([IoSlice::new(&lane.slots.get(usize::from(*id))?.request)]))
                    .collect();
                let none: Vec<Option<SockaddrStorage>> = vec![None; batch.len()];
                let flags = MsgFlags::MSG_DONTWAIT;
                let sent = match sendmmsg(
                    lane.socket.as_raw_fd(),
                    &mut self.headers,
                    batch.iter(),
                    &none,
                    [],
                    flags,
                ) {
                    Ok(sent) => sent.count(),
                    Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ENOBUFS) => return Ok(()),
                    Err(error) => return Err(error).context("the server cannot be reached"),
                };
                lane.to_send.drain(..sent);
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant) -> Result<usize> {
        let mut received = 0;
        for lane in &mut self.lanes {
            let mut lengths = [0; BATCH];
            {
                let mut slices = self.buffer.each_mut().map(|b| [IoSliceMut::new(b)]);
                let fd = lane.socket.as_raw_fd();
                match recvmmsg(
                    fd,
                    &mut self.headers,
                    slices.iter_mut(),
                    MsgFlags::MSG_DONTWAIT,
                    None,
                ) {
                    Ok(messages) => messages
                        .zip(&mut lengths)
                        .for_each(|(m, length)| *length = m.bytes),
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
                    Err(error) => return Err(error).context("the server cannot be reached"),
                }
            }
            for (bytes, length) in self.buffer.iter().zip(lengths).filter(|(_, length)| *length > 0) {
                received += 1;
                let Some(answer) = bytes.get(..length) else {
                    continue;
                };
                let Some(id) = answer.get(1) else { continue };
                let Some(slot) = lane.slots.get_mut(usize::from(*id)).filter(|slot| slot.busy) else {
                    continue;
                };
                match check(&slot.request, answer) {
                    Answer::Accept => self.outcome.accepts += 1,
                    Answer::Reject => self.outcome.rejects += 1,
                    Answer::Echo => self.outcome.echoes += 1,
                    Answer::Wrong => {
                        self.outcome.wrong += 1;
                        continue;
                    }
                }
                let micros = now.saturating_duration_since(slot.due).as_micros();
                self.outcome
                    .micros
                    .push(u32::try_from(micros).unwrap_or(u32::MAX));
                slot.busy = false;
                lane.free.push(*id);
            }
        }
        Ok(received)
    }

    fn retransmit(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            for (id, slot) in lane.slots.iter_mut().enumerate() {
                if slot.busy && now.duration_since(slot.sent) > RETRANSMIT {
                    slot.sent = now;
                    self.outcome.retransmissions += 1;
                    lane.to_send.extend(u8::try_from(id));
                }
            }
        }
    }

    /// Waits for an answer and, in a paced run, for the next request's turn. A paced run sleeps a little at least: a generator that never
    /// sleeps takes a processor from who answers, and is itself interrupted for milliseconds when its share is used up.
    fn wait(&self, now: Instant) {
        let turn = self.due(now).saturating_duration_since(now);
        let longest = match self.shape.rate {
            Some(_) if self.sent < self.shape.count => turn.clamp(SHORTEST_SLEEP, LONGEST_SLEEP),
            _ => LONGEST_SLEEP,
        };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: longest.subsec_nanos().into(),
        };
        let mut fds: Vec<PollFd<'_>> = self
            .lanes
            .iter()
            .map(|lane| PollFd::from_borrowed_fd(lane.socket.as_fd(), PollFlags::IN))
            .collect();
        // Whatever it says, the loop looks at every socket.
        let _ = poll(&mut fds, Some(&timeout));
    }
}
