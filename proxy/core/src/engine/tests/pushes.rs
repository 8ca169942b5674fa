//! One login, one push; one approval, at most one accepted login: the table of cases.
//!
//! The client's timeout is 20 s with one retry, so a login is answered at 39.5 s at the latest; a push that is approved
//! after that serves one further try, and is followed until 60 s, a login's longest time. Each line is a time in seconds, what happens, and
//! what comes of it:
//!
//! - `packet NAME USER TEXT [from ADDRESS] [as NAME] [by METHOD] [unsigned]`: a new packet; `as` gives it the port and
//!   identifier of another; without `by` it is PAP
//! - `again NAME`: its retransmission
//! - `approve N`, `deny N`, `pushed N`: what the provider says of its Nth question, counted from 0
//! - `tick`: time passes
//!
//! and `ask N`, `accept NAME`, `reject NAME REASON`, `resend NAME`, `silent REASON` (a record without an answer),
//! `cancel N`, or `-` for nothing.

use std::collections::{BTreeMap, BTreeSet};

use proxy_config::Config;

use super::world::World;
use crate::counters::Event;
use crate::factor::{Factor, LoginId, RefusalReason, Verdict};
use crate::record::{LoginResult, Reason};
use crate::testing::client::{Answer, Build};
use crate::testing::{SECRET, UPSTREAM, approval, config, config_with, refusal};

const CASES: &[(&str, &str)] = &[
    (
        "a retransmission waits in silence and gets the bytes of the one answer",
        "0 packet a jane pw -> ask 0
         20 again a -> -
         30 approve 0 -> accept a
         31 again a -> resend a
         59 again a -> resend a",
    ),
    (
        "an answer is forgotten after 30 s",
        "0 packet a jane pw -> ask 0
         5 deny 0 -> reject a denied
         36 again a -> ask 1",
    ),
    (
        "the client's next try joins, and only it gets the accept",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         25 approve 0 -> accept b
         26 again a -> -
         26 again b -> resend b",
    ),
    (
        "a retransmission of a replaced packet stays silent while the push waits",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         21 again a -> -
         25 deny 0 -> reject b denied",
    ),
    (
        "a second person who types the name early gets silence, then a Reject, and the first is not disturbed",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw -> -
         6 again b -> -
         10 approve 0 -> accept a
         25 again b -> -
         44.5 tick -> reject b push_pending
         45 again b -> resend b",
    ),
    (
        "the tries of a second person belong to them, also when the push is over",
        "0 packet a jane pw -> ask 0
         5 packet b jane guess -> -
         25 packet c jane guess -> -
         30 approve 0 -> accept a
         44.4 packet d jane guess -> -
         44.5 tick -> reject d push_pending
         45 again d -> resend d",
    ),
    (
        "a second person with another password gets silence, however late",
        "0 packet a jane pw -> ask 0
         20 packet b jane guess -> -
         39 packet c jane -empty- -> -
         39.2 approve 0 -> accept a
         59.5 tick -> reject b push_pending
         78.5 tick -> reject c push_pending",
    ),
    (
        "a second person from another client gets silence, early and late",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw from 192.0.2.2 -> -
         30 packet c jane pw from 192.0.2.2 -> -
         35 approve 0 -> accept a
         44.5 tick -> reject b push_pending
         69.5 tick -> reject c push_pending",
    ),
    (
        "of two packets that come when one retry is due, either can be a second person's: the one before has the answer",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         21 packet c jane push -> -
         25 approve 0 -> accept a
         45 packet d jane push -> ask 1
         59.5 tick -> reject b push_pending
         60.5 tick -> reject c push_pending",
    ),
    (
        "a second person with the same keyword later than that: the newest packet before has the answer",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         21.1 packet c jane push -> -
         25 approve 0 -> accept b
         60.6 tick -> reject c push_pending",
    ),
    (
        "an approval in the moment in which the retry is due waits for it to be clear whose the packet was",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         19.6 approve 0 -> -
         20 packet c jane push -> accept a",
    ),
    (
        "when no other packet comes, it was the client's",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         20.1 approve 0 -> -
         21 tick -> accept b",
    ),
    (
        "a retransmission shows that its client has sent nothing else",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         20 again a -> -
         21 approve 0 -> accept a
         59 tick -> reject b push_pending",
    ),
    (
        "a packet from the port and identifier of the first shows the same, and has the answer",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         20 packet c jane push as a -> -
         21 approve 0 -> accept c
         59 tick -> reject b push_pending",
    ),
    (
        "once a second person was seen, a keyword joins no more, and the user's own text does",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         20 packet c jane push -> -
         25 approve 0 -> accept a
         45 packet d joe pw -> ask 1
         47 packet e joe guess -> -
         65 packet f joe pw -> -
         66 approve 1 -> accept f",
    ),
    (
        "a late approval of a push with a rival serves a text of the user's own only",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         39.5 tick -> reject a timed_out
         41.5 tick -> reject b push_pending
         45 approve 0 -> -
         50 packet c jane push -> ask 1
         51 deny 1 -> reject c denied
         100 packet d joe pw -> ask 2
         102 packet e joe guess -> -
         139.5 tick -> reject d timed_out
         141.5 tick -> reject e push_pending
         145 approve 2 -> -
         150 packet f joe pw -> accept f",
    ),
    (
        "a second person who is first by accident gets no more than the one push",
        "0 packet a jane pw -> ask 0
         1 packet b jane pw -> -
         20 packet c jane pw -> -
         21 packet d jane pw -> -
         22 deny 0 -> reject c denied
         40.5 tick -> reject d push_pending",
    ),
    (
        "a client that has used up its tries sends no further one of the same login",
        "0 packet a jane push -> ask 0
         19 packet b jane push -> -
         38 packet c jane push -> -
         39 approve 0 -> accept b",
    ),
    (
        "a stranger's push does not hold back the text that the user was let in with last",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         100 packet b jane guess from 192.0.2.2 -> ask 1
         101 packet c jane pw -> ask 2, cancel 1
         102 approve 1 -> -
         103 approve 2 -> accept c
         139.5 tick -> reject b push_pending
         140 again b -> resend b",
    ),
    (
        "it does so once in a cool-down",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         100 packet b jane push from 192.0.2.2 -> ask 1
         101 packet c jane pw -> ask 2, cancel 1
         103 approve 2 -> accept c
         104 packet d jane push from 192.0.2.2 -> ask 3
         110 packet e jane pw -> -
         111.1 packet f jane pw from 192.0.2.3 -> ask 4, cancel 3",
    ),
    (
        "a late approval of a response, which never comes again, leaves the known text as it is",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         50 packet b jane other by chap -> ask 1
         89.5 tick -> reject b timed_out
         95 approve 1 -> -
         96 packet c jane other by chap -> accept c
         150 packet d jane guess from 192.0.2.2 -> ask 2
         151 packet e jane pw -> ask 3, cancel 2",
    ),
    (
        "it passes no push of its own text, and no cool-down after a denied push",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         50 packet b jane pw -> ask 1
         51 packet c jane pw from 192.0.2.2 -> -
         52 pushed 1 -> -
         53 deny 1 -> reject b denied
         54 packet d jane pw -> reject d throttled",
    ),
    (
        "a keyword, the empty text and a text that was never approved pass nothing",
        "0 packet a jane push -> ask 0
         5 approve 0 -> accept a
         30 packet b jane -empty- -> ask 1
         35 approve 1 -> accept b
         60 packet c jane pw -> ask 2
         65 deny 2 -> reject c denied
         100 packet d jane guess from 192.0.2.2 -> ask 3
         101 packet e jane push -> -
         102 packet f jane -empty- -> -
         103 packet g jane pw -> -",
    ),
    (
        "another spelling of the user is the same user",
        "0 packet a jane pw -> ask 0
         5 packet b CORP\\Jane pw from 192.0.2.2 -> -
         25 packet c jane@corp.example pw from 192.0.2.2 -> -
         30 approve 0 -> accept a
         44.5 tick -> reject c push_pending",
    ),
    (
        "another factor is not the same try",
        "0 packet a jane push -> ask 0
         20 packet b jane phone -> -
         25 approve 0 -> accept a",
    ),
    (
        "other users do not wait for each other",
        "0 packet a jane pw -> ask 0
         1 packet b joe pw -> ask 1
         2 approve 1 -> accept b
         3 approve 0 -> accept a",
    ),
    (
        "a passcode is judged by itself while a push waits",
        "0 packet a jane pw -> ask 0
         5 packet b jane 123456 -> ask 1
         6 approve 1 -> accept b
         10 deny 0 -> reject a denied",
    ),
    (
        "nobody approves: the newest packet is answered at the deadline of the first",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         39.5 tick -> reject b timed_out
         60 tick -> cancel 0",
    ),
    (
        "a late approval serves one further try, once",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane pw -> accept b
         51 again b -> resend b
         52 packet c jane pw -> ask 1",
    ),
    (
        "a late approval serves nobody else and not for long",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane pw from 192.0.2.2 -> ask 1
         51 deny 1 -> reject b denied
         52 packet c jane guess -> ask 2
         53 deny 2 -> reject c denied
         75 packet d jane pw -> ask 3",
    ),
    (
        "a try after the deadline joins the push that still waits: no second push",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw -> -
         50 approve 0 -> accept b
         51 packet c jane pw -> ask 1",
    ),
    (
        "a try after the deadline from elsewhere gets silence while the push still waits",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw from 192.0.2.2 -> -
         50 approve 0 -> -
         51 packet c jane pw -> accept c",
    ),
    (
        "an approval that comes twice accepts once",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         6 approve 0 -> -
         7 packet b jane pw -> ask 1",
    ),
    (
        "a denial after the deadline answers nobody and cools down",
        "0 packet a jane pw -> ask 0
         1 pushed 0 -> -
         39.5 tick -> reject a timed_out
         45 deny 0 -> -
         46 packet b jane pw -> reject b throttled
         56 packet c jane pw -> ask 1",
    ),
    (
        "the port and identifier used again by the next try: it joins",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw as a -> -
         25 approve 0 -> accept b",
    ),
    (
        "the port and identifier used again too early: a rival, and the approval is kept for a further try",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw as a -> silent superseded
         6 again b -> -
         10 approve 0 -> -
         12 packet c jane pw -> accept c
         44.5 tick -> reject b push_pending",
    ),
    (
        "the port and identifier used again after half the timeout: its client has given up the packet for the new one",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         10 packet c jane push as a -> -
         15 approve 0 -> accept c",
    ),
    (
        "the port and identifier used again with another text: a rival, and the first has lost its client",
        "0 packet a jane pw -> ask 0
         5 packet b jane guess as a -> silent superseded
         6 again b -> -
         10 approve 0 -> -
         12 packet c jane pw -> accept c
         44.5 tick -> reject b push_pending",
    ),
    (
        "the port and identifier used again for another user: the first has lost its client",
        "0 packet a jane pw -> ask 0
         5 packet b joe pw as a -> ask 1, silent superseded
         6 approve 0 -> -
         7 approve 1 -> accept b",
    ),
    (
        "a passcode that is tried again joins, and only the newest packet has the answer",
        "0 packet a jane 123456 -> ask 0
         20 packet b jane 123456 -> -
         25 approve 0 -> accept b
         26 again a -> -
         26 again b -> resend b",
    ),
    (
        "a passcode from the port and identifier of the first joins it at once",
        "0 packet a jane 123456 -> ask 0
         1 packet b jane 123456 as a -> -
         2 approve 0 -> accept b",
    ),
    (
        "a passcode that comes too soon, from elsewhere or for another user is judged by itself",
        "0 packet a jane 123456 -> ask 0
         5 packet b jane 123456 -> ask 1
         20 packet c jane 123456 from 192.0.2.2 -> ask 2
         20 packet d joe 123456 -> ask 3
         21 packet e jane 654321 -> ask 4
         22 approve 0 -> accept a",
    ),
    (
        "the answer to a passcode is given again to its client's next try, which is no login of its own",
        "0 packet a jane 123456 -> ask 0
         1 approve 0 -> accept a
         20 packet b jane 123456 -> again accept b
         21 again b -> resend b
         39 packet c jane 123456 -> ask 1",
    ),
    (
        "a wrong passcode is wrong for its client's next try too",
        "0 packet a jane 123456 -> ask 0
         1 wrong 0 -> reject a wrong_passcode
         19.9 packet b jane 123456 as a -> again reject b
         45 packet c jane 123456 -> ask 1",
    ),
    (
        "the answer to a passcode is for no other address, and for no packet off the client's schedule",
        "0 packet a jane 123456 -> ask 0
         1 approve 0 -> accept a
         20 packet b jane 123456 from 192.0.2.2 -> ask 1
         20 packet c jane 123456 -> ask 2
         50 packet d joe 123456 -> ask 3
         51 approve 3 -> accept d
         60 packet e joe 123456 -> ask 4
         70 packet f joe 123456 -> ask 5",
    ),
    (
        "a passcode whose client is gone is cancelled",
        "0 packet a jane 123456 -> ask 0
         5 packet b joe 123456 as a -> ask 1, silent superseded, cancel 0
         6 approve 0 -> -
         7 approve 1 -> accept b",
    ),
    (
        "the port and identifier of a replaced packet used again: its answer is resent, also when the login is over",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         21 packet c jane guess as a -> -
         22 again c -> -
         25 approve 0 -> accept b
         26 again c -> -
         60.5 tick -> reject c push_pending
         61 again c -> resend c",
    ),
    (
        "three tries in a row are one push",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         39.4 packet c jane pw -> -
         39.5 tick -> reject c timed_out
         58.5 packet d jane pw -> -
         59 approve 0 -> accept d
         60 again c -> resend c",
    ),
    (
        "a login is over after its longest time, whoever has joined it",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw -> -
         59.5 tick -> reject b timed_out
         60 tick -> cancel 0
         60.1 packet c jane pw -> ask 1",
    ),
];

/// The same where an upstream server decides about responses that nobody here can read.
const UPSTREAM_CASES: &[(&str, &str)] = &[
    (
        "another response joins no login, the same one does",
        "0 packet a jane pw by METHOD -> ask 0
         20 packet b jane guess by METHOD -> -
         21 packet c jane pw by METHOD -> -
         25 approve 0 -> accept c",
    ),
    (
        "a late approval serves the response that the server has seen, and no other",
        "0 packet a jane pw by METHOD -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane guess by METHOD -> ask 1
         51 deny 1 -> reject b denied
         52 packet c jane pw by METHOD -> accept c",
    ),
    (
        "a response that is typed as text is not that response",
        "0 packet a jane pw by METHOD -> ask 0
         20 packet b jane pw -> -
         25 approve 0 -> accept a",
    ),
];

/// Requests without a proof, from a client for which they may start a push.
const UNPROVEN_CASES: &[(&str, &str)] = &[
    (
        "what proves nothing joins no login that was proved, also after its deadline, and takes no late approval of it",
        "0 packet a jane push by METHOD -> ask 0
         20 packet b jane push by METHOD unsigned -> -
         39.5 tick -> reject a timed_out
         43 packet c jane push by METHOD unsigned -> -
         45 approve 0 -> -
         50 packet d jane push by METHOD unsigned -> ask 1
         51 deny 1 -> reject d denied
         52 packet e jane push by METHOD -> accept e",
    ),
    (
        "a login that a proved packet has joined is a proved one",
        "0 packet a jane push by METHOD unsigned -> ask 0
         20 packet b jane push by METHOD -> -
         39.5 tick -> reject b timed_out
         42 packet c jane push by METHOD unsigned -> -
         45 approve 0 -> -
         46 packet d jane push by METHOD -> accept d",
    ),
];

#[test]
fn every_order_of_packets_verdicts_and_time_has_its_answer() {
    play(CASES, "", || config(""));
}

#[test]
fn an_accept_goes_only_to_the_response_that_an_upstream_server_was_asked_about() {
    for method in ["chap", "mschapv1", "mschapv2"] {
        play(UPSTREAM_CASES, method, || config(UPSTREAM));
    }
}

#[test]
fn a_proof_that_a_login_had_is_kept_to_its_end() {
    for method in ["chap", "mschapv1", "mschapv2"] {
        play(UNPROVEN_CASES, method, || {
            config_with(
                "",
                "unauthenticated_push = true\nmessage_authenticator = \"never\"",
            )
        });
    }
}

fn play(cases: &[(&str, &str)], method: &str, config: impl Fn() -> Config) {
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

#[test]
fn an_unsigned_packet_does_not_take_the_place_of_a_signed_one() {
    let mut world = World::new(config_with("", "unauthenticated_push = true"));
    let signed = Build::access(1, 1, SECRET).user("jane").chap("push");
    let ask = world.asked(&signed);
    world.now = 20_000;
    // From another address that has not signed, so that it is not dropped at once; and from the same one it would be.
    let forged = Build::access(1, 2, SECRET).user("jane").chap("push").unsigned();
    assert_eq!(
        world.dropped(&forged),
        crate::counters::DropReason::NoMessageAuthenticator
    );
    let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &signed);
    assert_eq!((answer.code, world.count(Event::Accepted)), (2, 1));
}
