//! The alerts of the chart name metrics that the programs have, by labels and values that those have.

mod labels;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::generate::CHART;

/// A program.
struct Program {
    /// What all of its metrics begin with.
    prefix: &'static str,
    /// Where they are registered.
    sources: &'static [&'static str],
    /// The prefix of a part of them.
    part: &'static str,
    /// Where the values of their labels are named.
    folders: &'static [&'static str],
    /// What Prometheus adds to each sample.
    target: &'static [&'static str],
}

const PROGRAMS: [Program; 2] = [
    Program {
        prefix: "radius_mfa_operator_",
        sources: &["operator/src/metrics.rs", "operator/src/metrics/of_proxy.rs"],
        part: "proxy_",
        folders: &["operator/src", "operator/core/src"],
        target: &["job", "instance"],
    },
    Program {
        prefix: "radius_proxy_",
        sources: &["proxy/src/metrics.rs", "proxy/src/metrics/provider.rs"],
        part: "",
        folders: &["proxy/src", "proxy/core/src"],
        target: &["job", "instance", "namespace", "pod"],
    },
];

/// Every metric in the alerts is registered and has the labels that they use, with the values; how many metrics there are.
///
/// # Errors
/// With those that are not.
pub(super) fn verify(root: &Path) -> Result<usize> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let rules = read(&root.join(CHART).join("templates/prometheusrule.yaml"))?;
    let mut seen = 0;
    for program in PROGRAMS {
        let mut source = String::new();
        for path in program.sources {
            source.push_str(&read(&root.join(path))?);
        }
        let names = names(&rules, program.prefix);
        let unknown: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !is_registered(name, &source, program.part))
            .collect();
        ensure!(
            unknown.is_empty(),
            "no metric {} is registered for: {}",
            program.prefix,
            unknown.join(", ")
        );
        let mut code = String::new();
        for folder in program.folders {
            append_sources(&root.join(folder), &mut code)?;
        }
        let wrong = labels::wrong(&rules, &program, &source, &code);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        seen += names.len();
    }
    ensure!(seen > 0, "the alerts name no metric");
    Ok(seen)
}

/// Appends every Rust file below a folder.
fn append_sources(folder: &Path, to: &mut String) -> Result<()> {
    let context = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            append_sources(&path, to)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            to.push_str(&fs::read_to_string(&path).with_context(context)?);
        }
    }
    Ok(())
}

/// What follows the prefix, in every name that has it.
fn names<'a>(rules: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter_map(|word| word.strip_prefix(prefix)).collect()
}

/// Whether the source has the name as a literal.
fn is_registered(name: &str, source: &str, part: &str) -> bool {
    source.contains(&format!("\"{}\"", registered_name(name, part)))
}

/// A metric's name as it is registered; the library adds `_total` to counters.
fn registered_name<'a>(name: &'a str, part: &str) -> &'a str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.strip_prefix(part).unwrap_or(name)
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
