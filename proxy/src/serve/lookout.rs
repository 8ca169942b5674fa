//! Who waits at the sockets, and when that one must be woken because there is something to do sooner.

use std::time::Duration;

/// How a thread goes on after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once: there may be more.
    Again,
    /// When something comes, or after so long.
    Wait(Duration),
    /// It is over.
    End,
}

/// Times are of the caller's monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Until when somebody waits, if nothing comes.
    waits_until: Option<Duration>,
}

impl Lookout {
    /// Nobody waits any more.
    pub(super) fn came_back(&mut self) {
        self.waits_until = None;
    }

    /// How a thread goes on whose turn ends at `now`, when there is something to do at `until`; and whether the bell must
    /// be rung. It is said after each turn, since a turn may have silenced the ring of another.
    pub(super) fn after(
        &mut self,
        now: Duration,
        until: Duration,
        is_over: bool,
        may_wait: bool,
    ) -> (Next, bool) {
        if is_over {
            return (Next::End, true);
        }
        if may_wait {
            self.waits_until = Some(until);
            return (Next::Wait(until.saturating_sub(now)), false);
        }
        let sooner = self.waits_until.is_some_and(|waits_until| until < waits_until);
        (Next::Again, sooner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_waits_is_woken_for_a_deadline_that_it_does_not_know() {
        let mut lookout = Lookout::default();
        assert_eq!(
            lookout.after(at(10), at(15), false, true),
            (Next::Wait(at(5)), false)
        );
        assert_eq!(lookout.after(at(11), at(15), false, false), (Next::Again, false));
        assert_eq!(lookout.after(at(11), at(13), false, false), (Next::Again, true));
        // That ring may have been silenced by whoever ends this turn.
        assert_eq!(lookout.after(at(12), at(13), false, false), (Next::Again, true));
        lookout.came_back();
        assert_eq!(lookout.after(at(12), at(13), false, false), (Next::Again, false));
    }

    #[test]
    fn at_the_end_everybody_is_woken() {
        let mut lookout = Lookout::default();
        assert_eq!(lookout.after(at(10), at(15), true, true), (Next::End, true));
        assert_eq!(lookout.after(at(10), at(15), true, false), (Next::End, true));
    }

    #[test]
    fn what_is_due_already_is_not_waited_for() {
        let mut lookout = Lookout::default();
        assert_eq!(
            lookout.after(at(10), at(9), false, true),
            (Next::Wait(at(0)), false)
        );
    }
}
