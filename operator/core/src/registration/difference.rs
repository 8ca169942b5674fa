//! What AWS should have and doesn't have, apart from whether it is written now.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::decide::Context;
use super::{WriteReason, messages, same_but_servers};
use crate::api::ServerState;
use crate::observed::RadiusStatus;
use crate::time;

/// What AWS should have and doesn't have.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    pub(crate) reason: WriteReason,
    pub(crate) message: String,
    /// Earliest time of a write that can wait for the successor of a server without a pod.
    pub(crate) due: Option<Timestamp>,
}

impl Difference {
    pub(super) fn now(reason: WriteReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            due: None,
        }
    }
}

pub(super) fn difference(context: &Context<'_>) -> Option<Difference> {
    let record = context.record;
    let now = |reason, message: String| Some(Difference::now(reason, message));
    let Some(status) = context.directory.radius_status else {
        let reason = if record.drift.disabled {
            WriteReason::Drift
        } else {
            WriteReason::FirstRegistration
        };
        return now(reason, "RADIUS is off".to_owned());
    };
    if context.directory.has_forgotten_settings() {
        return now(WriteReason::Retry, "AWS no longer has settings".to_owned());
    }
    let have = context.directory.radius_settings.clone().unwrap_or_default();
    let Some(applied) = &record.applied else {
        return now(
            WriteReason::Adoption,
            "somebody else made the settings".to_owned(),
        );
    };
    if status == RadiusStatus::Failed {
        return now(WriteReason::Retry, "the last write ended in Failed".to_owned());
    }
    if record.drifted() {
        return now(WriteReason::Drift, messages::changes(record, context.directory));
    }
    if applied.secret_digest != context.secret.digest {
        if applied.holder_uid != context.desired.holder_uid {
            let message = format!(
                "RadiusProxy {} holds the directory now",
                messages::holder(context.spec)
            );
            return now(WriteReason::Handover, message);
        }
        return now(WriteReason::Secret, "the shared secret changed".to_owned());
    }
    if !same_but_servers(&have, &context.wanted) {
        return now(WriteReason::Settings, messages::settings(&have, &context.wanted));
    }
    servers_differ(context)
}

fn servers_differ(context: &Context<'_>) -> Option<Difference> {
    let servers = context.servers;
    let mut message = String::new();
    if !servers.missing.is_empty() {
        let _ = write!(message, "{} to be added", servers.missing.join(", "));
    }
    let gone: Vec<&str> = servers
        .gone
        .iter()
        .map(|(address, _)| address)
        .chain(&servers.leaving)
        .map(String::as_str)
        .collect();
    if !gone.is_empty() {
        let join = if message.is_empty() { "" } else { ", " };
        let _ = write!(message, "{join}{} to be removed", gone.join(", "));
    }
    if !(servers.missing.is_empty() && servers.leaving.is_empty()) {
        return Some(Difference::now(WriteReason::Servers, message));
    }
    // Nothing to add: a server that is gone waits for its successor, so that both are one write.
    let first = servers.gone.iter().map(|(_, since)| since).min()?;
    if !someone_serves(context) {
        return None;
    }
    let due = time::after(first, context.input.settings.removal_after);
    Some(Difference {
        reason: WriteReason::Servers,
        message,
        // A load balancer's address has no successor that could be seen: it may come back.
        due: (!servers.all_serve || context.by_load_balancer()).then_some(due),
    })
}

/// Whether a proxy serves the current configuration.
pub(super) fn someone_serves(context: &Context<'_>) -> bool {
    let by_pod = context.desired.address_source.is_per_pod();
    let serves = |state| state == ServerState::Serves;
    let by_address = || context.desired.servers.iter().any(|server| serves(server.state));
    context.desired.serving_replicas > 0 || (by_pod && by_address())
}
