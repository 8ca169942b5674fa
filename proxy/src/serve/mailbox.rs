//! What other threads tell those that work with sockets and engine.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proxy_core::Settings;
use proxy_core::factor::{LoginId, Verdict};
use proxy_core::peers::{Instance, PeerMessage, PushHandle};
use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;
use crate::locks::lock;
use crate::metrics::Metrics;
use crate::provider::{Provider, Pushed};

/// One message.
pub(crate) enum Message {
    /// A provider's end of a login.
    Verdict(LoginId, Verdict),
    /// A push was started.
    Pushed(LoginId),
    /// A push can be followed by others.
    Announce(LoginId, PushHandle),
    /// What another proxy says.
    Peer(Instance, PeerMessage),
    /// A run of another proxy is over.
    PeerGone(Instance),
    /// The other proxies that were heard lately.
    PeersHere(BTreeSet<Instance>),
    /// Another configuration.
    Reconfigure(Box<Reconfigured>),
    /// Start nothing new; end when nothing is pending.
    Drain,
}

/// What a reload changes.
pub(crate) struct Reconfigured {
    pub(crate) settings: Settings,
    pub(crate) provider: Arc<dyn Provider>,
    /// The clients' names, as labels of metrics.
    pub(crate) clients: Vec<Arc<str>>,
    pub(crate) max_pending: usize,
    pub(crate) drain: Duration,
}

/// Messages a provider's tasks can leave unread. Each pending login leaves three at most; there are up to a million.
const CAPACITY: usize = 3_100_000;
/// So many messages may be unread when another proxy's are still taken.
const PEER_CAPACITY: usize = 65_536;

/// A bounded queue with a file descriptor that is readable while something is in it, or somebody is to look up.
pub(crate) struct Mailbox {
    inside: Mutex<Inside>,
    bell: OwnedFd,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inside {
    queue: Vec<Message>,
    rings: bool,
}

impl Mailbox {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Result<Self, Error> {
        let bell =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| Error::Start {
                what: "eventfd",
                source: error.into(),
            })?;
        Ok(Self {
            inside: Mutex::default(),
            bell,
            metrics,
        })
    }

    /// Leaves a message. A provider's message that finds no room is lost and counted: its login ends by the engine's
    /// own deadline.
    pub(crate) fn put(&self, message: Message) {
        let mut inside = self.lock();
        let queue = &mut inside.queue;
        match message {
            Message::Verdict(..) | Message::Pushed(_) | Message::Announce(..) if queue.len() >= CAPACITY => {
                self.metrics.lost_verdicts.inc();
                return;
            }
            Message::Peer(..) if queue.len() >= PEER_CAPACITY => {
                self.metrics.peer_lost.inc();
                return;
            }
            _ => {}
        }
        queue.push(message);
        self.ring_inside(&mut inside);
    }

    /// Wakes who waits at the bell, with nothing to say.
    pub(crate) fn ring(&self) {
        self.ring_inside(&mut self.lock());
    }

    /// Under the lock, as the reading of the bell is: a ring that came after its message was taken would be left for
    /// ever, and a reading after a newer message would take that one's ring.
    fn ring_inside(&self, inside: &mut Inside) {
        if !std::mem::replace(&mut inside.rings, true) {
            // It fails only when the counter is full, and then the bell is ringing anyway.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Takes all messages in order into `into`, which must be empty, and silences the bell.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        let mut inside = self.lock();
        if std::mem::take(&mut inside.rings) {
            let mut rings = [0_u8; 8];
            let _ = rustix::io::read(&self.bell, &mut rings);
            std::mem::swap(&mut inside.queue, into);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Pushed for Mailbox {
    fn pushed(&self, login: LoginId) {
        self.put(Message::Pushed(login));
    }

    fn announce(&self, login: LoginId, handle: PushHandle) {
        self.put(Message::Announce(login, handle));
    }
}

/// Who is told what other proxies say.
pub(crate) trait Heard: Send + Sync {
    /// A message of another proxy.
    fn message(&self, from: Instance, message: PeerMessage);

    /// A run of another proxy is over: another one speaks from its address.
    fn gone(&self, instance: Instance);

    /// These have been heard lately. Told when they change, before the messages of who is new.
    fn here(&self, instances: BTreeSet<Instance>);
}

impl Heard for Mailbox {
    fn message(&self, from: Instance, message: PeerMessage) {
        self.put(Message::Peer(from, message));
    }

    fn gone(&self, instance: Instance) {
        self.put(Message::PeerGone(instance));
    }

    fn here(&self, instances: BTreeSet<Instance>) {
        self.put(Message::PeersHere(instances));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn rings(mailbox: &Mailbox) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(mailbox.bell(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&at_once)).unwrap() == 1
    }

    #[test]
    fn the_bell_rings_while_something_is_inside() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        assert!(!rings(&mailbox));
        mailbox.put(Message::Drain);
        mailbox.pushed(LoginId(7));
        assert!(rings(&mailbox));
        let mut messages = Vec::new();
        mailbox.take(&mut messages);
        assert!(matches!(
            messages.as_slice(),
            [Message::Drain, Message::Pushed(LoginId(7))]
        ));
        assert!(!rings(&mailbox));
    }

    #[test]
    fn it_rings_without_a_message_until_somebody_looks() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        mailbox.ring();
        mailbox.ring();
        assert!(rings(&mailbox));
        let mut messages = Vec::new();
        mailbox.take(&mut messages);
        assert!(messages.is_empty() && !rings(&mailbox));
    }

    #[test]
    fn in_whatever_order_messages_are_left_and_taken_the_bell_rings_only_while_one_is_inside() {
        const MESSAGES: usize = 500;
        for _ in 0..20 {
            let mailbox = Mailbox::new(Arc::default()).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..MESSAGES).for_each(|_| mailbox.put(Message::Drain)));
                }
                let (mut taken, mut messages) = (0, Vec::new());
                while taken < 2 * MESSAGES {
                    mailbox.take(&mut messages);
                    taken += messages.drain(..).count();
                }
            });
            assert!(!rings(&mailbox));
            mailbox.put(Message::Drain);
            assert!(rings(&mailbox));
        }
    }
}
