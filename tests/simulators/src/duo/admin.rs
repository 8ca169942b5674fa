//! The Duo simulator's admin API.

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
    Simulator,
    settings::{Behaviour, Settings, User},
};
use crate::{
    admin::{Answer, Numbered, Refusal, healthy, merge, read, shown},
    fault::Fault,
};

type Shared = State<Arc<Simulator>>;

/// Users that one answer tells of.
const SHOWN: usize = 1_000;
/// Users whose counts one answer tells.
const COUNTED: usize = 10_000;

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
        .route("/users/{name}", get(user).put(put_user).delete(delete_user))
        .route("/users/{name}/codes", get(codes))
        .route("/pushes", get(pushes))
        .route("/pushes/{txid}", post(decide))
        .layer(axum::middleware::map_request(crate::admin::assume_json))
        .with_state(simulator)
}

async fn state(State(simulator): Shared) -> Json<Value> {
    Json(json!({
        "settings": shown(&*simulator.settings()),
        "users": names(&simulator),
        "pushes": pending(&simulator),
        "faults": simulator.faults.list(),
    }))
}

fn names(simulator: &Simulator) -> Vec<String> {
    simulator.accounts.read().keys().take(SHOWN).cloned().collect()
}

async fn settings(State(simulator): Shared) -> Json<Value> {
    Json(shown(&*simulator.settings()))
}

async fn put_settings(State(simulator): Shared, Json(patch): Json<Value>) -> Answer {
    let mut current = simulator.settings.write().unwrap_or_else(PoisonError::into_inner);
    let mut merged: Settings = merge(&**current, patch)?;
    merged.keep_hidden_keys(&current);
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
    let mut answer = simulator.counters.shown();
    let users: Map<String, Value> = simulator
        .accounts
        .read()
        .values()
        .filter_map(|account| {
            let counts = account.count(|counts| shown(counts));
            let any = counts
                .as_object()?
                .values()
                .any(|count| count.as_u64() != Some(0));
            any.then(|| (account.user.name.clone(), counts))
        })
        .take(COUNTED)
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
        simulator.counters.clear();
        simulator.connections.store(0, Ordering::Relaxed);
        simulator
            .accounts
            .read()
            .values()
            .for_each(|account| account.forget_counts());
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
            .accounts
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        simulator
            .accounts
            .put(simulator.config.users.clone())
            .map_err(Refusal::bad)?;
    }
    Ok(Json(json!({})))
}

async fn users(State(simulator): Shared) -> Json<Value> {
    Json(json!({"users": names(&simulator)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    generate: Option<Generate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generate {
    count: usize,
    #[serde(default = "user_prefix")]
    prefix: String,
    #[serde(default)]
    answer: Behaviour,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    reusable_passcodes: Vec<String>,
}

fn user_prefix() -> String {
    "user".to_owned()
}

async fn put_users(State(simulator): Shared, Json(body): Json<Value>) -> Answer {
    let asked: Users = read(body)?;
    let mut users = asked.users;
    if let Some(generate) = asked.generate {
        if generate.count > super::USERS {
            return Err(Refusal::bad(format!("{} users at most", super::USERS)));
        }
        users.extend((0..generate.count).map(|number| User {
            name: format!("{}{number}", generate.prefix),
            answer: generate.answer,
            delay_ms: generate.delay_ms,
            reusable_passcodes: generate.reusable_passcodes.clone(),
            ..User::default()
        }));
    }
    let count = users.len();
    simulator.accounts.put(users).map_err(Refusal::bad)?;
    Ok(Json(json!({"put": count})))
}

fn known(simulator: &Simulator, name: &str) -> Result<Arc<super::Account>, Refusal> {
    simulator
        .accounts
        .find(name)
        .ok_or_else(|| Refusal::not_found(format!("no user {name}")))
}

fn described(account: &super::Account) -> Value {
    let mut answer = shown(&account.user);
    if let Some(members) = answer.as_object_mut() {
        members.insert("counts".to_owned(), account.count(|counts| shown(counts)));
        members.insert("status_now".to_owned(), shown(&account.status()));
    }
    answer
}

async fn user(State(simulator): Shared, Path(name): Path<String>) -> Answer {
    Ok(Json(described(&*known(&simulator, &name)?)))
}

async fn put_user(State(simulator): Shared, Path(name): Path<String>, Json(body): Json<Value>) -> Answer {
    let user = User {
        name: name.clone(),
        ..read(body)?
    };
    simulator.accounts.put(vec![user]).map_err(Refusal::bad)?;
    Ok(Json(described(&*known(&simulator, &name)?)))
}

async fn delete_user(State(simulator): Shared, Path(name): Path<String>) -> Answer {
    match simulator.accounts.remove(&name) {
        true => Ok(Json(json!({}))),
        false => Err(Refusal::not_found(format!("no user {name}"))),
    }
}

async fn codes(State(simulator): Shared, Path(name): Path<String>) -> Answer {
    let account = known(&simulator, &name)?;
    Ok(Json(json!({"sms": account.texted(), "unused": account.unused()})))
}

fn pending(simulator: &Simulator) -> Vec<Value> {
    let mut pending = simulator.transactions.pending();
    pending.sort_by_key(|transaction| transaction.began);
    let tell = |transaction: &Arc<super::Transaction>| {
        let mut told = shown(&transaction.about);
        if let Some(members) = told.as_object_mut() {
            members.insert("txid".to_owned(), json!(transaction.txid));
            members.insert(
                "age_ms".to_owned(),
                json!(crate::clock::ms(transaction.began.elapsed())),
            );
            members.insert("status".to_owned(), json!(transaction.state().status));
        }
        told
    };
    pending.iter().take(SHOWN).map(tell).collect()
}

async fn pushes(State(simulator): Shared) -> Json<Value> {
    Json(json!({"pushes": pending(&simulator)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    answer: Behaviour,
}

async fn decide(State(simulator): Shared, Path(txid): Path<String>, Json(body): Json<Value>) -> Answer {
    let answer = read::<Decision>(body)?.answer;
    if matches!(answer, Behaviour::Ignore | Behaviour::Manual) {
        return Err(Refusal::bad("answer must be approve, deny or fraud"));
    }
    match simulator.decide(&txid, answer) {
        Ok(true) => Ok(Json(json!({}))),
        Ok(false) => Err(Refusal(http::StatusCode::CONFLICT, format!("{txid} is decided"))),
        Err(()) => Err(Refusal::not_found(format!("no transaction {txid}"))),
    }
}
