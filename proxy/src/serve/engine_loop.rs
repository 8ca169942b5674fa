//! The thread that owns sockets and engine. It waits for datagrams, messages and deadlines, and does what the engine
//! wants done. Everything that decides about a login happens here, one thing after the other: that is what makes
//! "one login, one push" hold over all sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_core::factor::{FactorRequest, LoginId, RefusalReason};
use proxy_core::outputs::{DropNotice, Outputs};
use proxy_core::{Engine, Now};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::counts::Counts;
use super::mailbox::{Mailbox, Message, Reconfigured};
use super::records::{HAND_OVER_AFTER, Records};
use crate::metrics::Metrics;
use crate::peers::Outgoing;
use crate::provider::{Answer, Asking, BoxFuture, Pushed, Released, refused};
use crate::udp::{Receiver, Sender, Sockets};

/// Without anything to do, the thread wakes so often: for the metrics.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often counters go to the metrics while the thread is busy.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// What the thread is made of.
pub(super) struct Parts {
    pub(super) sockets: Sockets,
    pub(super) engine: Engine,
    pub(super) running: Reconfigured,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) records: Records,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
    pub(super) clock: Clock,
    pub(super) peers: Outgoing,
}

/// Both clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        Now {
            monotonic: self.0.elapsed(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }
}

/// Runs until it was told to drain and nothing is pending, or the time for that is over.
pub(super) fn run(parts: Parts) {
    EngineLoop::new(parts).run();
}

/// A provider at work for a login.
struct Task {
    handle: AbortHandle,
    released: Arc<Released>,
}

struct EngineLoop {
    parts: Parts,
    outputs: Outputs,
    counts: Counts,
    tasks: HashMap<LoginId, Task>,
    sender: Sender,
    drain_until: Option<Duration>,
    last_published: Duration,
    /// Nothing has happened since.
    is_published: bool,
    send_failures_told: Duration,
}

impl EngineLoop {
    fn new(parts: Parts) -> Self {
        let mut counts = Counts::new(Arc::clone(&parts.metrics));
        counts.clients(&parts.running.clients);
        Self {
            counts,
            parts,
            outputs: Outputs::new(),
            tasks: HashMap::new(),
            sender: Sender::new(),
            drain_until: None,
            last_published: Duration::ZERO,
            is_published: false,
            send_failures_told: Duration::ZERO,
        }
    }

    fn run(mut self) {
        let mut receiver = Receiver::new(&self.parts.sockets);
        let mut messages = Vec::new();
        loop {
            let now = self.parts.clock.now();
            self.parts.mailbox.take(&mut messages);
            let mut is_idle = messages.is_empty();
            for message in messages.drain(..) {
                self.message(now, message);
            }
            for index in 0..self.parts.sockets.len() {
                is_idle &= self.receive(&mut receiver, now, index) == 0;
            }
            if self
                .parts
                .engine
                .next_deadline()
                .is_some_and(|deadline| deadline <= now.monotonic)
            {
                self.parts.engine.tick(now, &mut self.outputs);
                is_idle = false;
            }
            self.act(now);
            if self.is_drained(now) {
                break;
            }
            self.is_published &= is_idle;
            if !self.is_published && now.monotonic.saturating_sub(self.last_published) >= PUBLISH_EVERY {
                self.publish(now);
            }
            if is_idle {
                self.wait();
            }
        }
        for task in self.tasks.values() {
            // What is on a phone now may be approved for another proxy.
            if self.parts.peers.is_on() {
                task.released.release();
            }
            task.handle.abort();
        }
        self.publish(self.parts.clock.now());
        self.parts.records.finish();
    }

    fn receive(&mut self, receiver: &mut Receiver, now: Now, index: usize) -> usize {
        let Self { parts, outputs, .. } = self;
        let engine = &mut parts.engine;
        let received = receiver.receive(&mut parts.sockets, index, |from, socket, bytes| {
            engine.receive(now, from, socket, bytes, outputs);
        });
        // An error of a socket is of one datagram (an ICMP answer to an earlier one): the next call goes on.
        received.unwrap_or_else(|error| {
            tracing::debug!(%error, "receiving failed");
            0
        })
    }

    fn message(&mut self, now: Now, message: Message) {
        match message {
            Message::Verdict(login, verdict) => {
                self.tasks.remove(&login);
                self.parts.engine.verdict(now, login, verdict, &mut self.outputs);
            }
            Message::Pushed(login) => self.parts.engine.pushed(now, login),
            Message::Announce(login, handle) => {
                self.parts.engine.started(now, login, handle, &mut self.outputs);
            }
            Message::Peer(from, message) => {
                self.parts.engine.peer(now, from, message, &mut self.outputs);
            }
            Message::PeerGone(instance) => {
                self.parts.engine.peer_gone(now, instance, &mut self.outputs);
            }
            Message::PeersHere(instances) => self.parts.engine.peers_here(instances),
            Message::Reconfigure(next) => {
                // What came from a client that is gone is counted before its series end.
                self.counts.publish(&mut self.parts.engine);
                self.counts.clients(&next.clients);
                self.parts.engine.reconfigure(next.settings.clone());
                self.parts.running = *next;
            }
            Message::Drain => {
                self.parts.engine.drain(&mut self.outputs);
                self.drain_until
                    .get_or_insert(now.monotonic.saturating_add(self.parts.running.drain));
            }
        }
    }

    /// Does everything that the engine wants done, including what comes of that.
    fn act(&mut self, now: Now) {
        while !self.outputs.asks.is_empty() {
            let mut asks = std::mem::take(&mut self.outputs.asks);
            for request in asks.drain(..) {
                self.ask(now, request);
            }
            // Only verdicts were given since, and they ask nothing; the memory is used again.
            if self.outputs.asks.is_empty() {
                self.outputs.asks = asks;
            }
        }
        for login in self.outputs.cancels.drain(..) {
            if let Some(task) = self.tasks.remove(&login) {
                task.handle.abort();
            }
        }
        for login in self.outputs.released.drain(..) {
            if let Some(task) = self.tasks.remove(&login) {
                task.released.release();
                task.handle.abort();
            }
        }
        if !self.outputs.peers.is_empty() {
            self.parts.peers.send(std::mem::take(&mut self.outputs.peers));
        }
        self.send(now);
        let instant = Instant::now();
        for record in &self.outputs.records {
            self.counts.login(record);
            self.parts.records.add(record, instant);
        }
        for notice in &self.outputs.notices {
            tell(notice);
        }
        self.outputs.clear();
        self.parts.records.hand_over_if_due(instant);
    }

    fn ask(&mut self, now: Now, request: FactorRequest) {
        let login = request.login;
        let wall = UNIX_EPOCH + now.unix;
        let told: Arc<dyn Pushed> = Arc::clone(&self.parts.mailbox) as Arc<dyn Pushed>;
        let asking = Asking::new(wall, login, told);
        let released = asking.released();
        match Arc::clone(&self.parts.running.provider).ask(request, asking) {
            Answer::Now(verdict) => self.parts.engine.verdict(now, login, verdict, &mut self.outputs),
            Answer::Later(_) if self.tasks.len() >= self.parts.running.max_pending => {
                let verdict = refused(
                    None,
                    RefusalReason::Throttled,
                    "Too many logins are waiting. Try again.",
                );
                self.parts.engine.verdict(now, login, verdict, &mut self.outputs);
            }
            Answer::Later(future) => self.follow(login, future, released),
        }
    }

    fn follow(
        &mut self,
        login: LoginId,
        future: BoxFuture<proxy_core::factor::Verdict>,
        released: Arc<Released>,
    ) {
        let mailbox = Arc::clone(&self.parts.mailbox);
        let task = self.parts.runtime.spawn(async move {
            let verdict = future.await;
            mailbox.put(Message::Verdict(login, verdict));
        });
        let handle = task.abort_handle();
        self.tasks.insert(login, Task { handle, released });
    }

    fn send(&mut self, now: Now) {
        let metrics = &self.parts.metrics;
        let mut first: Option<(SocketAddr, std::io::Error)> = None;
        self.sender
            .send(&self.parts.sockets, self.outputs.datagrams(), |to, error| {
                metrics.send_failures.inc();
                first.get_or_insert((to, error));
            });
        let quiet = now.monotonic.saturating_sub(self.send_failures_told) >= Duration::from_secs(1);
        if let Some((to, error)) = first.filter(|_| quiet) {
            self.send_failures_told = now.monotonic;
            tracing::warn!(%to, %error, "an answer could not be sent");
        }
    }

    fn is_drained(&self, now: Now) -> bool {
        self.drain_until
            .is_some_and(|until| self.parts.engine.pending() == 0 || now.monotonic >= until)
    }

    fn publish(&mut self, now: Now) {
        self.last_published = now.monotonic;
        self.is_published = true;
        self.counts.publish(&mut self.parts.engine);
        let pending = i64::try_from(self.parts.engine.pending()).unwrap_or(i64::MAX);
        self.parts.metrics.pending.set(pending);
    }

    /// Waits for a datagram, a message or the next deadline.
    fn wait(&self) {
        let now = self.parts.clock.now().monotonic;
        let due = self
            .parts
            .engine
            .next_deadline()
            .map(|deadline| deadline.saturating_sub(now));
        let drained = self.drain_until.map(|until| until.saturating_sub(now));
        let records = self.parts.records.is_waiting().then_some(HAND_OVER_AFTER);
        let published = (!self.is_published).then_some(PUBLISH_EVERY);
        let longest = [due, drained, records, published]
            .into_iter()
            .flatten()
            .fold(LONGEST_WAIT, Duration::min);
        // Rounded up: waking just before a deadline would be waking twice.
        let longest = longest.saturating_add(Duration::from_micros(50));
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let bell = std::iter::once(self.parts.mailbox.bell());
        let mut fds: Vec<PollFd<'_>> = self
            .parts
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
        reason = notice.reason.name(),
        unreported = notice.suppressed,
        "a datagram was dropped"
    );
}
