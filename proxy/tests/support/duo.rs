//! A server at the place of Duo's that says what a test wants: for the conversations and the failures that the
//! simulator, which behaves like Duo, has no reason to show.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;

use super::tls::acceptor;

/// What the server does about a call.
pub enum Reply {
    Json(u16, String),
    Text(u16, &'static str),
    /// Like the first, with Retry-After.
    RetryAfter(u64, String),
    /// Keeps the caller waiting.
    Never,
    /// Closes the connection.
    Close,
}

pub fn ok(response: &str) -> Reply {
    Reply::Json(200, format!(r#"{{"stat":"OK","response":{response}}}"#))
}

pub fn fail(code: u32) -> Reply {
    let status = u16::try_from(code / 100).unwrap();
    Reply::Json(
        status,
        format!(r#"{{"stat":"FAIL","code":{code},"message":"told by the test"}}"#),
    )
}

/// A call: the endpoint's last word, and its parameters.
pub type Call = (String, BTreeMap<String, String>);

pub type Script = dyn Fn(&str, usize, &BTreeMap<String, String>) -> Reply + Send + Sync;

pub struct Duo {
    pub address: SocketAddr,
    pub ca: String,
    calls: Arc<Mutex<Vec<Call>>>,
    pub connections: Arc<AtomicUsize>,
}

impl Duo {
    /// `script` gets the endpoint, how often it was called before, and the parameters.
    pub async fn start(
        script: impl Fn(&str, usize, &BTreeMap<String, String>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with_streams(200, script).await
    }

    /// The same, with so many calls at once on a connection of HTTP/2.
    pub async fn start_with_streams(
        streams: u32,
        script: impl Fn(&str, usize, &BTreeMap<String, String>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (acceptor, ca) = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let duo = Self {
            address: listener.local_addr().unwrap(),
            ca,
            calls: Arc::default(),
            connections: Arc::default(),
        };
        let (calls, connections): (_, Arc<AtomicUsize>) =
            (Arc::clone(&duo.calls), Arc::clone(&duo.connections));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, calls, script) = (acceptor.clone(), Arc::clone(&calls), Arc::clone(&script));
                let connections = Arc::clone(&connections);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let service =
                        service_fn(move |request| answer(request, Arc::clone(&calls), Arc::clone(&script)));
                    // The caller sees what became of it.
                    let mut server = auto::Builder::new(TokioExecutor::new());
                    server.http2().max_concurrent_streams(streams);
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        duo
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub fn count(&self, endpoint: &str) -> usize {
        self.calls().iter().filter(|(name, _)| name == endpoint).count()
    }

    /// The provider's part of a configuration.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[provider.duo]\napi_host = \"localhost:{}\"\nintegration_key_file = \"ikey\"\nsecret_key_file = \"skey\"\n\
             ca_bundle = '''\n{}'''\n{more}\n",
            self.address.port(),
            self.ca
        )
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Call>>>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let endpoint = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let parameters: BTreeMap<String, String> = if body.is_empty() {
        url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect()
    } else {
        match serde_json::from_slice::<BTreeMap<String, Value>>(&body) {
            Ok(json) => json
                .into_iter()
                .map(|(k, v)| (k, v.as_str().unwrap().to_owned()))
                .collect(),
            Err(_) => url::form_urlencoded::parse(&body).into_owned().collect(),
        }
    };
    let before = {
        let mut calls = calls.lock().unwrap();
        calls.push((endpoint.clone(), parameters.clone()));
        calls.iter().filter(|(name, _)| *name == endpoint).count() - 1
    };
    let respond =
        |status: u16, body: String| Response::builder().status(status).body(Full::from(body)).unwrap();
    match script(&endpoint, before, &parameters) {
        Reply::Json(status, body) => Ok(respond(status, body)),
        Reply::Text(status, body) => Ok(respond(status, body.to_owned())),
        Reply::RetryAfter(seconds, body) => {
            let mut response = respond(429, body);
            response.headers_mut().insert("retry-after", seconds.into());
            Ok(response)
        }
        Reply::Never => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Err(std::io::Error::other("too late"))
        }
        Reply::Close => Err(std::io::Error::other("closed by the test")),
    }
}
