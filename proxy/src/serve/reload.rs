//! Live reload: what is on disk is looked at every second, checked as a whole, and taken over as a whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use proxy_config::{ConfigDigest, Peers, Provider as Kind, RecordSink};
use tokio::sync::watch;

use super::mailbox::{Mailbox, Message};
use super::state::State;
use super::{complain, running};
use crate::error::Error;
use crate::load::{Fingerprint, Loaded, Source};
use crate::provider::{self, Shared};

/// The kubelet exchanges mounted files as a whole; a second later they run.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Reloader {
    source: Source,
    fingerprint: Fingerprint,
    shared: Shared,
    mailbox: Arc<Mailbox>,
    state: Arc<State>,
    /// The other proxies, as the configuration of now says.
    group: watch::Sender<Option<Peers>>,
    /// What runs.
    loaded: Loaded,
}

impl Reloader {
    pub(super) fn new(
        source: Source,
        fingerprint: Fingerprint,
        shared: Shared,
        mailbox: Arc<Mailbox>,
        state: Arc<State>,
        group: watch::Sender<Option<Peers>>,
        loaded: Loaded,
    ) -> Self {
        Self {
            source,
            fingerprint,
            shared,
            mailbox,
            state,
            group,
            loaded,
        }
    }

    /// Where records go.
    pub(super) fn records(&self) -> &RecordSink {
        &self.loaded.records
    }

    /// Uses the provider's credentials once, in the background and without a login, so that refused ones are reported
    /// before somebody stands at the door.
    pub(super) fn rehearse(&self) {
        if !matches!(self.loaded.config.provider, Kind::Duo(_) | Kind::Okta(_)) {
            return;
        }
        // It was built a moment ago from the same; the connections are shared.
        if let Ok(provider) = provider::build(&self.loaded.config, &self.shared) {
            tokio::spawn(async move { provider.rehearse().await });
        }
    }

    /// The configuration that runs.
    pub(super) fn digest(&self) -> &ConfigDigest {
        &self.loaded.digest
    }

    /// Whether a file looks different than when it was last read.
    pub(super) fn has_changed(&self) -> bool {
        self.state
            .metrics
            .used_codes
            .set(i64::try_from(self.shared.used_codes.len()).unwrap_or(i64::MAX));
        self.source.fingerprint() != self.fingerprint
    }

    /// Reads and checks everything again, away from the runtime's threads, since a million seeds take a while.
    pub(super) async fn reload(self) -> Self {
        let state = Arc::clone(&self.state);
        match tokio::task::spawn_blocking(move || self.reload_now()).await {
            Ok(reloader) => reloader,
            // Only a panic ends a blocking task; it has been printed, and without its owner nothing can be reloaded
            // any more: the next start does better. The shipped program has ended by then, since it aborts on a panic;
            // this is for the one that tests run.
            Err(_) => {
                state.kept_old();
                crate::logging::finish();
                std::process::exit(1);
            }
        }
    }

    fn reload_now(mut self) -> Self {
        // Before reading: a change while it reads is seen as one afterwards.
        self.source.learn_names();
        self.fingerprint = self.source.fingerprint();
        let result = self.take_over();
        if let Err(error) = result {
            tracing::error!("the configuration on disk is not taken over, the old one runs on: {error}");
            self.state.kept_old();
        }
        self
    }

    fn take_over(&mut self) -> Result<(), Error> {
        let loaded = self.source.load()?;
        if loaded.digest == self.loaded.digest && !self.state.is_outdated() {
            // Where the others are is not in the digest: they come and go without another configuration.
            self.tell_group(&loaded);
            return Ok(());
        }
        // Whoever is told that this configuration runs sends requests to where it listens.
        if loaded.config.listen != self.loaded.config.listen
            || loaded.config.admin != self.loaded.config.admin
            || loaded.config.health != self.loaded.config.health
        {
            return Err(Error::ListenElsewhere);
        }
        self.shared.metrics = self.shared.metrics.successor();
        let provider = provider::build(&loaded.config, &self.shared)?;
        self.shared.metrics.put_in_force();
        complain(provider.as_ref());
        let bound = |loaded: &Loaded| loaded.config.peers.as_ref().map(|peers| peers.listen);
        if bound(&loaded) != bound(&self.loaded) {
            tracing::warn!("server.peers.listen is taken over at the next start");
        }
        self.tell_group(&loaded);
        self.mailbox
            .put(Message::Reconfigure(Box::new(running(&loaded, provider))));
        tracing::info!(config_digest = %loaded.digest, "another configuration runs");
        self.state.took_over(&loaded);
        self.loaded = loaded;
        Ok(())
    }

    fn tell_group(&self, loaded: &Loaded) {
        self.group.send_if_modified(|peers| {
            let changed = *peers != loaded.config.peers;
            peers.clone_from(&loaded.config.peers);
            changed
        });
    }
}
