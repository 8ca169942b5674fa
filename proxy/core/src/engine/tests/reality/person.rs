//! A person who logs in at a domain controller, and the domain controller's RADIUS client.

use std::collections::VecDeque;

use hmac::digest::Digest as _;
use md5::Md5;

use super::unknowns::{Directory, Order, Retry, Signs};
use crate::testing::SECRET;
use crate::testing::client::{Answer, Build};

pub(super) const TIMEOUT: u64 = 20_000;
pub(super) const RETRIES: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Pap,
    MsChapV2,
}

/// A packet that waits for its answer.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) server: usize,
    /// `ADDRESS:PORT`
    pub(super) from: String,
    pub(super) bytes: Vec<u8>,
}

/// Numbers that no two packets share.
#[derive(Default)]
pub(super) struct Numbers(u8);

/// What a login does next, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Try,
    Takeover,
    End,
}

/// One login of a person, as the domain controller asks for it.
pub(super) struct Login {
    pub(super) user: &'static str,
    pub(super) text: String,
    pub(super) method: Method,
    pub(super) probe: bool,
    directory: Directory,
    controller: u8,
    began: u64,
    tries: VecDeque<Vec<usize>>,
    current: Vec<usize>,
    sent_tries: u64,
    sent: Vec<Sent>,
    pub(super) next: Option<(u64, Next)>,
    takeover: Option<u64>,
    next_try: u64,
}

impl Login {
    pub(super) fn begin(
        directory: Directory,
        (user, text, method): (&'static str, String, Method),
        controller: u8,
        turn: u64,
        began: u64,
    ) -> Self {
        let mut login = Self {
            user,
            text,
            method,
            probe: false,
            directory,
            controller,
            began,
            tries: tries(directory, turn),
            current: Vec::new(),
            sent_tries: 0,
            sent: Vec::new(),
            next: Some((began, Next::Try)),
            takeover: directory.takeover_seconds.map(|seconds| began + seconds * 1000),
            next_try: began,
        };
        login.probe = user == directory.probe_user;
        if login.probe {
            login.takeover = None;
        }
        login
    }

    /// For a probe: one server alone, without retries.
    pub(super) fn only(mut self, server: usize) -> Self {
        self.tries = VecDeque::from([vec![server]]);
        self
    }

    fn end(&self) -> u64 {
        match self.directory.patience_seconds {
            Some(seconds) => self.began + seconds * 1000,
            None if self.tries.is_empty() => self.began + self.sent_tries * TIMEOUT,
            None => u64::MAX,
        }
    }

    /// What is due: the packets to send, or nothing when the login is over.
    pub(super) fn step(&mut self, now: u64, numbers: &mut Numbers) -> Option<Vec<Sent>> {
        let (_, next) = self.next?;
        let packets = match next {
            Next::End => {
                self.next = None;
                return None;
            }
            Next::Takeover => {
                // The answers to what the first domain controller sent are lost.
                self.takeover = None;
                self.controller = 3 - self.controller;
                self.sent.clear();
                if now == self.next_try {
                    self.take_try(now);
                }
                self.send(numbers)
            }
            Next::Try => {
                self.take_try(now);
                self.send(numbers)
            }
        };
        let mut next = (self.end(), Next::End);
        if !self.tries.is_empty() && self.next_try < next.0 {
            next = (self.next_try, Next::Try);
        }
        if let Some(takeover) = self.takeover.filter(|takeover| *takeover <= next.0) {
            next = (takeover, Next::Takeover);
        }
        self.next = Some(next);
        Some(packets)
    }

    fn take_try(&mut self, now: u64) {
        self.current = self.tries.pop_front().unwrap_or_default();
        self.sent_tries += 1;
        self.next_try = now + TIMEOUT * self.directory.interval_percent / 100;
    }

    fn send(&mut self, numbers: &mut Numbers) -> Vec<Sent> {
        let packets: Vec<Sent> = self
            .current
            .iter()
            .map(|server| self.packet(*server, numbers))
            .collect();
        self.sent.extend(packets.iter().cloned());
        packets
    }

    fn packet(&self, server: usize, numbers: &mut Numbers) -> Sent {
        let before = self.sent.iter().rfind(|sent| sent.server == server);
        match (self.directory.retry, before) {
            (Retry::Everything, Some(before)) => before.clone(),
            (Retry::IdentifierAndPort, Some(before)) => Sent {
                bytes: self.request(before.bytes[1], numbers),
                ..before.clone()
            },
            _ => {
                let bytes = self.request(numbers.0.wrapping_add(1), numbers);
                let port = 40_000 + u16::from(numbers.0);
                let from = format!("192.0.2.{}:{port}", self.controller);
                Sent { server, from, bytes }
            }
        }
    }

    fn request(&self, identifier: u8, numbers: &mut Numbers) -> Vec<u8> {
        numbers.0 = numbers
            .0
            .checked_add(1)
            .expect("so few packets that none has another's number");
        let build = Build::access(identifier, numbers.0, SECRET).user(self.user);
        let build = match self.method {
            Method::Pap => build.pap(&self.text),
            Method::MsChapV2 => build.mschapv2_to(&[numbers.0; 16], self.user, &self.text),
        };
        let signed = match self.directory.signs {
            Signs::Always => true,
            Signs::Never => false,
            Signs::ProbeOnly => self.probe,
        };
        if signed { build } else { build.unsigned() }.bytes()
    }

    /// The code of the answer, if it answers a packet of this login that is waited for. An Accept of MS-CHAPv2 must prove that the server knows the text.
    pub(super) fn answered(&mut self, server: usize, to: &str, bytes: &[u8]) -> Option<u8> {
        self.next?;
        let fits = |sent: &&Sent| sent.server == server && sent.from == to && fits(bytes, &sent.bytes);
        let request = self.sent.iter().rfind(fits)?;
        let answer = Answer::read(bytes, &request.bytes, SECRET);
        if answer.code == 2 && self.method == Method::MsChapV2 {
            let (_, success) = answer.microsoft(26).expect("MS-CHAP2-Success");
            assert!(success.starts_with("S="), "{success}");
        }
        self.next = None;
        Some(answer.code)
    }
}

/// The servers of each try.
fn tries(directory: Directory, turn: u64) -> VecDeque<Vec<usize>> {
    let count = usize::try_from(RETRIES).unwrap() + 1;
    let first = match directory.order {
        Order::Fixed => 0,
        Order::RoundRobin => usize::from(!turn.is_multiple_of(2)),
        Order::Random => usize::from((turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).is_multiple_of(2)),
        Order::AllAtOnce => return (0..count).map(|_| vec![0, 1]).collect(),
    };
    if directory.one_server_first {
        [first, 1 - first]
            .into_iter()
            .flat_map(|server| vec![vec![server]; count])
            .collect()
    } else {
        (0..count).map(|number| vec![(first + number) % 2]).collect()
    }
}

/// Whether the identifier and the Response Authenticator are those of an answer to the request.
fn fits(answer: &[u8], request: &[u8]) -> bool {
    let signed = [&answer[..4], &request[4..20], &answer[20..], SECRET.as_bytes()].concat();
    answer[1] == request[1] && answer[4..20] == Md5::digest(signed)[..]
}
