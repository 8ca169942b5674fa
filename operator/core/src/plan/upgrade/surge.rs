//! The phases of a surge.

use super::{Scene, Standing, halves};
use crate::api::{Surge, SurgePhase};

impl Scene<'_> {
    /// The surge after this round. One that has ended may be followed by the next at once.
    pub(super) fn advance(&self, before: Option<Surge>) -> Option<Surge> {
        let mut surge = before;
        for _ in 0..3 {
            let next = self.next(surge.clone());
            if next == surge {
                break;
            }
            surge = next;
        }
        surge
    }

    fn next(&self, surge: Option<Surge>) -> Option<Surge> {
        let Some(surge) = surge else {
            return self.needs_surge().then(|| Surge {
                phase: SurgePhase::Starting,
                replicas: self.n,
                in_place_refused: self.refused.then(|| self.revision.unwrap_or_default().to_owned()),
            });
        };
        let (lower, upper) = halves(surge.replicas);
        let to = |phase| {
            Some(Surge {
                phase,
                ..surge.clone()
            })
        };
        match surge.phase {
            // Taken back, or another image has come that can be changed in place.
            SurgePhase::Starting if self.needs_no_pods() => None,
            // Nothing of it is registered yet: it can still become more or fewer.
            SurgePhase::Starting => {
                let (_, upper) = halves(self.n);
                Some(Surge {
                    phase: if self.may_write && self.complete(&upper) {
                        SurgePhase::Moved
                    } else {
                        SurgePhase::Starting
                    },
                    replicas: self.n,
                    ..surge
                })
            }
            // AWS gets all of a half or nothing of it.
            SurgePhase::Moved if !self.lists(&upper) && !self.complete(&upper) => to(SurgePhase::Starting),
            SurgePhase::Moved if self.complete(&lower) => to(SurgePhase::Returning),
            SurgePhase::Returning if !self.lists(&lower) && !self.complete(&lower) => to(SurgePhase::Moved),
            SurgePhase::Returning if self.lists(&lower) && self.has_left(&upper) => None,
            SurgePhase::Moved | SurgePhase::Returning => Some(surge),
        }
    }

    fn needs_no_pods(&self) -> bool {
        self.pods(&(0..self.n)).count() >= self.n as usize && !self.any(&(0..self.n), Standing::Old)
    }

    fn needs_surge(&self) -> bool {
        self.may_write
            && self
                .with(&(0..self.n), Standing::Old)
                .any(|proxy| self.is_listed(proxy))
    }
}
