//! The way between the proxies of one group: datagrams over UDP, sealed, to every address that the group's names have, and
//! to whoever was heard lately: of two that begin, one may know the other first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_config::Peers;
use proxy_core::peers::{Instance, PeerMessage, ToPeer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use crate::error::Error;
use crate::metrics::{Metrics, ReasonLabel};
use crate::serve::Heard;

mod seal;

use seal::{Opener, Rejected, Sealer};

/// So often names are looked up, and everybody is told that this run is here.
const GREET_EVERY: Duration = Duration::from_secs(2);
/// Messages are packed up to this size: with the largest one more it still fits an unfragmented path of 1,500 bytes in
/// almost every case.
const PACKED: usize = 700;
const LARGEST: usize = 4096;
/// Lists of messages that wait to be sent.
const WAITING: usize = 8192;
/// Addresses of the group at most.
const ADDRESSES: usize = 64;
/// Authentic datagrams that are taken within a second.
const PER_SECOND: u32 = 50_000;
/// Forged datagrams per second from one proxy's address, or from all other addresses together. Beyond them no datagram from
/// there is opened until the second is over. Each proxy's address has its own count, so that a flood from elsewhere doesn't
/// silence a proxy.
const FORGED_PER_SECOND: u32 = 10_000;
/// Who was heard within this time counts as there.
const THERE: Duration = Duration::from_secs(10);

/// Where the engine leaves what others are told.
#[derive(Clone)]
pub(crate) struct Outgoing(Option<mpsc::Sender<Vec<ToPeer>>>, Arc<Metrics>);

impl Outgoing {
    /// Whether this proxy is in a group.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What finds no room is lost and counted: messages are repeated, and a lost one costs no more than a hand-over.
    pub(crate) fn send(&self, messages: Vec<ToPeer>) {
        if let Some(sender) = &self.0
            && sender.try_send(messages).is_err()
        {
            self.1.peer_lost.inc();
        }
    }
}

/// The socket and what is behind it; run by [`Net::run`].
pub(crate) struct Net {
    socket: UdpSocket,
    is_v6: bool,
    outgoing: mpsc::Receiver<Vec<ToPeer>>,
    config: watch::Receiver<Option<Peers>>,
    metrics: Arc<Metrics>,
}

/// Binds the group's socket, if there is a group.
///
/// # Errors
/// The address cannot be bound.
pub(crate) async fn bind(
    config: watch::Receiver<Option<Peers>>,
    metrics: &Arc<Metrics>,
) -> Result<(Outgoing, Option<Net>), Error> {
    let address = config.borrow().as_ref().map(|peers| peers.listen);
    let Some(address) = address else {
        return Ok((Outgoing(None, Arc::clone(metrics)), None));
    };
    let (socket, is_v6) = bound(address).map_err(|source| Error::Bind {
        kind: "UDP",
        address,
        source,
    })?;
    for reason in Rejected::ALL {
        let _ = metrics.peer_rejects.get_or_create(&ReasonLabel {
            reason: reason.name(),
        });
    }
    let (sender, outgoing) = mpsc::channel(WAITING);
    let net = Net {
        socket,
        is_v6,
        outgoing,
        config,
        metrics: Arc::clone(metrics),
    };
    Ok((Outgoing(Some(sender), Arc::clone(metrics)), Some(net)))
}

fn bound(address: SocketAddr) -> io::Result<(UdpSocket, bool)> {
    let make = |address: SocketAddr| -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    match make(address) {
        // A kernel without IPv6 still has everything that "[::]" promises for IPv4.
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            make(v4).map(|socket| (socket, false))
        }
        socket => socket.map(|socket| (socket, address.is_ipv6())),
    }
}

impl Net {
    /// Carries messages until nobody is left who could give it more.
    pub(crate) async fn run(mut self, me: Instance, heard: Arc<dyn Heard>) {
        let Some(peers) = self.config.borrow_and_update().clone() else {
            return;
        };
        let started = unix_now();
        let mut group = Group {
            me,
            sealer: Sealer::new(&peers.key, me, started),
            opener: Opener::new(peers.key.clone()),
            resolved: BTreeSet::new(),
            own: BTreeSet::new(),
            runs: HashMap::new(),
            told: BTreeSet::new(),
            second: Second::new(),
        };
        let (found, mut addresses) = watch::channel(BTreeSet::new());
        tokio::spawn(look_up(self.config.clone(), found));
        let mut greet = tokio::time::interval(GREET_EVERY);
        greet.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut buffer = [0; LARGEST];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is of one datagram (an ICMP answer to an earlier one).
                    if let Ok((length, from)) = received {
                        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                        if let Some(datagram) = buffer.get_mut(..length) {
                            self.take(&mut group, from, datagram, heard.as_ref());
                        }
                    }
                }
                messages = self.outgoing.recv() => {
                    let Some(messages) = messages else { return };
                    self.send(&mut group, messages).await;
                }
                changed = addresses.changed() => {
                    if changed.is_ok() {
                        group.resolved.clone_from(&addresses.borrow_and_update());
                        self.greet(&mut group).await;
                    }
                }
                changed = self.config.changed() => {
                    let peers = self.config.borrow_and_update().clone();
                    if let (Ok(()), Some(peers)) = (changed, peers) {
                        group.sealer.rekey(&peers.key);
                        group.opener.rekey(peers.key);
                    }
                }
                _ = greet.tick() => {
                    self.tell_who_is_here(&mut group, heard.as_ref());
                    self.greet(&mut group).await;
                }
            }
        }
    }

    fn take(&self, group: &mut Group, from: SocketAddr, datagram: &mut [u8], heard: &dyn Heard) {
        match group.take(from, datagram) {
            Ok(Taken { from, gone, messages }) => {
                if let Some(gone) = gone {
                    heard.gone(gone);
                }
                if !group.told.contains(&from) || gone.is_some() {
                    self.tell_who_is_here(group, heard);
                }
                self.metrics
                    .peer_received
                    .inc_by(u64::try_from(messages.len()).unwrap_or(u64::MAX));
                for message in messages {
                    heard.message(from, message);
                }
            }
            Err(None) => {}
            Err(Some(reason)) => {
                let label = ReasonLabel {
                    reason: reason.name(),
                };
                self.metrics.peer_rejects.get_or_create(&label).inc();
            }
        }
    }

    fn tell_who_is_here(&self, group: &mut Group, heard: &dyn Heard) {
        let here = group.here();
        self.metrics
            .peers
            .set(i64::try_from(here.len()).unwrap_or(i64::MAX));
        if here != group.told {
            group.told.clone_from(&here);
            heard.here(here);
        }
    }

    /// Everybody sees which run this is, and who has begun anew.
    async fn greet(&self, group: &mut Group) {
        for to in group.targets() {
            self.send_one(group, to, b"[]").await;
        }
    }

    async fn send(&self, group: &mut Group, messages: Vec<ToPeer>) {
        let mut packed: BTreeMap<SocketAddr, Vec<u8>> = BTreeMap::new();
        for ToPeer { to, message } in messages {
            let Ok(json) = serde_json::to_vec(&message) else {
                continue;
            };
            let targets = match to {
                None => group.targets(),
                Some(instance) => group
                    .runs
                    .get(&instance)
                    .map(|run| run.address)
                    .into_iter()
                    .collect(),
            };
            self.metrics
                .peer_sent
                .inc_by(u64::try_from(targets.len()).unwrap_or(u64::MAX));
            for target in targets {
                let list = packed.entry(target).or_default();
                list.push(if list.is_empty() { b'[' } else { b',' });
                list.extend(&json);
                if list.len() >= PACKED {
                    let mut full = std::mem::take(list);
                    full.push(b']');
                    self.send_one(group, target, &full).await;
                }
            }
        }
        for (target, mut list) in packed {
            if !list.is_empty() {
                list.push(b']');
                self.send_one(group, target, &list).await;
            }
        }
    }

    async fn send_one(&self, group: &mut Group, to: SocketAddr, messages: &[u8]) {
        let to = match to.ip() {
            IpAddr::V4(v4) if self.is_v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        if let Some(sealed) = group.sealer.seal(unix_now(), messages) {
            // What cannot be sent is repeated, or the other is not there.
            let _ = self.socket.send_to(&sealed, to).await;
        }
    }
}

/// Who is in the group, as far as it is known.
struct Group {
    me: Instance,
    sealer: Sealer,
    opener: Opener,
    resolved: BTreeSet<SocketAddr>,
    own: BTreeSet<SocketAddr>,
    runs: HashMap<Instance, Run>,
    /// Of whom the engine was told that they are there.
    told: BTreeSet<Instance>,
    second: Second,
}

/// Counts of one second.
struct Second {
    began: Instant,
    authentic: u32,
    /// By address of a proxy of the group; `None` for all other addresses together.
    forged: HashMap<Option<SocketAddr>, u32>,
}

impl Second {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            authentic: 0,
            forged: HashMap::new(),
        }
    }
}

struct Run {
    address: SocketAddr,
    started: u64,
    heard: Instant,
}

impl Run {
    fn is_there(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < THERE
    }
}

#[derive(Debug)]
struct Taken {
    from: Instance,
    /// The run that had the address before.
    gone: Option<Instance>,
    messages: Vec<PeerMessage>,
}

impl Group {
    /// Who was heard lately.
    fn here(&self) -> BTreeSet<Instance> {
        let now = Instant::now();
        let there = self.runs.iter().filter(|(_, run)| run.is_there(now));
        there.map(|(instance, _)| *instance).collect()
    }

    fn targets(&self) -> Vec<SocketAddr> {
        let now = Instant::now();
        let heard = self.runs.values().filter(|run| run.is_there(now));
        let heard: BTreeSet<_> = heard.map(|run| run.address).collect();
        let all: BTreeSet<_> = self.resolved.union(&heard).copied().collect();
        all.difference(&self.own).copied().collect()
    }

    /// `Err(None)` for what this run said itself.
    fn take(&mut self, address: SocketAddr, datagram: &mut [u8]) -> Result<Taken, Option<Rejected>> {
        if self.second.began.elapsed() >= Duration::from_secs(1) {
            self.second = Second::new();
        }
        let sender = self.is_of_the_group(address).then_some(address);
        let forged = self.second.forged.entry(sender).or_default();
        if *forged >= FORGED_PER_SECOND || self.second.authentic >= PER_SECOND {
            return Err(Some(Rejected::TooMany));
        }
        let opened = match self.opener.open(unix_now(), datagram) {
            Ok(opened) => opened,
            Err(rejected) => {
                *forged += 1;
                return Err(Some(rejected));
            }
        };
        self.second.authentic += 1;
        let (from, started) = (opened.from, opened.started);
        if from == self.me {
            self.own.insert(address);
            return Err(None);
        }
        let messages = serde_json::from_slice(opened.messages).map_err(|_| Rejected::Unreadable)?;
        let gone = self.hear(from, address, started);
        Ok(Taken { from, gone, messages })
    }

    fn is_of_the_group(&self, address: SocketAddr) -> bool {
        self.resolved.contains(&address) || self.runs.values().any(|run| run.address == address)
    }

    /// A run that speaks from another's address and began later has taken its place: one socket, one run. That holds only
    /// where nothing between the proxies translates their addresses.
    fn hear(&mut self, from: Instance, address: SocketAddr, started: u64) -> Option<Instance> {
        let before = self
            .runs
            .iter()
            .find(|(instance, run)| **instance != from && run.address == address && run.started < started);
        let gone = before.map(|(instance, _)| *instance);
        if let Some(gone) = gone {
            self.runs.remove(&gone);
        }
        if self.runs.len() >= ADDRESSES && !self.runs.contains_key(&from) {
            let longest_ago = self.runs.iter().min_by_key(|(_, run)| run.heard);
            if let Some(old) = longest_ago.map(|(old, _)| *old) {
                self.runs.remove(&old);
            }
        }
        let run = Run {
            address,
            started,
            heard: Instant::now(),
        };
        self.runs.insert(from, run);
        gone
    }
}

/// Follows the names. What cannot be looked up keeps the addresses that it had.
async fn look_up(mut config: watch::Receiver<Option<Peers>>, found: watch::Sender<BTreeSet<SocketAddr>>) {
    let mut by_name: BTreeMap<(String, u16), Vec<SocketAddr>> = BTreeMap::new();
    let resolver = crate::provider::http::Resolver::default();
    loop {
        let names = config
            .borrow_and_update()
            .as_ref()
            .map(|peers| peers.addresses.clone());
        let names = names.unwrap_or_default();
        by_name.retain(|name, _| names.contains(name));
        for name in names {
            match resolver.addresses_now(&name.0).await {
                Ok(found) => {
                    let found = found.into_iter().take(ADDRESSES);
                    let addresses = found.map(|address| SocketAddr::new(address, name.1)).collect();
                    by_name.insert(name, addresses);
                }
                Err(error) => tracing::debug!(name = name.0, %error, "the other proxies cannot be looked up"),
            }
        }
        let all = by_name.values().flatten();
        let all: BTreeSet<_> = all
            .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
            .take(ADDRESSES)
            .collect();
        found.send_if_modified(|known| {
            let changed = *known != all;
            *known = all;
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(GREET_EVERY) => {}
            changed = config.changed() => if changed.is_err() { return },
            () = found.closed() => return,
        }
    }
}

fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::peer_key;

    fn group(me: Instance) -> Group {
        let key = peer_key("0123456789abcdef0123456789abcdef");
        Group {
            me,
            sealer: Sealer::new(&key, me, 1),
            opener: Opener::new(key),
            resolved: BTreeSet::new(),
            own: BTreeSet::new(),
            runs: HashMap::new(),
            told: BTreeSet::new(),
            second: Second::new(),
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_proxy_knows_itself_by_its_own_word_and_whoever_spoke_to_it() {
        let [one, two] = ["10.0.0.1:1814", "10.0.0.2:1814"].map(address);
        let (mut here, mut there) = (group(Instance(1)), group(Instance(2)));
        here.resolved = [one].into();
        assert_eq!(here.targets(), [one], "it cannot know yet");
        let mut own = here.sealer.seal(unix_now(), b"[]").unwrap();
        assert_eq!(here.take(one, &mut own).err(), Some(None));
        assert_eq!(here.targets(), []);
        // Nobody has told the first one of the second.
        let mut greeting = there.sealer.seal(unix_now(), b"[]").unwrap();
        assert!(here.take(two, &mut greeting).is_ok());
        assert_eq!(here.targets(), [two]);
        let run = here.runs.get_mut(&Instance(2)).unwrap();
        run.heard = Instant::now().checked_sub(THERE).unwrap();
        assert_eq!(here.targets(), [], "it has been silent for too long");
    }

    #[test]
    fn datagrams_that_are_not_authentic_keep_no_other_proxy_from_being_heard() {
        let [two, three, stranger] = ["10.0.0.2:1814", "10.0.0.3:1814", "10.9.9.9:666"].map(address);
        let (mut here, mut there, mut third) = (group(Instance(1)), group(Instance(2)), group(Instance(3)));
        let mut greeting = there.sealer.seal(unix_now(), b"[]").unwrap();
        assert!(here.take(two, &mut greeting).is_ok());
        here.resolved = [three].into();
        for from in [stranger, two] {
            // As long as a greeting, so that it costs as much.
            let mut forged = vec![7; greeting.len()];
            while here.take(from, &mut forged).unwrap_err() != Some(Rejected::TooMany) {}
        }
        let mut greeting = third.sealer.seal(unix_now(), b"[]").unwrap();
        assert!(here.take(three, &mut greeting).is_ok());
    }
}
