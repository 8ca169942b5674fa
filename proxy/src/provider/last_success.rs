//! When a provider last answered. A provider that answers other calls isn't absent.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use proxy_config::FailMode;
use proxy_core::factor::Verdict;

use super::fault::{self, FaultClass, Step};
use super::warnings::Warnings;
use crate::locks::lock;

/// A provider that answered a call within this time counts as present, whatever happens to another call.
const PRESENT: Duration = Duration::from_secs(10);

/// When a call to a provider last succeeded.
#[derive(Debug, Default)]
pub(crate) struct LastSuccess(Mutex<Option<Instant>>);

impl LastSuccess {
    /// A call has succeeded.
    pub(crate) fn record(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    fn is_recent(&self) -> bool {
        lock(&self.0).is_some_and(|at| at.elapsed() < PRESENT)
    }

    /// [`fault::verdict`], except that a provider that has just answered another call never fails open. The log says so.
    pub(super) fn verdict(
        &self,
        warnings: &Warnings,
        provider: &'static str,
        step: Step,
        class: FaultClass,
        fail_mode: FailMode,
    ) -> Verdict {
        if !self.is_recent() {
            return fault::verdict(step, class, fail_mode);
        }
        if fail_mode == FailMode::Safe && fault::opens(step, class) {
            let what = "a first call failed while others succeed: failMode safe does not open for it";
            warnings.odd(provider, what);
        }
        fault::verdict(step, class, FailMode::Secure)
    }
}
