//! Okta's Factors API, and the OAuth token endpoint that goes with it.

mod admin;
mod factors;
mod failure;
mod oauth;
mod person;
mod push;
mod service;
mod settings;
mod totp;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
};

use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};
use tracing::info;

pub use self::settings::*;
use self::{oauth::Tokens, person::Person, push::Pushes};
use crate::{
    admin::Journal,
    error::Error,
    fault::FaultBook,
    serve::{self, Running},
    tls::{self, TlsSource},
};

/// How an Okta simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the organisation's API answers.
    pub listen: SocketAddr,
    /// Where the admin API answers.
    pub admin: SocketAddr,
    /// API clients and users.
    pub config: Config,
    /// HTTPS, or not.
    pub tls: TlsSource,
}

/// Users of one simulator.
const USERS: usize = 100_000;
/// Different names in a counter.
const NAMES: usize = 256;

/// The simulator, shared by its listeners.
#[derive(Debug)]
struct Simulator {
    config: Config,
    settings: RwLock<Arc<Settings>>,
    people: People,
    pushes: Pushes,
    tokens: Tokens,
    rate: Rate,
    faults: FaultBook,
    counters: Mutex<Counters>,
    journal: Mutex<Journal<Entry>>,
    connections: Arc<AtomicU64>,
    is_https: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Counters {
    calls: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
}

/// A verification, as the journal keeps it.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    time: String,
    endpoint: &'static str,
    user: String,
    factor: String,
    provider: String,
    result: String,
    user_agent: String,
}

impl Simulator {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn journal<T>(&self, with: impl FnOnce(&mut Journal<Entry>) -> T) -> T {
        with(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn counters(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, endpoint: &str, error: Option<&str>) {
        let mut counters = self.counters();
        *counters.calls.entry(endpoint.to_owned()).or_default() += 1;
        if let Some(error) = error {
            let full = counters.errors.len() >= NAMES && !counters.errors.contains_key(error);
            let name = if full { "other" } else { error };
            *counters.errors.entry(name.to_owned()).or_default() += 1;
        }
    }
}

/// Calls in the minute that runs.
#[derive(Debug, Default)]
struct Rate(Mutex<(i64, u64)>);

impl Rate {
    fn take(&self, limit: u64, now: i64) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.div_euclid(60);
        if window.0 != minute {
            *window = (minute, 0);
        }
        if limit > 0 && window.1 >= limit {
            return false;
        }
        window.1 += 1;
        true
    }

    /// What is left (`None` without a limit), and when the next minute begins.
    fn shown(&self, limit: u64, now: i64) -> (Option<u64>, i64) {
        let window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.div_euclid(60);
        let used = if window.0 == minute { window.1 } else { 0 };
        ((limit > 0).then(|| limit.saturating_sub(used)), (minute + 1) * 60)
    }
}

/// Users by id and login.
#[derive(Debug, Default)]
struct People(RwLock<BTreeMap<String, Arc<Person>>>);

impl People {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Person>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// By id, login, or the part of a login before its `@` where only one has it.
    fn find(&self, name: &str) -> Option<Arc<Person>> {
        let known = self.read();
        let lower = name.to_lowercase();
        let exact = known
            .get(&lower)
            .or_else(|| known.values().find(|person| person.user.id == name));
        let short = || {
            let start = format!("{lower}@");
            let mut found = known
                .range(start.clone()..)
                .take_while(|(login, _)| login.starts_with(&start));
            let first = found.next().map(|(_, person)| person);
            first.filter(|_| found.next().is_none())
        };
        exact.or_else(short).cloned()
    }

    fn put(&self, users: Vec<User>) -> Result<(), String> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + users.len() > USERS {
            return Err(format!("{USERS} users at most"));
        }
        for user in users {
            known.insert(user.login.to_lowercase(), Arc::new(Person::new(user)));
        }
        Ok(())
    }
}

/// Starts an Okta simulator.
///
/// # Errors
/// When an address is taken or the certificate cannot be made.
pub async fn start(options: Options) -> Result<Running, Error> {
    let tls = tls::prepare(&options.tls)?;
    let simulator = Arc::new(Simulator {
        settings: RwLock::new(Arc::new(options.config.settings.clone())),
        people: People::default(),
        pushes: Pushes::default(),
        tokens: Tokens::default(),
        rate: Rate::default(),
        faults: FaultBook::default(),
        counters: Mutex::default(),
        journal: Mutex::default(),
        connections: Arc::default(),
        is_https: tls.is_some(),
        config: options.config,
    });
    simulator
        .people
        .put(simulator.config.users.clone())
        .map_err(|what| Error::CheckConfig { what })?;
    let (listener, listen) = serve::bind(options.listen).await?;
    let (admin_listener, admin) = serve::bind(options.admin).await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let (faces, ca_pem) = tls.map(|tls| (Some(tls.faces), tls.ca_pem)).unwrap_or_default();
    let connections = Arc::clone(&simulator.connections);
    tasks.spawn(serve::vendor(
        listener,
        faces,
        Arc::clone(&simulator),
        connections,
        stopped.clone(),
    ));
    tasks.spawn(serve::admin(
        admin_listener,
        admin::router(simulator, ca_pem.clone()),
        stopped,
    ));
    info!(%listen, %admin, "Okta simulator started");
    Ok(Running {
        listen,
        admin,
        ca_pem,
        stop,
        tasks,
    })
}
