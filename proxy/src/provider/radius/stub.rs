//! A RADIUS server that does what a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(super) const SECRET: &str = "the upstream secret";

/// What the server does about a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Code and attributes.
    Answer(u8, Vec<u8>),
    /// Signed with another secret.
    Lie,
    /// An Access-Accept without Message-Authenticator.
    Unsigned,
    /// Nothing, now or ever.
    Silence,
    /// Kept, and answered by [`Stub::release`].
    Hold,
}

pub(super) fn accept() -> Reply {
    Reply::Answer(2, Vec::new())
}

#[derive(Clone)]
pub(super) struct Seen {
    pub(super) from: SocketAddr,
    pub(super) packet: Vec<u8>,
}

impl Seen {
    pub(super) fn attributes(&self) -> Vec<(u8, Vec<u8>)> {
        let mut rest = &self.packet[20..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (one, others) = rest.split_at(usize::from(rest[1]));
            found.push((one[0], one[2..].to_vec()));
            rest = others;
        }
        found
    }

    pub(super) fn value(&self, typ: u8) -> Option<Vec<u8>> {
        self.attributes()
            .into_iter()
            .find(|(t, _)| *t == typ)
            .map(|(_, v)| v)
    }

    pub(super) fn password(&self) -> String {
        let mut previous = self.packet[4..20].to_vec();
        let mut text = Vec::new();
        for block in self.value(2).unwrap().chunks(16) {
            let pad = Md5::digest([SECRET.as_bytes(), &previous].concat());
            text.extend(block.iter().zip(pad).map(|(a, b)| a ^ b));
            previous = block.to_vec();
        }
        String::from_utf8(text).unwrap().trim_end_matches('\0').to_owned()
    }

    /// Message-Authenticator stands first and is right.
    pub(super) fn is_signed(&self) -> bool {
        let mut zeroed = self.packet.clone();
        zeroed[22..38].fill(0);
        let mut mac = Hmac::<Md5>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&zeroed);
        self.packet[20..22] == [80, 18] && mac.finalize().into_bytes()[..] == self.packet[22..38]
    }
}

/// What [`Stub`] is told by: the request, and how many of its kind came before.
type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

pub(super) struct Stub {
    pub(super) address: SocketAddr,
    socket: Arc<UdpSocket>,
    script: Arc<Mutex<(Arc<Script>, Arc<Script>)>>,
    seen: watch::Receiver<Vec<Seen>>,
    task: JoinHandle<()>,
}

impl Stub {
    /// It answers Access-Requests by `script`, and Status-Server not at all.
    pub(super) async fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// At an address of the test's choice.
    pub(super) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let socket = Arc::new(UdpSocket::bind(address).await.unwrap());
        let (told, seen) = watch::channel(Vec::new());
        let scripts: (Arc<Script>, Arc<Script>) = (Arc::new(script), Arc::new(|_, _| Reply::Silence));
        let script = Arc::new(Mutex::new(scripts));
        let (inside, follows) = (Arc::clone(&socket), Arc::clone(&script));
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            let mut counts = [0, 0];
            while let Ok((length, from)) = inside.recv_from(&mut buffer).await {
                let packet = buffer[..length].to_vec();
                let is_status = packet[0] == 12;
                let one = Seen { from, packet };
                let script = {
                    let scripts = follows.lock().unwrap();
                    Arc::clone(if is_status { &scripts.1 } else { &scripts.0 })
                };
                let count = &mut counts[usize::from(is_status)];
                let reply = script(&one, *count);
                *count += 1;
                let answer = answer(&one.packet, &reply);
                // Before the answer: when a login has ended, what it sent was seen.
                told.send_modify(|seen: &mut Vec<Seen>| seen.push(one));
                if let Some(answer) = answer {
                    inside.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self {
            address: socket.local_addr().unwrap(),
            socket,
            script,
            seen,
            task,
        }
    }

    /// From now on nothing listens there.
    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// From now on Access-Requests are answered so.
    pub(super) fn answers(&self, script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) {
        self.script.lock().unwrap().0 = Arc::new(script);
    }

    /// From now on Status-Server is answered so.
    pub(super) fn answers_status(&self, script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) {
        self.script.lock().unwrap().1 = Arc::new(script);
    }

    /// The Access-Requests.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .borrow()
            .iter()
            .filter(|one| one.packet[0] == 1)
            .cloned()
            .collect()
    }

    /// Waits until so many Access-Requests have come.
    pub(super) async fn has_seen(&self, count: usize) {
        self.until(|seen| seen.iter().filter(|one| one.packet[0] == 1).count() >= count)
            .await;
    }

    /// Waits until what has come is so.
    pub(super) async fn until(&self, is_so: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.clone();
        seen.wait_for(|seen| is_so(seen)).await.unwrap().clone()
    }

    /// Accepts a request that was held.
    pub(super) async fn release(&self, one: &Seen) {
        self.send(one, accept()).await;
    }

    /// Answers a request, whenever it came.
    pub(super) async fn send(&self, one: &Seen, reply: Reply) {
        let answer = answer(&one.packet, &reply).unwrap();
        self.socket.send_to(&answer, one.from).await.unwrap();
    }
}

fn answer(request: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let (code, attributes, secret, sign) = match reply {
        Reply::Answer(code, attributes) => (*code, attributes.as_slice(), SECRET, true),
        Reply::Lie => (2, &[][..], "some other secret", true),
        Reply::Unsigned => (2, &[][..], SECRET, false),
        Reply::Silence | Reply::Hold => return None,
    };
    let mut packet = vec![code, request[1], 0, 0];
    packet.extend_from_slice(&request[4..20]);
    if sign {
        packet.extend_from_slice(&[80, 18]);
        packet.extend_from_slice(&[0; 16]);
    }
    packet.extend_from_slice(attributes);
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    if sign {
        let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(&packet);
        packet[22..38].copy_from_slice(&mac.finalize().into_bytes());
    }
    let digest = Md5::digest([&packet, secret.as_bytes()].concat());
    packet[4..20].copy_from_slice(&digest);
    Some(packet)
}
