//! An Access-Request, from its proof to the question for the provider.

use std::time::Duration;

use proxy_config::Secret;
use radius::core::{rfc2865, rfc2869};

use super::classify::Given;
use super::end::End;
use super::{Arrival, Engine};
use crate::counters::{DropReason, Event};
use crate::duplicates::{Found, Key};
use crate::factor::{Approval, Basis, Continues, Factor, RefusalReason, UserName};
use crate::logins::{Attempt, Shown};
use crate::outputs::Outputs;
use crate::packet::Request;
use crate::password::{Carrier, Password};
use crate::record::{CredentialKind, Reason};
use crate::reply::ReplyTo;
use crate::settings::ProviderKind;
use crate::verify::{Proof, Verified};

/// An answer leaves so much before the client gives up (or a tenth of its patience, if that is less).
pub(super) const MARGIN: Duration = Duration::from_millis(500);

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

    fn user_name(&self) -> &[u8] {
        let name = self.request.packet().value(rfc2865::USER_NAME_TYPE);
        name.unwrap_or_default()
    }

    /// A try that begins with this packet.
    fn attempt(&self, longest: Duration) -> Box<Attempt> {
        let budget = self.client.config.budget().min(longest);
        let started = self.now.monotonic;
        Box::new(Attempt {
            key: self.key(),
            to: ReplyTo::new(&self.request, &self.client, self.from, self.socket),
            carrier: Carrier::None,
            found: None,
            started,
            deadline: started + budget.saturating_sub(MARGIN.min(budget / 10)),
            packets: 1,
            observed: self.observed,
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
                self.seen_again(now, login, &key, out);
                Err(DropReason::DuplicatePending)
            }
            Found::Superseded(login) => {
                self.seen_again(now, login, &key, out);
                Err(DropReason::DuplicateSilent)
            }
        }
    }

    fn new_request(&mut self, mut arrival: Arrival<'_>, out: &mut Outputs) -> Result<(), DropReason> {
        let now = arrival.now;
        self.counters.happened(Event::AccessRequest);
        let pap = arrival.request.take_pap();
        if !self.within_rate(&arrival) {
            return self.beyond_rate(&arrival, pap, out);
        }
        let mut attempt = arrival.attempt(self.checked().config.policy.login);
        let sent = arrival.user_name();
        let name = self.name(sent);
        let password = Password::read(arrival.request.packet(), pap, sent);
        attempt.carrier = carrier(&password);
        attempt.shown.user = shown_name(sent, name.as_ref());
        if self.is_probe(&arrival, name.as_ref()) {
            self.learn(&arrival, false);
            self.observer.probe(now, &attempt.shown.user);
            self.end(now, attempt, End::Probe, out);
            return Ok(());
        }
        let password = password?;
        let has_password = !matches!(password, Password::None);
        let is_eap = arrival.request.packet().has(rfc2869::EAP_MESSAGE_TYPE);
        self.learn(&arrival, has_password && !is_eap);
        let Some((as_sent, user)) = name else {
            self.refuse(now, attempt, RefusalReason::BadUserName, out);
            return Ok(());
        };
        if !has_password {
            // EAP, or an authorisation without authentication. Without a proof it is not worth a Reject.
            if arrival.request.proof() == Proof::None {
                return Err(DropReason::NoPassword);
            }
            self.refuse(now, attempt, RefusalReason::NoPassword, out);
            return Ok(());
        }
        if self.is_unauthenticated_push(&arrival, &password, &user) {
            self.refuse(now, attempt, RefusalReason::Unproven, out);
            return Ok(());
        }
        let continues = self.continues(&arrival, &user);
        let given = self.classify(arrival.request.packet(), &password, &user, continues);
        drop(password);
        attempt.shown.credential = given.kind;
        attempt.found.clone_from(&given.found);
        self.decide(&arrival, attempt, user, as_sent, given, out)
    }

    /// A user name as it was sent, and normalised.
    fn name<'a>(&self, sent: &'a [u8]) -> Option<(&'a str, UserName)> {
        let name = std::str::from_utf8(sent).ok()?;
        Some((
            name,
            UserName::normalise(name, &self.checked().config.policy.user_names)?,
        ))
    }

    fn is_probe(&self, arrival: &Arrival<'_>, name: Option<&(&str, UserName)>) -> bool {
        let names = &self.checked().config.policy.probe_users;
        arrival.client.config.directory && name.is_some_and(|(_, user)| names.contains(user.as_str()))
    }

    /// Whether all that can come of the request is a push, and the request may start none. Told before anything is
    /// guessed of it: it may come from a forged address.
    fn is_unauthenticated_push(&self, arrival: &Arrival<'_>, password: &Password, user: &UserName) -> bool {
        arrival.request.proof() == Proof::None
            && !arrival.client.config.unauthenticated_push
            && !matches!(password, Password::Pap(_))
            && self.checked().provider != ProviderKind::Local
            && !self.checked().exempt.contains(user)
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
        // No limit of a user: it protects the provider and the user's phone, and neither is asked.
        if self.checked().exempt.contains(&user) {
            self.end(now, attempt, End::Approved(exempt(), None), out);
            return Ok(());
        }
        // TOTP can do nothing with an empty text or a password; a client that can ask for the code does.
        let asks = arrival.client.config.challenge
            && !given.stale
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

    /// What comes faster than a client's limit. A directory's own probes must not fail, so it always has its answer.
    /// Of others what proves nothing is dropped: it can be sent from a forged address at any rate, and is worth neither
    /// an answer nor a record.
    fn beyond_rate(
        &mut self,
        arrival: &Arrival<'_>,
        pap: Option<Secret>,
        out: &mut Outputs,
    ) -> Result<(), DropReason> {
        self.counters.happened(Event::ThrottledClient);
        let proved = arrival.request.proof() != Proof::None;
        if !proved && !arrival.client.config.directory {
            return Err(DropReason::Throttled);
        }
        let sent = arrival.user_name();
        let name = self.name(sent);
        let mut attempt = arrival.attempt(self.checked().config.policy.login);
        attempt.carrier = carrier(&Password::read(arrival.request.packet(), pap, sent));
        attempt.shown.user = shown_name(sent, name.as_ref());
        let end = if self.is_probe(arrival, name.as_ref()) {
            End::Probe
        } else {
            End::refused(RefusalReason::Throttled)
        };
        // Not remembered: what comes beyond the rate must not push out the answers of what came within.
        if proved {
            self.end_unremembered(arrival.now, attempt, end, out);
        } else {
            self.end_unrecorded(arrival.now, &attempt, end, out);
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
        let granted = self.take_login(user, proved, now);
        self.count_if(!granted, Event::ThrottledUser);
        !granted
    }

    pub(super) fn take_login(&mut self, user: &UserName, proved: bool, now: crate::Now) -> bool {
        let mut evicted = false;
        let granted = self.users.login(user, proved, now.monotonic, &mut evicted);
        self.count_if(evicted, Event::EvictedUser);
        granted
    }
}

fn carrier(password: &Result<Password, DropReason>) -> Carrier {
    password.as_ref().map_or(Carrier::None, Password::carrier)
}

/// What a record shows of a name.
fn shown_name(sent: &[u8], name: Option<&(&str, UserName)>) -> String {
    name.map_or_else(
        || String::from_utf8_lossy(sent).into_owned(),
        |(_, user)| user.as_str().to_owned(),
    )
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
