//! Listeners: accept, TLS, HTTP/1.1 and HTTP/2, and an orderly end.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::{
    error::Error,
    reply::{Body, Reply},
    tls::{Faces, TlsFace},
};

/// More connections than this wait in the kernel's queue.
const CONNECTIONS: usize = 32_768;
/// How long open calls may still take once the end was asked for.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// A vendor's face: one request, one reply.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
    /// What a new TLS connection meets.
    fn face(&self) -> TlsFace {
        TlsFace::Ok
    }
}

/// A simulator that runs. Dropping it ends it at once; [`Running::stop`] in an orderly way.
#[derive(Debug)]
pub struct Running {
    /// Where the vendor's API answers (the admin address where there is none).
    pub listen: SocketAddr,
    /// Where the admin API answers.
    pub admin: SocketAddr,
    /// The CA of the API's certificate, in PEM; empty without TLS.
    pub ca_pem: String,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tasks: JoinSet<()>,
}

impl Running {
    /// Stops accepting, lets open calls end for half a second, and returns when all is gone.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// `http://` address of the admin API.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Address of the vendor's API, `https://localhost:PORT` when it has a certificate.
    pub fn api_url(&self) -> String {
        match self.ca_pem.is_empty() {
            true => format!("http://{}", self.listen),
            false => format!("https://localhost:{}", self.listen.port()),
        }
    }

    /// The line that a started simulator prints.
    pub fn ready_line(&self, simulator: &str) -> String {
        serde_json::json!({
            "simulator": simulator,
            "listen": self.listen.to_string(),
            "admin": self.admin.to_string(),
        })
        .to_string()
    }
}

/// Returns when the end was asked for (or whoever could ask is gone).
pub(crate) async fn until_told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Binds an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source: io::Error| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Writes a small file that somebody waits for, in one step.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Write {
        path: path.to_owned(),
        source,
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    std::fs::write(&aside, text).map_err(failed)?;
    std::fs::rename(&aside, path).map_err(failed)
}

/// Serves the admin API until `stop`.
pub(crate) async fn admin(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let (ending, mut ended) = (stop.clone(), stop.clone());
    let serve = axum::serve(listener, router).with_graceful_shutdown(async move {
        let mut ending = ending;
        until_told(&mut ending).await;
    });
    let cut_off = async {
        until_told(&mut stop).await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        result = serve => if let Err(error) = result { warn!(%error, "admin API ended") },
        () = cut_off => {}
    }
    until_told(&mut ended).await;
}

/// Serves a vendor's face until `stop`. `connections` counts what was accepted.
pub(crate) async fn vendor<S: Service>(
    listener: TcpListener,
    faces: Option<Faces>,
    service: Arc<S>,
    connections: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = until_told(&mut stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = next(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                connections.fetch_add(1, Ordering::Relaxed);
                let (faces, service, stop) = (faces.clone(), Arc::clone(&service), stop.clone());
                open.spawn(async move {
                    one(stream, faces, service, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: what is open must end first.
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(LAST_CALLS, async { while open.join_next().await.is_some() {} }).await;
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn one<S: Service>(
    mut stream: TcpStream,
    faces: Option<Faces>,
    service: Arc<S>,
    stop: watch::Receiver<bool>,
) {
    let Some(faces) = faces else {
        return http(stream, service, stop).await;
    };
    let face = service.face();
    match faces.config(face) {
        Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
            Ok(stream) => http(stream, service, stop).await,
            Err(error) => debug!(%error, "TLS handshake failed"),
        },
        None if face == TlsFace::Garbage => {
            let _ = stream.write_all(b"220 this is not TLS\r\n").await;
        }
        None => {}
    }
}

async fn http<S, I>(stream: I, service: Arc<S>, mut stop: watch::Receiver<bool>)
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move {
            match service.answer(request).await {
                Reply::Send(response) => Ok::<http::Response<Body>, NoAnswer>(response),
                Reply::Close => Err(NoAnswer),
                Reply::Hang => std::future::pending().await,
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(4096);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handle));
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result { debug!(%error, "connection ended") }
            return;
        }
        () = until_told(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Ends a connection without an answer, on purpose.
#[derive(Debug)]
struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer, by a fault rule")
    }
}

impl std::error::Error for NoAnswer {}
