//! What every admin API has: errors as JSON, merging of settings, a bounded journal.

use std::collections::VecDeque;

use axum::{
    Json,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The last writes and calls that are kept.
const JOURNAL: usize = 10_000;

/// A refusal of the admin API.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    pub(crate) fn bad(what: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, what.into())
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, what.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// Result of an admin call.
pub(crate) type Answer = Result<Json<Value>, Refusal>;

/// `GET /healthz`.
pub(crate) async fn healthy() -> &'static str {
    "ok"
}

/// Whatever a client says of its body, it is JSON: `kubectl create --raw` says nothing, `replace --raw` something else.
pub(crate) async fn assume_json(mut request: Request) -> Request {
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// Reads a value, naming what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::bad(error.to_string()))
}

/// Lays `patch` over `current`, field by field (RFC 7396, but null is a value).
pub(crate) fn merge<T: Serialize + DeserializeOwned>(current: &T, patch: Value) -> Result<T, Refusal> {
    let mut merged = serde_json::to_value(current).map_err(|error| Refusal::bad(error.to_string()))?;
    lay_over(&mut merged, patch);
    read(merged)
}

fn lay_over(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                lay_over(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// Serialises for an answer; what cannot be serialised shows as null.
pub(crate) fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// The last entries, numbered from 1.
#[derive(Debug)]
pub(crate) struct Journal<E> {
    next: u64,
    entries: VecDeque<(u64, E)>,
}

impl<E> Default for Journal<E> {
    fn default() -> Self {
        Self {
            next: 1,
            entries: VecDeque::new(),
        }
    }
}

impl<E> Journal<E> {
    pub(crate) fn restore(entries: impl IntoIterator<Item = (u64, E)>) -> Self {
        let entries: VecDeque<_> = entries.into_iter().collect();
        Self {
            next: entries.back().map_or(1, |(seq, _)| seq + 1),
            entries,
        }
    }

    pub(crate) fn add(&mut self, entry: E) -> u64 {
        let seq = self.next;
        self.next += 1;
        if self.entries.len() == JOURNAL {
            self.entries.pop_front();
        }
        self.entries.push_back((seq, entry));
        seq
    }

    pub(crate) fn since(&self, seq: u64) -> impl DoubleEndedIterator<Item = (u64, &E)> {
        self.entries
            .iter()
            .filter(move |(number, _)| *number > seq)
            .map(|(number, entry)| (*number, entry))
    }

    /// Forgets the entries; numbers go on, so that `since` stays meaningful.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// An entry with its number, as the admin API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Numbered<'a, E> {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) entry: &'a E,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_changes_only_what_it_names() {
        let merged: Value = merge(&json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"b": {"d": 4}})).unwrap();
        assert_eq!(merged, json!({"a": 1, "b": {"c": 2, "d": 4}}));
    }

    #[test]
    fn the_journal_is_bounded_and_its_numbers_go_on() {
        let mut journal = Journal::default();
        for entry in 0..JOURNAL + 5 {
            journal.add(entry);
        }
        assert_eq!(journal.since(0).next().unwrap().0, 6);
        journal.clear();
        assert_eq!(journal.add(0), u64::try_from(JOURNAL + 6).unwrap());
    }
}
