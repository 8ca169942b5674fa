//! The engine under random scripts of packets, verdicts and time: whatever comes in whatever order, an approval makes
//! one Accept at most, there is none without one, no user has two pushes, and nothing is left when time has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bolero::TypeGenerator;
use proxy_config::{Config, Secret};

use crate::counters::Event;
use crate::factor::{Credential, Factor, LoginId, RefusalReason, Verdict};
use crate::outputs::{Outputs, SocketId};
use crate::record::LoginResult;
use crate::testing::client::Build;
use crate::testing::{self, OLD_SECRET, SECRET, TOTP, UPSTREAM, approval, config_with, refusal, settings};
use crate::{Engine, Now};

const PENDING: usize = 6;
const USERS: [&str; 3] = ["jane", "CORP\\Jane", "joe"];
const TEXTS: [&str; 6] = ["pw", "guess", "", "push", "phone2", "123456"];
const SOURCES: [&str; 4] = [
    "192.0.2.1:4000",
    "192.0.2.1:4001",
    "[::ffff:192.0.2.2]:4000",
    "[2001:db8::1]:4000",
];

#[derive(Debug, TypeGenerator)]
struct Script {
    setting: u8,
    steps: Vec<Step>,
}

#[derive(Debug, TypeGenerator)]
enum Step {
    New {
        user: u8,
        text: u8,
        method: u8,
        from: u8,
        identifier: u8,
        how: u8,
    },
    Again(u8),
    Changed {
        packet: u8,
        at: u16,
        with: u8,
    },
    Approve(u8),
    Refuse(u8, u8),
    Pushed(u8),
    Wait(u16),
    WaitLong(u8),
    Reload(u8),
    Drain(u8),
}

fn a_config(setting: u8) -> Config {
    let provider = match setting % 3 {
        0 => "",
        1 => TOTP,
        _ => UPSTREAM,
    };
    let client = [
        "",
        "directory = true",
        "challenge = true",
        "unauthenticated_push = true\nmessage_authenticator = \"never\"",
    ][usize::from(setting / 3 % 4)];
    config_with(
        &format!("[policy.limits]\npending = {PENDING}\npushes_per_user_per_minute = 3\n{provider}"),
        client,
    )
}

/// What a script has done so far.
struct Run {
    engine: Engine,
    out: Outputs,
    now: u64,
    pushing: bool,
    packets: Vec<(usize, Vec<u8>)>,
    asks: Vec<LoginId>,
    users: BTreeMap<LoginId, String>,
    /// Questions that can start a push and have no end yet, with their user.
    open: BTreeMap<LoginId, String>,
    approvals: u64,
    /// Approvals of each user that no Accept has used up.
    approved: BTreeMap<String, u64>,
    accepts: BTreeSet<Vec<u8>>,
    records: u64,
}

impl Run {
    fn new(setting: u8) -> Self {
        Self {
            engine: Engine::new(settings(a_config(setting)), [3; 32]),
            out: Outputs::new(),
            now: 0,
            pushing: setting.is_multiple_of(3),
            packets: Vec::new(),
            asks: Vec::new(),
            users: BTreeMap::new(),
            open: BTreeMap::new(),
            approvals: 0,
            approved: BTreeMap::new(),
            accepts: BTreeSet::new(),
            records: 0,
        }
    }

    fn now(&self) -> Now {
        testing::at(self.now)
    }

    fn receive(&mut self, from: usize, bytes: &[u8]) {
        let from = SOURCES[from].parse().unwrap();
        self.engine
            .receive(self.now(), from, SocketId(0), bytes, &mut self.out);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::New {
                user,
                text,
                method,
                from,
                identifier,
                how,
            } => self.new_packet([*user, *text, *method, *from, *identifier, *how]),
            Step::Again(n) => {
                if let Some((from, bytes)) = pick(&self.packets, *n).cloned() {
                    self.receive(from, &bytes);
                }
            }
            Step::Changed { packet, at, with } => {
                if let Some((from, mut bytes)) = pick(&self.packets, *packet).cloned() {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] ^= with;
                    self.receive(from, &bytes);
                }
            }
            Step::Approve(n) => {
                let mut approved = approval(Factor::Push);
                approved.found_text = Some(Secret::new(
                    TEXTS[usize::from(*n) % TEXTS.len()].as_bytes().to_vec(),
                ));
                self.approvals += 1;
                self.verdict(*n, Verdict::Approved(approved));
            }
            Step::Refuse(n, reason) => {
                let reasons = [
                    RefusalReason::Denied,
                    RefusalReason::TimedOut,
                    RefusalReason::CodesSent,
                    RefusalReason::WrongPasscode,
                ];
                self.verdict(*n, Verdict::Refused(refusal(reasons[usize::from(reason % 4)])));
            }
            Step::Pushed(n) => {
                if let Some(login) = pick(&self.asks, *n) {
                    self.engine.pushed(self.now(), *login);
                }
            }
            Step::Wait(milliseconds) => self.wait(u64::from(*milliseconds)),
            Step::WaitLong(seconds) => self.wait(u64::from(*seconds) * 1000),
            // The provider stays: what is asked of it is what this test knows.
            Step::Reload(setting) => {
                let same = setting / 3 % 64 * 3;
                if self.pushing {
                    self.engine.reconfigure(settings(a_config(same)));
                }
            }
            Step::Drain(chance) => {
                if chance % 16 == 0 {
                    self.engine.drain(self.now(), &mut self.out);
                }
            }
        }
        self.check();
    }

    fn new_packet(&mut self, [user, text, method, from, identifier, how]: [u8; 6]) {
        let user = USERS[usize::from(user) % USERS.len()];
        let text = TEXTS[usize::from(text) % TEXTS.len()];
        let secret = if how & 4 == 0 { SECRET } else { OLD_SECRET };
        let authenticator = u8::try_from(self.packets.len() % 256).unwrap();
        let mut build = Build::access(identifier % 4, authenticator, secret).user(user);
        build = match method % 8 {
            0..=3 => build.pap(text),
            4 => build.chap(text),
            5 => build.mschapv1(text),
            6 => build.mschapv2(user.rsplit('\\').next().unwrap(), text),
            _ => Build::status(identifier % 4, secret),
        };
        if how & 1 == 1 {
            build = build.unsigned();
        }
        if how & 8 == 8 {
            build = build.with(33, &[how; 5]);
        }
        let bytes = build.bytes();
        let from = usize::from(from) % SOURCES.len();
        self.receive(from, &bytes);
        self.packets.push((from, bytes));
    }

    fn verdict(&mut self, n: u8, verdict: Verdict) {
        if let Some(login) = pick(&self.asks, n).copied() {
            self.open.remove(&login);
            if matches!(verdict, Verdict::Approved(_)) {
                *self.approved.entry(self.users[&login].clone()).or_default() += 1;
            }
            self.engine.verdict(self.now(), login, verdict, &mut self.out);
        }
    }

    /// Time passes, with a tick at every deadline on the way, as a caller does it.
    fn wait(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(deadline) = self.engine.next_deadline() {
            let deadline =
                u64::try_from(deadline.saturating_sub(testing::at(0).monotonic).as_millis()).unwrap();
            if deadline > end {
                break;
            }
            assert!(deadline >= self.now, "a deadline in the past was not dealt with");
            self.now = deadline.max(self.now);
            self.engine.tick(self.now(), &mut self.out);
            assert!(
                self.engine
                    .next_deadline()
                    .is_none_or(|next| next > self.now().monotonic),
                "a tick deals with what is due"
            );
        }
        self.now = end;
    }

    fn check(&mut self) {
        for cancelled in &self.out.cancels {
            self.open.remove(cancelled);
        }
        for ask in &self.out.asks {
            assert!(!self.asks.contains(&ask.login), "asked twice");
            self.asks.push(ask.login);
            self.users.insert(ask.login, ask.user.as_str().to_owned());
            if self.pushing && !matches!(ask.credential, Credential::Passcode(_)) {
                let user = ask.user.as_str().to_owned();
                assert!(
                    self.open.values().all(|other| *other != user),
                    "a second push for {user}"
                );
                self.open.insert(ask.login, user);
            }
        }
        for record in &self.out.records {
            self.records += 1;
            if record.result == LoginResult::Accept {
                let left = self
                    .approved
                    .get_mut(&record.user)
                    .and_then(|left| left.checked_sub(1).map(|less| *left = less));
                assert!(
                    left.is_some(),
                    "an accept of {} without an approval of theirs",
                    record.user
                );
            }
            let line = serde_json::to_string(record).unwrap();
            assert!(!line.chars().any(crate::record::is_unsafe_to_show));
        }
        for datagram in self.out.datagrams() {
            let length = usize::from(u16::from_be_bytes([datagram.bytes[2], datagram.bytes[3]]));
            assert_eq!(datagram.bytes.len(), length);
            assert_eq!(datagram.bytes[20..22], [80, 18], "Message-Authenticator is first");
            // The answer to Status-Server is an Access-Accept too, and says nothing.
            let says = datagram.bytes.windows(7).any(|window| window == b"Success");
            if datagram.bytes[0] == 2 && says {
                self.accepts.insert(datagram.bytes.to_vec());
            }
        }
        let accepts = self.engine.counters().events(Event::Accepted);
        assert!(accepts <= self.approvals, "an accept without an approval");
        assert!(
            self.accepts.len() as u64 <= accepts + self.engine.counters().events(Event::AnsweredAgain),
            "an accept that was not counted"
        );
        assert!(self.engine.logins.len() <= PENDING);
        assert!(self.engine.pending() <= self.engine.logins.len());
        assert!(self.engine.duplicates.held().0 <= PENDING * 17);
        self.out.clear();
    }

    fn finish(mut self) {
        self.wait(300_000);
        self.check();
        assert_eq!((self.engine.pending(), self.engine.logins.len()), (0, 0));
        assert_eq!(self.engine.logins.indexed(), 0);
        assert_eq!(self.engine.duplicates.held(), (0, 0));
        self.next_login_starts();
        self.wait(300_000);
        self.check();
        assert_eq!(self.engine.next_deadline(), None::<Duration>);
        let counters = self.engine.counters();
        let ended: u64 = [Event::Accepted, Event::Rejected, Event::Challenged, Event::Silent]
            .into_iter()
            .map(|event| counters.events(event))
            .sum();
        assert_eq!(ended, self.records, "one record for each login");
    }
}

impl Run {
    /// Whatever has happened, a login is asked about again.
    fn next_login_starts(&mut self) {
        if self.engine.draining {
            return;
        }
        let build = Build::access(9, 250, SECRET).user("jane").pap("654321");
        let asked = self.asks.len();
        self.receive(0, &build.bytes());
        self.check();
        assert_eq!(self.asks.len(), asked + 1, "the next login starts as usual");
    }
}

fn pick<T>(all: &[T], n: u8) -> Option<&T> {
    all.get(usize::from(n) % all.len().max(1))
}

#[test]
fn no_fuzz_gets_more_accepts_than_approvals_or_leaves_anything_behind() {
    bolero::check!().with_type::<Script>().for_each(|script| {
        let mut run = Run::new(script.setting);
        for step in &script.steps {
            run.step(step);
        }
        run.finish();
    });
}
