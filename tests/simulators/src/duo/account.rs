//! A user and what happened to them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    settings::{Device, DeviceType, Status, User},
    transaction::{self, State},
};

/// SMS codes that are open for one user.
const CODES: usize = 100;
/// Codes in one text message.
const CODES_IN_A_MESSAGE: usize = 10;

/// What a user had.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) preauths: u64,
    pub(super) pushes: u64,
    pub(super) calls: u64,
    pub(super) sms: u64,
    pub(super) passcodes_ok: u64,
    pub(super) passcodes_wrong: u64,
    pub(super) approved: u64,
    pub(super) denied: u64,
    pub(super) timeouts: u64,
    /// Calls about them that were refused.
    pub(super) refused: u64,
}

#[derive(Debug, Default)]
struct Past {
    used: BTreeSet<String>,
    texted: VecDeque<String>,
    /// Pushes and calls of the last minute.
    recent: VecDeque<Instant>,
    wrong_in_a_row: u64,
    locked_out: bool,
    counts: Counts,
}

/// A user and what happened to them.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) user: User,
    pub(super) devices: Vec<Device>,
    past: Mutex<Past>,
}

impl Account {
    pub(super) fn new(user: User) -> Self {
        Self {
            devices: user.devices(),
            user,
            past: Mutex::default(),
        }
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count<T>(&self, count: impl FnOnce(&mut Counts) -> T) -> T {
        count(&mut self.past().counts)
    }

    pub(super) fn forget_counts(&self) {
        self.past().counts = Counts::default();
    }

    /// As given, unless wrong passcodes locked them out.
    pub(super) fn status(&self) -> Status {
        match self.past().locked_out {
            true => Status::LockedOut,
            false => self.user.status,
        }
    }

    /// Takes a place in the rate limit; false when there is none.
    pub(super) fn within_rate(&self, per_minute: usize) -> bool {
        if per_minute == 0 {
            return true;
        }
        let mut past = self.past();
        let now = Instant::now();
        while past
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(60))
        {
            past.recent.pop_front();
        }
        if past.recent.len() >= per_minute {
            return false;
        }
        past.recent.push_back(now);
        true
    }

    /// Texts new codes.
    pub(super) fn text_codes(&self) {
        let mut past = self.past();
        past.counts.sms += 1;
        for _ in 0..CODES_IN_A_MESSAGE {
            if past.texted.len() >= CODES {
                past.texted.pop_front();
            }
            past.texted
                .push_back(format!("{:07}", rand::rng().random_range(0..10_000_000_u32)));
        }
    }

    /// The codes that were texted and not used.
    pub(super) fn texted(&self) -> Vec<String> {
        self.past().texted.iter().cloned().collect()
    }

    /// The codes of the account that were not used.
    pub(super) fn unused(&self) -> Vec<String> {
        let past = self.past();
        self.user
            .passcodes
            .iter()
            .filter(|code| !past.used.contains(*code))
            .cloned()
            .collect()
    }

    /// Tries a passcode; `lockout` wrong ones in a row lock the account (0: never).
    pub(super) fn try_passcode(&self, code: &str, lockout: u64) -> State {
        let mut past = self.past();
        let state = if self.user.reusable_passcodes.iter().any(|known| known == code) {
            transaction::ALLOW
        } else if let Some(place) = past.texted.iter().position(|known| known == code) {
            past.texted.remove(place);
            transaction::ALLOW
        } else if !self.user.passcodes.iter().any(|known| known == code) {
            transaction::WRONG
        } else if past.used.insert(code.to_owned()) {
            transaction::ALLOW
        } else {
            transaction::USED
        };
        if state == transaction::ALLOW {
            past.counts.passcodes_ok += 1;
            past.wrong_in_a_row = 0;
            return state;
        }
        past.counts.passcodes_wrong += 1;
        past.wrong_in_a_row += 1;
        past.locked_out = past.locked_out || (lockout > 0 && past.wrong_in_a_row >= lockout);
        state
    }

    /// Counts the end of a push or call.
    pub(super) fn ended(&self, state: State) {
        self.count(|counts| match state.status {
            "timeout" => counts.timeouts += 1,
            _ if state.result == "allow" => counts.approved += 1,
            _ => counts.denied += 1,
        });
    }

    /// The device that is meant: an id, or the first that can do it.
    pub(super) fn device(&self, wanted: &str, capability: &str, without_push: bool) -> Option<&Device> {
        let can = |device: &&Device| {
            let push_is_hidden = without_push && capability == "push";
            device.kind == DeviceType::Phone
                && !push_is_hidden
                && device.capabilities.iter().any(|known| known == capability)
        };
        match wanted {
            "auto" => self.devices.iter().find(can),
            id => self.devices.iter().find(|device| device.id == id).filter(can),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passcode_works_once() {
        let account = Account::new(User {
            passcodes: vec!["123456".into()],
            ..User::default()
        });
        assert_eq!(account.try_passcode("123456", 0), transaction::ALLOW);
        assert_eq!(account.try_passcode("123456", 0), transaction::USED);
        assert_eq!(account.try_passcode("654321", 0), transaction::WRONG);
    }

    #[test]
    fn a_texted_code_works_once() {
        let account = Account::new(User::default());
        account.text_codes();
        let code = account.texted().pop().unwrap();
        assert_eq!(account.try_passcode(&code, 0), transaction::ALLOW);
        assert_eq!(account.try_passcode(&code, 0), transaction::WRONG);
    }

    #[test]
    fn wrong_passcodes_in_a_row_lock_out() {
        let account = Account::new(User::default());
        account.try_passcode("1", 2);
        assert_eq!(account.status(), Status::Active);
        account.try_passcode("2", 2);
        assert_eq!(account.status(), Status::LockedOut);
    }

    #[test]
    fn the_rate_is_bounded() {
        let account = Account::new(User::default());
        assert!(account.within_rate(1));
        assert!(!account.within_rate(1));
        assert!(account.within_rate(0));
    }
}
