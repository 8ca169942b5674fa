//! One upstream server: where it is, its source ports, and the watch over its health.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use proxy_config::SharedSecret;
use tokio::sync::{Notify, mpsc, watch};

use super::answer::Flaw;
use super::health::{Intervals, State};
use super::lane::{Heard, Kind, Lane, Seat};
use super::packet::Key;
use super::peer::Peer;
use crate::locks::lock;
use crate::metrics::ProviderMetrics;
use crate::provider::fault::{Fault, FaultClass, Step};
use crate::provider::http::Resolver;

/// Source ports towards one server: 16,384 requests in flight.
const MAX_LANES: usize = 64;
/// A port beyond the first is closed when nothing has waited on it for so long.
const LANE_IDLE: Duration = Duration::from_secs(60);
/// A name is looked up anew so often; the answer's own lifetime is the resolver's affair.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(4);

/// What a server is, and what makes two of them differ.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) secret: SharedSecret,
    pub(super) demand_message_authenticator: bool,
    pub(super) status_server: bool,
}

/// How fast health is asked for. Tests have no time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long one Status-Server waits for its answer.
    pub(super) status_timeout: Duration,
    /// How often one is sent before its silence counts.
    pub(super) status_tries: u32,
    /// A login that has waited so long asks for the server's health.
    pub(super) suspicion: Duration,
    pub(super) intervals: Intervals,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            status_timeout: Duration::from_secs(1),
            status_tries: 3,
            suspicion: Duration::from_secs(1),
            intervals: Intervals::default(),
        }
    }
}

/// One upstream server.
pub(super) struct Server {
    pub(super) place: Place,
    pub(super) peer: Arc<Peer>,
    pub(super) pace: Pace,
    /// Of the newest configuration that names this server with this secret.
    metrics: Mutex<ProviderMetrics>,
    resolver: Resolver,
    lanes: Mutex<Lanes>,
    suspected: Arc<Notify>,
    watched: AtomicBool,
}

#[derive(Default)]
struct Lanes {
    address: Option<(SocketAddr, Instant)>,
    open: Vec<Arc<Lane>>,
}

impl Server {
    /// `None` never happens; see [`Key::new`].
    pub(super) fn new(
        place: Place,
        resolver: Resolver,
        metrics: ProviderMetrics,
        pace: Pace,
    ) -> Option<Self> {
        let name = if place.host.contains(':') {
            format!("[{}]:{}", place.host, place.port)
        } else {
            format!("{}:{}", place.host, place.port)
        };
        let key = Key::new(place.secret.clone())?;
        Some(Self {
            peer: Arc::new(Peer::new(
                name,
                key,
                place.demand_message_authenticator,
                pace.intervals,
            )),
            place,
            pace,
            metrics: Mutex::new(metrics),
            resolver,
            lanes: Mutex::default(),
            suspected: Arc::default(),
            watched: AtomicBool::new(false),
        })
    }

    /// Begins to watch the server, once. It ends with the last reference to the server.
    pub(super) fn watch(self: &Arc<Self>) {
        if !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch(
                Arc::downgrade(self),
                Arc::clone(&self.suspected),
                self.peer.state(),
            ));
        }
    }

    /// A login waits for an answer: is the server alive at all?
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// A place for a request, with an authenticator of its own.
    ///
    /// # Errors
    /// The name has no address, no socket can be had, or all identifiers of all ports are in use.
    pub(super) async fn seat(&self, kind: Kind, tag: usize, to: &mpsc::Sender<Heard>) -> Result<Seat, Fault> {
        let mut authenticator = [0; 16];
        getrandom::fill(&mut authenticator)
            .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
        let address = self.address().await?;
        let mut lanes = self.lanes();
        // Where the server was before, only answers are waited for.
        lanes.open.retain(|lane| lane.server() == address);
        let free = lanes
            .open
            .iter()
            .find_map(|lane| lane.seat(authenticator, kind, tag, to));
        if let Some(seat) = free {
            return Ok(seat);
        }
        if lanes.open.len() >= MAX_LANES {
            return Err(Fault::before_sending(
                FaultClass::Throttled,
                "every identifier of every source port is in use",
            ));
        }
        let lane = Lane::open(address, Arc::clone(&self.peer))
            .map(Arc::new)
            .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
        let seat = lane.seat(authenticator, kind, tag, to);
        lanes.open.push(lane);
        seat.ok_or_else(|| {
            Fault::before_sending(FaultClass::Throttled, "a new source port has no identifier")
        })
    }

    /// Asks the server whether it is there: a Status-Server, and its retransmissions. It gives the answer's time, and
    /// whether it had a Message-Authenticator.
    ///
    /// # Errors
    /// No valid answer.
    pub(super) async fn status(&self) -> Result<(Duration, bool), Fault> {
        let begun = Instant::now();
        let result = self.ask_status(begun).await;
        let class = result.as_ref().err().map(|fault| fault.class);
        self.called(Step::Check, class, begun.elapsed());
        result
    }

    /// Another configuration keeps the server.
    pub(super) fn count_with(&self, metrics: &ProviderMetrics) {
        lock(&self.metrics).clone_from(metrics);
    }

    /// Counts a call that has ended.
    pub(super) fn called(&self, step: Step, class: Option<FaultClass>, took: Duration) {
        lock(&self.metrics).called("radius", step, class, took);
    }

    async fn ask_status(&self, begun: Instant) -> Result<(Duration, bool), Fault> {
        self.peer.status_asked(begun);
        let (to, mut heard) = mpsc::channel(4);
        let seat = self.seat(Kind::Status, 0, &to).await?;
        let packet =
            self.peer.key().status_server(seat.header).ok_or_else(|| {
                Fault::before_sending(FaultClass::ClientError, "Status-Server cannot be made")
            })?;
        let mut flaw = None;
        for _ in 0..self.pace.status_tries {
            seat.send(&packet)
                .await
                .map_err(|error| Fault::before_sending(FaultClass::Connect, error.to_string()))?;
            match tokio::time::timeout(self.pace.status_timeout, heard.recv()).await {
                Ok(Some(Heard { what: Ok(answer), .. })) => return Ok((begun.elapsed(), answer.signed)),
                Ok(Some(Heard { what: Err(found), .. })) => {
                    flaw = Some(found);
                    break;
                }
                Ok(None) | Err(_) => {}
            }
        }
        self.peer.status_silent(begun);
        Err(flaw.map_or_else(|| silence(begun.elapsed()), flawed))
    }

    async fn address(&self) -> Result<SocketAddr, Fault> {
        if let Ok(address) = self.place.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, self.place.port));
        }
        // The watch renews it; a login does not wait for that.
        let known = self.lanes().address;
        match known {
            Some((address, _)) => Ok(address),
            None => self.look_up().await,
        }
    }

    async fn look_up(&self) -> Result<SocketAddr, Fault> {
        let found = tokio::time::timeout(LOOK_UP_TIMEOUT, self.resolver.addresses(&self.place.host))
            .await
            .map_err(|_| {
                Fault::before_sending(
                    FaultClass::Dns,
                    format!("{} was not resolved in time", self.place.host),
                )
            })?
            .map_err(|error| Fault::before_sending(FaultClass::Dns, error.to_string()))?;
        let mut lanes = self.lanes();
        let known = lanes.address.map(|(address, _)| address.ip());
        // A server with several addresses is asked at one, as long as it is there and has that address.
        let next = match known.and_then(|known| found.iter().position(|ip| *ip == known)) {
            Some(at) if !self.peer.is_up() => at + 1,
            Some(at) => at,
            None => 0,
        };
        let ip = found.get(next % found.len().max(1)).ok_or_else(|| {
            Fault::before_sending(FaultClass::Dns, format!("{} has no address", self.place.host))
        })?;
        let address = SocketAddr::new(*ip, self.place.port);
        lanes.address = Some((address, Instant::now()));
        Ok(address)
    }

    /// How long the watch rests. RFC 3539 section 3.4.1 wants jitter, so that many proxies do not ask at once.
    fn pause(&self, now: Instant) -> Duration {
        let next = if self.place.status_server {
            self.peer.next_status(now)
        } else if self.peer.is_up() {
            self.pace.intervals.watch
        } else {
            self.pace.intervals.revive
        };
        next.mul_f64(1.0 + 0.13 * f64::from(random_byte()) / 255.0)
    }

    /// What is due beside the questions for its health.
    async fn tend(&self) {
        let due = {
            let mut lanes = self.lanes();
            let mut first = true;
            lanes.open.retain(|lane| {
                let is_idle = lane
                    .idle_since()
                    .is_some_and(|since| since.elapsed() >= LANE_IDLE);
                std::mem::take(&mut first) || !is_idle
            });
            let every = if self.peer.is_up() {
                LOOK_UP_EVERY
            } else {
                LOOK_UP_TIMEOUT
            };
            lanes.address.is_some_and(|(_, at)| at.elapsed() >= every)
        };
        if due && let Err(fault) = self.look_up().await {
            tracing::debug!(server = self.peer.name(), %fault, "an upstream server's name is not resolved now");
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        lock(&self.lanes)
    }
}

/// Asks for a server's health from time to time, and when a login suspects that it is dead. It holds the server only
/// while it asks.
async fn watch(server: Weak<Server>, suspected: Arc<Notify>, mut state: watch::Receiver<State>) {
    loop {
        let was_up = *state.borrow_and_update() != State::Dead;
        let Some(pause) = server.upgrade().map(|server| server.pause(Instant::now())) else {
            return;
        };
        let mut suspects = false;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = suspected.notified() => suspects = true,
            // One that died is asked more often from now on. The error is the end of the server.
            alive = changes(&mut state, was_up) => if alive { continue } else { return },
        }
        let Some(server) = server.upgrade() else {
            return;
        };
        server.tend().await;
        let now = Instant::now();
        let due = server.peer.next_status(now).is_zero() || (suspects && server.peer.is_doubtful(now));
        if server.place.status_server && due {
            // What comes of it is in the peer's health.
            let _ = server.status().await;
        }
    }
}

/// Waits until the server dies or is revived; `false` at the end of the server.
async fn changes(state: &mut watch::Receiver<State>, was_up: bool) -> bool {
    state
        .wait_for(|state| (*state != State::Dead) != was_up)
        .await
        .is_ok()
}

/// Nothing valid was answered, but something was.
pub(super) fn flawed(flaw: Flaw) -> Fault {
    let class = match flaw {
        Flaw::Signature => FaultClass::Credentials,
        Flaw::Malformed | Flaw::Code | Flaw::Unsigned | Flaw::ProxyState => FaultClass::Malformed,
    };
    Fault::after_sending(class, flaw.describe())
}

/// Nothing was answered.
pub(super) fn silence(waited: Duration) -> Fault {
    Fault::after_sending(
        FaultClass::Timeout,
        format!("no answer within {:.1} s", waited.as_secs_f32()),
    )
}

/// Jitter needs no more; without randomness there is none.
pub(super) fn random_byte() -> u8 {
    let mut byte = [127];
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}
