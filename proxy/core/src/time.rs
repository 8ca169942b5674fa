//! Time as a parameter: the engine has no clock.

use std::time::Duration;

/// The present, as the caller's clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since some fixed point, never going back. Deadlines and limits are counted in it.
    pub monotonic: Duration,
    /// Time since 1970-01-01T00:00:00Z. Only records show it.
    pub unix: Duration,
}
