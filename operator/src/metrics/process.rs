//! What Prometheus' own client libraries say of the process, by their names: memory, processor time, start.

use std::fmt;
use std::fs::read_to_string;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The unit of times in `/proc/self/stat`: `USER_HZ`, which is 100 on every architecture that there are images for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc` at each scrape (proc(5)). What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = resident_bytes(&status) {
            show(
                &mut encoder,
                ("process_resident_memory", "Resident memory", Unit::Bytes),
                &ConstGauge::new(bytes),
            )?;
        }
        let Some(times) = times(&read_to_string("/proc/self/stat").unwrap_or_default()) else {
            return Ok(());
        };
        show(
            &mut encoder,
            (
                "process_cpu",
                "Processor time, of the program and of the system for it",
                Unit::Seconds,
            ),
            &ConstCounter::new(times.cpu),
        )?;
        let Some(boot) = boot_time(&read_to_string("/proc/stat").unwrap_or_default()) else {
            return Ok(());
        };
        show(
            &mut encoder,
            (
                "process_start_time",
                "When the process began, since 1970",
                Unit::Seconds,
            ),
            &ConstGauge::new(boot + times.start),
        )
    }
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&'static str, &str, Unit),
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, Some(&unit), metric.metric_type())?;
    metric.encode(encoder)
}

/// `VmRSS` of `/proc/self/status`, file-backed pages included.
fn resident_bytes(status: &str) -> Option<i64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = kib.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// In seconds.
#[derive(Debug, PartialEq)]
struct Times {
    cpu: f64,
    /// Since the machine booted.
    start: f64,
}

/// Fields 14 (`utime`), 15 (`stime`) and 22 (`starttime`) of `/proc/self/stat`. Field 2 is a name in parentheses that can
/// hold anything, parentheses and blanks too, so counting begins after its last one.
fn times(stat: &str) -> Option<Times> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let mut ticks = |skip: usize| fields.nth(skip)?.parse::<f64>().ok();
    let cpu = ticks(11)? + ticks(0)?;
    Some(Times {
        cpu: cpu / TICKS_PER_SECOND,
        start: ticks(6)? / TICKS_PER_SECOND,
    })
}

/// `btime` of `/proc/stat`, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read_by_their_fields() {
        assert_eq!(
            resident_bytes("VmPeak:\t  90 kB\nVmRSS:\t  1024 kB\n"),
            Some(1 << 20)
        );
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 9 0 12345 1000000 700 18446744073709551615";
        assert_eq!(
            times(stat),
            Some(Times {
                cpu: 4.0,
                start: 123.45
            })
        );
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1760000000\nprocesses 9\n"),
            Some(1.76e9)
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(resident_bytes(""), None);
        assert_eq!(times("7 (a) S 1"), None);
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
