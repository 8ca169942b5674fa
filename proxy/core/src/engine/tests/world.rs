//! An engine with a client in front and no provider behind.

use std::net::SocketAddr;

use proxy_config::Config;

use crate::counters::{DropReason, Event};
use crate::factor::{Credential, FactorRequest, LoginId, Verdict};
use crate::outputs::{Outputs, SocketId};
use crate::record::LoginRecord;
use crate::testing::client::{Answer, Build};
use crate::testing::{self, SECRET};
use crate::{Engine, Now};

pub(super) const HERE: &str = "192.0.2.1:40000";

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) out: Outputs,
    pub(super) now: u64,
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        Self {
            engine: Engine::new(testing::settings(config), [7; 32]),
            out: Outputs::new(),
            now: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        testing::at(self.now)
    }

    pub(super) fn receive(&mut self, from: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.out.clear();
        let from: SocketAddr = from.parse().unwrap();
        self.engine
            .receive(self.now(), from, SocketId(3), bytes, &mut self.out);
        for datagram in self.out.datagrams() {
            assert_eq!(datagram.socket, SocketId(3));
        }
        self.sent()
    }

    pub(super) fn sent(&self) -> Vec<Vec<u8>> {
        self.out
            .datagrams()
            .map(|datagram| datagram.bytes.to_vec())
            .collect()
    }

    /// The answer to a request, which must come at once.
    pub(super) fn answer(&mut self, request: &Build) -> Answer {
        let bytes = request.bytes();
        let sent = self.receive(HERE, &bytes);
        assert_eq!(sent.len(), 1, "one answer");
        Answer::read(&sent[0], &bytes, SECRET)
    }

    /// What a request makes the engine ask, which it must do.
    pub(super) fn asked(&mut self, request: &Build) -> FactorRequest {
        assert!(self.receive(HERE, &request.bytes()).is_empty());
        assert_eq!(self.out.asks.len(), 1, "one question");
        self.out.asks.remove(0)
    }

    /// The answer that a verdict gives to `request`.
    pub(super) fn verdict(&mut self, login: LoginId, verdict: Verdict, request: &Build) -> Answer {
        self.out.clear();
        self.engine.verdict(self.now(), login, verdict, &mut self.out);
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "one answer");
        Answer::read(&sent[0], &request.bytes(), SECRET)
    }

    pub(super) fn drain(&mut self) {
        self.engine.drain(self.now(), &mut self.out);
    }

    /// The reason for which a request is dropped, which it must be.
    pub(super) fn dropped(&mut self, request: &Build) -> DropReason {
        self.dropped_from(HERE, &request.bytes())
    }

    pub(super) fn dropped_from(&mut self, from: &str, bytes: &[u8]) -> DropReason {
        let before = self.engine.counters().clone();
        assert!(self.receive(from, bytes).is_empty());
        assert!(self.out.asks.is_empty() && self.out.records.is_empty());
        let after = self.engine.counters();
        let mut reasons = DropReason::ALL
            .iter()
            .filter(|reason| after.drops(**reason) > before.drops(**reason));
        let reason = *reasons.next().expect("dropped");
        assert_eq!(reasons.next(), None);
        reason
    }

    pub(super) fn record(&self) -> &LoginRecord {
        assert_eq!(self.out.records.len(), 1, "one record");
        &self.out.records[0]
    }

    pub(super) fn reason(&self) -> &'static str {
        self.record().reason.map_or("-", crate::record::Reason::name)
    }

    pub(super) fn count(&self, event: Event) -> u64 {
        self.engine.counters().events(event)
    }
}

/// A signed request with PAP.
pub(super) fn pap(identifier: u8, user: &str, text: &str) -> Build {
    Build::access(identifier, identifier, SECRET).user(user).pap(text)
}

/// A credential in a word.
pub(super) fn word(credential: &Credential) -> String {
    match credential {
        Credential::Default => "default".to_owned(),
        Credential::Keyword(keyword) => {
            let device = keyword.device.map(|device| device.to_string());
            format!("{:?}{}", keyword.factor, device.unwrap_or_default()).to_lowercase()
        }
        Credential::Passcode(code) => code.expose_str().unwrap().to_owned(),
        Credential::Response(_) => "response".to_owned(),
        Credential::Forward(_) => "forward".to_owned(),
        Credential::Follow(_) => "follow".to_owned(),
    }
}
