//! The Okta simulator's admin API.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Person, Simulator,
    push::Outcome,
    settings::{Behaviour, Settings, User},
};
use crate::{
    admin::{Answer, Numbered, Refusal, healthy, merge, read, shown},
    clock,
    fault::Fault,
};

type Shared = State<Arc<Simulator>>;

/// Users that one answer tells of.
const SHOWN: usize = 1_000;

pub(super) fn router(simulator: Arc<Simulator>, ca_pem: String) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/ca.pem", get(|| async move { ca_pem }))
        .route("/state", get(state))
        .route("/settings", get(settings).put(put_settings))
        .route("/faults", get(faults).put(put_faults))
        .route("/counters", get(counters))
        .route("/journal", get(journal))
        .route("/reset", post(reset))
        .route("/users", get(users).put(put_users))
        .route("/users/{login}", get(user).put(put_user).delete(delete_user))
        .route("/users/{login}/codes", get(codes))
        .route("/pushes", get(pushes))
        .route("/pushes/{id}", post(decide))
        .route("/revoke", post(revoke))
        .layer(axum::middleware::map_request(crate::admin::assume_json))
        .with_state(simulator)
}

async fn state(State(simulator): Shared) -> Json<Value> {
    Json(json!({
        "settings": shown(&*simulator.settings()),
        "users": logins(&simulator),
        "pushes": waiting(&simulator),
        "faults": simulator.faults.list(),
    }))
}

fn logins(simulator: &Simulator) -> Vec<String> {
    simulator
        .people
        .read()
        .values()
        .take(SHOWN)
        .map(|person| person.user.login.clone())
        .collect()
}

async fn settings(State(simulator): Shared) -> Json<Value> {
    Json(shown(&*simulator.settings()))
}

async fn put_settings(State(simulator): Shared, Json(patch): Json<Value>) -> Answer {
    let mut current = simulator.settings.write().unwrap_or_else(PoisonError::into_inner);
    let mut merged: Settings = merge(&**current, patch)?;
    merged.keep_hidden_tokens(&current);
    *current = Arc::new(merged);
    Ok(Json(shown(&**current)))
}

async fn faults(State(simulator): Shared) -> Json<Value> {
    Json(json!({"faults": simulator.faults.list()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Faults {
    faults: Vec<Fault>,
}

async fn put_faults(State(simulator): Shared, Json(body): Json<Value>) -> Answer {
    simulator.faults.replace(read::<Faults>(body)?.faults);
    Ok(Json(json!({"faults": simulator.faults.list()})))
}

async fn counters(State(simulator): Shared) -> Json<Value> {
    let mut answer = shown(&*simulator.counters());
    let users: Map<String, Value> = simulator
        .people
        .read()
        .values()
        .filter_map(|person| {
            let counts = person.count(|counts| shown(counts));
            let any = counts
                .as_object()?
                .values()
                .any(|count| count.as_u64() != Some(0));
            any.then(|| (person.user.login.clone(), counts))
        })
        .take(SHOWN)
        .collect();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert(
            "connections".to_owned(),
            json!(simulator.connections.load(Ordering::Relaxed)),
        );
        answer.insert("users".to_owned(), Value::Object(users));
    }
    Json(answer)
}

async fn journal(State(simulator): Shared, Query(asked): Query<HashMap<String, String>>) -> Answer {
    let since = match asked.get("since") {
        Some(text) => text.parse().map_err(|_| Refusal::bad("since must be a number"))?,
        None => 0,
    };
    let user = asked.get("user");
    Ok(Json(simulator.journal(|journal| {
        let entries: Vec<_> = journal
            .since(since)
            .filter(|(_, entry)| user.is_none_or(|user| entry.user.eq_ignore_ascii_case(user)))
            .map(|(seq, entry)| Numbered { seq, entry })
            .collect();
        json!({"entries": entries})
    })))
}

async fn reset(State(simulator): Shared, Query(asked): Query<HashMap<String, String>>) -> Answer {
    let only = asked.get("only").map(String::as_str);
    if let Some(unknown) =
        only.filter(|only| !["counters", "journal", "faults", "settings", "users"].contains(only))
    {
        return Err(Refusal::bad(format!("nothing is called {unknown}")));
    }
    let wants = |part: &str| only.is_none_or(|only| only == part);
    if wants("counters") {
        *simulator.counters() = super::Counters::default();
        simulator.connections.store(0, Ordering::Relaxed);
        simulator
            .people
            .read()
            .values()
            .for_each(|person| person.forget_counts());
    }
    if wants("journal") {
        simulator.journal(crate::admin::Journal::clear);
    }
    if wants("faults") {
        simulator.faults.replace(Vec::new());
    }
    if wants("settings") {
        let mut current = simulator.settings.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(simulator.config.settings.clone());
    }
    if only == Some("users") {
        simulator
            .people
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        simulator
            .people
            .put(simulator.config.users.clone())
            .map_err(Refusal::bad)?;
    }
    Ok(Json(json!({})))
}

async fn users(State(simulator): Shared) -> Json<Value> {
    Json(json!({"users": logins(&simulator)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    users: Vec<User>,
}

async fn put_users(State(simulator): Shared, Json(body): Json<Value>) -> Answer {
    let users = read::<Users>(body)?.users;
    let count = users.len();
    simulator.people.put(users).map_err(Refusal::bad)?;
    Ok(Json(json!({"put": count})))
}

fn known(simulator: &Simulator, login: &str) -> Result<Arc<Person>, Refusal> {
    simulator
        .people
        .find(login)
        .ok_or_else(|| Refusal::not_found(format!("no user {login}")))
}

fn described(person: &Person) -> Value {
    let mut answer = shown(&person.user);
    if let Some(members) = answer.as_object_mut() {
        members.insert("counts".to_owned(), person.count(|counts| shown(counts)));
        members.insert("status_now".to_owned(), shown(&person.status()));
    }
    answer
}

async fn user(State(simulator): Shared, Path(login): Path<String>) -> Answer {
    Ok(Json(described(&*known(&simulator, &login)?)))
}

async fn put_user(State(simulator): Shared, Path(login): Path<String>, Json(body): Json<Value>) -> Answer {
    let user = User {
        login: login.clone(),
        ..read(body)?
    };
    simulator.people.put(vec![user]).map_err(Refusal::bad)?;
    Ok(Json(described(&*known(&simulator, &login)?)))
}

async fn delete_user(State(simulator): Shared, Path(login): Path<String>) -> Answer {
    let mut people = simulator.people.0.write().unwrap_or_else(PoisonError::into_inner);
    match people.remove(&login.to_lowercase()) {
        Some(_) => Ok(Json(json!({}))),
        None => Err(Refusal::not_found(format!("no user {login}"))),
    }
}

async fn codes(State(simulator): Shared, Path(login): Path<String>) -> Answer {
    Ok(Json(json!({"sent": known(&simulator, &login)?.sent()})))
}

fn waiting(simulator: &Simulator) -> Vec<Value> {
    let tell = |push: &Arc<super::push::Push>| {
        json!({
            "id": push.id, "user": push.person.user.login, "factor": push.factor.id,
            "age_ms": clock::ms(push.began.elapsed()), "number": push.challenge,
        })
    };
    simulator.pushes.waiting().iter().take(SHOWN).map(tell).collect()
}

async fn pushes(State(simulator): Shared) -> Json<Value> {
    Json(json!({"pushes": waiting(&simulator)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    answer: Behaviour,
}

async fn decide(State(simulator): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
    let outcome = match read::<Decision>(body)?.answer {
        Behaviour::Approve => Outcome::Success,
        Behaviour::Deny => Outcome::Rejected,
        Behaviour::Ignore | Behaviour::Manual => {
            return Err(Refusal::bad("answer must be approve or deny"));
        }
    };
    let push = simulator
        .pushes
        .find(&id)
        .ok_or_else(|| Refusal::not_found(format!("no push {id}")))?;
    match push.decide(outcome) {
        true => Ok(Json(json!({}))),
        false => Err(Refusal(http::StatusCode::CONFLICT, format!("{id} is decided"))),
    }
}

/// The body says nothing, but is read: who still sends it would take an answer before its end for a broken connection.
async fn revoke(State(simulator): Shared, _: bytes::Bytes) -> Json<Value> {
    simulator.tokens.revoke_all();
    Json(json!({}))
}
