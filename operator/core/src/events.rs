//! A Kubernetes Event, as a plain value.

use crate::conditions::cut;

/// What `note` of an Event may hold.
const MAX_NOTE: usize = 1024;

/// An Event with a note of a length that the API server accepts.
pub(crate) fn event(warning: bool, reason: &'static str, action: &'static str, note: &str) -> Event {
    Event {
        warning,
        reason,
        action,
        note: cut(note, MAX_NOTE),
    }
}

/// A Kubernetes Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `type`: Warning or Normal.
    pub warning: bool,
    /// `reason`, CamelCase.
    pub reason: &'static str,
    /// `action`, CamelCase.
    pub action: &'static str,
    /// `note`, at most 1,024 bytes.
    pub note: String,
}
