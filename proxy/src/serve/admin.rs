//! The HTTP endpoints: health for the kubelet, metrics and the configuration digest for Prometheus and the operator.
//!
//! Health has its own listener and thread: neither the admin port nor calls to providers can delay a probe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::listener;
use super::state::State;
use crate::error::Error;

/// Binds the address of health, if there is one, and serves it on a thread of its own. Gives the address that is bound.
pub(super) fn start_health(
    address: Option<SocketAddr>,
    state: &Arc<State>,
) -> Result<Option<SocketAddr>, Error> {
    let start = |source| Error::Start {
        what: "the thread for health",
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(start)?;
    let Some(listener) = runtime.block_on(listener::bind(address))? else {
        return Ok(None);
    };
    let bound = listener.local_addr().ok();
    let state = Arc::clone(state);
    thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || runtime.block_on(listener::serve(listener, state, health)))
        .map_err(start)?;
    Ok(bound)
}

/// What the port for health answers.
fn health(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    if let Some(refused) = only_get(request) {
        return refused;
    }
    health_of(request.uri().path(), state).unwrap_or_else(|| {
        text(
            StatusCode::NOT_FOUND,
            "here are /healthz and /readyz\n".to_owned(),
        )
    })
}

fn health_of(path: &str, state: &State) -> Option<Response<Full<Bytes>>> {
    match path {
        "/healthz" => Some(text(StatusCode::OK, "ok\n".to_owned())),
        "/readyz" => Some(ready(state)),
        _ => None,
    }
}

fn only_get(request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let is_get = request.method() == Method::GET || request.method() == Method::HEAD;
    (!is_get).then(|| text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()))
}

/// What the admin port answers.
pub(super) fn answer(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    if let Some(refused) = only_get(request) {
        return refused;
    }
    let path = request.uri().path();
    if let Some(health) = health_of(path, state) {
        return health;
    }
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, state.metrics.encode());
            let format =
                HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        "/config-digest" => text(StatusCode::OK, format!("{}\n", state.digest())),
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /healthz, /readyz, /metrics and /config-digest\n".to_owned(),
        ),
    }
}

/// Serving an older configuration than the one on disk is worth a word, and not worth taking a server away.
fn ready(state: &State) -> Response<Full<Bytes>> {
    if state.is_draining() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "ending: pending logins are answered\n".to_owned(),
        );
    }
    // What is wrong with it is for the log: everybody who reaches the port reads this.
    let body = if state.is_outdated() {
        "ok, but the configuration on disk is not taken over; see the log\n"
    } else {
        "ok\n"
    };
    text(StatusCode::OK, body.to_owned())
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
