//! The table and `summary.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::load::Outcome;
use crate::process::Usage;

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) resident_mib: f64,
    /// How busy the generator's thread was: at 100 the generator is the limit, not who answers.
    pub(crate) generator_percent: f64,
    pub(crate) note: String,
}

impl Row {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn new(name: &str, outcome: &mut Outcome, before: Usage, after: Usage) -> Self {
        let answers = outcome.answers().max(1) as f64;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Self {
            name: name.to_owned(),
            per_second: outcome.per_second(),
            p50_ms: outcome.quantile_ms(500),
            p99_ms: outcome.quantile_ms(990),
            cpu_us: cpu * 1e6 / answers,
            resident_mib: mib(after.resident),
            generator_percent: 100.0 * outcome.own.as_secs_f64() / outcome.took.as_secs_f64().max(1e-9),
            note: format!(
                "{} accepts, {} rejects, {} wrong, {} sent again",
                outcome.accepts, outcome.rejects, outcome.wrong, outcome.retransmissions
            ),
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<44} {:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>6.1} µs CPU  {:>7.1} MiB  generator {:>3.0} %   {}",
            self.name,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.cpu_us,
            self.resident_mib,
            self.generator_percent,
            self.note
        );
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Adds numbers to the file, keeping those that other benches wrote.
pub(crate) fn write(path: &Path, numbers: &BTreeMap<String, f64>) -> Result<()> {
    let mut all: BTreeMap<String, f64> = fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    all.extend(numbers.iter().map(|(name, value)| (name.clone(), *value)));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    println!("\n{}:\n{}", path.display(), serde_json::to_string_pretty(&all)?);
    Ok(())
}
