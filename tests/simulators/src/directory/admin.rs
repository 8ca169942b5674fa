//! The directory simulator's admin API.

mod directories;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post, put},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Simulator, poll,
    seeds::{Credential, Role},
};
use crate::{
    admin::{Answer, Numbered, Refusal, healthy, merge, read, shown},
    clock,
    fault::Fault,
    secret::keyed_digest,
};

type Shared = State<Arc<Simulator>>;
type Asked = Query<HashMap<String, String>>;

pub(super) fn router(simulator: Arc<Simulator>, ca_pem: String) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/ca.pem", get(|| async move { ca_pem }))
        .route("/state", get(state))
        .route("/settings", get(settings).put(put_settings))
        .route("/faults", get(faults).put(put_faults))
        .route("/counters", get(counters))
        .route("/reset", post(reset))
        .route("/journal", get(journal))
        .route("/digest", post(digest))
        .route("/directories", get(directories::directories))
        .route(
            "/directories/{id}",
            get(directories::directory)
                .put(directories::put_directory)
                .delete(directories::delete_directory),
        )
        .route(
            "/directories/{id}/radius",
            get(directories::radius)
                .put(directories::put_radius)
                .delete(directories::delete_radius),
        )
        .route("/directories/{id}/status", put(directories::put_status))
        .route(
            "/directories/{id}/controllers/{name}",
            axum::routing::delete(directories::delete_controller),
        )
        .route("/credentials/{id}", put(put_credential).delete(delete_credential))
        .route("/roles", get(roles).put(put_roles))
        .route("/poll", post(poll::poll))
        .layer(axum::middleware::map_request(crate::admin::assume_json))
        .with_state(simulator)
}

async fn state(State(simulator): Shared) -> Json<Value> {
    let now = Timestamp::now();
    Json(simulator.look(|world| {
        json!({
            "settings": world.settings,
            "directories": world.directories.values().map(|one| directories::describe(world, one, now)).collect::<Vec<_>>(),
            "roles": world.roles.iter().map(|role| &role.arn).collect::<Vec<_>>(),
            "credentials": world.credentials.keys().collect::<Vec<_>>(),
            "sessions": world.sessions.iter().map(|session| json!({
                "principal": session.principal, "expires": clock::rfc3339(session.expires),
            })).collect::<Vec<_>>(),
        })
    }))
}

async fn settings(State(simulator): Shared) -> Json<Value> {
    Json(simulator.look(|world| shown(&world.settings)))
}

async fn put_settings(State(simulator): Shared, Json(patch): Json<Value>) -> Answer {
    let answer = simulator.change(false, |world| {
        let merged: super::Settings = merge(&world.settings, patch)?;
        merged.check().map_err(Refusal::bad)?;
        world.settings = merged;
        Ok(Json(shown(&world.settings)))
    });
    simulator.wake_all();
    answer
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
    Json(simulator.look(|world| {
        let sum = |writes: bool| -> u64 {
            let counts = world.counters.iter().filter(|(name, _)| {
                super::operations::Operation::named(name)
                    .is_some_and(|operation| operation.writes() == writes)
            });
            counts.map(|(_, counter)| counter.calls).sum()
        };
        json!({"operations": world.counters, "writes": sum(true), "reads": sum(false)})
    }))
}

async fn reset(State(simulator): Shared, Query(asked): Asked) -> Answer {
    let only = asked.get("only").map(String::as_str);
    let wants = |part: &str| only.is_none_or(|only| only == part);
    if let Some(unknown) = only.filter(|only| !["counters", "journal", "faults", "settings"].contains(only)) {
        return Err(Refusal::bad(format!("nothing is called {unknown}")));
    }
    if wants("faults") {
        simulator.faults.replace(Vec::new());
    }
    simulator.change(true, |world| {
        if wants("counters") {
            world.counters.clear();
        }
        if wants("journal") {
            world.journal.clear();
            world
                .directories
                .values_mut()
                .for_each(|one| one.intervals.retain(|span| span.to.is_none()));
        }
        if wants("settings") {
            world.settings = simulator.config.settings.clone();
        }
    });
    simulator.wake_all();
    Ok(Json(json!({})))
}

async fn journal(State(simulator): Shared, Query(asked): Asked) -> Answer {
    let since = match asked.get("since") {
        Some(text) => text.parse().map_err(|_| Refusal::bad("since must be a number"))?,
        None => 0,
    };
    let is = |name: &str, value: &str| asked.get(name).is_none_or(|wanted| wanted == value);
    Ok(Json(simulator.look(|world| {
        let entries = world
            .journal
            .since(since)
            .filter(|(_, entry)| is("directory", &entry.directory) && is("operation", &entry.operation))
            .map(|(seq, entry)| Numbered { seq, entry })
            .collect::<Vec<_>>();
        json!({"entries": entries})
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

async fn digest(State(simulator): Shared, Json(body): Json<Value>) -> Answer {
    let text = read::<Text>(body)?.text;
    Ok(Json(
        json!({"digest": simulator.look(|world| keyed_digest(world.digest_key.as_bytes(), &text))}),
    ))
}

async fn put_credential(State(simulator): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut credential: Credential = read(body)?;
    credential.access_key_id.clone_from(&id);
    if !credential.expires_at.is_empty() && credential.expires_at.parse::<Timestamp>().is_err() {
        return Err(Refusal::bad(format!(
            "expires_at '{}' is not RFC 3339",
            credential.expires_at
        )));
    }
    simulator.change(false, |world| world.credentials.insert(id, credential));
    Ok(Json(json!({})))
}

async fn delete_credential(State(simulator): Shared, Path(id): Path<String>) -> Answer {
    match simulator.change(false, |world| world.credentials.remove(&id)) {
        Some(_) => Ok(Json(json!({}))),
        None => Err(Refusal::not_found(format!("no access key {id}"))),
    }
}

async fn roles(State(simulator): Shared) -> Json<Value> {
    Json(json!({"roles": simulator.look(|world| shown(&world.roles))}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    roles: Vec<Role>,
}

async fn put_roles(State(simulator): Shared, Json(body): Json<Value>) -> Answer {
    let roles = read::<Roles>(body)?.roles;
    simulator.change(false, |world| world.roles = roles);
    Ok(Json(
        json!({"roles": simulator.look(|world| shown(&world.roles))}),
    ))
}
