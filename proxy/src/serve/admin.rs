//! The admin port: health, metrics and the configuration digest, over HTTP/1.1, for the kubelet and for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::state::State;
use crate::error::Error;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Prometheus keeps its connection between scrapes; a minute covers the usual interval.
const LONGEST_CONNECTION: Duration = Duration::from_secs(300);
const MAX_HEADERS: usize = 16 << 10;

/// Binds the admin port, if there is one.
pub(super) async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(Error::Bind {
            kind: "TCP",
            address,
            source,
        }),
    }
}

/// Serves until the program ends.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            connection(stream, state).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &state);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // What a client does wrong is its own matter.
    let _ = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
}

fn answer(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => ready(state),
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
