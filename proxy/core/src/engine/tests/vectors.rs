//! The golden vectors, and what becomes of them when bytes change.

use proxy_config::{Secret, SharedSecret};

use super::world::World;
use crate::counters::{DropReason, Event};
use crate::factor::{Approval, Basis, Credential, Factor, LoginId, Refusal, RefusalReason, Verdict};
use crate::record::{LoginResult, Reason};
use crate::testing::vectors::{self, Step, Vector};
use crate::testing::{TOTP, config_with};

fn world(vector: &Vector) -> World {
    let provider = if vector.provider == "totp" { TOTP } else { "" };
    let mut config = config_with(provider, &vector.client.join("\n"));
    config.clients[0].secret = shared_secret(&vector.secret);
    config.clients[0].previous_secret = vector.previous.as_deref().map(shared_secret);
    World::new(config)
}

fn shared_secret(text: &str) -> SharedSecret {
    SharedSecret::parse(text.as_bytes()).unwrap()
}

#[test]
fn every_vector_is_met() {
    let vectors = vectors::all();
    assert!(vectors.len() >= 40);
    for vector in &vectors {
        let mut world = world(vector);
        let (mut login, mut typed) = (LoginId(0), None);
        let (mut sent, mut outcome) = (Vec::new(), String::new());
        for step in &vector.steps {
            let name = &vector.name;
            match step {
                Step::Packet(bytes) => {
                    let before = world.engine.counters().clone();
                    let answers = world.receive(&vector.from, bytes);
                    outcome = describe(&world, &before, &answers, &sent);
                    sent = answers;
                    if let Some(ask) = world.out.asks.pop() {
                        login = ask.login;
                        typed = Some(ask.credential);
                    }
                }
                Step::Expect(expected) => assert_eq!(&outcome, expected, "{name}"),
                Step::Typed(text) => match typed.as_ref().unwrap() {
                    Credential::Passcode(code) => assert_eq!(code.expose(), text.as_bytes(), "{name}"),
                    Credential::Response(check) => {
                        assert!(check.matches(text.as_bytes()), "{name}");
                        assert!(!check.matches(format!("{text} ").as_bytes()), "{name}");
                    }
                    _ => panic!("{name}: nothing was typed"),
                },
                Step::Verdict(verdict) => {
                    world.out.clear();
                    world
                        .engine
                        .verdict(world.now(), login, read_verdict(verdict), &mut world.out);
                    sent = world.sent();
                }
                Step::Answer(bytes) => {
                    assert_eq!(sent.len(), 1, "{name}");
                    assert_eq!(hex::encode(&sent[0]), hex::encode(bytes), "{name}");
                }
            }
        }
    }
}

fn describe(
    world: &World,
    before: &crate::counters::Counters,
    answers: &[Vec<u8>],
    sent: &[Vec<u8>],
) -> String {
    let after = world.engine.counters();
    let happened = |event| after.events(event) > before.events(event);
    if happened(Event::StatusServer) {
        return "status".to_owned();
    }
    if happened(Event::Resent) {
        assert_eq!(answers, sent);
        return "resend".to_owned();
    }
    if let Some(ask) = world.out.asks.first() {
        let kind = match &ask.credential {
            Credential::Default => "default",
            Credential::Keyword(_) => "keyword",
            Credential::Passcode(_) => "passcode",
            Credential::Response(_) => "response",
            Credential::Forward(_) => "forward",
            Credential::Follow(_) => "follow",
        };
        let method = world.engine.logins.get(ask.login).unwrap();
        let method = method.attempt.as_ref().unwrap().carrier.method().name();
        return format!("ask {method} {kind} {}", ask.user);
    }
    if let Some(record) = world.out.records.first() {
        assert_eq!(record.result, LoginResult::Reject);
        return format!("reject {}", record.reason.map_or("", Reason::name));
    }
    let reason = DropReason::ALL
        .iter()
        .find(|reason| after.drops(**reason) > before.drops(**reason));
    format!("drop {}", reason.map_or("", |reason| reason.name()))
}

fn read_verdict(text: &str) -> Verdict {
    match text.split_once(' ') {
        Some(("reject", "wrong_passcode")) => Verdict::Refused(Refusal {
            factor: Some(Factor::Passcode),
            reason: RefusalReason::WrongPasscode,
            message: None,
        }),
        None | Some(("accept", _)) => Verdict::Approved(Approval {
            factor: Factor::Passcode,
            basis: Basis::Factor,
            message: None,
            found_text: text
                .strip_prefix("accept ")
                .map(|text| Secret::new(text.as_bytes().to_vec())),
            attributes: Vec::new(),
        }),
        _ => panic!("{text}"),
    }
}

#[test]
fn no_fuzz_on_the_vectors_does_harm_and_a_good_request_is_still_answered() {
    let packets = vectors::packets();
    let vector = &vectors::all()[0];
    let mut plain = vector.clone();
    plain.secret = crate::testing::SECRET.to_owned();
    plain.client = vec!["message_authenticator = \"never\"".to_owned()];
    let world = std::sync::Mutex::new(world(&plain));
    bolero::check!()
        .with_type::<(u8, Vec<(u16, u8)>, u8, Vec<u8>)>()
        .for_each(|(which, changes, cut, more)| {
            let mut bytes = packets[usize::from(*which) % packets.len()].clone();
            for (at, with) in changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= with;
            }
            bytes.truncate(bytes.len().saturating_sub(usize::from(cut % 64)));
            bytes.extend(more);
            let mut world = world.lock().unwrap();
            world.now += 1;
            world.receive("192.0.2.9:1024", &bytes);
            let logins = std::mem::take(&mut world.out.asks);
            for ask in logins {
                let now = world.now();
                let mut out = std::mem::take(&mut world.out);
                world
                    .engine
                    .verdict(now, ask.login, read_verdict("accept"), &mut out);
                world.out = out;
            }
            assert_eq!(world.engine.logins.len(), 0);
            let status = crate::testing::client::Build::status(1, crate::testing::SECRET).bytes();
            assert_eq!(world.receive("192.0.2.8:1024", &status).len(), 1);
        });
}
