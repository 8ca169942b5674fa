//! Several engines, the network between them, and a provider that all of them ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::counters::Event;
use crate::factor::{Credential, FactorRequest, LoginId, UserName, Verdict};
use crate::outputs::{Outputs, SocketId};
use crate::peers::{Body, Instance, PeerMessage, PushHandle, ToPeer};
use crate::record::{LoginRecord, LoginResult, Reason};
use crate::testing::client::Build;
use crate::testing::{self, PEERS, SECRET, config_with, settings};
use crate::{Engine, Now};

/// A datagram under way.
pub(super) struct Flying {
    pub(super) from: usize,
    instance: Instance,
    pub(super) to: usize,
    /// Which run of the receiver it is for, unless it is for any.
    only: Option<Instance>,
    message: PeerMessage,
}

/// Who follows which push: node, run, login.
pub(super) type Follower = (usize, Instance, LoginId);

/// A member: an engine, and how often it was started.
struct Node {
    engine: Engine,
    run: u8,
}

pub(super) struct Group {
    nodes: Vec<Node>,
    client: &'static str,
    pub(super) now: u64,
    pub(super) flying: Vec<Flying>,
    /// Number of the push that each login follows.
    pub(super) followers: BTreeMap<Follower, usize>,
    pub(super) pushes: usize,
    /// Accepts by push: which node, and the bytes.
    pub(super) accepts: BTreeMap<String, Vec<(usize, u8, Vec<u8>)>>,
    /// What became of logins since it was looked at: node and word.
    pub(super) outcomes: Vec<String>,
    pub(super) released: usize,
    /// Users of the pushes, by number.
    pub(super) users: Vec<String>,
    packets: u8,
    /// The newest packet, and where from.
    pub(super) last_packet: (SocketAddr, Vec<u8>),
}

fn engine(node: usize, run: u8, client: &str) -> Engine {
    let seed = [u8::try_from(node).unwrap() + 1, run].repeat(16);
    let config = config_with(
        &format!(
            "{PEERS}[policy.limits]\npushes_per_user_per_minute = 60\nlogins_per_user_per_minute = 600\n"
        ),
        client,
    );
    Engine::new(settings(config), seed.try_into().unwrap())
}

impl Group {
    pub(super) fn new(size: usize) -> Self {
        Self::of(size, "")
    }

    /// The same, of a client with this configuration.
    pub(super) fn of(size: usize, client: &'static str) -> Self {
        let nodes = (0..size).map(|node| Node {
            engine: engine(node, 0, client),
            run: 0,
        });
        Self {
            client,
            nodes: nodes.collect(),
            now: 0,
            flying: Vec::new(),
            followers: BTreeMap::new(),
            pushes: 0,
            accepts: BTreeMap::new(),
            outcomes: Vec::new(),
            released: 0,
            users: Vec::new(),
            packets: 0,
            last_packet: ("192.0.2.1:0".parse().unwrap(), Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn now(&self) -> Now {
        testing::at(self.now)
    }

    fn with(&mut self, node: usize, call: impl FnOnce(&mut Engine, Now, &mut Outputs)) {
        let (now, mut out) = (self.now(), Outputs::new());
        call(&mut self.nodes[node].engine, now, &mut out);
        self.take(node, &mut out);
    }

    fn take(&mut self, node: usize, out: &mut Outputs) {
        let instance = self.nodes[node].engine.instance();
        for ToPeer { to, message } in out.peers.drain(..) {
            for other in (0..self.len()).filter(|other| *other != node) {
                let theirs = self.nodes[other].engine.instance();
                if to.is_none_or(|to| to == theirs) {
                    self.flying.push(Flying {
                        from: node,
                        instance,
                        to: other,
                        only: to,
                        message: message.clone(),
                    });
                }
            }
        }
        self.released += out.released.len();
        for login in out.cancels.drain(..).chain(out.released.drain(..)) {
            self.followers.remove(&(node, instance, login));
        }
        for record in &out.records {
            self.outcomes.push(format!("{node} {}", outcome(record)));
        }
        for datagram in out.datagrams().filter(|datagram| datagram.bytes[0] == 2) {
            let text = String::from_utf8_lossy(datagram.bytes).into_owned();
            let push = text
                .split("push ")
                .nth(1)
                .expect("which push")
                .chars()
                .take(4)
                .collect();
            let accept = (node, self.nodes[node].run, datagram.bytes.to_vec());
            let accepts = self.accepts.entry(push).or_default();
            if !accepts.contains(&accept) {
                accepts.push(accept);
            }
        }
        for ask in std::mem::take(&mut out.asks) {
            let push = match &ask.credential {
                Credential::Follow(handle) => {
                    self.outcomes.push(format!("{node} follows"));
                    handle.as_str().parse().unwrap()
                }
                _ => {
                    self.outcomes.push(format!("{node} pushes"));
                    self.users.push(ask.user.as_str().to_owned());
                    self.pushes += 1;
                    self.pushes - 1
                }
            };
            self.followers.insert((node, instance, ask.login), push);
            if !matches!(ask.credential, Credential::Follow(_)) {
                let handle = PushHandle::new(push.to_string()).unwrap();
                self.with(node, |engine, now, out| {
                    engine.started(now, ask.login, handle, out);
                });
            }
        }
    }

    /// A new packet of a user.
    pub(super) fn packet(&mut self, node: usize, user: &str, text: &str, from: &str) {
        self.packets = self.packets.wrapping_add(1);
        let bytes = Build::access(self.packets, self.packets, SECRET)
            .user(user)
            .pap(text)
            .bytes();
        let from = format!("{from}:{}", 4000 + u16::from(self.packets))
            .parse()
            .unwrap();
        self.last_packet = (from, bytes.clone());
        self.with(node, |engine, now, out| {
            let name = UserName(user.to_owned());
            let known = engine.pushes.of_user(&name, now.monotonic);
            let known = known.map(|(_, push)| push.sender.text);
            let before = engine.counters().events(Event::KnownText);
            engine.receive(now, from, SocketId(0), &bytes, out);
            let is_push = |ask: &&FactorRequest| !matches!(ask.credential, Credential::Follow(_));
            if let Some(known) = known
                && let Some(ask) = out.asks.iter().find(is_push)
            {
                // Another login may pass the push: the one with the text that the user was let in with last.
                let is_other = engine.logins.get(ask.login).unwrap().sender.text != known;
                let passes = engine.counters().events(Event::KnownText) > before;
                assert!(is_other && passes, "a second push for a login");
            }
        });
    }

    /// A packet that was sent before.
    pub(super) fn again(&mut self, node: usize, (from, bytes): &(SocketAddr, Vec<u8>)) {
        self.with(node, |engine, now, out| {
            engine.receive(now, *from, SocketId(0), bytes, out);
        });
    }

    /// The provider's word for one follower; it leaves the push for the others to ask.
    pub(super) fn verdict(&mut self, follower: Follower, verdict: Verdict) {
        self.followers.remove(&follower);
        let (node, instance, login) = follower;
        if self.nodes[node].engine.instance() == instance {
            self.with(node, |engine, now, out| engine.verdict(now, login, verdict, out));
        }
    }

    pub(super) fn approve(&mut self, follower: Follower) {
        let push = self.followers[&follower];
        let mut approval = testing::approval(crate::factor::Factor::Push);
        approval.message = Some(format!("push {push:04}"));
        self.verdict(follower, Verdict::Approved(approval));
    }

    /// Every follower on a node hears of the approval.
    pub(super) fn approve_at(&mut self, node: usize) {
        let followers: Vec<_> = self.followers.keys().filter(|f| f.0 == node).copied().collect();
        for follower in followers {
            self.approve(follower);
        }
    }

    pub(super) fn deliver(&mut self, at: usize) {
        let Flying {
            instance,
            to,
            only,
            message,
            ..
        } = self.flying.swap_remove(at);
        let theirs = self.nodes[to].engine.instance();
        if only.is_none_or(|only| only == theirs) {
            self.with(to, |engine, now, out| engine.peer(now, instance, message, out));
        }
    }

    /// Delivers everything, but for what goes between the `cut` nodes and others.
    pub(super) fn settle(&mut self, cut: &[usize]) {
        while !self.flying.is_empty() {
            let flying = &self.flying[0];
            if cut.contains(&flying.from) || cut.contains(&flying.to) {
                self.flying.remove(0);
            } else {
                self.deliver(0);
            }
        }
    }

    /// Delivers everything, but for what `lost` says.
    pub(super) fn settle_without(&mut self, lost: impl Fn(&Body) -> bool) {
        while let Some(flying) = self.flying.first() {
            if lost(&flying.message.body) {
                self.flying.remove(0);
            } else {
                self.deliver(0);
            }
        }
    }

    /// Nodes that start pushes.
    pub(super) fn serving(&self) -> Vec<usize> {
        (0..self.len())
            .filter(|node| !self.nodes[*node].engine.draining)
            .collect()
    }

    /// Time passes, with a tick at every deadline of every engine.
    pub(super) fn wait(&mut self, milliseconds: u64, mut after_each: impl FnMut(&mut Self)) {
        let end = self.now + milliseconds;
        loop {
            let start = testing::at(0).monotonic;
            let due = self.nodes.iter().enumerate().filter_map(|(node, member)| {
                let deadline = member.engine.next_deadline()?.saturating_sub(start);
                Some((u64::try_from(deadline.as_micros().div_ceil(1000)).unwrap(), node))
            });
            let Some((deadline, node)) = due.min().filter(|(deadline, _)| *deadline <= end) else {
                break;
            };
            self.now = self.now.max(deadline);
            self.with(node, |engine, now, out| engine.tick(now, out));
            after_each(self);
        }
        self.now = end;
    }

    /// A pod ends without a word, and another run begins in its place.
    pub(super) fn crash(&mut self, node: usize) -> Instance {
        let old = self.nodes[node].engine.instance();
        let run = self.nodes[node].run + 1;
        self.nodes[node] = Node {
            engine: engine(node, run, self.client),
            run,
        };
        self.followers.retain(|follower, _| follower.0 != node);
        old
    }

    /// A node learns that a run of another is over.
    pub(super) fn gone(&mut self, node: usize, instance: Instance) {
        self.with(node, |engine, now, out| engine.peer_gone(now, instance, out));
    }

    /// Each node has heard these others lately.
    pub(super) fn hear(&mut self, heard: &[usize]) {
        let runs: Vec<_> = self.nodes.iter().map(|node| node.engine.instance()).collect();
        for (node, member) in self.nodes.iter_mut().enumerate() {
            let others = heard.iter().filter(|other| **other != node);
            member
                .engine
                .peers_here(others.map(|other| runs[*other]).collect());
        }
    }

    pub(super) fn drain(&mut self, node: usize) {
        self.with(node, Engine::drain);
    }

    /// Whether a node that is draining ends now.
    pub(super) fn is_drained(&self, node: usize) -> bool {
        self.nodes[node].engine.is_drained(self.now())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.engine.pending() == 0 && node.engine.logins.len() == 0 && node.engine.pushes.len() == 0
        })
    }

    /// The bound of the rule: no approval has more than one accept.
    pub(super) fn check(&self) {
        for (push, accepts) in &self.accepts {
            assert!(accepts.len() <= 1, "push {push} has {} accepts", accepts.len());
        }
    }
}

fn outcome(record: &LoginRecord) -> String {
    let followed = if record.followed { " followed" } else { "" };
    match (record.result, record.reason) {
        (LoginResult::Accept, reason) => {
            format!("accepts{followed}{}", reason.map_or("", |_| " late"))
        }
        (_, reason) => format!("{}{followed}", reason.map_or("-", Reason::name)),
    }
}
