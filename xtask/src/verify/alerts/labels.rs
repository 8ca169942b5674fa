//! The labels of metrics: those that an alert selects, groups and tells by, and those that the programs give them.

use std::collections::BTreeSet;

use super::{Program, registered_name};

/// Labels that alerts use and their metrics do not have, and values that no program names, in words.
pub(super) fn wrong(rules: &str, program: &Program, source: &str, code: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for alert in rules.split("- alert:").skip(1) {
        let title = alert.lines().next().unwrap_or_default().trim();
        // What its result has: of one metric all labels, of a sum those that it is grouped by.
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let mut grouped = None;
        for used in uses(alert, program.prefix) {
            let own = labels_of(registered_name(used.name, program.part), source);
            let all: BTreeSet<&str> = own.iter().chain(program.target).copied().collect();
            let mut check = |label: &str| {
                if !all.contains(label) {
                    wrong.push(format!(
                        "{title}: {}{} has no label {label}",
                        program.prefix, used.name
                    ));
                }
            };
            used.grouped.iter().for_each(|label| check(label));
            used.selected.iter().for_each(|(label, _)| check(label));
            for (label, value) in used.selected.iter().flat_map(|(label, values)| {
                let values = values.split('|');
                values.map(move |value| (label, value))
            }) {
                if !is_named(value, code) {
                    wrong.push(format!(
                        "{title}: {}{} never has {label}={value:?}",
                        program.prefix, used.name
                    ));
                }
            }
            if used.grouped.is_empty() {
                told.extend(all);
            } else {
                grouped.get_or_insert_with(BTreeSet::new).extend(used.grouped);
            }
        }
        let told = grouped.unwrap_or(told);
        // An alert about another program's metrics only is checked with that one.
        let missing = shown(alert).filter(|label| !told.is_empty() && !told.contains(label));
        wrong.extend(missing.map(|label| format!("{title}: its result has no label {label} to tell")));
    }
    wrong
}

/// A metric in an expression.
struct Use<'a> {
    /// Without the program's prefix.
    name: &'a str,
    /// Labels and the values that are compared with; those of a regular expression still have its `|` and `.*`.
    selected: Vec<(&'a str, &'a str)>,
    /// The labels of the nearest `by (…)` before it.
    grouped: Vec<&'a str>,
}

/// Every use of a program's metrics in an alert's expression.
fn uses<'a>(alert: &'a str, prefix: &str) -> Vec<Use<'a>> {
    let expression = alert.split_once("expr:").map_or("", |(_, after)| after);
    let end = ["\n          for:", "\n          labels:"]
        .iter()
        .filter_map(|next| expression.find(next))
        .min();
    let expression = expression
        .get(..end.unwrap_or(expression.len()))
        .unwrap_or_default();
    let mut uses = Vec::new();
    for (at, _) in expression.match_indices(prefix) {
        let (before, after) = expression.split_at(at);
        let after = after.get(prefix.len()..).unwrap_or_default();
        let length = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = after.split_at(length.unwrap_or(after.len()));
        let selector = rest
            .strip_prefix('{')
            .and_then(|rest| Some(rest.split_once('}')?.0));
        uses.push(Use {
            name,
            selected: selector.map(selected).unwrap_or_default(),
            grouped: grouped(before),
        });
    }
    uses
}

/// `a="b",c!="d",e=~"f|g"` as labels and values.
fn selected(selector: &str) -> Vec<(&str, &str)> {
    let mut parts = selector.split('"');
    let mut pairs = Vec::new();
    while let (Some(label), Some(value)) = (parts.next(), parts.next()) {
        let label = label.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        pairs.push((label, value));
    }
    pairs
}

/// The labels of the last `by (…)`, when the metric after it belongs to it: nothing but functions stands between.
fn grouped(before: &str) -> Vec<&str> {
    let Some((_, by)) = before.rsplit_once("by (") else {
        return Vec::new();
    };
    let Some((labels, between)) = by.split_once(')') else {
        return Vec::new();
    };
    let functions = between
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c == '(' || c.is_whitespace());
    if functions {
        labels.split(',').map(str::trim).collect()
    } else {
        Vec::new()
    }
}

/// The labels that an alert's texts show.
fn shown(alert: &str) -> impl Iterator<Item = &str> {
    alert.split("$labels.").skip(1).filter_map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        after.get(..end.unwrap_or(after.len()))
    })
}

/// The labels of a metric: the fields of the struct of the family that is registered under its name.
fn labels_of<'a>(name: &str, source: &'a str) -> Vec<&'a str> {
    let labels = || {
        let (_, registered) = source.split_once(&format!("\"{name}\""))?;
        let (_, field) = registered.split_once("self.")?;
        let (field, _) = field.split_once(".clone()")?;
        let field = field.rsplit('.').next()?;
        let (_, family) = source.split_once(&format!(" {field}: Family<"))?;
        let (kind, _) = family.split_once(',')?;
        let (_, body) = source.split_once(&format!("struct {kind} {{"))?;
        let (body, _) = body.split_once("\n}")?;
        let fields = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        Some(
            fields
                .filter_map(|line| line.split_once(':')?.0.rsplit(' ').next())
                .collect(),
        )
    };
    labels().unwrap_or_default()
}

/// Whether the code has a value as a literal, or, of `begin.*`, one that begins so.
fn is_named(value: &str, code: &str) -> bool {
    match value.strip_suffix(".*") {
        Some(begin) => code.contains(&format!("\"{begin}")),
        None => code.contains(&format!("\"{value}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        pub(crate) struct Metrics { leader: Gauge,
            writes: Family<WriteLabels, Counter>,
        }
        pub(crate) struct WriteLabels {
    /// Which.
    pub(crate) name: String,
    reason: &'static str,
}
        registry.register("leader", "…", self.leader.clone());
        registry.register("aws_writes", "…", self.writes.clone());
    "#;
    const CODE: &str = r#"Self::Drift => "drift", "kubernetes_conflict""#;
    const PROGRAM: Program = Program {
        prefix: "x_",
        sources: &[],
        part: "proxy_",
        folders: &[],
        target: &["job"],
    };

    fn found(expression: &str, summary: &str) -> Vec<String> {
        let rules = format!(
            "        - alert: A\n          expr: {expression}\n          for: 1m\n          summary: {summary}\n"
        );
        wrong(&rules, &PROGRAM, SOURCE, CODE)
    }

    #[test]
    fn labels_and_values_that_are_there_are_fine() {
        let expression = "sum by (name) (increase(x_proxy_aws_writes_total{reason=\"drift\"}[1h])) > 0";
        assert_eq!(found(expression, "{{ $labels.name }}"), Vec::<String>::new());
        let expression =
            "x_proxy_aws_writes_total{reason=~\"kubernetes_.*|drift\"} and on (job) x_leader == 1";
        assert_eq!(found(expression, "{{ $labels.reason }}"), Vec::<String>::new());
    }

    #[test]
    fn a_label_that_the_metric_lacks_is_named_wherever_it_is_used() {
        let lacks = ["A: x_proxy_aws_writes_total has no label namespace"];
        assert_eq!(
            found("x_proxy_aws_writes_total{namespace=\"drift\"} > 1", ""),
            lacks
        );
        assert_eq!(
            found("sum by (namespace) (rate(x_proxy_aws_writes_total[1h]))", ""),
            lacks
        );
        let untold = ["A: its result has no label reason to tell"];
        let expression = "sum by (name) (rate(x_proxy_aws_writes_total[1h]))";
        assert_eq!(found(expression, "{{ $labels.reason }}"), untold);
        assert_eq!(
            found("x_leader == 0", "{{ $labels.name }}"),
            ["A: its result has no label name to tell"]
        );
    }

    #[test]
    fn a_value_that_nothing_has_is_named() {
        let never = found("x_proxy_aws_writes_total{reason=\"drfit\"} > 1", "");
        assert_eq!(never, ["A: x_proxy_aws_writes_total never has reason=\"drfit\""]);
    }
}
