//! Calls to providers: how many, how long, and whether the credentials in force are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::watch;

use super::Buckets;
use crate::provider::fault::{FaultClass, Step};

const CALL_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// `provider`, `step`, `class`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The provider's name.
    pub provider: &'static str,
    /// The call.
    pub step: &'static str,
    /// `ok`, or the class of the failure.
    pub class: &'static str,
}

/// `provider`, `step`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// The provider's name.
    pub provider: &'static str,
    /// The call.
    pub step: &'static str,
}

/// Calls to providers, and whether the credentials in force are refused. Each provider that is built holds a clone.
#[derive(Clone)]
pub struct ProviderMetrics {
    pub(super) calls: Family<CallLabels, Counter>,
    pub(super) latency: Family<StepLabels, Histogram, Buckets>,
    refused: watch::Sender<bool>,
    /// How many configurations came before the one of this clone's credentials.
    generation: u64,
    /// The generation in force. It is read and written where `refused` is locked.
    in_force: Arc<AtomicU64>,
}

impl Default for ProviderMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            latency: Family::new_with_constructor(Buckets(&CALL_BUCKETS)),
            refused: watch::Sender::new(false),
            generation: 0,
            in_force: Arc::default(),
        }
    }
}

impl ProviderMetrics {
    /// Whether the provider refused the proxy's own credentials when they were last used.
    #[must_use]
    pub fn watch_refused(&self) -> watch::Receiver<bool> {
        self.refused.subscribe()
    }

    /// For providers of the configuration that may follow the one in force.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self {
            generation: self.in_force.load(Ordering::Relaxed).saturating_add(1),
            ..self.clone()
        }
    }

    /// The configuration of this clone is in force from now on. Nothing is known of its credentials, and what a provider
    /// of before still hears of its own, from a long poll for example, counts no more.
    pub fn put_in_force(&self) {
        self.refused.send_if_modified(|before| {
            self.in_force.store(self.generation, Ordering::Relaxed);
            std::mem::take(before)
        });
    }

    fn set_refused(&self, refused: bool) {
        self.refused.send_if_modified(|before| {
            self.generation >= self.in_force.load(Ordering::Relaxed)
                && std::mem::replace(before, refused) != refused
        });
    }

    /// A call has ended; `class` is `None` when it succeeded.
    pub fn called(&self, provider: &'static str, step: Step, class: Option<FaultClass>, took: Duration) {
        match (step, class) {
            // The store's credentials are not the provider's.
            (Step::Store, _) => {}
            (_, Some(FaultClass::Credentials)) => self.set_refused(true),
            // A call outside a login may need no credentials (the time), so it proves nothing.
            (Step::Preauth | Step::Auth | Step::Status, None) => self.set_refused(false),
            _ => {}
        }
        let class = class.map_or("ok", FaultClass::name);
        let step = step.name();
        self.calls
            .get_or_create(&CallLabels {
                provider,
                step,
                class,
            })
            .inc();
        self.latency
            .get_or_create(&StepLabels { provider, step })
            .observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replaced_provider_hears_of_its_credentials_says_nothing_of_the_new_ones() {
        let called = |metrics: &ProviderMetrics, class| {
            metrics.called("duo", Step::Status, class, Duration::ZERO);
        };
        let old = ProviderMetrics::default();
        let refused = old.watch_refused();
        called(&old, Some(FaultClass::Credentials));
        assert!(*refused.borrow());
        let new = old.successor();
        assert!(*refused.borrow(), "the old one is in force");
        new.put_in_force();
        assert!(!*refused.borrow(), "nothing is known of the new one");
        called(&old, Some(FaultClass::Credentials));
        assert!(!*refused.borrow(), "the end of a long poll of before");
        called(&new, Some(FaultClass::Credentials));
        called(&old, None);
        assert!(*refused.borrow());
    }

    #[test]
    fn a_configuration_that_is_not_taken_over_leaves_the_credentials_of_the_old_one_in_force() {
        let old = ProviderMetrics::default();
        let refused = old.watch_refused();
        drop(old.successor());
        old.called("duo", Step::Auth, Some(FaultClass::Credentials), Duration::ZERO);
        assert!(*refused.borrow());
        old.successor().put_in_force();
        assert!(!*refused.borrow());
    }
}
