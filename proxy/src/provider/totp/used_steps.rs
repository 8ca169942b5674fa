//! Which steps of one seed were used: one decision for the process's own memory and for what all proxies remember.

/// Steps before the last one of which it is known whether they were used. A clock that is off by the most that is
/// followed and accepted is 20 steps ahead; its owner's right clock is not further behind the last used step than
/// twice that.
pub(super) const KNOWN: u64 = 64;

/// The used steps of a seed.
///
/// A step is used once, and none before one that a right clock has used (RFC 6238 section 5.2). A clock that ran ahead
/// uses steps whose time is still to come: they bar nobody whose clock is put right from any other step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedSteps {
    /// The last step.
    pub last: u64,
    /// The last step that a right clock could show when it was used; 0 when there is none.
    pub right: u64,
    /// Which of the [`KNOWN`] steps before `last` were used: the lowest bit is the one just before it.
    pub before: u64,
}

impl UsedSteps {
    /// The first step of a seed. `ceiling` is the last step that a right clock can show now.
    #[must_use]
    pub const fn first(step: u64, ceiling: u64) -> Self {
        Self {
            last: step,
            right: if step <= ceiling { step } else { 0 },
            before: 0,
        }
    }

    /// Uses a step; `false` when it cannot be used.
    pub fn take(&mut self, step: u64, ceiling: u64) -> bool {
        let is_of_right_clock = step <= ceiling;
        let is_free = if is_of_right_clock {
            !self.was_used(step) && (step > self.right || self.last > ceiling)
        } else {
            step > self.last
        };
        if !is_free {
            return false;
        }
        if let Some(ahead @ 1..) = step.checked_sub(self.last) {
            self.before = shifted(self.before, ahead) | shifted(1, ahead - 1);
            self.last = step;
        } else {
            self.before |= shifted(1, (self.last - step).saturating_sub(1));
        }
        if is_of_right_clock {
            self.right = self.right.max(step);
        }
        true
    }

    /// Whether a step was used, or lies too far back to know.
    fn was_used(&self, step: u64) -> bool {
        match self.last.checked_sub(step) {
            None => false,
            Some(0) => true,
            Some(back) => back > KNOWN || self.before >> (back - 1) & 1 == 1,
        }
    }
}

fn shifted(bits: u64, by: u64) -> u64 {
    u32::try_from(by)
        .ok()
        .and_then(|by| bits.checked_shl(by))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_of_codes_uses_one_twice() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|codes| {
            let mut used: Option<UsedSteps> = None;
            let mut taken = std::collections::BTreeSet::new();
            let mut now = 1000_u64;
            for (later, step) in codes {
                now += u64::from(later % 8);
                let step = now - 20 + u64::from(step % 41);
                let free = match &mut used {
                    Some(used) => used.take(step, now + 1),
                    None => {
                        used = Some(UsedSteps::first(step, now + 1));
                        true
                    }
                };
                assert!(!free || taken.insert(step), "{step} twice");
            }
        });
    }

    #[test]
    fn a_right_clock_uses_no_step_before_one_that_it_has_used() {
        let mut used = UsedSteps::first(100, 101);
        assert!(!used.take(100, 101) && !used.take(99, 101));
        assert!(used.take(101, 101) && !used.take(100, 101));
    }

    #[test]
    fn what_lies_too_far_back_to_know_is_not_used() {
        let mut used = UsedSteps::first(1000, 900);
        assert!(!used.take(1000 - KNOWN - 1, 950));
        assert!(used.take(1000 - KNOWN, 950) && !used.take(1000 - KNOWN, 950));
        assert!(used.take(1000 + KNOWN + 1, 2000));
    }
}
