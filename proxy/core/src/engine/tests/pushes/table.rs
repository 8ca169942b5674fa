//! Plays the table: packets by name, questions by number.

use std::collections::{BTreeMap, BTreeSet};

use proxy_config::Config;

use super::super::world::World;
use crate::factor::{Factor, LoginId, RefusalReason, Verdict};
use crate::record::{LoginResult, Reason};
use crate::testing::client::{Answer, Build};
use crate::testing::{SECRET, approval, refusal};

pub(super) fn play(cases: &[(&str, &str)], method: &str, config: impl Fn() -> Config) {
    for (name, script) in cases {
        let name = format!("{name} {method}");
        let script = script.replace("METHOD", method);
        let mut table = Table::new(config());
        for line in script.lines() {
            let (step, expected) = line.trim().split_once(" -> ").unwrap();
            let outcome = table.step(step);
            let expected: BTreeSet<&str> = expected.split(", ").filter(|text| *text != "-").collect();
            let got: BTreeSet<&str> = outcome.iter().map(String::as_str).collect();
            assert_eq!(got, expected, "{name}: {step}");
        }
        assert!(table.accepts <= table.approvals, "{name}");
    }
}

/// A table's world: packets by name, questions by number.
struct Table {
    world: World,
    packets: BTreeMap<String, Packet>,
    asks: Vec<LoginId>,
    accepts: usize,
    approvals: usize,
}

#[derive(Clone)]
struct Packet {
    bytes: Vec<u8>,
    from: String,
    identifier: u8,
    answered: Option<Vec<u8>>,
}

impl Table {
    fn new(config: Config) -> Self {
        Self {
            world: World::new(config),
            packets: BTreeMap::new(),
            asks: Vec::new(),
            accepts: 0,
            approvals: 0,
        }
    }

    fn step(&mut self, step: &str) -> Vec<String> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let time = std::time::Duration::from_secs_f64(words[0].parse().unwrap());
        self.world.now = u64::try_from(time.as_millis()).unwrap();
        self.world.out.clear();
        match words[1..] {
            ["packet", name, user, text, ref rest @ ..] => self.packet(name, user, text, rest),
            ["again", name] => {
                let packet = self.packets[name].clone();
                self.world.receive(&packet.from, &packet.bytes);
            }
            ["approve", n] => {
                self.approvals += 1;
                let mut approval = approval(Factor::Push);
                // An upstream server's answer to MS-CHAPv2; of no use to anything else.
                approval.attributes = vec![(26, b"\0\0\x01\x37\x1a\x05\x05S=".to_vec())];
                self.verdict(n, Verdict::Approved(approval));
            }
            ["deny", n] => self.verdict(n, Verdict::Refused(refusal(RefusalReason::Denied))),
            ["wrong", n] => self.verdict(n, Verdict::Refused(refusal(RefusalReason::WrongPasscode))),
            ["pushed", n] => {
                let login = self.asks[n.parse::<usize>().unwrap()];
                self.world.engine.pushed(self.world.now(), login);
            }
            ["tick"] => self.world.engine.tick(self.world.now(), &mut self.world.out),
            _ => panic!("{step}"),
        }
        self.outcome()
    }

    fn packet(&mut self, name: &str, user: &str, text: &str, rest: &[&str]) {
        let text = if text == "-empty-" { "" } else { text };
        let number = u8::try_from(self.packets.len()).unwrap() + 1;
        let (mut from, mut identifier) = (format!("192.0.2.1:{}", 40_000 + u16::from(number)), number);
        let (mut method, mut signed) = ("pap", true);
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "unsigned" => signed = false,
                "from" => from = format!("{}:4000", rest.next().unwrap()),
                "by" => method = rest.next().unwrap(),
                "as" => {
                    let other = &self.packets[*rest.next().unwrap()];
                    (from, identifier) = (other.from.clone(), other.identifier);
                }
                _ => panic!("{word}"),
            }
        }
        let build = Build::access(identifier, number, SECRET).user(user);
        let build = match method {
            "pap" => build.pap(text),
            "chap" => build.chap(text),
            "mschapv1" => build.mschapv1(text),
            "mschapv2" => build.mschapv2(user, text),
            _ => panic!("{method}"),
        };
        let build = if signed { build } else { build.unsigned() };
        let bytes = build.bytes();
        let packet = Packet {
            bytes,
            from,
            identifier,
            answered: None,
        };
        self.packets.insert(name.to_owned(), packet.clone());
        self.world.receive(&packet.from, &packet.bytes);
    }

    fn verdict(&mut self, n: &str, verdict: Verdict) {
        let login = self.asks[n.parse::<usize>().unwrap()];
        self.world
            .engine
            .verdict(self.world.now(), login, verdict, &mut self.world.out);
    }

    fn outcome(&mut self) -> Vec<String> {
        let mut outcome = Vec::new();
        for ask in std::mem::take(&mut self.world.out.asks) {
            assert!(!self.asks.contains(&ask.login), "no login is asked twice");
            outcome.push(format!("ask {}", self.asks.len()));
            self.asks.push(ask.login);
        }
        for login in std::mem::take(&mut self.world.out.cancels) {
            let n = self.asks.iter().position(|asked| *asked == login).unwrap();
            outcome.push(format!("cancel {n}"));
        }
        let records = std::mem::take(&mut self.world.out.records);
        for record in records
            .iter()
            .filter(|record| record.result == LoginResult::Silent)
        {
            outcome.push(format!("silent {}", record.reason.map_or("", Reason::name)));
        }
        let mut answered = records
            .iter()
            .filter(|record| record.result != LoginResult::Silent);
        let sent: Vec<_> = self
            .world
            .out
            .datagrams()
            .map(|datagram| (datagram.to.to_string(), datagram.bytes.to_vec()))
            .collect();
        for (to, bytes) in sent {
            // The packet that the answer's signature is for: the Response Authenticator of another would not be right.
            let (name, packet) = self
                .packets
                .iter_mut()
                .find(|(_, packet)| {
                    packet.from == to
                        && packet.identifier == bytes[1]
                        && std::panic::catch_unwind(|| Answer::read(&bytes, &packet.bytes, SECRET)).is_ok()
                })
                .expect("an answer to a packet that was sent");
            if packet.answered.as_ref() == Some(&bytes) {
                outcome.push(format!("resend {name}"));
                continue;
            }
            packet.answered = Some(bytes.clone());
            let Some(record) = answered.next() else {
                // The login has its record already.
                let what = if bytes[0] == 2 { "accept" } else { "reject" };
                outcome.push(format!("again {what} {name}"));
                continue;
            };
            outcome.push(match bytes[0] {
                2 => format!("accept {name}"),
                3 => format!("reject {name} {}", record.reason.map_or("", Reason::name)),
                code => format!("code {code} {name}"),
            });
            self.accepts += usize::from(bytes[0] == 2);
        }
        assert!(answered.next().is_none(), "a record has its answer");
        outcome
    }
}
