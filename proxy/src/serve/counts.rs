//! The engine's counters and login records as metrics.

use std::collections::HashMap;
use std::sync::Arc;

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

    pub(super) fn login(&mut self, record: &LoginRecord) {
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
        self.metrics
            .login_duration
            .observe(record.provider, record.result.name(), record.duration);
        let count = self.logins.entry(labels).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn publish(&mut self, engine: &mut Engine) {
        engine.take_requests(|client, code, count| {
            let labels = RequestLabels {
                client: Arc::clone(client),
                code: code.name(),
            };
            self.metrics.requests.get_or_create(&labels).inc_by(count);
        });
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
