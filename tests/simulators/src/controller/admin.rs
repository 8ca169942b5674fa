//! A controller's admin API.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Controller, LoginRequest, Run, RunRequest};
use crate::{
    admin::{Answer, Refusal, read, shown},
    directory::{PROBE_USER, RadiusClient},
    secret::Secret,
};

type Shared = State<Arc<Controller>>;

/// Runs whose reports are kept.
const RUNS: usize = 64;

pub(super) fn router(controller: Arc<Controller>) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/state", get(state))
        .route("/login", post(login))
        .route("/logins", get(runs).post(begin))
        .route("/logins/{id}", get(report).delete(stop))
        .route("/probe", post(probe))
        .layer(axum::middleware::map_request(crate::admin::assume_json))
        .with_state(controller)
}

async fn healthy(State(controller): Shared) -> Response {
    match *controller.registered.borrow() {
        true => "ok".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not registered").into_response(),
    }
}

async fn state(State(controller): Shared) -> Json<Value> {
    let view = controller.view();
    let settings = view.as_ref().map(|view| &view.settings);
    let heard = controller.heard.borrow();
    Json(json!({
        "name": controller.options.name,
        "directory_id": controller.options.directory_id,
        "directory_type": heard.as_ref().map(|heard| heard.directory_type),
        "region": heard.as_ref().map(|heard| heard.region.clone()),
        "addresses": controller.options.advertise,
        "others": heard.as_ref().map(|heard| heard.others.clone()).unwrap_or_default(),
        "registered": *controller.registered.borrow(),
        "changing": view.as_ref().is_some_and(|view| view.status == crate::directory::RadiusStatus::Creating),
        "status": view.as_ref().map(|view| view.status),
        "servers": settings.map(|settings| settings.servers().cloned().collect::<Vec<_>>()).unwrap_or_default(),
        "port": settings.and_then(|settings| settings.radius_port),
        "protocol": settings.and_then(|settings| settings.authentication_protocol),
        "timeout_s": settings.and_then(|settings| settings.radius_timeout),
        "retries": settings.and_then(|settings| settings.radius_retries),
    }))
}

async fn login(State(controller): Shared, Json(body): Json<Value>) -> Answer {
    let asked: LoginRequest = read(body)?;
    check_client(asked.radius_client.as_ref())?;
    // Ends by itself even when the caller goes away, as a directory's login does.
    let login = tokio::spawn(async move { controller.login(&asked).await });
    let result = login
        .await
        .map_err(|_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "login was cut off".to_owned()))?;
    Ok(Json(shown(&result)))
}

fn check_client(client: Option<&RadiusClient>) -> Result<(), Refusal> {
    client.map_or(Ok(()), RadiusClient::check).map_err(Refusal::bad)
}

async fn begin(State(controller): Shared, Json(body): Json<Value>) -> Result<Response, Refusal> {
    let asked: RunRequest = read(body)?;
    asked.check().map_err(Refusal::bad)?;
    check_client(asked.radius_client.as_ref())?;
    let mut runs = controller.runs();
    if runs.len() >= RUNS {
        let ended = runs
            .iter()
            .find(|(_, run)| !run.report().running)
            .map(|(id, _)| *id);
        let ended =
            ended.ok_or_else(|| Refusal(StatusCode::TOO_MANY_REQUESTS, "too many runs".to_owned()))?;
        runs.remove(&ended);
    }
    let id = runs.last_key_value().map_or(1, |(id, _)| id + 1);
    runs.insert(id, Run::begin(id, &controller, asked));
    Ok((StatusCode::ACCEPTED, Json(json!({"id": id.to_string()}))).into_response())
}

async fn runs(State(controller): Shared) -> Json<Value> {
    Json(json!({"logins": controller.runs().keys().map(u64::to_string).collect::<Vec<_>>()}))
}

fn known(controller: &Controller, id: &str) -> Result<Arc<Run>, Refusal> {
    let found = id
        .parse()
        .ok()
        .and_then(|id: u64| controller.runs().get(&id).cloned());
    found.ok_or_else(|| Refusal::not_found(format!("no run {id}")))
}

async fn report(State(controller): Shared, Path(id): Path<String>) -> Answer {
    Ok(Json(shown(&known(&controller, &id)?.report())))
}

async fn stop(State(controller): Shared, Path(id): Path<String>) -> Answer {
    let run = known(&controller, &id)?;
    run.stop();
    Ok(Json(shown(&run.report())))
}

async fn probe(State(controller): Shared, Json(body): Json<Value>) -> Answer {
    let mut asked: LoginRequest = read(body)?;
    check_client(asked.radius_client.as_ref())?;
    if asked.username.is_empty() {
        PROBE_USER.clone_into(&mut asked.username);
        asked.password = Secret::new(PROBE_USER);
    }
    let plan = controller.plan(&asked, controller.view()).map_err(Refusal::bad)?;
    let found = controller
        .probe(&plan, plan.servers.clone(), &asked.username, &asked.password)
        .await;
    Ok(Json(json!({"servers": found})))
}
