//! A server at the place of Okta's that says what a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::tls::acceptor;

/// What the server does about a call.
#[derive(Clone)]
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Keeps the caller waiting.
    Never,
    /// Closes the connection.
    Close,
}

pub fn ok(body: &str) -> Reply {
    Reply::Answer(200, Vec::new(), body.to_owned())
}

pub fn fail(status: u16, code: &str) -> Reply {
    let body = format!(
        r#"{{"errorCode":"{code}","errorSummary":"told by the test","errorLink":"{code}","errorId":"oae1","errorCauses":[]}}"#
    );
    Reply::Answer(status, Vec::new(), body)
}

pub fn with(reply: Reply, name: &'static str, value: &str) -> Reply {
    match reply {
        Reply::Answer(status, mut headers, body) => {
            headers.push((name, value.to_owned()));
            Reply::Answer(status, headers, body)
        }
        other => other,
    }
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET /api/v1/users/jane`
    pub what: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The name that faults and counters have for it.
    pub fn operation(&self) -> &'static str {
        match self.what.as_str() {
            what if what.ends_with("/oauth2/v1/token") => "token",
            what if what.starts_with("DELETE") => "cancel",
            what if what.contains("/transactions/") => "poll",
            what if what.ends_with("/verify") => "verify",
            what if what.ends_with("/factors") => "factors",
            what if what.starts_with("GET /api/v1/users") => "user",
            _ => "unknown",
        }
    }
}

type Script = dyn Fn(&Call, usize) -> Reply + Send + Sync;

pub struct Okta {
    pub address: SocketAddr,
    pub ca: String,
    calls: watch::Receiver<Vec<Call>>,
    script: Arc<Mutex<Arc<Script>>>,
}

impl Okta {
    /// `script` gets the call, and how often its operation was called before. `ORIGIN` in a body is the server's own.
    pub async fn start(script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static) -> Self {
        let (acceptor, ca) = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, calls) = watch::channel(Vec::new());
        let told = Arc::new(told);
        let script: Arc<Script> = Arc::new(script);
        let script = Arc::new(Mutex::new(script));
        let inside = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told, script) = (acceptor.clone(), Arc::clone(&told), Arc::clone(&inside));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| {
                        answer(request, Arc::clone(&told), Arc::clone(&script), address)
                    });
                    // The caller sees what became of it.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            ca,
            calls,
            script,
        }
    }

    pub fn answers(&self, script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    pub fn of(&self, operation: &str) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.operation() == operation)
            .collect()
    }

    /// Waits until an operation was called so often.
    pub async fn has_seen(&self, operation: &str, count: usize) {
        let enough =
            |calls: &Vec<Call>| calls.iter().filter(|call| call.operation() == operation).count() >= count;
        let _ = self.calls.clone().wait_for(enough).await.unwrap();
    }

    /// The provider's part of a configuration.
    pub fn config(&self, credentials: &str, more: &str) -> String {
        format!(
            "[provider.okta]\norg_url = \"https://localhost:{}\"\nca_bundle = '''\n{}'''\n{more}\n[provider.okta.credentials.{credentials}\n",
            self.address.port(),
            self.ca
        )
    }
}

async fn answer(
    request: Request<Incoming>,
    told: Arc<watch::Sender<Vec<Call>>>,
    script: Arc<Mutex<Arc<Script>>>,
    address: SocketAddr,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let what = format!("{} {}", request.method(), request.uri().path());
    let headers = request.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let call = Call {
        what,
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let mut before = 0;
    told.send_modify(|calls| {
        before = calls
            .iter()
            .filter(|other| other.operation() == call.operation())
            .count();
        calls.push(call.clone());
    });
    let script = Arc::clone(&script.lock().unwrap());
    match script(&call, before) {
        Reply::Answer(status, headers, body) => {
            let body = body.replace("ORIGIN", &format!("https://localhost:{}", address.port()));
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::from(body)).unwrap())
        }
        Reply::Never => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Err(std::io::Error::other("too late"))
        }
        Reply::Close => Err(std::io::Error::other("closed by the test")),
    }
}
