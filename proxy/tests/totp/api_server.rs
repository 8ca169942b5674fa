//! ConfigMaps behind the Kubernetes API's own rules: a token, a version that changes with every write, and a conflict
//! for who writes on an old one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use radius_proxy::kubernetes::ApiServer;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::tls::acceptor;

const TOKEN: &str = "the pod's token";

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Answers with a status.
    Answers(u16),
    /// Answers nothing.
    Hangs,
    /// Does what it is asked and answers nothing.
    LosesAnswers,
}

#[derive(Default)]
struct Objects {
    /// Version and data of each ConfigMap.
    maps: BTreeMap<String, (u64, Value)>,
    writes: usize,
    conflicts: usize,
}

/// The server.
pub struct Fake {
    objects: Mutex<Objects>,
    mood: Mutex<Mood>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Fake {
    /// Serves ConfigMaps of these names, without data, on loopback.
    pub async fn start(names: &[&str]) -> Arc<Self> {
        let (tls, ca) = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca).unwrap();
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let maps = names.iter().map(|name| ((*name).to_owned(), (1, json!({}))));
        let fake = Arc::new(Self {
            objects: Mutex::new(Objects {
                maps: maps.collect(),
                ..Objects::default()
            }),
            mood: Mutex::new(Mood::Well),
            port: listener.local_addr().unwrap().port(),
            folder,
        });
        let served = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, fake) = (tls.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(Arc::clone(&fake), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    /// The client of a pod.
    pub fn client(&self) -> ApiServer {
        let origin = format!("https://localhost:{}/", self.port).parse().unwrap();
        ApiServer::new(origin, "mfa".to_owned(), PathBuf::from(self.folder.path()))
    }

    pub fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What all ConfigMaps hold.
    pub fn text(&self) -> String {
        let objects = self.objects.lock().unwrap();
        let texts = objects
            .maps
            .values()
            .filter_map(|(_, data)| data["used"].as_str());
        texts.collect()
    }

    /// Writes that were applied, and that were refused for their version.
    pub fn writes(&self) -> (usize, usize) {
        let objects = self.objects.lock().unwrap();
        (objects.writes, objects.conflicts)
    }

    fn handle(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let Some(name) = path.strip_prefix("/api/v1/namespaces/mfa/configmaps/") else {
            return (403, json!({}));
        };
        let objects = &mut *self.objects.lock().unwrap();
        let Some((version, data)) = objects.maps.get_mut(name) else {
            return (404, json!({}));
        };
        let full = method == Method::GET;
        if !full {
            let patch: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(*method, Method::PATCH);
            let wanted = patch["metadata"]["resourceVersion"].as_str().unwrap();
            if wanted != version.to_string() {
                objects.conflicts += 1;
                return (409, json!({}));
            }
            assert!(body.len() < 1 << 20, "{}", body.len());
            *version += 1;
            *data = patch["data"].clone();
            objects.writes += 1;
        }
        let mut object = json!({"metadata": {"name": name, "resourceVersion": version.to_string()}});
        if full {
            object["data"] = data.clone();
        }
        (200, object)
    }
}

async fn answer(fake: Arc<Fake>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    };
    assert_eq!(header("authorization"), format!("Bearer {TOKEN}"));
    if parts.method == Method::PATCH {
        assert_eq!(header("content-type"), "application/merge-patch+json");
    }
    let mood = *fake.mood.lock().unwrap();
    let (status, object) = match mood {
        Mood::Answers(status) => (status, json!({"kind": "Status"})),
        Mood::Hangs => std::future::pending().await,
        Mood::Well | Mood::LosesAnswers => fake.handle(&parts.method, parts.uri.path(), &body),
    };
    if mood == Mood::LosesAnswers && parts.method == Method::PATCH {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}
