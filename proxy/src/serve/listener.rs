//! HTTP/1.1 over TCP for the admin port and for health. Connections are accepted at once; idle ones are closed to make
//! room.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::state::State;
use crate::error::Error;

/// Connections of a listener.
const MAX_CONNECTIONS: usize = 128;
/// Of which so many may come from one address.
const MAX_PER_SOURCE: usize = 32;
/// A connection ends when no head of a request has come for so long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// However busy it is.
const LONGEST_CONNECTION: Duration = Duration::from_secs(300);
const MAX_HEADERS: usize = 16 << 10;

/// What a listener answers.
pub(super) type Answers = fn(&Request<Incoming>, &State) -> Response<Full<Bytes>>;

/// Binds an address, if there is one.
pub(super) async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    let bound = match TcpListener::bind(address).await {
        // A kernel without IPv6 still has everything that "[::]" promises for IPv4.
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    match bound {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(Error::Bind {
            kind: "TCP",
            address,
            source,
        }),
    }
}

/// Serves until the program ends. A connection is never refused: where there are too many, the one that has been idle for
/// longest is closed, and first one of the same source.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>, answers: Answers) {
    let mut open = Open::default();
    let clock = Arc::new(AtomicU64::new(0));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of file descriptors, most likely: they come back.
            open.close_idle(None);
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let source = from.ip().to_canonical();
        open.make_room(source);
        let used = Used::new(Arc::clone(&clock));
        let task = tokio::spawn(connection(stream, Arc::clone(&state), answers, used.clone()));
        open.add(source, used, task.abort_handle());
    }
}

/// When a connection was last used, in a time that goes on by one with each use of any.
#[derive(Clone)]
struct Used {
    clock: Arc<AtomicU64>,
    at: Arc<AtomicU64>,
}

impl Used {
    fn new(clock: Arc<AtomicU64>) -> Self {
        let used = Self {
            clock,
            at: Arc::default(),
        };
        used.touch();
        used
    }

    fn touch(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }
}

/// The connections of a listener.
#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, (IpAddr, Used, AbortHandle)>,
}

impl Open {
    /// Closes what is idle for longest where there would be too many with another one of `source`.
    fn make_room(&mut self, source: IpAddr) {
        self.connections.retain(|_, (_, _, task)| !task.is_finished());
        let of_source = self.connections.values().filter(|(of, ..)| *of == source);
        if of_source.count() >= MAX_PER_SOURCE {
            self.close_idle(Some(source));
        }
        if self.connections.len() >= MAX_CONNECTIONS {
            self.close_idle(None);
        }
    }

    fn close_idle(&mut self, source: Option<IpAddr>) {
        let idle = self
            .connections
            .iter()
            .filter(|(_, (of, ..))| source.is_none_or(|source| source == *of))
            .min_by_key(|(_, (_, used, _))| used.at.load(Ordering::Relaxed))
            .map(|(id, _)| *id);
        if let Some((_, _, task)) = idle.and_then(|id| self.connections.remove(&id)) {
            task.abort();
        }
    }

    fn add(&mut self, source: IpAddr, used: Used, task: AbortHandle) {
        self.connections.insert(self.next, (source, used, task));
        self.next += 1;
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, answers: Answers, used: Used) {
    let service = service_fn(move |request| {
        used.touch();
        let answer = answers(&request, &state);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // A client's errors don't matter here.
    let _ = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_has_its_share_and_what_idles_for_longest_makes_room() {
        let clock = Arc::new(AtomicU64::new(0));
        let mut open = Open::default();
        let add = |open: &mut Open, source: IpAddr| {
            open.make_room(source);
            let used = Used::new(Arc::clone(&clock));
            let task = tokio::spawn(std::future::pending::<()>());
            open.add(source, used.clone(), task.abort_handle());
            used
        };
        let of =
            |open: &Open, source: IpAddr| open.connections.values().filter(|(of, ..)| *of == source).count();
        let (busy, flood) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let probe = add(&mut open, busy);
        for _ in 0..500 {
            add(&mut open, flood);
        }
        assert_eq!((of(&open, busy), of(&open, flood)), (1, MAX_PER_SOURCE));
        probe.touch();
        for last in 0..250 {
            add(&mut open, IpAddr::from([10, 0, 1, last]));
            probe.touch();
        }
        assert_eq!(open.connections.len(), MAX_CONNECTIONS);
        assert_eq!(of(&open, busy), 1, "what is used stays");
    }
}
