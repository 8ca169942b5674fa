//! When a login sends which try, and when it ends.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Login, Successor};
use crate::directory::{Failover, ServerOrder};

impl Login<'_> {
    /// The servers of each try.
    pub(super) fn tries(&self) -> VecDeque<Vec<usize>> {
        let tries = usize::try_from(self.plan.retries)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
            .min(100);
        let client = &self.plan.client;
        match (client.server_order, client.failover, self.peers.len()) {
            (_, _, 0) => VecDeque::new(),
            (ServerOrder::AllAtOnce, _, servers) => (0..tries).map(|_| (0..servers).collect()).collect(),
            (_, Failover::PerAttempt, servers) => (0..tries).map(|attempt| vec![attempt % servers]).collect(),
            (_, Failover::AfterRetries, servers) => {
                (0..servers).flat_map(|peer| vec![vec![peer]; tries]).collect()
            }
        }
    }

    /// When the login ends in any case.
    pub(super) fn limit(&self) -> Option<Instant> {
        let client = &self.plan.client;
        let limit = client.patience_ms.max(client.budget_ms);
        (limit > 0).then(|| self.began + Duration::from_millis(limit))
    }

    pub(super) fn no_later(&self, at: Instant) -> Instant {
        self.limit().map_or(at, |limit| at.min(limit))
    }

    /// When the login ends, so many tries having been sent.
    pub(super) fn end(&self, sent: u32) -> Instant {
        match self.plan.client.patience_ms {
            0 => self.no_later(self.began + self.plan.timeout * sent),
            patience => self.began + Duration::from_millis(patience),
        }
    }

    pub(super) fn takeover(&self) -> Option<Instant> {
        match (self.plan.client.takeover_after_ms, &self.plan.successor) {
            (0, _) | (_, Successor::Nobody) => None,
            (after, _) => Some(self.began + Duration::from_millis(after)),
        }
    }
}
