//! Everything that decides about a login, behind one lock: that is what makes "one login, one push" hold over all sockets
//! and threads. What threads can do at once, they do before and after it ([`super::workers`]).

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_core::factor::{FactorRequest, LoginId, RefusalReason, Verdict};
use proxy_core::outputs::{Outputs, SocketId};
use proxy_core::{Engine, Now, ObservedChanges, Opened, Settings};
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::counts::Counts;
use super::lookout::{Lookout, Next};
use super::mailbox::{Mailbox, Message, Reconfigured};
use super::report::Observation;
use crate::locks::write;
use crate::metrics::Metrics;
use crate::peers::Outgoing;
use crate::provider::{Answer, Asking, BoxFuture, Pushed, Released, refused};
use crate::udp::{BATCH, Receiver};

/// Without anything to do, somebody wakes so often: for the metrics.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a Reject waits where a provider or a store has refused what the user gave. A directory may ask all its servers
/// at once, and a code is right for one of them and used for the others: the Accept must arrive first. FreeRADIUS has
/// `reject_delay` with the same default.
const REJECT_DELAY: Duration = Duration::from_secs(1);
/// How often counters go to the metrics while there is something to do.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// What it is made of.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) running: Reconfigured,
    /// The settings of `running`.
    pub(super) current: Current,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
    pub(super) peers: Outgoing,
    /// What the engine observes of the directory.
    pub(super) observing: watch::Sender<Observation>,
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
    observed: ObservedChanges,
    /// Nothing has happened since.
    is_published: bool,
    lookout: Lookout,
}

/// The configuration that datagrams are opened with, for all threads. A thread takes it for a batch and keeps none: what is
/// dropped from it is dropped from memory.
pub(super) type Current = Arc<RwLock<Settings>>;

/// What a thread brings to its turn.
pub(super) struct Brought<'a> {
    /// Where the datagrams are.
    pub(super) receiver: &'a Receiver,
    /// The same, opened, and with which settings.
    pub(super) opened: Opening<'a>,
    /// It is the one that can wait for datagrams.
    pub(super) at_sockets: bool,
    /// It comes from waiting for them.
    pub(super) has_waited: bool,
}

/// Datagrams of one batch, opened.
pub(super) struct Opening<'a> {
    settings: Settings,
    datagrams: SmallVec<[(SocketId, Opened<'a>); BATCH]>,
}

impl<'a> Opening<'a> {
    pub(super) fn of(receiver: &'a Receiver, settings: Settings) -> Self {
        let datagrams = receiver
            .arrived()
            .map(|(from, path, bytes)| (path, settings.open(from, bytes)))
            .collect();
        Self { settings, datagrams }
    }
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
            observed: ObservedChanges::default(),
            is_published: false,
            lookout: Lookout::default(),
        }
    }

    /// A thread's turn: decides about what it has brought, about messages and deadlines. What is to be sent and recorded
    /// is left in `out`.
    pub(super) fn turn(&mut self, clock: Clock, brought: Brought<'_>, out: &mut Outputs) -> Next {
        let Brought {
            receiver,
            mut opened,
            at_sockets,
            has_waited,
        } = brought;
        // Under the lock, so that time does not go back for the engine.
        let now = clock.now();
        if has_waited {
            self.lookout.came_back();
        }
        let mut is_idle = opened.datagrams.is_empty();
        is_idle &= !self.take_messages(now, out);
        // A reload came between: whoever has no right any more by now, or has it only since, is looked at again.
        if !opened.settings.is(&self.parts.running.settings) {
            opened = Opening::of(receiver, self.parts.running.settings.clone());
        }
        for (socket, opened) in opened.datagrams {
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
        let (next, rings) = self
            .lookout
            .after(now.monotonic, until, self.is_drained(now), may_wait);
        if rings {
            self.parts.mailbox.ring();
        }
        next
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
                let mut current = write(&self.parts.current);
                current.clone_from(&next.settings);
                drop(current);
                self.parts.running = *next;
            }
            Message::Drain => {
                self.parts.engine.drain(now, out);
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
        // A client with little patience gets its answer all the same.
        let reject_delay = REJECT_DELAY.min(request.answer_within / 4);
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
            Answer::Later(future) => self.follow(login, future, reject_delay, released),
        }
    }

    fn follow(
        &mut self,
        login: LoginId,
        future: BoxFuture<Verdict>,
        reject_delay: Duration,
        released: Arc<Released>,
    ) {
        let mailbox = Arc::clone(&self.parts.mailbox);
        let task = self.parts.runtime.spawn(async move {
            let verdict = future.await;
            if is_refused_by_the_provider(&verdict) {
                tokio::time::sleep(reject_delay).await;
            }
            mailbox.put(Message::Verdict(login, verdict));
        });
        let handle = task.abort_handle();
        self.tasks.insert(login, Task { handle, released });
    }

    fn is_drained(&self, now: Now) -> bool {
        self.drain_until
            .is_some_and(|until| self.parts.engine.is_drained(now) || now.monotonic >= until)
    }

    fn publish(&mut self, now: Now) {
        self.last_published = now.monotonic;
        self.is_published = true;
        self.counts.publish(&mut self.parts.engine);
        let changes = self.parts.engine.observed_changes();
        if std::mem::replace(&mut self.observed, changes) != changes {
            let observed = self.parts.engine.observed();
            let notable = changes.notable;
            self.parts
                .observing
                .send_replace(Observation { observed, notable });
        }
        let pending = i64::try_from(self.parts.engine.pending()).unwrap_or(i64::MAX);
        self.parts.metrics.pending.set(pending);
    }
}

/// Whether a provider has judged what the user gave, and refuses it.
fn is_refused_by_the_provider(verdict: &Verdict) -> bool {
    use RefusalReason::{Denied, PasscodeReplayed, WrongPasscode};
    matches!(verdict, Verdict::Refused(refusal) if matches!(refusal.reason, Denied | PasscodeReplayed | WrongPasscode))
}
