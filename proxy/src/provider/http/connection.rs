//! Assigns calls to connections: many calls to each connection if the server speaks HTTP/2, and as many connections as the
//! calls need.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Frame, SizeHint};
use reqwest::{Body, Method, Request, Response, Version};
use tokio::sync::{MutexGuard, oneshot};
use tokio::time::{sleep_until, timeout_at};

use super::{Deadline, classify};
use crate::error::Error;
use crate::locks::lock;
use crate::provider::fault::{Fault, FaultClass};

/// Calls on one connection at once. Servers commonly allow 100 HTTP/2 streams; a lower limit is detected.
const CALLS_PER_CONNECTION: usize = 96;
/// Connections at once, for HTTP/2.
const MAX_CONNECTIONS: usize = 256;
/// Time after which a connection without calls is closed.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Time after which a call that gets no stream of an open connection takes another connection.
const STREAM_WAIT: Duration = Duration::from_secs(1);
/// Time for which a new connection takes no other call: its first frames say how many streams the server allows.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the number of streams that a server allows is remembered.
const REMEMBER_STREAMS: Duration = Duration::from_secs(600);

/// Connections for one kind of calls.
#[derive(Default)]
pub(super) struct Pool {
    connections: Mutex<Vec<Arc<Connection>>>,
    /// How many calls at once the server has been found to allow on a connection, and when.
    streams: Mutex<Option<(Instant, usize)>>,
}

pub(super) struct Connection {
    client: reqwest::Client,
    /// Calls that have a permit.
    calls: AtomicUsize,
    /// Calls of these whose request was sent.
    sent: AtomicUsize,
    /// Whether the server answered with an older protocol than HTTP/2, where each call has a connection of its own.
    is_http1: AtomicBool,
    /// Held by the call that opens the connection. The value is the last failure to open it.
    opening: tokio::sync::Mutex<Option<(Instant, Fault)>>,
    /// When a request was last sent, if it did not fail.
    used: Mutex<Option<Instant>>,
    released: Mutex<Instant>,
}

impl Pool {
    /// A permit for the first connection with room, so that few calls share one connection and the others can close. Closes
    /// connections that were idle for too long.
    pub(super) fn permit(
        &self,
        make: impl FnOnce() -> Result<reqwest::Client, Error>,
    ) -> Result<Permit, Error> {
        let most = self.streams();
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.is_abandoned());
        let room = |connection: &&Arc<Connection>| connection.calls.load(Ordering::Relaxed) < most;
        let connection = match connections.iter().find(room) {
            Some(connection) => Arc::clone(connection),
            None if connections.len() < MAX_CONNECTIONS => {
                let connection = Arc::new(Connection::new(make()?));
                connections.push(Arc::clone(&connection));
                connection
            }
            // All are full: the call waits on the one with the fewest calls.
            None => connections
                .iter()
                .min_by_key(|connection| connection.calls.load(Ordering::Relaxed))
                .cloned()
                .ok_or(Error::NoConnection)?,
        };
        connection.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            connection,
            is_sent: false,
        })
    }

    fn streams(&self) -> usize {
        let streams = lock(&self.streams).filter(|(at, _)| at.elapsed() < REMEMBER_STREAMS);
        streams.map_or(CALLS_PER_CONNECTION, |(_, streams)| streams)
    }

    /// The server takes no more than `streams` calls at once on a connection.
    pub(super) fn allows(&self, streams: usize) {
        let streams = streams.clamp(1, self.streams());
        *lock(&self.streams) = Some((Instant::now(), streams));
    }
}

impl Connection {
    fn new(client: reqwest::Client) -> Self {
        Self {
            client,
            calls: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            is_http1: AtomicBool::new(false),
            opening: tokio::sync::Mutex::default(),
            used: Mutex::new(None),
            released: Mutex::new(Instant::now()),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.calls.load(Ordering::Relaxed) == 0 && lock(&self.released).elapsed() >= IDLE
    }

    fn is_open(&self) -> bool {
        lock(&self.used).is_some_and(|at| at.elapsed() < IDLE / 2)
    }

    fn set_open(&self, is_open: bool) {
        *lock(&self.used) = is_open.then(Instant::now);
    }

    /// Lets one call open the connection while the others wait for it: without it a hundred calls at once would perform a
    /// hundred TLS handshakes before the first could show that one connection is enough for all (HTTP/2). If it fails, the
    /// waiting calls fail with it.
    async fn open_alone(&self, send_by: Instant) -> Result<Option<Opening<'_>>, Fault> {
        if self.is_open() {
            return Ok(None);
        }
        let asked = Instant::now();
        let turn = timeout_at(send_by.into(), self.opening.lock())
            .await
            .map_err(|_| busy("another call was opening the connection"))?;
        if self.is_open() {
            return Ok(None);
        }
        match &*turn {
            Some((at, fault)) if *at >= asked => Err(fault.clone()),
            _ => Ok(Some(turn)),
        }
    }
}

type Opening<'a> = MutexGuard<'a, Option<(Instant, Fault)>>;

/// A call's permit to use a connection.
pub(super) struct Permit {
    connection: Arc<Connection>,
    is_sent: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.connection.released) = Instant::now();
        self.connection.calls.fetch_sub(1, Ordering::Relaxed);
        if self.is_sent {
            self.connection.sent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Why a request was not sent.
pub(super) enum NotSent {
    /// The connection has so many calls under way, and takes no other.
    Full(usize),
    /// It failed.
    Fault(Fault),
}

type Pending = Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>>;

/// A request that was sent.
pub(super) struct Sent {
    permit: Permit,
    pending: Pending,
    /// When its answer is late.
    pub(super) until: Instant,
}

impl Permit {
    /// Sends a request. The time for its answer begins when its connection is being made or, on one that is open, when the
    /// request gets its stream.
    pub(super) async fn send(mut self, request: Request, deadline: Deadline) -> Result<Sent, NotSent> {
        let connection = Arc::clone(&self.connection);
        let opening = connection
            .open_alone(deadline.send_by())
            .await
            .map_err(NotSent::Fault)?;
        // An abandoned request can still get a stream and be sent. Only its body can stop it, so it must have one.
        let may_move = request.method() != Method::POST || !is_empty(request.body());
        let (request, mut on_its_way) = marked(request);
        let mut pending: Pending = Box::pin(connection.client.execute(request));
        let begun = Instant::now();
        let mut result = loop {
            let others = connection.sent.load(Ordering::Relaxed);
            let is_connecting =
                opening.is_some() || others == 0 || connection.is_http1.load(Ordering::Relaxed);
            let patience = if is_connecting {
                deadline.answer_after(begun)
            } else if may_move {
                deadline.send_by().min(Instant::now() + STREAM_WAIT)
            } else {
                deadline.send_by()
            };
            tokio::select! {
                biased;
                result = &mut pending => break Some(result),
                _ = &mut on_its_way => break None,
                () = sleep_until(patience.into()) => {
                    if !is_connecting && may_move {
                        return Err(NotSent::Full(others));
                    }
                    if !is_connecting {
                        return Err(NotSent::Fault(busy("no stream of the connection was free")));
                    }
                    // If others were sent meanwhile, the connection is open and this call waits for a stream.
                    if opening.is_some() || connection.sent.load(Ordering::Relaxed) == others {
                        let fault = Fault::before_sending(FaultClass::Timeout, "no connection in time");
                        return Err(failed_to_open(opening, fault));
                    }
                }
            }
        };
        if opening.is_some() && result.is_none() {
            result = timeout_at((Instant::now() + SETTLE).into(), &mut pending)
                .await
                .ok();
        }
        match result {
            None => {}
            Some(Ok(response)) => pending = Box::pin(std::future::ready(Ok(response))),
            Some(Err(error)) => return Err(failed_to_open(opening, connection.failed(&error))),
        }
        connection.set_open(true);
        connection.sent.fetch_add(1, Ordering::Relaxed);
        self.is_sent = true;
        let since = if opening.is_some() { begun } else { Instant::now() };
        Ok(Sent {
            permit: self,
            pending,
            until: deadline.answer_after(since),
        })
    }
}

/// Passes the failure on to the calls that wait for the connection.
fn failed_to_open(opening: Option<Opening<'_>>, fault: Fault) -> NotSent {
    if let Some(mut opening) = opening {
        *opening = Some((Instant::now(), fault.clone()));
    }
    NotSent::Fault(fault)
}

impl Connection {
    fn failed(&self, error: &reqwest::Error) -> Fault {
        self.set_open(false);
        classify(error)
    }
}

impl Sent {
    /// The response or the failure. If the connection had one call too many, also how many calls it takes.
    pub(super) async fn response(&mut self) -> Result<Response, (Fault, Option<usize>)> {
        let connection = &self.permit.connection;
        match self.pending.as_mut().await {
            Ok(response) => {
                connection.set_open(true);
                connection
                    .is_http1
                    .store(response.version() < Version::HTTP_2, Ordering::Relaxed);
                Ok(response)
            }
            Err(error) if super::is_refused_stream(&error) => {
                let others = connection.sent.load(Ordering::Relaxed).saturating_sub(1);
                Err((classify(&error), Some(others)))
            }
            Err(error) => Err((connection.failed(&error), None)),
        }
    }
}

/// A failure of this program: it had no time or no room for the call.
pub(super) fn busy(detail: impl Into<String>) -> Fault {
    Fault::before_sending(FaultClass::Busy, detail)
}

fn is_empty(body: Option<&Body>) -> bool {
    body.is_none_or(|body| body.as_bytes().is_some_and(<[u8]>::is_empty))
}

/// Adds a body to the request that signals when the request is sent. HTTP/2 reads or drops a body only when the stream is
/// open.
fn marked(mut request: Request) -> (Request, oneshot::Receiver<()>) {
    let (mark, on_its_way) = oneshot::channel();
    let inner = request.body_mut().take().unwrap_or_default();
    *request.body_mut() = Some(Body::wrap(Marked {
        inner,
        mark: Some(mark),
    }));
    (request, on_its_way)
}

struct Marked {
    inner: Body,
    mark: Option<oneshot::Sender<()>>,
}

/// The call was abandoned. Its request may have been sent on another connection, and must not be sent twice.
#[derive(Debug, thiserror::Error)]
#[error("the call was given up before it was sent")]
struct GivenUp;

impl Marked {
    fn tell(&mut self) -> Result<(), GivenUp> {
        let Some(mark) = self.mark.take() else {
            return Ok(());
        };
        mark.send(()).map_err(|()| GivenUp)
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = self.tell();
    }
}

impl hyper::body::Body for Marked {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Err(given_up) = self.tell() {
            return Poll::Ready(Some(Err(given_up.into())));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
