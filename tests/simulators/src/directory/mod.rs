//! AWS Directory Service (and the little of STS that goes with it).

mod admin;
mod caller;
mod constraint;
mod dispatch;
mod exception;
mod operations;
mod poll;
mod radius_settings;
mod seeds;
mod settings;
mod state;
mod sts;
mod supervise;
mod world;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Instant,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::{error, info};

use self::{exception::Exception, world::World};
pub use self::{
    poll::{ControllerView, Poll, PollAnswer, ProbeOrder},
    radius_settings::RadiusSettings,
    seeds::*,
    settings::*,
    world::{ProbeOutcome, ProbeReport, RadiusStatus},
};
use crate::{
    error::Error,
    fault::FaultBook,
    serve::{self, Running, until_told},
    tls::{self, TlsSource},
};

/// How a directory simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the AWS API answers.
    pub listen: SocketAddr,
    /// Where the admin API answers.
    pub admin: SocketAddr,
    /// Behaviour and seeds.
    pub config: Config,
    /// What survives a restart goes here.
    pub state: Option<PathBuf>,
    /// HTTPS, or not.
    pub tls: TlsSource,
}

/// The simulator, shared by its listeners.
#[derive(Debug)]
pub(crate) struct Simulator {
    config: Config,
    world: Mutex<World>,
    faults: FaultBook,
    buckets: Mutex<[Bucket; 2]>,
    /// A controller reported or came.
    reported: Notify,
    /// Wakes the controllers of a directory.
    wakes: Mutex<BTreeMap<String, watch::Sender<u64>>>,
    /// The version that must be written, and the one that is.
    wanted: watch::Sender<u64>,
    written: watch::Sender<u64>,
    state: Option<PathBuf>,
}

/// A token bucket of one second's worth.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        if per_second <= 0.0 {
            return true;
        }
        let gained = now.duration_since(self.at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + gained).min(per_second.max(1.0));
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Simulator {
    /// Reads the world.
    fn look<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the world; `keep` asks for it to be written.
    fn change<T>(&self, keep: bool, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        if keep {
            world.version += 1;
        }
        let version = world.version;
        let result = change(&mut world);
        drop(world);
        if keep {
            self.wanted.send_if_modified(|wanted| {
                let newer = version > *wanted;
                *wanted = version.max(*wanted);
                newer
            });
        }
        result
    }

    /// Returns when a version is on disk (at once without a state file).
    async fn on_disk(&self, version: u64) {
        if self.state.is_some() {
            let _ = self
                .written
                .subscribe()
                .wait_for(|written| *written >= version)
                .await;
        }
    }

    fn count(&self, operation: &str, result: Result<(), &Exception>) {
        self.change(false, |world| {
            let known = world.counters.len() < 64 || world.counters.contains_key(operation);
            let name = if known { operation } else { "other" };
            let counter = world.counters.entry(name.to_owned()).or_default();
            counter.calls += 1;
            match result {
                Ok(()) => counter.ok += 1,
                Err(exception) => *counter.errors.entry(exception.name.clone()).or_default() += 1,
            }
        });
    }

    fn within_rate(&self, writes: bool) -> bool {
        let rates = self.look(|world| (world.settings.reads_per_second, world.settings.writes_per_second));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let [reading, writing] = &mut *buckets;
        match writes {
            true => writing.take(rates.1, Instant::now()),
            false => reading.take(rates.0, Instant::now()),
        }
    }

    /// Tells a directory's controllers and the supervisor that something changed.
    fn wake(&self, directory: &str) {
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = wakes.get(directory) {
            wake.send_modify(|count| *count += 1);
        }
        self.reported.notify_one();
    }

    fn wake_all(&self) {
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes
            .values()
            .for_each(|wake| wake.send_modify(|count| *count += 1));
        self.reported.notify_one();
    }

    /// Subscribes to a directory's changes. Serial numbers begin anywhere, so that a controller notices a restart.
    fn wakes_of(&self, directory: &str) -> watch::Receiver<u64> {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes
            .entry(directory.to_owned())
            .or_insert_with(|| watch::channel(rand::random::<u64>() >> 16).0)
            .subscribe()
    }
}

/// Starts a directory simulator.
///
/// # Errors
/// When an address is taken, the state file is not readable, or the certificate cannot be made.
pub async fn start(options: Options) -> Result<Running, Error> {
    let digest_key = hex::encode(rand::random::<[u8; 16]>());
    check(&options.config)?;
    let mut world = World::of(&options.config, digest_key, Timestamp::now());
    if let Some(path) = &options.state {
        state::restore(&mut world, path)?;
    }
    let simulator = Arc::new(Simulator {
        config: options.config,
        world: Mutex::new(world),
        faults: FaultBook::default(),
        buckets: Mutex::new([0; 2].map(|_: u8| Bucket {
            tokens: f64::MAX,
            at: Instant::now(),
        })),
        reported: Notify::new(),
        wakes: Mutex::new(BTreeMap::new()),
        wanted: watch::channel(0).0,
        written: watch::channel(0).0,
        state: options.state,
    });
    let tls = tls::prepare(&options.tls)?;
    let (listener, listen) = serve::bind(options.listen).await?;
    let (admin_listener, admin) = serve::bind(options.admin).await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let (faces, ca_pem) = tls.map(|tls| (Some(tls.faces), tls.ca_pem)).unwrap_or_default();
    let connections = Arc::new(AtomicU64::new(0));
    tasks.spawn(serve::vendor(
        listener,
        faces,
        Arc::clone(&simulator),
        connections,
        stopped.clone(),
    ));
    let router = admin::router(Arc::clone(&simulator), ca_pem.clone());
    tasks.spawn(serve::admin(admin_listener, router, stopped.clone()));
    tasks.spawn(supervise::run(Arc::clone(&simulator), stopped.clone()));
    if let Some(path) = simulator.state.clone() {
        tasks.spawn(keep(simulator, path, stopped));
    }
    info!(%listen, %admin, "directory simulator started");
    Ok(Running {
        listen,
        admin,
        ca_pem,
        stop,
        tasks,
    })
}

fn check(config: &Config) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::CheckConfig { what });
    config.settings.check().or_else(refuse)?;
    for spec in &config.directories {
        if !constraint::is_directory_id(&spec.id) {
            return refuse(format!(
                "directories.id '{}' must be d- and ten hex digits",
                spec.id
            ));
        }
    }
    for credential in &config.credentials {
        if credential.access_key_id.is_empty() || credential.secret_access_key.is_empty() {
            return refuse("credentials need access_key_id and secret_access_key".to_owned());
        }
        if !credential.expires_at.is_empty() && credential.expires_at.parse::<Timestamp>().is_err() {
            return refuse(format!(
                "credentials.expires_at '{}' is not RFC 3339",
                credential.expires_at
            ));
        }
    }
    Ok(())
}

/// Writes the state whenever it changed: everything that came while one write ran goes into the next.
async fn keep(simulator: Arc<Simulator>, path: PathBuf, mut stop: watch::Receiver<bool>) {
    let mut wanted = simulator.wanted.subscribe();
    wanted.mark_changed();
    loop {
        let stopping = tokio::select! {
            changed = wanted.changed() => changed.is_err(),
            () = until_told(&mut stop) => true,
        };
        let (version, text) = simulator.look(|world| (world.version, state::text(world)));
        let target = path.clone();
        let result =
            tokio::task::spawn_blocking(move || state::write(&target, &text.map_err(std::io::Error::other)?));
        match result.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, path = %path.display(), "cannot write the state"),
            Err(error) => error!(%error, "state writer ended"),
        }
        // Also when it failed: a full disk is in the log, and must not look like a service that hangs.
        simulator.written.send_replace(version);
        if stopping {
            return;
        }
    }
}
