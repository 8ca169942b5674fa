//! Conditions are awaited; nothing sleeps for a guess.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// A point in time that a condition must be met by.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// That long from now.
    #[must_use]
    pub fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it is over.
    #[must_use]
    pub fn passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Looks until `look` finds something, and says what it saw last when the time is over.
///
/// `look` answers `Ok(Ok(found))` or `Ok(Err(what it saw instead))`; an `Err` is taken for something that may pass, too.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let deadline = Deadline::within(within);
    loop {
        let seen = match look() {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if deadline.passed() {
            bail!("{what}: not within {} s; last seen: {seen}", within.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}
