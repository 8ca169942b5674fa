//! What the operator has used up by a moment, and what it used between two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::http;
use crate::process::{Server, Usage};
use crate::summary::mib;

/// The operator's own counter of its calls to the API server, in the client itself, watches included.
const KUBERNETES_CALLS: &str = "radius_mfa_operator_kubernetes_calls_total";
/// Pieces of work.
const RECONCILES: &str = "radius_mfa_operator_reconciles_total";

/// A moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    at: Instant,
    pub(crate) usage: Usage,
    /// Calls to the API server by method.
    kubernetes: BTreeMap<String, u64>,
    /// Calls to AWS by operation, as the simulated AWS counts them.
    aws: BTreeMap<String, u64>,
    reconciles: u64,
}

/// What was used between two moments.
#[derive(Debug, Clone)]
pub(crate) struct Spent {
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    pub(crate) kubernetes: BTreeMap<String, u64>,
    pub(crate) aws: BTreeMap<String, u64>,
    pub(crate) reconciles: u64,
}

impl Sample {
    /// Looks at /proc, at the operator's metrics and at the simulator's counters.
    pub(crate) fn take(operator: &Server, metrics: SocketAddr, aws: SocketAddr) -> Result<Self> {
        // Before the pages are asked for, which costs the operator something itself.
        let (at, usage) = (Instant::now(), operator.usage()?);
        let page = http::get(metrics, "/metrics")?;
        let counters: Value = serde_json::from_str(&http::get(aws, "/counters")?)?;
        let operations = counters
            .get("operations")
            .and_then(Value::as_object)
            .context("no operations")?;
        Ok(Self {
            at,
            usage,
            kubernetes: by_label(&page, KUBERNETES_CALLS, "method"),
            aws: operations
                .iter()
                .map(|(name, counts)| {
                    (
                        name.clone(),
                        counts.get("calls").and_then(Value::as_u64).unwrap_or(0),
                    )
                })
                .collect(),
            reconciles: by_label(&page, RECONCILES, "result").values().sum(),
        })
    }

    /// Since `before`.
    pub(crate) fn since(&self, before: &Self) -> Spent {
        Spent {
            took: self.at.duration_since(before.at),
            cpu: self.usage.cpu.saturating_sub(before.usage.cpu),
            kubernetes: difference(&self.kubernetes, &before.kubernetes),
            aws: difference(&self.aws, &before.aws),
            reconciles: self.reconciles.saturating_sub(before.reconciles),
        }
    }
}

impl Spent {
    /// Processors that were busy on average.
    pub(crate) fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64().max(1e-9)
    }

    /// Calls to the API server in a minute.
    pub(crate) fn kubernetes_per_minute(&self) -> f64 {
        self.per_minute(self.kubernetes.values().sum())
    }

    /// Calls to AWS in a minute.
    pub(crate) fn aws_per_minute(&self) -> f64 {
        self.per_minute(self.aws.values().sum())
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn per_minute(&self, count: u64) -> f64 {
        count as f64 * 60.0 / self.took.as_secs_f64().max(1e-9)
    }

    /// Prints a row.
    pub(crate) fn print(&self, name: &str, usage: Usage) {
        println!(
            "{name:<44} {:>6.1} s  {:>6.3} cores  {:>6.1} MiB (peak {:.1})  {} pieces of work",
            self.took.as_secs_f64(),
            self.cores(),
            mib(usage.resident),
            mib(usage.peak),
            self.reconciles
        );
        let list = |counts: &BTreeMap<String, u64>| {
            let words: Vec<String> = counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            words.join(", ")
        };
        println!(
            "{:<44} API server {:.0}/min ({})\n{:<44} AWS {:.0}/min ({})",
            "",
            self.kubernetes_per_minute(),
            list(&self.kubernetes),
            "",
            self.aws_per_minute(),
            list(&self.aws)
        );
    }
}

fn difference(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let before = |name: &String| before.get(name).copied().unwrap_or(0);
    after
        .iter()
        .map(|(name, count)| (name.clone(), count.saturating_sub(before(name))))
        .collect()
}

/// The samples of one counter, summed by the value of one label.
fn by_label(page: &str, counter: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in page.lines() {
        let Some((labels, value)) = line
            .strip_prefix(counter)
            .and_then(|rest| rest.strip_prefix('{')?.split_once("} "))
        else {
            continue;
        };
        let value_of = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            (name == label).then(|| value.trim_matches('"').to_owned())
        };
        if let Some(name) = labels.split(',').find_map(value_of) {
            *sums.entry(name).or_default() += value.trim().parse::<u64>().unwrap_or(0);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_by_one_of_its_labels() {
        let page = "# TYPE calls counter\ncalls_total{method=\"GET\",code=\"2xx\"} 3\ncalls_total{method=\"GET\",code=\"4xx\"} 2\n\
                    calls_total{method=\"PATCH\",code=\"2xx\"} 1\nothers_total{method=\"GET\"} 9\n";
        let sums = by_label(page, "calls_total", "method");
        assert_eq!(sums, [("GET".to_owned(), 5), ("PATCH".to_owned(), 1)].into());
    }

    #[test]
    fn what_was_not_counted_before_counts_from_nothing() {
        let before = [("a".to_owned(), 2)].into();
        let after = [("a".to_owned(), 5), ("b".to_owned(), 1)].into();
        assert_eq!(
            difference(&after, &before),
            [("a".to_owned(), 3), ("b".to_owned(), 1)].into()
        );
    }
}
