//! What the admin port and the report tell about the running program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use proxy_config::ConfigDigest;
use tokio::sync::watch;

use super::report::Observation;
use crate::load::Loaded;
use crate::metrics::{InfoLabels, Metrics};

pub(super) struct State {
    pub(super) metrics: Arc<Metrics>,
    digest: watch::Sender<ConfigDigest>,
    /// What the engine observes of the directory.
    observing: watch::Sender<Observation>,
    is_draining: AtomicBool,
    /// The files on disk are not what runs.
    is_outdated: AtomicBool,
}

impl State {
    pub(super) fn new(metrics: Arc<Metrics>, loaded: &Loaded) -> Self {
        let state = Self {
            metrics,
            digest: watch::Sender::new(loaded.digest.clone()),
            observing: watch::Sender::default(),
            is_draining: AtomicBool::new(false),
            is_outdated: AtomicBool::new(false),
        };
        state.describe(loaded);
        state
    }

    /// Another configuration runs.
    pub(super) fn took_over(&self, loaded: &Loaded) {
        self.metrics.config_reloads.inc();
        self.describe(loaded);
        self.digest.send_replace(loaded.digest.clone());
    }

    /// The files cannot be taken over.
    pub(super) fn kept_old(&self) {
        self.metrics.config_reload_failures.inc();
        self.metrics.config_current.set(0);
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    fn describe(&self, loaded: &Loaded) {
        self.metrics.info.clear();
        let info = InfoLabels {
            version: env!("CARGO_PKG_VERSION"),
            provider: loaded.config.provider.name(),
        };
        self.metrics.info.get_or_create(&info).set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.config_loaded.set(now.as_secs_f64());
        self.metrics.config_current.set(1);
        self.is_outdated.store(false, Ordering::Relaxed);
    }

    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed)
    }

    pub(super) fn digest(&self) -> ConfigDigest {
        self.digest.borrow().clone()
    }

    pub(super) fn watch_digest(&self) -> watch::Receiver<ConfigDigest> {
        self.digest.subscribe()
    }

    pub(super) fn observing(&self) -> watch::Sender<Observation> {
        self.observing.clone()
    }
}
