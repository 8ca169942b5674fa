//! The engine's counters and login records as metrics.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::metrics::histogram::Histogram;
use proxy_core::Engine;
use proxy_core::counters::{Counters, DropReason, Event, RequestCode};
use proxy_core::record::{LoginRecord, Reason};

use crate::metrics::{EventLabel, LoginLabels, Metrics, ReasonLabel, RequestLabels};

/// What was counted since it was last published. Labels are looked up once for many logins.
pub(super) struct Counts {
    metrics: Arc<Metrics>,
    published: Counters,
    clients: Vec<Arc<str>>,
    logins: HashMap<LoginLabels, u64>,
    /// The labels of the last login. Most are like the one before, and take no look-up at all.
    last: Option<Last>,
}

struct Last {
    labels: LoginLabels,
    count: u64,
    durations: Histogram,
}

impl Counts {
    /// Every reason and event is there from the start, as 0: an alert on a rate needs the point before the first.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        for reason in DropReason::ALL {
            let _ = metrics.drops.get_or_create(&ReasonLabel {
                reason: reason.name(),
            });
        }
        for event in Event::ALL {
            let _ = metrics.events.get_or_create(&EventLabel { event: event.name() });
        }
        Self {
            metrics,
            published: Counters::default(),
            clients: Vec::new(),
            logins: HashMap::new(),
            last: None,
        }
    }

    /// These are the clients from now on. The series of others end.
    pub(super) fn clients(&mut self, names: &[Arc<str>]) {
        let requests = &self.metrics.requests;
        for gone in self.clients.iter().filter(|name| !names.contains(name)) {
            for labels in request_labels(gone) {
                requests.remove(&labels);
            }
        }
        for labels in names.iter().flat_map(request_labels) {
            let _ = requests.get_or_create(&labels);
        }
        self.clients = names.to_vec();
    }

    /// A probe is no login: only its event counts it, so that no alert on logins that were refused does.
    pub(super) fn login(&mut self, record: &LoginRecord) {
        if record.reason == Some(Reason::Probe) {
            return;
        }
        let labels = LoginLabels {
            client: Arc::clone(&record.client),
            provider: record.provider,
            factor: record.factor.name(),
            result: record.result.name(),
            reason: match (record.reason, record.basis) {
                (Some(reason), _) => Reason::name(reason),
                (None, Some(basis)) => basis.name(),
                (None, None) => "",
            },
        };
        if self.last.as_ref().is_none_or(|last| last.labels != labels) {
            self.leave_last();
            let durations = self.metrics.login_duration.of(labels.provider, labels.result);
            self.last = Some(Last {
                labels,
                count: 0,
                durations,
            });
        }
        if let Some(last) = &mut self.last {
            last.count = last.count.saturating_add(1);
            last.durations.observe(record.duration.as_secs_f64());
        }
    }

    fn leave_last(&mut self) {
        if let Some(last) = self.last.take() {
            let count = self.logins.entry(last.labels).or_default();
            *count = count.saturating_add(last.count);
        }
    }

    pub(super) fn publish(&mut self, engine: &mut Engine) {
        engine.take_requests(|client, code, count| {
            let labels = RequestLabels {
                client: Arc::clone(client),
                code: code.name(),
            };
            self.metrics.requests.get_or_create(&labels).inc_by(count);
        });
        self.leave_last();
        let counters = engine.counters();
        for (labels, count) in self.logins.drain() {
            self.metrics.logins.get_or_create(&labels).inc_by(count);
        }
        for reason in DropReason::ALL {
            let more = counters
                .drops(*reason)
                .saturating_sub(self.published.drops(*reason));
            if more > 0 {
                let label = ReasonLabel {
                    reason: reason.name(),
                };
                self.metrics.drops.get_or_create(&label).inc_by(more);
            }
        }
        for event in Event::ALL {
            let more = counters
                .events(*event)
                .saturating_sub(self.published.events(*event));
            if more > 0 {
                let label = EventLabel { event: event.name() };
                self.metrics.events.get_or_create(&label).inc_by(more);
            }
        }
        self.published.clone_from(counters);
    }
}

fn request_labels(client: &Arc<str>) -> impl Iterator<Item = RequestLabels> {
    RequestCode::ALL.iter().map(|code| RequestLabels {
        client: Arc::clone(client),
        code: code.name(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proxy_core::factor::{Factor, RefusalReason};
    use proxy_core::record::{CredentialKind, LoginResult, Method};

    use super::*;

    fn record(reason: Reason) -> LoginRecord {
        LoginRecord {
            time: Duration::ZERO,
            user: "fakeusername".to_owned(),
            client: "directory".into(),
            source: "10.0.0.7:40000".parse().unwrap(),
            user_address: None,
            method: Method::Pap,
            credential: CredentialKind::None,
            factor: Factor::None,
            provider: "duo",
            result: LoginResult::Reject,
            reason: Some(reason),
            basis: None,
            duration: Duration::ZERO,
            message_authenticator: true,
            packets: 1,
            followed: false,
        }
    }

    #[test]
    fn a_probe_is_not_among_the_logins_that_were_refused() {
        let mut counts = Counts::new(Arc::default());
        counts.login(&record(Reason::Probe));
        counts.leave_last();
        assert!(counts.logins.is_empty());
        counts.login(&record(Reason::Refused(RefusalReason::UnknownUser)));
        counts.leave_last();
        assert_eq!(counts.logins.values().sum::<u64>(), 1);
    }
}
