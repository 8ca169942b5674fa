//! `radius-proxy serve`: puts the parts together, and ends them in order.
//!
//! A few threads take datagrams and share the engine; a small runtime beside them has the providers' calls, the admin port,
//! the watch over the configuration files and the report to Kubernetes. Health has a thread of its own. None of these can
//! stop the first from answering.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use proxy_config::{ConfigDigest, RecordSink};
use proxy_core::Engine;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::error::Error;
use crate::load::{Loaded, Source};
use crate::logging;
use crate::metrics::Metrics;
use crate::peers;
use crate::provider::{self, Provider, Shared};

mod admin;
mod counts;
mod decider;
mod listener;
mod lookout;
mod mailbox;
mod records;
mod reload;
mod report;
mod state;

mod workers;

use crate::udp::{self, ReceiveBufferDrops, Sockets};
use decider::{Clock, Current, Decider, Parts};
pub(crate) use mailbox::Heard;
use mailbox::{Mailbox, Message, Reconfigured};
use records::RecordWriter;
use reload::Reloader;
use state::State;

/// What is left to be said to the other proxies holds up the end of the program no longer.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Threads for providers' calls.
const MAX_PROVIDER_THREADS: usize = 4;

/// Serves the configuration at `path` until a signal ends it.
///
/// # Errors
/// The configuration is wrong, an address cannot be bound, or the system refuses a thread or a signal handler.
pub fn serve(path: PathBuf) -> Result<(), Error> {
    harden();
    let mut source = Source::new(path)?;
    source.learn_names();
    let fingerprint = source.fingerprint();
    let loaded = source.load()?;

    let sockets = Sockets::bind(&loaded.config.listen)?;
    let metrics = Arc::new(Metrics::default().with(ReceiveBufferDrops::of(&sockets)));
    let shared = Shared::new(metrics.provider.clone());
    let provider = provider::build(&loaded.config, &shared)?;
    complain(provider.as_ref());
    let addresses: Vec<String> = sockets.addresses().iter().map(ToString::to_string).collect();
    let runtime = runtime()?;
    let admin = runtime.block_on(async { listener::bind(loaded.config.admin).await })?;
    let (records, writer) = records::start(&loaded.records, &metrics)?;
    let mailbox = Arc::new(Mailbox::new(Arc::clone(&metrics))?);
    let engine = engine(&loaded)?;
    let group = watch::Sender::new(loaded.config.peers.clone());
    let (peers, net) = runtime.block_on(async { peers::bind(group.subscribe(), &metrics).await })?;
    let net = net.map(|net| {
        let heard: Arc<dyn Heard> = Arc::clone(&mailbox) as Arc<dyn Heard>;
        runtime.spawn(net.run(engine.instance(), heard))
    });

    let state = Arc::new(State::new(Arc::clone(&metrics), &loaded));
    let health = admin::start_health(loaded.config.health, &state)?;
    let (ended, engine_ended) = oneshot::channel();
    let current: Current = Arc::new(RwLock::new(loaded.settings.clone()));
    let decider = Decider::new(Parts {
        observing: state.observing(),
        engine,
        peers,
        current: Arc::clone(&current),
        running: running(&loaded, provider),
        mailbox: Arc::clone(&mailbox),
        metrics: Arc::clone(&metrics),
        runtime: runtime.handle().clone(),
    });
    let serving = workers::Shared {
        sockets,
        decider: Mutex::new(decider),
        current,
        mailbox: Arc::clone(&mailbox),
        metrics,
        records,
        clock: Clock::start(),
        send_failure_told: Mutex::default(),
    };
    // Signals before the threads: from here on, ending is orderly.
    let signals = runtime.block_on(async { Signals::new() })?;
    let threads = udp::threads();
    let thread = std::thread::Builder::new()
        .name("radius".to_owned())
        .spawn(move || {
            workers::run(&serving, threads);
            // Nobody waits any more when the program is ending by itself.
            let _ = ended.send(());
        })
        .map_err(|source| Error::Start {
            what: "the thread that takes datagrams",
            source,
        })?;
    tell_serving(&loaded, &addresses, admin.as_ref(), health);
    let reloader = Reloader::new(
        source,
        fingerprint,
        shared,
        Arc::clone(&mailbox),
        Arc::clone(&state),
        group,
        loaded,
    );
    runtime.block_on(supervise(
        signals,
        reloader,
        admin,
        &state,
        &mailbox,
        &writer,
        engine_ended,
    ));
    // It ends by itself only by a panic, which in the shipped program aborts everything; this is for the one that tests
    // run. The last records have been left by then.
    let in_order = thread.join().is_ok();
    if let Some(net) = net {
        // The decider is gone, and with it whoever could say more to the other proxies: what is left to be said, votes that
        // they would wait for among it, is sent.
        let _ = runtime.block_on(async { tokio::time::timeout(LAST_WORDS, net).await });
    }
    writer.finish();
    runtime.shutdown_background();
    tracing::info!("ended");
    if in_order {
        Ok(())
    } else {
        Err(Error::Start {
            what: "the thread that takes datagrams",
            source: std::io::Error::other("it ended by itself"),
        })
    }
}

fn tell_serving(
    loaded: &Loaded,
    addresses: &[String],
    admin: Option<&TcpListener>,
    health: Option<SocketAddr>,
) {
    let admin = admin.and_then(|listener| listener.local_addr().ok());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = addresses.join(","),
        admin = admin.map(tracing::field::display),
        health = health.map(tracing::field::display),
        provider = loaded.config.provider.name(),
        clients = loaded.config.clients.len(),
        config_digest = %loaded.digest,
        "serving"
    );
}

fn engine(loaded: &Loaded) -> Result<Engine, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Error::Random)?;
    Ok(Engine::new(loaded.settings.clone(), seed))
}

/// Runs everything beside the engine until the engine has ended.
async fn supervise(
    Signals {
        mut terminate,
        mut interrupt,
        mut hang_up,
    }: Signals,
    reloader: Reloader,
    admin: Option<TcpListener>,
    state: &Arc<State>,
    mailbox: &Arc<Mailbox>,
    writer: &RecordWriter,
    mut engine_ended: oneshot::Receiver<()>,
) {
    if let Some(listener) = admin {
        tokio::spawn(listener::serve(listener, Arc::clone(state), admin::answer));
    }
    let report = report::Report::from_environment();
    let reports = report.is_some();
    if let Some(report) = report {
        tokio::spawn(report.run(report::Sources {
            digests: state.watch_digest(),
            refused: state.metrics.provider.watch_refused(),
            observed: state.observing().subscribe(),
        }));
        reloader.rehearse();
    }
    let mut look = tokio::time::interval(reload::LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_ending = false;
    // One of the two: what can be reloaded, or the reload that is under way.
    let (mut idle, mut reloading) = (Some(reloader), None);
    loop {
        tokio::select! {
            _ = &mut engine_ended => return,
            () = end(&mut terminate, &mut interrupt) => {
                if is_ending {
                    tracing::warn!("a second signal: ending at once, whoever is waiting");
                    logging::finish();
                    std::process::exit(1);
                }
                is_ending = true;
                state.drain();
                mailbox.put(Message::Drain);
                tracing::info!("ending: no new push is started, pending logins are answered");
            }
            _ = hang_up.recv(), if idle.is_some() => {
                reloading = idle.take().map(|reloader| Reloading::begin(reloader, true));
            }
            _ = look.tick(), if !is_ending && idle.is_some() => {
                if let Some(reloader) = idle.take_if(|reloader| reloader.has_changed()) {
                    reloading = Some(Reloading::begin(reloader, false));
                }
            }
            (reloader, before) = Reloading::end(&mut reloading) => {
                if reports && *reloader.digest() != before.digest {
                    reloader.rehearse();
                }
                if before.reopens || *reloader.records() != before.records {
                    writer.reopen(reloader.records());
                }
                idle = Some(reloader);
            }
        }
    }
}

/// A reload under way, beside which signals are looked at.
struct Reloading {
    reload: Pin<Box<dyn Future<Output = Reloader> + Send>>,
    before: Before,
}

/// What ran before a reload.
struct Before {
    records: RecordSink,
    digest: ConfigDigest,
    /// The file of records is opened again in any case.
    reopens: bool,
}

impl Reloading {
    fn begin(reloader: Reloader, reopens: bool) -> Self {
        let before = Before {
            records: reloader.records().clone(),
            digest: reloader.digest().clone(),
            reopens,
        };
        let reload = Box::pin(reloader.reload());
        Self { reload, before }
    }

    /// Waits for its end; for ever where there is none.
    async fn end(this: &mut Option<Self>) -> (Reloader, Before) {
        let Some(reloading) = this else {
            return std::future::pending().await;
        };
        let reloader = reloading.reload.as_mut().await;
        match this.take() {
            Some(reloading) => (reloader, reloading.before),
            None => std::future::pending().await,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let on = |kind| {
            signal(kind).map_err(|source| Error::Start {
                what: "a signal handler",
                source,
            })
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn running(loaded: &Loaded, provider: Arc<dyn Provider>) -> Reconfigured {
    Reconfigured {
        settings: loaded.settings.clone(),
        provider,
        clients: loaded
            .config
            .clients
            .iter()
            .map(|client| client.name.as_str().into())
            .collect(),
        max_pending: loaded.config.policy.limits.pending,
        drain: loaded.config.drain,
    }
}

fn complain(provider: &dyn Provider) {
    for complaint in provider.complaints() {
        tracing::warn!("{complaint}");
    }
}

fn runtime() -> Result<Runtime, Error> {
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_PROVIDER_THREADS);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(2)
        .thread_name("providers")
        .enable_all()
        .build()
        .map_err(|source| Error::Start {
            what: "the runtime",
            source,
        })
}

/// Memory that holds secrets goes into no core file, and other processes of the same user may not read it.
fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files could not be switched off");
    }
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}
