//! A million packets made of the golden vectors by changing bytes, sent to the shipped binary on loopback: it does not
//! end, its memory stays where it is, and valid requests are answered in between.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use support::{Answer, Lab, Login, Proxy, code, eventually};

const PACKETS: u64 = 1_000_000;
/// After so many a valid request must be answered before the next are sent, so that no socket runs over.
const AT_ONCE: u64 = 128;
/// The secrets of the vectors.
const SECRETS: [&str; 2] = ["testing123", "xyzzy5461"];
/// More than this a proxy with one user never needs, whatever is sent to it: its tables have bounds.
const MOST_RESIDENT: f64 = 160e6;
/// The second half of the packets adds no more than this: what a system's allocator does by itself.
const MOST_GROWN: f64 = 8e6;

#[test]
fn a_million_mutated_packets_leave_the_proxy_as_it_was() {
    let lab = Lab::totp();
    for (name, secret) in ["secret", "old"].iter().zip(SECRETS) {
        lab.write(name, secret);
    }
    lab.write(
        "seeds/kim",
        &format!("otpauth://totp/kim?secret={}\n", support::SEED_TEXT),
    );
    let limits =
        "[policy.limits]\nrequests_per_client_per_second = 1000000\nlogins_per_user_per_minute = 600\n";
    let config = support::config(&format!("{}{limits}", support::TOTP));
    lab.write(
        "config.toml",
        &config.replace("[\"secret\"]", "[\"secret\", \"old\"]"),
    );
    let proxy = Proxy::start_quietly(&lab);
    let packets = vectors();
    // Addresses of one client: of the first nobody signs a byte that is right, so that unsigned ones are looked into.
    let sockets: Vec<UdpSocket> = (2..6)
        .map(|n| UdpSocket::bind(format!("127.0.0.{n}:0")).unwrap())
        .collect();
    let probe = Probe::new(&proxy);
    let (mut random, mut half) = (Random(0x9e37_79b9_7f4a_7c15), 0.0);
    let begun = Instant::now();
    for sent in 0..PACKETS {
        let bytes = mutated(&packets, &mut random);
        let socket = &sockets[random.below(sockets.len())];
        // An ICMP answer to an earlier one would be told here; there is none on loopback while the proxy lives.
        socket.send_to(&bytes, proxy.radius).unwrap();
        if sent % AT_ONCE == AT_ONCE - 1 {
            probe.is_answered();
            drain(&sockets);
        }
        if sent == PACKETS / 2 {
            half = proxy.metric("process_resident_memory_bytes");
        }
    }
    probe.is_answered();
    let took = begun.elapsed();
    let end = proxy.metric("process_resident_memory_bytes");
    eprintln!(
        "{PACKETS} packets in {:.1} s; resident {:.1} MB after half of them, {:.1} MB after all",
        took.as_secs_f64(),
        half / 1e6,
        end / 1e6
    );
    assert!(
        end < MOST_RESIDENT && end - half < MOST_GROWN,
        "{half} bytes after half of them, {end} after all"
    );
    eventually("every one was counted", || {
        let (_, metrics) = proxy.get("/metrics");
        let lines = metrics.lines();
        let counted: f64 = lines
            .filter(|line| line.starts_with("radius_proxy_requests_total"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum();
        (counted >= PACKETS as f64).then_some(())
    });
    let login = Login::with_secret("kim", &code(0), SECRETS[0]);
    assert_eq!(login.send(proxy.radius).answer(), Answer::Accept);
}

/// Every packet of the golden vectors.
fn vectors() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/core/vectors");
    let mut packets = Vec::new();
    for name in ["rfc.txt", "logins.txt", "drops.txt"] {
        let text = std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let joined = text.replace("\n  ", "");
        let hex = joined.lines().filter_map(|line| line.strip_prefix("packet ="));
        packets.extend(hex.map(|hex| hex::decode(hex.trim()).unwrap()));
    }
    assert!(packets.len() > 40);
    packets
}

/// One of them with up to eight changes: mostly of whole attributes, so that the shape stays right and more than the
/// shape is looked at, and one time in eight of any byte.
fn mutated(packets: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let base = &packets[random.below(packets.len())];
    let mut bytes = match (split(base), random.below(8)) {
        (Some((mut header, mut attributes)), 1..) => {
            for _ in 0..random.below(9) {
                change_attribute(&mut attributes, packets, random);
            }
            if random.below(2) == 0 {
                // Not the retransmission of anything.
                header[1] = random.byte();
                header[4..20].fill(random.byte());
            }
            join(&header, &attributes)
        }
        _ => base.clone(),
    };
    if random.below(8) == 0 {
        for _ in 0..=random.below(8) {
            change_byte(&mut bytes, random);
        }
    }
    bytes.truncate(4096);
    if random.below(2) == 0 {
        sign(&mut bytes);
    }
    bytes
}

type Attribute = (u8, Vec<u8>);

/// Header and attributes of a packet whose lengths add up.
fn split(bytes: &[u8]) -> Option<(Vec<u8>, Vec<Attribute>)> {
    let (header, mut rest) = bytes.split_at_checked(20)?;
    let mut attributes = Vec::new();
    while let [typ, length, ..] = rest {
        let value = rest.get(2..usize::from(*length))?;
        attributes.push((*typ, value.to_vec()));
        rest = &rest[usize::from(*length)..];
    }
    rest.is_empty().then(|| (header.to_vec(), attributes))
}

fn join(header: &[u8], attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for (typ, value) in attributes {
        let value = &value[..value.len().min(253)];
        bytes.extend([*typ, u8::try_from(value.len() + 2).unwrap()]);
        bytes.extend(value);
    }
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&length);
    bytes
}

fn change_attribute(attributes: &mut Vec<Attribute>, packets: &[Vec<u8>], random: &mut Random) {
    let at = random.below(attributes.len().max(1));
    let other = random.below(packets.len());
    let choice = random.below(12);
    if choice == 0 {
        if let Some((_, others)) = split(&packets[other])
            && let Some(attribute) = others.get(random.below(others.len().max(1)))
        {
            attributes.insert(at, attribute.clone());
        }
        return;
    }
    if at >= attributes.len() {
        return;
    }
    match choice {
        1 => drop(attributes.remove(at)),
        2 => attributes.insert(at, attributes[at].clone()),
        3 => attributes[at].0 = random.byte(),
        4 => attributes[at].1.push(random.byte()),
        5 => drop(attributes[at].1.pop()),
        6 => attributes.rotate_left(at),
        _ => {
            let value = &mut attributes[at].1;
            if !value.is_empty() {
                let place = random.below(value.len());
                value[place] ^= 1 << random.below(8);
            }
        }
    }
}

fn change_byte(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.byte()),
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        _ if !bytes.is_empty() => bytes[at] = random.byte(),
        _ => {}
    }
}

/// Makes the Message-Authenticator right again, where there is a place for one: what is behind the proof is to be
/// reached too.
fn sign(bytes: &mut [u8]) {
    let mut at = 20;
    while let Some(&[typ, length]) = bytes.get(at..at + 2) {
        if (typ, length) == (80, 18) && at + 18 <= bytes.len() {
            bytes[at + 2..at + 18].fill(0);
            let mac = support::hmac_md5(SECRETS[0], bytes);
            bytes[at + 2..at + 18].copy_from_slice(&mac);
            return;
        }
        at += usize::from(length).max(2);
    }
}

/// Takes away what was answered, so that nothing waits in the system's memory.
fn drain(sockets: &[UdpSocket]) {
    let mut buffer = [0; 4096];
    for socket in sockets {
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut buffer).is_ok() {}
    }
}

/// A client that asks by Status-Server whether the proxy lives (RFC 5997).
struct Probe {
    socket: UdpSocket,
    request: Vec<u8>,
}

impl Probe {
    fn new(proxy: &Proxy) -> Self {
        let socket = UdpSocket::bind("127.0.0.9:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.connect(proxy.radius).unwrap();
        Self {
            socket,
            request: support::status_server(SECRETS[0]),
        }
    }

    fn is_answered(&self) {
        self.socket.send(&self.request).unwrap();
        let mut buffer = [0; 64];
        let length = self.socket.recv(&mut buffer).unwrap();
        assert_eq!((buffer[0], length), (2, 38));
    }
}

/// Numbers that are the same in each run: xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
