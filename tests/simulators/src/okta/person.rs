//! A user, their factors and what happened to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    failure::Failure,
    settings::{Factor, Settings, Status, User},
    totp,
};

/// What a user had.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) pushes: u64,
    pub(super) codes_sent: u64,
    pub(super) codes_ok: u64,
    pub(super) codes_wrong: u64,
    pub(super) cancelled: u64,
}

#[derive(Debug, Default)]
struct Past {
    used_steps: BTreeMap<String, i64>,
    used_codes: BTreeSet<(String, String)>,
    sent: BTreeMap<String, (String, Instant)>,
    wrong_in_a_row: u64,
    locked_out: bool,
    counts: Counts,
}

/// A user, their factors and what happened to them.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) user: User,
    past: Mutex<Past>,
}

fn made(prefix: &str, of: &str) -> String {
    let digest = hex::encode(Sha256::digest(of));
    format!("{prefix}{}", digest.get(..17).unwrap_or_default())
}

impl Person {
    pub(super) fn new(mut user: User) -> Self {
        if user.id.is_empty() {
            user.id = made("00u", &user.login.to_lowercase());
        }
        for (number, factor) in user.factors.iter_mut().enumerate() {
            if factor.id.is_empty() {
                factor.id = made(
                    "fac",
                    &format!("{}/{number}/{}/{}", user.id, factor.kind, factor.provider),
                );
            }
        }
        Self {
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

    pub(super) fn status(&self) -> Status {
        match self.past().locked_out {
            true => Status::LockedOut,
            false => self.user.status,
        }
    }

    pub(super) fn factor(&self, id: &str) -> Option<&Factor> {
        self.user.factors.iter().find(|factor| factor.id == id)
    }

    /// The code that was last sent to a factor.
    pub(super) fn sent(&self) -> BTreeMap<String, String> {
        self.past()
            .sent
            .iter()
            .map(|(factor, (code, _))| (factor.clone(), code.clone()))
            .collect()
    }

    /// Sends a code by text, call or mail.
    pub(super) fn send(&self, factor: &Factor, settings: &Settings) -> Result<(), Failure> {
        let mut past = self.past();
        let pause = Duration::from_millis(settings.sms_interval_ms);
        let recent = past
            .sent
            .get(&factor.id)
            .is_some_and(|(_, at)| at.elapsed() < pause);
        if recent && factor.kind == "sms" {
            return Err(Failure::api("E0000109"));
        }
        let code = format!("{:06}", rand::rng().random_range(0..1_000_000_u32));
        past.sent.insert(factor.id.clone(), (code, Instant::now()));
        past.counts.codes_sent += 1;
        Ok(())
    }

    /// Tries a code of any kind of factor.
    pub(super) fn try_code(
        &self,
        factor: &Factor,
        code: &str,
        settings: &Settings,
        now: i64,
    ) -> Result<(), Failure> {
        let mut past = self.past();
        let result = Self::judge(&mut past, factor, code, settings, now);
        match &result {
            Ok(()) => {
                past.counts.codes_ok += 1;
                past.wrong_in_a_row = 0;
            }
            Err(_) => {
                past.counts.codes_wrong += 1;
                past.wrong_in_a_row += 1;
                let limit = settings.lockout_failures;
                past.locked_out = past.locked_out || (limit > 0 && past.wrong_in_a_row >= limit);
            }
        }
        result
    }

    fn judge(
        past: &mut Past,
        factor: &Factor,
        code: &str,
        settings: &Settings,
        now: i64,
    ) -> Result<(), Failure> {
        let wrong = || {
            Failure::because(
                "E0000068",
                "Your token doesn't match our records. Please try again.",
            )
        };
        if let Some((sent, at)) = past.sent.get(&factor.id) {
            if sent != code {
                return Err(wrong());
            }
            let expired = at.elapsed() > Duration::from_millis(settings.code_ttl_ms);
            past.sent.remove(&factor.id);
            return if expired { Err(wrong()) } else { Ok(()) };
        }
        if factor.kind == "token:software:totp" && !factor.secret.is_empty() {
            let secret = totp::base32(factor.secret.expose()).unwrap_or_default();
            let step = totp::step_of(&secret, code, now).ok_or_else(wrong)?;
            if past.used_steps.get(&factor.id).is_some_and(|used| *used >= step) {
                return Err(Failure::api("E0000082"));
            }
            past.used_steps.insert(factor.id.clone(), step);
            return Ok(());
        }
        match factor.codes.iter().any(|known| known == code) {
            false => Err(wrong()),
            true if past.used_codes.insert((factor.id.clone(), code.to_owned())) => Ok(()),
            true => Err(Failure::api("E0000082")),
        }
    }
}
