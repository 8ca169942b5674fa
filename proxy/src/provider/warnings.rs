//! Failed calls in the log: what is new at once, what goes on once a minute. Metrics count each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::fault::{Fault, Step};
use crate::locks::lock;

/// Between two lines about the same failure.
const INTERVAL: Duration = Duration::from_secs(60);

/// Provider, step and kind of failure: a closed set, so that the map stays small.
type Kind = (&'static str, &'static str, &'static str);

/// Which failures were told, and when. It outlives a configuration.
#[derive(Debug, Default)]
pub struct Warnings {
    told: Mutex<BTreeMap<Kind, Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Warnings {
    /// A call of a login failed.
    pub fn failed(&self, provider: &'static str, step: Step, fault: &Fault) {
        let kind = (provider, step.name(), fault.class.name());
        if let Some(untold) = self.due(kind, Instant::now()) {
            tracing::warn!(
                provider,
                step = step.name(),
                class = fault.class.name(),
                detail = %fault.detail,
                untold,
                "a call failed"
            );
        }
    }

    /// Something else that an administrator should look at; `what` is a fixed text.
    pub fn odd(&self, provider: &'static str, what: &'static str) {
        if let Some(untold) = self.due((provider, "", what), Instant::now()) {
            tracing::warn!(provider, untold, "{what}");
        }
    }

    /// Whether it is told now, and how many were not since the last time.
    fn due(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut told = lock(&self.told);
        match told.get_mut(&kind) {
            Some(last) if now.saturating_duration_since(last.at) < INTERVAL => {
                last.untold = last.untold.saturating_add(1);
                None
            }
            last => {
                let untold = last.map_or(0, |last| last.untold);
                told.insert(kind, Told { at: now, untold: 0 });
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_when_it_begins_and_then_once_a_minute_with_how_many_there_were() {
        let (warnings, begin) = (Warnings::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let timeout = ("duo", "preauth", "timeout");
        assert_eq!(warnings.due(timeout, begin), Some(0));
        assert_eq!(warnings.due(timeout, after(1)), None);
        assert_eq!(warnings.due(timeout, after(59)), None);
        assert_eq!(warnings.due(("duo", "preauth", "tls"), after(59)), Some(0));
        assert_eq!(warnings.due(("duo", "auth", "timeout"), after(59)), Some(0));
        assert_eq!(warnings.due(timeout, after(60)), Some(2));
        assert_eq!(warnings.due(timeout, after(61)), None);
        assert_eq!(warnings.due(timeout, after(500)), Some(1));
    }
}
