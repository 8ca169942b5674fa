//! Everything that decides about a login, behind one lock: that is what makes "one login, one push" hold over all sockets
//! and threads. What threads can do at once, they do before and after it ([`super::workers`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_core::factor::{FactorRequest, LoginId, RefusalReason};
use proxy_core::outputs::{Outputs, SocketId};
use proxy_core::{Engine, Now, Opened, Settings};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::counts::Counts;
use super::mailbox::{Mailbox, Message, Reconfigured};
use crate::metrics::Metrics;
use crate::peers::Outgoing;
use crate::provider::{Answer, Asking, BoxFuture, Pushed, Released, refused};

/// Without anything to do, somebody wakes so often: for the metrics.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often counters go to the metrics while there is something to do.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// What it is made of.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) running: Reconfigured,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
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

/// A provider at work for a login.
struct Task {
    handle: AbortHandle,
    released: Arc<Released>,
}

/// The engine, its configuration, and the providers at work for it.
pub(super) struct Decider {
    parts: Parts,
    counts: Counts,
    tasks: HashMap<LoginId, Task>,
    messages: Vec<Message>,
    drain_until: Option<Duration>,
    last_published: Duration,
    /// Nothing has happened since.
    is_published: bool,
    /// Until when the thread at the sockets waits, if nothing comes.
    waits_until: Option<Duration>,
}

/// How a thread goes on after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once: there may be more.
    Again,
    /// When something comes, or after so long.
    Wait(Duration),
    /// It is over.
    End,
}

impl Decider {
    pub(super) fn new(parts: Parts) -> Self {
        let mut counts = Counts::new(Arc::clone(&parts.metrics));
        counts.clients(&parts.running.clients);
        Self {
            counts,
            parts,
            tasks: HashMap::new(),
            messages: Vec::new(),
            drain_until: None,
            last_published: Duration::ZERO,
            is_published: false,
            waits_until: None,
        }
    }

    /// The configuration that datagrams are to be opened with.
    pub(super) fn settings(&self) -> &Settings {
        &self.parts.running.settings
    }

    /// A thread's turn: decides about what it has brought, about messages and deadlines. What is to be sent and recorded
    /// is left in `out`. `at_sockets` is the one thread that can wait for datagrams.
    pub(super) fn turn<'a>(
        &mut self,
        clock: Clock,
        at_sockets: bool,
        arrived: impl ExactSizeIterator<Item = (SocketId, Opened<'a>)>,
        out: &mut Outputs,
    ) -> Next {
        // Under the lock, so that time does not go back for the engine.
        let now = clock.now();
        if at_sockets {
            self.waits_until = None;
        }
        let mut is_idle = arrived.len() == 0;
        is_idle &= !self.take_messages(now, out);
        for (socket, opened) in arrived {
            self.parts.engine.take(now, socket, opened, out);
        }
        let deadline = self.parts.engine.next_deadline();
        if deadline.is_some_and(|deadline| deadline <= now.monotonic) {
            self.parts.engine.tick(now, out);
            is_idle = false;
        }
        self.act(now, out);
        for record in &out.records {
            self.counts.login(record);
        }
        self.is_published &= is_idle;
        if !self.is_published && now.monotonic.saturating_sub(self.last_published) >= PUBLISH_EVERY {
            self.publish(now);
        }
        self.next(now, is_idle && at_sockets)
    }

    /// What is at work now ends.
    pub(super) fn end(&mut self, clock: Clock) {
        for task in self.tasks.values() {
            // What is on a phone now may be approved for another proxy.
            if self.parts.peers.is_on() {
                task.released.release();
            }
            task.handle.abort();
        }
        self.publish(clock.now());
    }

    fn next(&mut self, now: Now, may_wait: bool) -> Next {
        let until = self.wakes_at(now);
        if self.is_drained(now) {
            self.parts.mailbox.ring();
            return Next::End;
        }
        if may_wait {
            self.waits_until = Some(until);
            return Next::Wait(until.saturating_sub(now.monotonic));
        }
        // Who waits did not know of this. Each turn looks again, since it may have silenced another's ring.
        if self.waits_until.is_some_and(|waits_until| until < waits_until) {
            self.parts.mailbox.ring();
        }
        Next::Again
    }

    /// When there is something to do, whatever comes.
    fn wakes_at(&self, now: Now) -> Duration {
        let published = (!self.is_published).then(|| self.last_published.saturating_add(PUBLISH_EVERY));
        [self.parts.engine.next_deadline(), self.drain_until, published]
            .into_iter()
            .flatten()
            .fold(now.monotonic.saturating_add(LONGEST_WAIT), Duration::min)
    }

    /// `false` when there is none.
    fn take_messages(&mut self, now: Now, out: &mut Outputs) -> bool {
        let mut messages = std::mem::take(&mut self.messages);
        self.parts.mailbox.take(&mut messages);
        let any = !messages.is_empty();
        for message in messages.drain(..) {
            self.message(now, message, out);
        }
        self.messages = messages;
        any
    }

    fn message(&mut self, now: Now, message: Message, out: &mut Outputs) {
        match message {
            Message::Verdict(login, verdict) => {
                self.tasks.remove(&login);
                self.parts.engine.verdict(now, login, verdict, out);
            }
            Message::Pushed(login) => self.parts.engine.pushed(now, login),
            Message::Announce(login, handle) => {
                self.parts.engine.started(now, login, handle, out);
            }
            Message::Peer(from, message) => {
                self.parts.engine.peer(now, from, message, out);
            }
            Message::PeerGone(instance) => {
                self.parts.engine.peer_gone(now, instance, out);
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
                self.parts.engine.drain(out);
                self.drain_until
                    .get_or_insert(now.monotonic.saturating_add(self.parts.running.drain));
            }
        }
    }

    /// Does what the engine wants done, and what comes of that, except for sending and recording.
    fn act(&mut self, now: Now, out: &mut Outputs) {
        while !out.asks.is_empty() {
            let mut asks = std::mem::take(&mut out.asks);
            for request in asks.drain(..) {
                self.ask(now, request, out);
            }
            // Only verdicts were given since, and they ask nothing; the memory is used again.
            if out.asks.is_empty() {
                out.asks = asks;
            }
        }
        for login in out.cancels.drain(..) {
            if let Some(task) = self.tasks.remove(&login) {
                task.handle.abort();
            }
        }
        for login in out.released.drain(..) {
            if let Some(task) = self.tasks.remove(&login) {
                task.released.release();
                task.handle.abort();
            }
        }
        if !out.peers.is_empty() {
            self.parts.peers.send(std::mem::take(&mut out.peers));
        }
    }

    fn ask(&mut self, now: Now, request: FactorRequest, out: &mut Outputs) {
        let login = request.login;
        let wall = UNIX_EPOCH + now.unix;
        let told: Arc<dyn Pushed> = Arc::clone(&self.parts.mailbox) as Arc<dyn Pushed>;
        let asking = Asking::new(wall, login, told);
        let released = asking.released();
        match Arc::clone(&self.parts.running.provider).ask(request, asking) {
            Answer::Now(verdict) => self.parts.engine.verdict(now, login, verdict, out),
            Answer::Later(_) if self.tasks.len() >= self.parts.running.max_pending => {
                let verdict = refused(
                    None,
                    RefusalReason::Throttled,
                    "Too many logins are waiting. Try again.",
                );
                self.parts.engine.verdict(now, login, verdict, out);
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
}
