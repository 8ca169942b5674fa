//! `/healthz`, `/readyz` and `/metrics`.

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

/// Serves the pages for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) -> std::io::Result<()> {
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
    told(&pages.health.stuck(Instant::now()))
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    told(&pages.health.unseen())
}

fn told(wrong: &[String]) -> (StatusCode, String) {
    if wrong.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n") + "\n")
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    pages.metrics.leader.set(i64::from(pages.leadership.leads()));
    pages
        .metrics
        .queue_length
        .set(count(pages.queue.lock().waiting(Instant::now())));
    pages.metrics.resources.set(count(pages.cluster.proxies_seen()));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.encode())
}
