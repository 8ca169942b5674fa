//! The metrics that Prometheus' client libraries give every process: CPU time, memory, file descriptors, start time
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;

use metrics_process::collector::collect;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads `/proc` at each scrape (proc(5)). A value that can't be read is left out.
#[derive(Debug)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let process = collect();
        show(
            &mut encoder,
            ("process_cpu", "User and system CPU time", Some(Unit::Seconds)),
            process.cpu_seconds_total.map(ConstCounter::new),
        )?;
        for (descriptor, value) in [
            (
                ("process_resident_memory", "Resident memory", Some(Unit::Bytes)),
                process.resident_memory_bytes,
            ),
            (
                (
                    "process_start_time",
                    "Start of the process, since 1970",
                    Some(Unit::Seconds),
                ),
                process.start_time_seconds,
            ),
            (
                ("process_open_fds", "Open file descriptors", None),
                process.open_fds,
            ),
            (
                (
                    "process_max_fds",
                    "Limit of open file descriptors, 0 without one",
                    None,
                ),
                process.max_fds,
            ),
        ] {
            let value = value.and_then(|value| i64::try_from(value).ok());
            show(&mut encoder, descriptor, value.map(ConstGauge::new))?;
        }
        Ok(())
    }
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<Unit>),
    metric: Option<impl EncodeMetric>,
) -> Result<(), fmt::Error> {
    let Some(metric) = metric else { return Ok(()) };
    let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?;
    metric.encode(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    #[test]
    fn every_scrape_has_the_process_under_the_standard_names() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = out
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing: {out}"))
                .parse()
                .unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > f64::from(1 << 20));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= 0.0);
    }
}
