//! The alerts of the chart name metrics that the programs have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::generate::CHART;

/// A program: what all of its metrics begin with, where they are registered, and the prefix of a part of them.
const PROGRAMS: [(&str, &[&str], &str); 2] = [
    (
        "radius_mfa_operator_",
        &["operator/src/metrics.rs", "operator/src/metrics/of_proxy.rs"],
        "proxy_",
    ),
    ("radius_proxy_", &["proxy/src/metrics.rs"], ""),
];

/// Every metric in the alerts is registered; how many there are.
///
/// # Errors
/// With those that are not.
pub(super) fn verify(root: &Path) -> Result<usize> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let rules = read(&root.join(CHART).join("templates/prometheusrule.yaml"))?;
    let mut seen = 0;
    for (prefix, sources, part) in PROGRAMS {
        let mut source = String::new();
        for path in sources {
            source.push_str(&read(&root.join(path))?);
        }
        let names = names(&rules, prefix);
        let unknown: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !is_registered(name, &source, part))
            .collect();
        ensure!(
            unknown.is_empty(),
            "no metric {prefix} is registered for: {}",
            unknown.join(", ")
        );
        seen += names.len();
    }
    ensure!(seen > 0, "the alerts name no metric");
    Ok(seen)
}

/// What follows the prefix, in every name that has it.
fn names<'a>(rules: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter_map(|word| word.strip_prefix(prefix)).collect()
}

/// Whether the source has the name as a literal; the library adds `_total` to counters.
fn is_registered(name: &str, source: &str, part: &str) -> bool {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let name = name.strip_prefix(part).unwrap_or(name);
    source.contains(&format!("\"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_nobody_registers_is_seen() {
        let source = r#"registry.register("aws_writes", "…"); registry.register("leader", "…");"#;
        let rules =
            "sum(increase(x_proxy_aws_writes_total[1h])) > 6 and on (job) x_leader == 1 or x_proxy_lost == 0";
        let unknown: Vec<&str> = names(rules, "x_")
            .into_iter()
            .filter(|name| !is_registered(name, source, "proxy_"))
            .collect();
        assert_eq!(unknown, ["proxy_lost"]);
    }
}
