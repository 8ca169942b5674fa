//! Duo's Auth API v2.

mod account;
mod admin;
mod counters;
mod endpoints;
mod failure;
mod service;
mod settings;
mod signature;
mod transaction;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};
use tracing::info;

pub use self::settings::*;
use self::{account::Account, counters::Counters, transaction::Transaction};
use crate::{
    admin::Journal,
    error::Error,
    fault::FaultBook,
    serve::{self, Running, until_told},
    tls::{self, TlsSource},
};

/// How a Duo simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the Auth API answers.
    pub listen: SocketAddr,
    /// Where the admin API answers.
    pub admin: SocketAddr,
    /// The integration and its users.
    pub config: Config,
    /// HTTPS, or not.
    pub tls: TlsSource,
}

/// Users of one simulator.
const USERS: usize = 200_000;
/// Transactions under way in one shard.
const TRANSACTIONS: usize = 20_000;
const SHARDS: usize = 16;

/// The simulator, shared by its listeners.
#[derive(Debug)]
struct Simulator {
    config: Config,
    settings: RwLock<Arc<Settings>>,
    accounts: Accounts,
    transactions: Transactions,
    faults: FaultBook,
    counters: Counters,
    journal: Mutex<Journal<Entry>>,
    connections: Arc<AtomicU64>,
}

/// A call that was read but not believed.
#[derive(Clone, Debug)]
struct Call {
    endpoint: &'static str,
    parameters: Vec<(String, String)>,
    query: Vec<(String, String)>,
    form: Vec<(String, String)>,
    body: Bytes,
    is_json: bool,
    user_agent: String,
    /// The application that it is of; empty until its signature is verified.
    ikey: String,
    signature: &'static str,
}

/// A preauth or auth call, as the journal keeps it.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    time: String,
    endpoint: &'static str,
    user: String,
    factor: String,
    device: String,
    #[serde(rename = "type")]
    kind: String,
    display_username: String,
    pushinfo: String,
    ipaddr: String,
    hostname: String,
    passcode_length: usize,
    passcode_is_digits: bool,
    txid: String,
    result: String,
    status: String,
    user_agent: String,
    ikey: String,
    signature: &'static str,
}

impl Simulator {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn journal<T>(&self, with: impl FnOnce(&mut Journal<Entry>) -> T) -> T {
        with(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Users by every name they have.
#[derive(Debug, Default)]
struct Accounts(RwLock<BTreeMap<String, Arc<Account>>>);

impl Accounts {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Account>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Account>> {
        self.read().get(&name.to_lowercase()).cloned()
    }

    /// An id is `DU` and the name.
    fn find_id(&self, id: &str) -> Option<Arc<Account>> {
        self.find(id.strip_prefix("DU")?)
    }

    fn put(&self, users: Vec<User>) -> Result<(), String> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + users.len() > USERS {
            return Err(format!("{USERS} users at most"));
        }
        for user in users {
            let name = user.name.to_lowercase();
            let old = known
                .get(&name)
                .map(|account| account.user.aliases.clone())
                .unwrap_or_default();
            for alias in old {
                known.remove(&alias.to_lowercase());
            }
            let account = Arc::new(Account::new(user));
            for alias in &account.user.aliases {
                known.insert(alias.to_lowercase(), Arc::clone(&account));
            }
            known.insert(name, account);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        let name = name.to_lowercase();
        known.retain(|_, account| account.user.name.to_lowercase() != name);
        known.len() < before
    }
}

/// What is under way, in shards so that thousands of logins a second do not wait for each other.
#[derive(Debug)]
struct Transactions {
    shards: [Mutex<HashMap<String, Arc<Transaction>>>; SHARDS],
    hasher: RandomState,
}

impl Transactions {
    fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, txid: &str) -> Option<std::sync::MutexGuard<'_, HashMap<String, Arc<Transaction>>>> {
        let place = self.hasher.hash_one(txid) % (SHARDS as u64);
        let shard = self.shards.get(usize::try_from(place).unwrap_or(0))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, txid: &str) -> Option<Arc<Transaction>> {
        self.shard(txid)?.get(txid).cloned()
    }

    fn add(&self, transaction: Arc<Transaction>) -> Result<(), ()> {
        let mut shard = self.shard(&transaction.txid).ok_or(())?;
        if shard.len() >= TRANSACTIONS {
            return Err(());
        }
        shard.insert(transaction.txid.clone(), transaction);
        Ok(())
    }

    fn forget_older_than(&self, age: Duration) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, transaction| transaction.began.elapsed() < age);
        }
    }

    /// Those that wait for a person.
    fn pending(&self) -> Vec<Arc<Transaction>> {
        let waiting = |transaction: &&Arc<Transaction>| !transaction.state().is_final();
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().filter(waiting).cloned());
        }
        all
    }
}

/// Starts a Duo simulator.
///
/// # Errors
/// When an address is taken or the certificate cannot be made.
pub async fn start(options: Options) -> Result<Running, Error> {
    let simulator = Arc::new(Simulator {
        settings: RwLock::new(Arc::new(options.config.settings.clone())),
        accounts: Accounts::default(),
        transactions: Transactions::new(),
        faults: FaultBook::default(),
        counters: Counters::default(),
        journal: Mutex::default(),
        connections: Arc::default(),
        config: options.config,
    });
    simulator
        .accounts
        .put(simulator.config.users.clone())
        .map_err(|what| Error::CheckConfig { what })?;
    let tls = tls::prepare(&options.tls)?;
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
    let router = admin::router(Arc::clone(&simulator), ca_pem.clone());
    tasks.spawn(serve::admin(admin_listener, router, stopped.clone()));
    tasks.spawn(forget(simulator, stopped));
    info!(%listen, %admin, "Duo simulator started");
    Ok(Running {
        listen,
        admin,
        ca_pem,
        stop,
        tasks,
    })
}

/// Forgets transactions that ran out.
async fn forget(simulator: Arc<Simulator>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = until_told(&mut stop) => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        simulator
            .transactions
            .forget_older_than(Duration::from_millis(simulator.settings().txid_ttl_ms));
    }
}
