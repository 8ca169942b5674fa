//! An Access-Request, from its proof to the question for the provider.

use std::time::Duration;

use radius::core::rfc2865;

use super::classify::Given;
use super::end::End;
use super::{Arrival, Engine};
use crate::counters::{DropReason, Event};
use crate::duplicates::{Found, Key};
use crate::factor::{Approval, Basis, Continues, Factor, LoginId, RefusalReason, UserName};
use crate::logins::{Attempt, Shown};
use crate::outputs::Outputs;
use crate::packet::Request;
use crate::password::{Carrier, Password};
use crate::record::{CredentialKind, Reason};
use crate::reply::ReplyTo;
use crate::settings::ProviderKind;
use crate::verify::{Proof, Verified};

/// An answer leaves so much before the client gives up (or a tenth of its patience, if that is less).
const MARGIN: Duration = Duration::from_millis(500);

const CODE_ASKED: &str = "Enter your passcode.";

impl Arrival<'_> {
    pub(super) fn key(&self) -> Key {
        Key {
            from: self.from,
            socket: self.socket,
            identifier: self.request.packet().identifier,
            proved: self.request.proof() != Proof::None,
        }
    }

    /// A try that begins with this packet.
    fn attempt(&self) -> Box<Attempt> {
        let budget = self.client.config.budget();
        let started = self.now.monotonic;
        Box::new(Attempt {
            key: self.key(),
            to: ReplyTo::new(&self.request, &self.client, self.from, self.socket),
            carrier: Carrier::None,
            found: None,
            started,
            deadline: started + budget.saturating_sub(MARGIN.min(budget / 10)),
            packets: 1,
            older: Vec::new(),
            shown: Shown {
                user: String::new(),
                user_address: user_address(&self.request, &self.client),
                credential: CredentialKind::None,
                message_authenticator: self.request.proof() == Proof::MessageAuthenticator,
                followed: false,
            },
        })
    }
}

impl Engine {
    pub(super) fn access(&mut self, arrival: Arrival<'_>, out: &mut Outputs) -> Result<(), DropReason> {
        let (now, key, authenticator) = (arrival.now, arrival.key(), arrival.request.packet().authenticator);
        match self.duplicates.find(&key, &authenticator, now.monotonic) {
            Found::New => self.new_request(arrival, out),
            Found::Replaces(login) => {
                let result = self.new_request(arrival, out);
                // Unless the new packet has joined the login, the login has lost its client.
                self.lose_client(now, login, &key, &authenticator, out);
                result
            }
            Found::Silent => Err(DropReason::DuplicateSilent),
            Found::Answered(bytes) => {
                out.send(arrival.from, arrival.socket, bytes);
                self.counters.happened(Event::Resent);
                Ok(())
            }
            Found::Waiting(login) => {
                self.seen_again(login, now.monotonic);
                Err(DropReason::DuplicatePending)
            }
            Found::Superseded(login) => {
                self.seen_again(login, now.monotonic);
                Err(DropReason::DuplicateSilent)
            }
        }
    }

    fn new_request(&mut self, mut arrival: Arrival<'_>, out: &mut Outputs) -> Result<(), DropReason> {
        let now = arrival.now;
        self.counters.happened(Event::AccessRequest);
        let mut attempt = arrival.attempt();
        let sent: &[u8] = arrival
            .request
            .packet()
            .value(rfc2865::USER_NAME_TYPE)
            .unwrap_or_default();
        let within_rate = self.within_rate(&arrival);
        let pap = arrival.request.take_pap();
        let password = Password::read(arrival.request.packet(), pap, sent)?;
        attempt.carrier = password.carrier();
        if !within_rate {
            attempt.shown.user = String::from_utf8_lossy(sent).into_owned();
            return self.beyond_rate(&arrival, attempt, out);
        }
        let rule = &self.checked().config.policy.user_names;
        let as_sent = std::str::from_utf8(sent).ok();
        let user = as_sent.and_then(|name| Some((name, UserName::normalise(name, rule)?)));
        let Some((as_sent, user)) = user else {
            attempt.shown.user = String::from_utf8_lossy(sent).into_owned();
            self.refuse(now, attempt, RefusalReason::BadUserName, out);
            return Ok(());
        };
        user.as_str().clone_into(&mut attempt.shown.user);
        if matches!(password, Password::None) {
            // EAP, or an authorisation without authentication. Without a proof it is not worth a Reject.
            if arrival.request.proof() == Proof::None {
                return Err(DropReason::NoPassword);
            }
            self.refuse(now, attempt, RefusalReason::NoPassword, out);
            return Ok(());
        }
        let Some(continues) = self.continues(&arrival, &user) else {
            self.refuse(now, attempt, RefusalReason::StaleState, out);
            return Ok(());
        };
        let given = self.classify(arrival.request.packet(), &password, &user, continues);
        drop(password);
        attempt.shown.credential = given.kind;
        attempt.found.clone_from(&given.found);
        self.decide(&arrival, attempt, user, as_sent, given, out)
    }

    /// What the policy says without a provider: exemption, and a code to be asked for.
    fn decide(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        user: UserName,
        as_sent: &str,
        given: Given,
        out: &mut Outputs,
    ) -> Result<(), DropReason> {
        let (now, proved) = (arrival.now, attempt.key.proved);
        if self.checked().exempt.contains(&user) {
            if self.throttled(&user, proved, now) {
                self.refuse(now, attempt, RefusalReason::Throttled, out);
            } else {
                self.end(now, attempt, End::Approved(exempt(), None), out);
            }
            return Ok(());
        }
        // TOTP can do nothing with an empty text or a password; a client that can ask for the code does.
        let asks = arrival.client.config.challenge
            && self.checked().provider == ProviderKind::Local
            && matches!(given.kind, CredentialKind::Default | CredentialKind::Keyword)
            && matches!(attempt.carrier, Carrier::Pap);
        if asks {
            if self.throttled(&user, proved, now) {
                self.refuse(now, attempt, RefusalReason::Throttled, out);
            } else {
                let end = End::Challenged(user, CODE_ASKED.into(), Factor::Passcode, Reason::CodeAsked);
                self.end(now, attempt, end, out);
            }
            return Ok(());
        }
        if given.unknown_factor {
            self.refuse_unknown_factor(now, attempt, out);
            return Ok(());
        }
        self.ask_provider(arrival, attempt, user, as_sent, given, out)
    }

    fn seen_again(&mut self, login: LoginId, now: Duration) {
        if let Some(login) = self.logins.get_mut(login) {
            login.last_packet = now;
            if let Some(attempt) = &mut login.attempt {
                attempt.packets = attempt.packets.saturating_add(1);
            }
        }
    }

    /// What comes faster than a client's limit. A directory's own probes must not fail, so it always has its answer.
    /// Of others what proves nothing is dropped: it can be sent from a forged address at any rate, and is worth neither
    /// an answer nor a record.
    fn beyond_rate(
        &mut self,
        arrival: &Arrival<'_>,
        attempt: Box<Attempt>,
        out: &mut Outputs,
    ) -> Result<(), DropReason> {
        self.counters.happened(Event::ThrottledClient);
        // Not remembered: what comes beyond the rate must not push out the answers of what came within.
        if attempt.key.proved {
            self.end_unremembered(arrival.now, attempt, RefusalReason::Throttled, out);
        } else if arrival.client.config.directory {
            self.reject_unrecorded(&attempt, RefusalReason::Throttled, out);
        } else {
            return Err(DropReason::Throttled);
        }
        Ok(())
    }

    /// What a State says; `None` for one that was not given for this.
    fn continues(&mut self, arrival: &Arrival<'_>, user: &UserName) -> Option<Continues> {
        if !arrival.client.config.challenge {
            return Some(Continues::Untold);
        }
        let Some(state) = arrival.request.packet().value(rfc2865::STATE_TYPE) else {
            return Some(Continues::Nothing);
        };
        self.challenges
            .take(state, user, arrival.source, arrival.now.monotonic)
            .then_some(Continues::State)
    }

    /// Takes one login of the user; `true` when none is left.
    pub(super) fn throttled(&mut self, user: &UserName, proved: bool, now: crate::Now) -> bool {
        let mut evicted = false;
        let granted = self.users.login(user, proved, now.monotonic, &mut evicted);
        self.count_if(evicted, Event::EvictedUser);
        self.count_if(!granted, Event::ThrottledUser);
        !granted
    }
}

fn exempt() -> Approval {
    Approval {
        factor: Factor::None,
        basis: Basis::Exempt,
        message: None,
        found_text: None,
        attributes: Vec::new(),
    }
}

fn user_address(
    request: &Verified<Request<'_>>,
    client: &crate::clients::Client,
) -> Option<std::net::IpAddr> {
    let attribute = client.user_address?;
    let raw = request
        .packet()
        .attributes()
        .find(|raw| attribute.is(raw.typ, raw.value))?;
    attribute.address(raw.value)
}
