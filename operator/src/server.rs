//! `/healthz`, `/readyz` and `/metrics`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::queue::WorkQueue;
use crate::watch::Cluster;

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) leadership: Leadership,
    pub(crate) queue: WorkQueue,
    pub(crate) cluster: std::sync::Arc<Cluster>,
}

/// Listens; on all of IPv4 where all addresses are meant and the kernel has no IPv6.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => match without_ipv6(address, &error) {
            Some(address) => TcpListener::bind(address).await,
            None => Err(error),
        },
    }
}

fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let all = address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    (all && error.kind() != io::ErrorKind::AddrInUse).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// Serves the pages for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) -> io::Result<()> {
    axum::serve(listener, router(pages)).await
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

async fn healthz(State(pages): State<Pages>) -> impl IntoResponse {
    let stuck = pages.health.stuck(Instant::now());
    answer(stuck.is_empty(), &stuck)
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let readiness = pages.health.readiness();
    answer(readiness.ready, &readiness.missing)
}

fn answer(ok: bool, lines: &[String]) -> (StatusCode, String) {
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if ok {
        text.insert_str(0, "ok\n");
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let metrics = &pages.metrics;
    metrics.leader.set(i64::from(pages.leadership.leads()));
    let waiting = pages.queue.attempts(|attempts| attempts.waiting(Instant::now()));
    metrics
        .queue_length
        .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    pages.cluster.show(metrics);
    metrics.show_broken_watches(pages.health.broken());
    metrics.proxy.forget_unless(|key| pages.cluster.has_proxy(key));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_stands_in_for_ipv6_only_where_all_addresses_are_meant_and_the_port_is_free() {
        let all: SocketAddr = "[::]:8080".parse().unwrap();
        let none = io::Error::from(io::ErrorKind::Unsupported);
        assert_eq!(without_ipv6(all, &none), Some("0.0.0.0:8080".parse().unwrap()));
        assert_eq!(without_ipv6("[::1]:8080".parse().unwrap(), &none), None);
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(without_ipv6(all, &taken), None);
    }

    #[tokio::test]
    async fn what_listens_on_all_addresses_answers_to_ipv4() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
}
