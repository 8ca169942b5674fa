//! Places for so many at once, in the order of asking. What a login takes while Duo holds a question about it open is
//! six times what it takes while it waits, so that not all of them are asked about at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Who waits has a place after about so long, as far as [`SHORTEST`] allows it.
const WAIT: Duration = Duration::from_secs(3);
/// Nobody gives up a place sooner: a question that is taken back costs both sides another one.
const SHORTEST: Duration = Duration::from_millis(1_500);
/// How often whoever has a place looks whether others wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// All places.
pub(super) struct Turns {
    places: Semaphore,
    count: u32,
    waiting: AtomicUsize,
}

/// A place, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    since: Instant,
    _place: SemaphorePermit<'a>,
}

/// Somebody who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(super) const fn new(count: u16) -> Self {
        Self {
            places: Semaphore::const_new(count as usize),
            count: count as u32,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a place; `None` when there was none by `until`.
    pub(super) async fn take(&self, until: Instant) -> Option<Turn<'_>> {
        // None is free while somebody waits: each goes to the first who does.
        let place = if let Ok(place) = self.places.try_acquire() {
            place
        } else {
            let _waiting = Waiting::new(&self.waiting);
            let place = tokio::time::timeout_at(until.into(), self.places.acquire());
            place.await.ok()?.ok()?
        };
        Some(Turn {
            turns: self,
            since: Instant::now(),
            _place: place,
        })
    }
}

impl Turn<'_> {
    /// Waits until another should have the place.
    pub(super) async fn is_over(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let waiting = self.turns.waiting.load(Ordering::Relaxed);
            if is_over(self.since.elapsed(), self.turns.count, waiting) {
                return;
            }
        }
    }
}

/// The fewer wait, the longer a place is kept.
fn is_over(held: Duration, places: u32, waiting: usize) -> bool {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    waiting > 0 && held >= SHORTEST && held.saturating_mul(waiting) >= WAIT.saturating_mul(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_fewer_wait_the_longer_a_place_is_kept_and_never_for_nobody() {
        let seconds = Duration::from_secs;
        for (held, waiting, over) in [
            (600, 0, false),
            (2, 100, false),
            (3, 100, true),
            (29, 10, false),
            (30, 10, true),
            (1, 10_000, false),
            (2, 10_000, true),
        ] {
            assert_eq!(is_over(seconds(held), 100, waiting), over, "{held} s, {waiting}");
        }
    }

    #[tokio::test]
    async fn who_waits_has_the_place_of_the_first_who_gives_one_up() {
        let turns = Turns::new(1);
        let until = Instant::now() + MINUTE;
        let first = turns.take(until).await.unwrap();
        assert!(turns.take(Instant::now()).await.is_none());
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
        let (second, ()) = tokio::join!(turns.take(until), async {
            tokio::task::yield_now().await;
            assert_eq!(turns.waiting.load(Ordering::Relaxed), 1);
            drop(first);
        });
        assert!(second.is_some());
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
    }
}
