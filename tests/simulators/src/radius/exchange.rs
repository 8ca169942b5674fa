//! A login over several servers: timeout, retries, fail-over.

mod schedule;
mod takeover;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Protocol,
    packet::{self, Answer, Content, Request},
};
use crate::{
    clock,
    directory::{LateAnswers, MessageAuthenticator, RadiusClient, Retransmission, ServerOrder},
    names::Names,
    secret::Secret,
};

/// The largest packet (RFC 2865 section 3).
const LARGEST: usize = 4096;
/// Packets that are told of one login.
const TOLD: usize = 1000;

/// How a login went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Access-Accept.
    Accept,
    /// Access-Reject.
    Reject,
    /// Access-Challenge, which a directory cannot answer.
    Challenge,
    /// No valid answer from anyone.
    #[default]
    Timeout,
    /// RADIUS is off.
    NotConfigured,
    /// An answer that the protocol forbids (`error` says what).
    Error,
}

/// What a packet was.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PacketKind {
    /// The first to this server.
    Request,
    /// A further one to this server.
    Retransmission,
    /// A valid answer.
    Answer,
    /// An answer that was not taken.
    BadAnswer,
    /// ICMP says that nobody listens there.
    Refused,
    /// The server's name has no address.
    Unresolvable,
}

/// One packet of a login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PacketRecord {
    /// As registered.
    pub server: String,
    /// Its UDP port.
    pub port: u16,
    /// Since the login began.
    pub offset_ms: u64,
    /// RADIUS identifier.
    pub id: u8,
    /// What it was.
    pub kind: PacketKind,
    /// What its code is called.
    pub code: String,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A login from beginning to end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoginResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Who.
    pub username: String,
    /// How the password was sent.
    pub protocol: Option<Protocol>,
    /// Who answered.
    pub server: Option<String>,
    /// What they said.
    pub reply_message: Option<String>,
    /// From the first packet to the end.
    pub duration_ms: u64,
    /// RFC 3339.
    pub started: String,
    /// Packets sent.
    pub attempts: u32,
    /// Whether more than one server was asked.
    pub failed_over: bool,
    /// The controller, or the address, that continued the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over_by: Option<String>,
    /// Whether RADIUS settings were changing meanwhile, so that AWS would have refused.
    pub aws_would_refuse: bool,
    /// `verified`, `absent` or (no answer) `none`.
    pub message_authenticator: String,
    /// MS-CHAP-Error's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms_chap_error: Option<String>,
    /// What was wrong.
    pub error: Option<String>,
    /// Every packet, in order.
    pub packets: Vec<PacketRecord>,
}

/// What a login needs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: Vec<String>,
    pub(crate) port: u16,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) secret: Secret,
    pub(crate) protocol: Protocol,
    pub(crate) client: RadiusClient,
    /// Addresses that packets leave from.
    pub(crate) sources: Vec<IpAddr>,
    /// Who continues the login when the client hands it over.
    pub(crate) successor: Successor,
    /// Counts logins, for `round-robin`.
    pub(crate) turn: u64,
}

/// Who continues a login at `takeover_after_ms`.
#[derive(Clone, Debug)]
pub(crate) enum Successor {
    /// Nobody: there is no other controller.
    Nobody,
    /// This process, from another of its addresses.
    Source(IpAddr),
    /// Another controller, by its admin API.
    Controller(SocketAddr),
}

struct Peer {
    server: String,
    asked: bool,
    sent: Vec<Request>,
    socket: Option<Arc<UdpSocket>>,
}

struct Heard {
    peer: usize,
    datagram: Result<Vec<u8>, std::io::ErrorKind>,
}

struct Login<'a> {
    plan: &'a Plan,
    names: &'a Names,
    user: &'a str,
    password: &'a str,
    proxy_state: Vec<u8>,
    began: Instant,
    /// The address that packets leave from since the login was taken over.
    taken_over: Option<IpAddr>,
    peers: Vec<Peer>,
    result: LoginResult,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    listeners: JoinSet<()>,
}

/// Logs a user in.
pub(crate) async fn login(plan: &Plan, names: &Names, user: &str, password: &Secret) -> LoginResult {
    let mut order = plan.servers.clone();
    match plan.client.server_order {
        ServerOrder::First | ServerOrder::AllAtOnce => {}
        ServerOrder::RoundRobin if order.is_empty() => {}
        ServerOrder::RoundRobin => {
            let by = plan.turn % u64::try_from(order.len()).unwrap_or(1);
            order.rotate_left(usize::try_from(by).unwrap_or(0));
        }
        ServerOrder::Random => order.shuffle(&mut rand::rng()),
    }
    let login = Login {
        plan,
        names,
        user,
        password: password.expose(),
        proxy_state: hex::decode(&plan.client.proxy_state).unwrap_or_default(),
        began: Instant::now(),
        taken_over: None,
        peers: order
            .into_iter()
            .map(|server| Peer {
                server,
                asked: false,
                sent: Vec::new(),
                socket: None,
            })
            .collect(),
        result: LoginResult {
            username: user.to_owned(),
            protocol: Some(plan.protocol),
            started: clock::rfc3339(Timestamp::now()),
            message_authenticator: "none".to_owned(),
            ..LoginResult::default()
        },
        heard: mpsc::channel(64),
        listeners: JoinSet::new(),
    };
    login.run().await
}

impl Login<'_> {
    async fn run(mut self) -> LoginResult {
        self.attempt().await;
        let asked = self.peers.iter().filter(|peer| peer.asked).count();
        self.result.failed_over |= asked > 1;
        self.result.duration_ms = clock::ms(self.began.elapsed());
        self.result
    }

    /// Sends try after try until an answer decides, or the client waits no longer.
    async fn attempt(&mut self) {
        let interval = self.plan.timeout * self.plan.client.retry_interval_percent / 100;
        let mut takeover = self.takeover();
        let mut tries = self.tries();
        let (mut sent, mut newest) = (0, Vec::new());
        while let Some(servers) = tries.pop_front() {
            if !self.send_all(&servers).await {
                continue;
            }
            sent += 1;
            newest.clone_from(&servers);
            let until = match tries.is_empty() {
                true => self.end(sent),
                false => self.no_later(Instant::now() + interval),
            };
            if let Some(at) = takeover.take_if(|at| *at < until) {
                if self.listen(&newest, at).await {
                    return;
                }
                match self.plan.successor {
                    Successor::Controller(other) => return self.hand_over(other, tries.len()).await,
                    Successor::Source(source) => {
                        // The successor repeats the try with a packet of its own.
                        self.move_to(source);
                        tries.push_front(servers);
                        sent -= 1;
                        continue;
                    }
                    Successor::Nobody => {}
                }
            }
            if self.listen(&newest, until).await || self.limit().is_some_and(|end| Instant::now() >= end) {
                return;
            }
        }
        if sent > 0 {
            self.listen(&newest, self.end(sent)).await;
        }
    }

    /// Sends a try to each of its servers; false when none has an address.
    async fn send_all(&mut self, servers: &[usize]) -> bool {
        let mut sent = false;
        for server in servers {
            sent |= self.send(*server).await;
        }
        sent
    }

    fn tell(&mut self, peer: usize, kind: PacketKind, id: u8, code: String, why: Option<&str>) {
        let Some(server) = self.peers.get(peer).map(|peer| peer.server.clone()) else {
            return;
        };
        if self.result.packets.len() < TOLD {
            self.result.packets.push(PacketRecord {
                server,
                port: self.plan.port,
                offset_ms: clock::ms(self.began.elapsed()),
                id,
                kind,
                code,
                why: why.map(str::to_owned),
            });
        }
    }

    /// Sends the next packet to a server; false when it has no address.
    async fn send(&mut self, index: usize) -> bool {
        let retransmission = self.plan.client.retransmission;
        let reuse_socket = retransmission != Retransmission::NewPort;
        let Some(peer) = self.peers.get(index) else {
            return false;
        };
        let (server, again) = (peer.server.clone(), !peer.sent.is_empty());
        let socket = match peer.socket.clone().filter(|_| reuse_socket) {
            Some(socket) => socket,
            None => match self.open(index, &server).await {
                Ok(socket) => socket,
                Err(why) => {
                    self.tell(index, PacketKind::Unresolvable, 0, String::new(), Some(&why));
                    return false;
                }
            },
        };
        let first = self.peers.get(index).and_then(|peer| peer.sent.first());
        let nas = socket.local_addr().ok().map(|address| address.ip());
        let nas = nas.filter(|_| self.plan.client.nas_ip_address);
        let request = match (retransmission, first) {
            (Retransmission::Same, Some(first)) => first.clone(),
            (Retransmission::NewAuthenticator, Some(first)) => self.request(first.id, nas),
            _ => self.request(self.unused_id(index), nas),
        };
        // A refusal that an earlier packet met is told here, and costs this packet unless it is sent again.
        if socket.send(&request.bytes).await.is_err() {
            let _ = socket.send(&request.bytes).await;
        }
        let kind = if again {
            PacketKind::Retransmission
        } else {
            PacketKind::Request
        };
        self.tell(index, kind, request.id, packet::name(1), None);
        self.result.attempts += 1;
        if let Some(peer) = self.peers.get_mut(index) {
            peer.socket = Some(socket);
            peer.sent.push(request);
            peer.asked = true;
        }
        true
    }

    fn unused_id(&self, index: usize) -> u8 {
        let used: Vec<u8> = self
            .peers
            .get(index)
            .map(|peer| peer.sent.iter().map(|sent| sent.id).collect())
            .unwrap_or_default();
        let mut id: u8 = rand::random();
        while used.contains(&id) && used.len() < 256 {
            id = id.wrapping_add(1);
        }
        id
    }

    fn request(&self, id: u8, nas: Option<IpAddr>) -> Request {
        let client = &self.plan.client;
        Request::new(
            id,
            &Content {
                user: self.user,
                password: self.password,
                protocol: self.plan.protocol,
                secret: self.plan.secret.expose(),
                nas,
                nas_identifier: &client.nas_identifier,
                calling_station_id: &client.calling_station_id,
                proxy_state: &self.proxy_state,
                message_authenticator: matches!(
                    client.message_authenticator,
                    MessageAuthenticator::Send | MessageAuthenticator::SendAndRequire
                ),
            },
        )
    }

    async fn open(&mut self, index: usize, server: &str) -> Result<Arc<UdpSocket>, String> {
        let ip = self.names.address_of(server).await?;
        let unspecified: IpAddr = if ip.is_ipv6() {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        };
        let mut sources = self.taken_over.iter().chain(&self.plan.sources);
        let source = sources.find(|source| source.is_ipv6() == ip.is_ipv6()).copied();
        let bind = SocketAddr::new(source.unwrap_or(unspecified), 0);
        let failed = |error: std::io::Error| format!("{bind}: {error}");
        let socket = Arc::new(UdpSocket::bind(bind).await.map_err(failed)?);
        // Connected: only this server's packets arrive, and ICMP errors are told.
        socket
            .connect(SocketAddr::new(ip, self.plan.port))
            .await
            .map_err(failed)?;
        let (listening, heard) = (Arc::clone(&socket), self.heard.0.clone());
        self.listeners.spawn(async move {
            let mut buffer = vec![0; LARGEST];
            loop {
                let datagram = match listening.recv(&mut buffer).await {
                    Ok(length) => Ok(buffer.get(..length).unwrap_or_default().to_vec()),
                    Err(error) => Err(error.kind()),
                };
                if heard
                    .send(Heard {
                        peer: index,
                        datagram,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(socket)
    }

    /// Waits for answers until a moment; true when the login is decided.
    async fn listen(&mut self, current: &[usize], until: Instant) -> bool {
        while let Ok(Some(heard)) = timeout_at(until, self.heard.1.recv()).await {
            match heard.datagram {
                Err(_) => self.tell(heard.peer, PacketKind::Refused, 0, String::new(), None),
                Ok(datagram) => {
                    if let Some(answer) = self.judge(heard.peer, current, &datagram) {
                        self.decide(heard.peer, answer);
                        return true;
                    }
                }
            }
        }
        false
    }

    fn judge(&mut self, peer: usize, current: &[usize], datagram: &[u8]) -> Option<Answer> {
        let demand = self.plan.client.message_authenticator == MessageAuthenticator::SendAndRequire;
        let code = packet::name(datagram.first().copied().unwrap_or_default());
        let id = datagram.get(1).copied().unwrap_or_default();
        let sent = self
            .peers
            .get(peer)
            .map(|peer| peer.sent.clone())
            .unwrap_or_default();
        let only_newest = self.plan.client.late_answers == LateAnswers::Ignore;
        let late = || !current.contains(&peer) || sent.last().is_none_or(|newest| newest.id != id);
        if only_newest && late() {
            self.tell(peer, PacketKind::BadAnswer, id, code, Some("late"));
            return None;
        }
        let mut why = packet::Untrue::OtherId;
        let considered = if only_newest { 1 } else { sent.len() };
        for request in sent.iter().rev().take(considered) {
            match request.read(datagram, self.plan.secret.expose(), demand) {
                Ok(answer) => {
                    self.tell(peer, PacketKind::Answer, id, code, None);
                    return Some(answer);
                }
                Err(packet::Untrue::OtherId) => {}
                Err(untrue) => why = untrue,
            }
        }
        self.tell(peer, PacketKind::BadAnswer, id, code, Some(why.why()));
        None
    }

    fn decide(&mut self, peer: usize, answer: Answer) {
        let (outcome, error) = match (answer.code, answer.success) {
            (2, Some(false)) => (
                Outcome::Error,
                Some("MS-CHAP2-Success is missing or wrong".to_owned()),
            ),
            (2, _) => (Outcome::Accept, None),
            (3, _) => (Outcome::Reject, None),
            (11, _) => (Outcome::Challenge, None),
            (other, _) => (
                Outcome::Error,
                Some(format!("answered with {}", packet::name(other))),
            ),
        };
        let result = &mut self.result;
        result.outcome = outcome;
        result.error = error;
        result.server = self.peers.get(peer).map(|peer| peer.server.clone());
        result.reply_message = answer.reply_message;
        result.ms_chap_error = answer.ms_chap_error;
        let proved = if answer.message_authenticator {
            "verified"
        } else {
            "absent"
        };
        result.message_authenticator = proved.to_owned();
    }
}
