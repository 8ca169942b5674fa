//! What was called how often.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use http::request::Parts;
use serde::Serialize;

/// Different names in one map; they come from closed sets, except error codes of fault rules.
const NAMES: usize = 256;

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    calls: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    signatures: BTreeMap<String, u64>,
    http: BTreeMap<String, u64>,
}

/// Counters of one simulator.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Counts>);

fn add(map: &mut BTreeMap<String, u64>, name: &str) {
    let full = map.len() >= NAMES;
    match map.get_mut(name) {
        Some(count) => *count += 1,
        None if full => {}
        None => drop(map.insert(name.to_owned(), 1)),
    }
}

impl Counters {
    fn with<T>(&self, with: impl FnOnce(&mut Counts) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn call(&self, endpoint: &str, parts: &Parts) {
        let version = match parts.version {
            http::Version::HTTP_2 => "HTTP/2.0",
            http::Version::HTTP_11 => "HTTP/1.1",
            _ => "HTTP/1.0",
        };
        self.with(|counts| {
            add(&mut counts.calls, endpoint);
            add(&mut counts.http, version);
        });
    }

    pub(super) fn error(&self, code: &str) {
        self.with(|counts| add(&mut counts.errors, code));
    }

    pub(super) fn signature(&self, kind: &str) {
        self.with(|counts| add(&mut counts.signatures, kind));
    }

    pub(super) fn shown(&self) -> serde_json::Value {
        self.with(|counts| crate::admin::shown(counts))
    }

    pub(super) fn clear(&self) {
        self.with(|counts| *counts = Counts::default());
    }
}
