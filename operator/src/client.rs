//! The client of the Kubernetes API, with its calls counted.

use std::task::{Context as TaskContext, Poll};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::metrics::{KubernetesCallLabels, Metrics};
use crate::settings::Settings;

/// Connects by the service account or the kubeconfig. Answers with the operator's own namespace too.
pub(crate) async fn connect(settings: &Settings, metrics: &Metrics) -> anyhow::Result<(Client, String)> {
    let config = Config::infer()
        .await
        .context("finding the Kubernetes API, by a kubeconfig or as a pod's service account")?;
    let namespace = settings
        .pod_namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = ClientBuilder::try_from(config)
        .context("making a client of the Kubernetes API")?
        .with_layer(&Counting(metrics.clone()))
        .build();
    Ok((client, namespace))
}

/// Counts calls by method and class of status.
#[derive(Clone)]
struct Counting(Metrics);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.0.clone(),
        }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = method(request.method().as_str());
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let code = answer
                .as_ref()
                .map_or("error", |answer| class(answer.status().as_u16()));
            metrics
                .kubernetes_calls
                .get_or_create(&KubernetesCallLabels { method, code })
                .inc();
            answer
        }
        .boxed()
    }
}

fn method(name: &str) -> &'static str {
    match name {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        409 => "409",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}
