//! A directory, two proxies that tell each other of pushes, and the people who log in: all in virtual time.

use std::collections::BTreeMap;

use super::person::{Login, Method, Numbers, RETRIES};
use super::provider::{self, Follower, Provider, State};
use super::unknowns::{Directory, Signs};
use crate::factor::{LoginId, RefusalReason, Verdict};
use crate::outputs::{Outputs, SocketId};
use crate::peers::{Instance, PeerMessage, PushHandle, ToPeer};
use crate::testing::{self, PEERS, TOTP, config_with, settings};
use crate::{Engine, Now};

/// A datagram is under way so long.
const UNDER_WAY: u64 = 1;
/// A person who was not let in types again after so long.
const TYPES_AGAIN: u64 = 3_000;
/// A second push on the phone is approved so much later than the first, unless its owner is in by then.
const NEXT_PUSH: u64 = 1_000;
/// And not more often.
const LOGINS: usize = 3;

/// What a person logs in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Factor {
    /// A push that is approved after so many seconds.
    Push(u64),
    /// The codes of an authenticator app, a new one each time.
    Totp,
    /// The same codes, verified by a provider that pushes too.
    PushersCode,
}

/// Somebody who logs in, and how it went.
pub(super) struct Person {
    pub(super) user: &'static str,
    pub(super) texts: Vec<String>,
    pub(super) method: Method,
    pub(super) controller: u8,
    /// Types again when not let in.
    pub(super) persists: bool,
    pub(super) logins: usize,
    pub(super) accepted: bool,
    pub(super) rejected: usize,
}

enum Event {
    Types(usize),
    Step(usize),
    Arrives(usize, String, Vec<u8>),
    Answers(usize, String, Vec<u8>),
    Tells(usize, Instance, PeerMessage),
    Started(Follower, usize),
    Says(Follower, Verdict),
    Ends(usize, State),
}

pub(super) struct Site {
    directory: Directory,
    engines: Vec<Engine>,
    pub(super) provider: Provider,
    approve_after: u64,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    numbers: Numbers,
    /// Logins, each with the person whose it is.
    logins: Vec<(usize, Login)>,
    pub(super) people: Vec<Person>,
    turn: u64,
    /// Whose packets leave from where.
    addresses: BTreeMap<String, usize>,
    /// Whose packet is being dealt with.
    asker: usize,
    /// Somebody got the Accept of another's push.
    pub(super) stolen: bool,
}

impl Site {
    pub(super) fn new(directory: Directory, factor: Factor, turn: u64) -> Self {
        let provider = if factor == Factor::Totp { TOTP } else { "" };
        let engine = |seed: u8| {
            // With unsigned requests a push needs the setting that lets them start one.
            let unproved = match directory.signs {
                Signs::Always => "",
                Signs::Never | Signs::ProbeOnly => "unauthenticated_push = true\n",
            };
            let mut config = config_with(
                &format!("{PEERS}{provider}"),
                &format!("directory = true\n{unproved}"),
            );
            config.clients[0].retries = RETRIES;
            Engine::new(settings(config), [seed; 32])
        };
        let mut engines = vec![engine(1), engine(2)];
        let instances: Vec<Instance> = engines.iter().map(Engine::instance).collect();
        for (node, engine) in engines.iter_mut().enumerate() {
            engine.peers_here([instances[1 - node]].into());
        }
        let approve_after = match factor {
            Factor::Push(seconds) => seconds * 1000,
            Factor::Totp | Factor::PushersCode => u64::MAX / 2,
        };
        Self {
            directory,
            engines,
            provider: Provider::default(),
            approve_after,
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            numbers: Numbers::default(),
            logins: Vec::new(),
            people: Vec::new(),
            turn,
            addresses: BTreeMap::new(),
            asker: 0,
            stolen: false,
        }
    }

    /// Somebody begins to log in at a time.
    pub(super) fn person(&mut self, at: u64, person: Person) -> usize {
        self.people.push(person);
        let number = self.people.len() - 1;
        self.at(at, Event::Types(number));
        number
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    fn after(&mut self, milliseconds: u64, event: Event) {
        self.at(self.now.saturating_add(milliseconds), event);
    }

    /// Until so much time has passed.
    pub(super) fn run(&mut self, end: u64) {
        loop {
            let event = self.events.first_key_value().map(|((time, _), _)| *time);
            let start = testing::at(0).monotonic;
            let deadline = self.engines.iter().enumerate().filter_map(|(node, engine)| {
                let deadline = engine
                    .next_deadline()?
                    .saturating_sub(start)
                    .as_micros()
                    .div_ceil(1000);
                Some((u64::try_from(deadline).unwrap(), node))
            });
            let deadline = deadline.min();
            match (event, deadline) {
                (Some(time), _) if time <= end && deadline.is_none_or(|(at, _)| time <= at) => {
                    let (_, event) = self.events.pop_first().unwrap();
                    self.now = self.now.max(time);
                    self.happens(event);
                }
                (_, Some((time, node))) if time <= end => {
                    self.now = self.now.max(time);
                    self.with(node, |engine, now, out| engine.tick(now, out));
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Types(person) => self.types(person),
            Event::Step(login) => self.step(login),
            Event::Arrives(node, from, bytes) => {
                self.asker = self.addresses[&from];
                let from = from.parse().unwrap();
                self.with(node, |engine, now, out| {
                    engine.receive(now, from, SocketId(0), &bytes, out);
                });
            }
            Event::Answers(server, to, bytes) => self.answers(server, &to, &bytes),
            Event::Tells(node, from, message) => {
                self.with(node, |engine, now, out| engine.peer(now, from, message, out));
            }
            Event::Started((node, login), push) => {
                let handle = PushHandle::new(push.to_string()).unwrap();
                self.with(node, |engine, now, out| {
                    engine.pushed(now, login);
                    engine.started(now, login, handle, out);
                });
            }
            Event::Says((node, login), verdict) => {
                self.with(node, |engine, now, out| engine.verdict(now, login, verdict, out));
            }
            // Who is in already lets a further push be.
            Event::Ends(_, State::Approved)
                if self
                    .people
                    .iter()
                    .any(|person| person.persists && person.accepted) => {}
            Event::Ends(push, state) => {
                for (follower, verdict) in self.provider.end(push, state) {
                    self.after(100, Event::Says(follower, verdict));
                }
            }
        }
    }

    fn types(&mut self, number: usize) {
        let person = &mut self.people[number];
        let text = &person.texts[person.logins.min(person.texts.len() - 1)];
        let typed = (person.user, text.clone(), person.method);
        let login = Login::begin(self.directory, typed, person.controller, self.turn, self.now);
        person.logins += 1;
        self.turn += 1;
        self.logins.push((number, login));
        self.step(self.logins.len() - 1);
    }

    /// Asks one server for the probe's user.
    pub(super) fn probe(&mut self, controller: u8, server: usize) -> usize {
        let person = Person {
            user: self.directory.probe_user,
            texts: vec!["probe".to_owned()],
            method: Method::Pap,
            controller,
            persists: false,
            logins: 1,
            accepted: false,
            rejected: 0,
        };
        let typed = (person.user, "probe".to_owned(), Method::Pap);
        self.people.push(person);
        let login = Login::begin(self.directory, typed, controller, 0, self.now).only(server);
        self.logins.push((self.people.len() - 1, login));
        self.step(self.logins.len() - 1);
        self.people.len() - 1
    }

    fn step(&mut self, number: usize) {
        let (person, login) = &mut self.logins[number];
        let person = *person;
        if login.next.is_none_or(|(time, _)| time > self.now) {
            return;
        }
        match login.step(self.now, &mut self.numbers) {
            Some(packets) => {
                let next = login.next.expect("a login that sent waits").0;
                self.at(next, Event::Step(number));
                for packet in packets {
                    self.addresses.insert(packet.from.clone(), person);
                    self.after(
                        UNDER_WAY,
                        Event::Arrives(packet.server, packet.from, packet.bytes),
                    );
                }
            }
            None => self.is_not_let_in(person),
        }
    }

    fn is_not_let_in(&mut self, number: usize) {
        let person = &self.people[number];
        if person.persists && person.logins < LOGINS {
            self.after(TYPES_AGAIN, Event::Types(number));
        }
    }

    fn answers(&mut self, server: usize, to: &str, bytes: &[u8]) {
        for number in 0..self.logins.len() {
            let (person, login) = &mut self.logins[number];
            let person = *person;
            match login.answered(server, to, bytes) {
                Some(2) => {
                    assert!(!self.people[person].accepted, "one person is let in once");
                    if let Some(push) = push_of(bytes) {
                        self.stolen |= self.provider.starter(push) != person;
                    }
                    self.people[person].accepted = true;
                }
                Some(_) => {
                    self.people[person].rejected += 1;
                    self.is_not_let_in(person);
                }
                None => {}
            }
        }
    }

    fn with(&mut self, node: usize, call: impl FnOnce(&mut Engine, Now, &mut Outputs)) {
        let mut out = Outputs::new();
        call(&mut self.engines[node], testing::at(self.now), &mut out);
        let instance = self.engines[node].instance();
        for ToPeer { to, message } in out.peers.drain(..) {
            if to.is_none_or(|to| to == self.engines[1 - node].instance()) {
                self.after(UNDER_WAY, Event::Tells(1 - node, instance, message));
            }
        }
        for login in out.cancels.drain(..).chain(out.released.drain(..)) {
            self.provider.forget((node, login));
        }
        let answers: Vec<_> = out
            .datagrams()
            .map(|datagram| (datagram.to.to_string(), datagram.bytes.to_vec()))
            .collect();
        for (to, bytes) in answers {
            self.after(UNDER_WAY, Event::Answers(node, to, bytes));
        }
        for ask in std::mem::take(&mut out.asks) {
            self.ask(
                (node, ask.login),
                ask.user.as_str(),
                &ask.credential,
                ask.may_push,
            );
        }
    }

    fn ask(
        &mut self,
        by: (usize, LoginId),
        user: &str,
        credential: &crate::factor::Credential,
        may_push: bool,
    ) {
        let codes: Vec<String> = self
            .people
            .iter()
            .flat_map(|person| person.texts.clone())
            .collect();
        let follows = matches!(credential, crate::factor::Credential::Follow(_));
        let could_push = !matches!(
            credential,
            crate::factor::Credential::Passcode(_) | crate::factor::Credential::Response(_)
        );
        if !follows && could_push && !may_push && user == "owner" {
            let refused = testing::refusal(RefusalReason::Throttled);
            return self.after(10, Event::Says(by, Verdict::Refused(refused)));
        }
        match self.provider.ask((user, self.asker), credential, &codes, by) {
            provider::Answer::Says(milliseconds, verdict) => {
                self.after(milliseconds, Event::Says(by, verdict));
            }
            provider::Answer::Follows(_) if follows => {}
            provider::Answer::Follows(push) => {
                // One push is looked at after the other.
                let others = u64::try_from(self.provider.pending() - 1).unwrap() * NEXT_PUSH;
                self.after(provider::STARTS_AFTER, Event::Started(by, push));
                self.after(
                    provider::STARTS_AFTER + self.approve_after + others,
                    Event::Ends(push, State::Approved),
                );
                self.after(
                    provider::STARTS_AFTER + provider::PUSH_LIVES,
                    Event::Ends(push, State::Expired),
                );
            }
        }
    }
}

/// Which push's approval an Accept is.
fn push_of(accept: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(accept).into_owned();
    let number = text.split("push ").nth(1)?.chars().take(4).collect::<String>();
    Some(number.parse().expect("a push's number"))
}
