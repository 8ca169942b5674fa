//! The Factors API: users, their factors, verify, poll, cancel.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Entry, Simulator,
    failure::Failure,
    person::Person,
    push::{Outcome, Push},
    service::{Call, Endpoint},
    settings::{Factor, Settings, Status},
};
use crate::clock;

/// An answer with its status.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) body: Option<Value>,
}

fn ok(body: Value) -> Answered {
    Answered {
        status: StatusCode::OK,
        body: Some(body),
    }
}

impl Simulator {
    pub(super) fn factors_api(
        &self,
        call: &Call,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        let person = |user: &str| {
            self.people
                .find(user)
                .ok_or_else(|| Failure::no_resource(&format!("{user} (User)")))
        };
        let factor_of = |person: &Person, id: &str| {
            person
                .factor(id)
                .cloned()
                .ok_or_else(|| Failure::no_resource(&format!("{id} (UserFactor)")))
        };
        match &call.endpoint {
            Endpoint::Token => Err(Failure::api("E0000022")),
            Endpoint::User(user) => Ok(ok(shown_user(&*person(user)?, &call.origin))),
            Endpoint::Factors(user) => {
                let person = person(user)?;
                let factors: Vec<Value> = person
                    .user
                    .factors
                    .iter()
                    .map(|factor| shown(&person, factor, &call.origin))
                    .collect();
                Ok(ok(Value::Array(factors)))
            }
            Endpoint::Factor(user, id) => {
                let person = person(user)?;
                let factor = factor_of(&person, id)?;
                Ok(ok(shown(&person, &factor, &call.origin)))
            }
            Endpoint::Verify(user, id) => {
                let person = person(user)?;
                let factor = factor_of(&person, id)?;
                let result = self.verify(call, &person, &factor, settings, now);
                let name = match &result {
                    Ok((_, name)) => (*name).to_owned(),
                    Err(failure) => failure.name().to_owned(),
                };
                self.note(call, &person, &factor, &name);
                result.map(|(answer, _)| answer)
            }
            Endpoint::Poll(user, id, push) => {
                let (person, factor) = (person(user)?, id);
                let push = self.push_of(&person, factor, push)?;
                let outcome = push.outcome();
                if outcome != Outcome::Waiting {
                    self.note(
                        call,
                        &person,
                        &push.factor,
                        &format!("{outcome:?}").to_uppercase(),
                    );
                }
                Ok(ok(self.polled(&push, outcome, &call.origin, settings)))
            }
            Endpoint::Cancel(user, id, push) => {
                let person = person(user)?;
                let push = self.push_of(&person, id, push)?;
                if push.decide(Outcome::Cancelled) {
                    person.count(|counts| counts.cancelled += 1);
                    self.note(call, &person, &push.factor, "CANCELLED");
                }
                Ok(Answered {
                    status: StatusCode::NO_CONTENT,
                    body: None,
                })
            }
        }
    }

    fn push_of(&self, person: &Person, factor: &str, id: &str) -> Result<Arc<Push>, Failure> {
        self.pushes
            .find(id)
            .filter(|push| push.person.user.id == person.user.id && push.factor.id == factor)
            .filter(|push| push.outcome() != Outcome::Cancelled)
            .ok_or_else(|| Failure::no_resource(&format!("{id} (FactorTransaction)")))
    }

    fn verify(
        &self,
        call: &Call,
        person: &Arc<Person>,
        factor: &Factor,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(Answered, &'static str), Failure> {
        let Given {
            code,
            number_matching,
        } = given(&call.body)?;
        match person.status() {
            Status::LockedOut => return Err(Failure::api("E0000069")),
            Status::Staged | Status::Suspended | Status::Deprovisioned => {
                return Err(Failure::api("E0000038"));
            }
            Status::Active | Status::Provisioned | Status::Recovery | Status::PasswordExpired => {}
        }
        if factor.status != "ACTIVE" {
            return Err(Failure::api("E0000079"));
        }
        match (factor.kind.as_str(), code) {
            ("push", _) => {
                person.count(|counts| counts.pushes += 1);
                let timeout = Duration::from_millis(settings.push_timeout_ms);
                // Asked for by the client, or forced by policy.
                let challenged = number_matching || factor.number_challenge;
                let push = Arc::new(Push::new(Arc::clone(person), factor, timeout, challenged));
                self.pushes.add(Arc::clone(&push));
                // Always WAITING here, even when the owner is quick: the poll tells the end.
                let body = self.polled(&push, Outcome::Waiting, &call.origin, settings);
                Ok((
                    Answered {
                        status: StatusCode::CREATED,
                        body: Some(body),
                    },
                    "WAITING",
                ))
            }
            ("sms" | "call" | "email", None) => {
                person.send(factor, settings)?;
                let links = links(person, factor, &call.origin);
                Ok((
                    ok(json!({"factorResult": "CHALLENGE", "_links": links})),
                    "CHALLENGE",
                ))
            }
            (_, None) => Err(Failure::because(
                "E0000001",
                "passCode: The field cannot be left blank",
            )),
            (_, Some(code)) => {
                person.try_code(factor, &code, settings, now.as_second())?;
                Ok((ok(json!({"factorResult": "SUCCESS"})), "SUCCESS"))
            }
        }
    }

    fn polled(&self, push: &Push, outcome: Outcome, origin: &str, settings: &Settings) -> Value {
        let origin = if settings.link_origin.is_empty() {
            origin
        } else {
            &settings.link_origin
        };
        let (person, factor) = (&push.person, &push.factor);
        let mut body = json!({"factorResult": outcome});
        let Some(members) = body.as_object_mut() else {
            return body;
        };
        if outcome != Outcome::Waiting {
            if outcome != Outcome::Success {
                members.insert("_links".to_owned(), links(person, factor, origin));
            }
            return body;
        }
        let here = format!(
            "{origin}/api/v1/users/{}/factors/{}/transactions/{}",
            person.user.id, factor.id, push.id
        );
        let left = push.timeout.saturating_sub(push.began.elapsed());
        let expires = Timestamp::now()
            .checked_add(SignedDuration::try_from(left).unwrap_or_default())
            .map(clock::rfc3339)
            .unwrap_or_default();
        members.insert("expiresAt".to_owned(), json!(expires));
        members.insert(
            "_links".to_owned(),
            json!({
                "poll": {"href": here, "hints": {"allow": ["GET"]}},
                "cancel": {"href": here, "hints": {"allow": ["DELETE"]}},
            }),
        );
        if let Some(number) = push.challenge {
            members.insert(
                "_embedded".to_owned(),
                json!({"challenge": {"correctAnswer": number}}),
            );
        }
        body
    }

    fn note(&self, call: &Call, person: &Person, factor: &Factor, result: &str) {
        self.journal(|journal| {
            journal.add(Entry {
                time: clock::rfc3339(Timestamp::now()),
                endpoint: call.endpoint.name(),
                user: person.user.login.clone(),
                factor: factor.kind.clone(),
                provider: factor.provider.clone(),
                result: result.to_owned(),
                user_agent: call.user_agent.clone(),
            })
        });
    }
}

/// What a verify request asks for.
struct Given {
    code: Option<String>,
    number_matching: bool,
}

/// `{"passCode":"…"}`, `{"useNumberMatchingChallenge":true}`, `{}` or nothing.
fn given(body: &[u8]) -> Result<Given, Failure> {
    if body.is_empty() {
        return Ok(Given {
            code: None,
            number_matching: false,
        });
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Err(Failure::api("E0000003"));
    };
    let code = members
        .get("passCode")
        .and_then(Value::as_str)
        .filter(|code| !code.is_empty());
    let number_matching = members.get("useNumberMatchingChallenge") == Some(&Value::Bool(true));
    Ok(Given {
        code: code.map(str::to_owned),
        number_matching,
    })
}

fn shown_user(person: &Person, origin: &str) -> Value {
    let user = &person.user;
    let (first, _) = user.login.split_once('@').unwrap_or((&user.login, ""));
    json!({
        "id": user.id,
        "status": person.status(),
        "created": "2025-01-01T00:00:00.000Z",
        "activated": "2025-01-01T00:00:00.000Z",
        "statusChanged": "2025-01-01T00:00:00.000Z",
        "lastUpdated": "2025-01-01T00:00:00.000Z",
        "type": {"id": "otySIMULATOR"},
        "profile": {"login": user.login, "email": user.login, "firstName": first, "lastName": "Simulated"},
        "credentials": {"provider": {"type": "OKTA", "name": "OKTA"}},
        "_links": {"self": {"href": format!("{origin}/api/v1/users/{}", user.id)}},
    })
}

fn links(person: &Person, factor: &Factor, origin: &str) -> Value {
    let own = format!("{origin}/api/v1/users/{}/factors/{}", person.user.id, factor.id);
    json!({
        "self": {"href": own, "hints": {"allow": ["GET", "DELETE"]}},
        "verify": {"href": format!("{own}/verify"), "hints": {"allow": ["POST"]}},
        "user": {"href": format!("{origin}/api/v1/users/{}", person.user.id), "hints": {"allow": ["GET"]}},
    })
}

fn profile(person: &Person, factor: &Factor) -> Value {
    match factor.kind.as_str() {
        "push" => json!({
            "credentialId": person.user.login, "deviceType": "SmartPhone_Android", "keys": [],
            "name": "Simulated phone", "platform": "ANDROID", "version": "30",
        }),
        "sms" | "call" => json!({"phoneNumber": factor.phone}),
        "email" => json!({"email": person.user.login}),
        _ => json!({"credentialId": person.user.login}),
    }
}

fn shown(person: &Person, factor: &Factor, origin: &str) -> Value {
    json!({
        "id": factor.id,
        "factorType": factor.kind,
        "provider": factor.provider,
        "vendorName": factor.provider,
        "status": factor.status,
        "created": "2025-01-01T00:00:00.000Z",
        "lastUpdated": "2025-01-01T00:00:00.000Z",
        "profile": profile(person, factor),
        "_links": links(person, factor, origin),
    })
}
