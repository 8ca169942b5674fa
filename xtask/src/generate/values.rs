//! The chart's README: its values, each with what values.yaml says of it and what values.schema.json allows.
//!
//! A value that one of the two files has not is an error, so neither can fall behind.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::NOTICE;

/// Where the table goes in the template.
const PLACE: &str = "<!-- values -->\n";

/// A value that a user sets.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Its path, such as `image.tag`.
    path: Vec<String>,
    /// The comment above it.
    meaning: String,
}

/// The README of the chart in `folder`.
pub(super) fn readme(folder: &Path) -> Result<String> {
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read the chart's {name}"))
    };
    let (template, values, schema) = (
        read("README.md.in")?,
        read("values.yaml")?,
        read("values.schema.json")?,
    );
    let defaults: Value = serde_saphyr::from_str(&values).context("values.yaml is not YAML")?;
    let schema: Value = serde_json::from_str(&schema).context("values.schema.json is not JSON")?;
    let table = table(&entries(&values)?, &defaults, &schema)?;
    let Some((before, after)) = template.split_once(PLACE) else {
        bail!("README.md.in has no {PLACE}")
    };
    Ok(format!(
        "<!-- {NOTICE} README.md.in, values.yaml, values.schema.json -->\n{before}{table}{after}"
    ))
}

fn table(entries: &[Entry], defaults: &Value, schema: &Value) -> Result<String> {
    let mut table = "| Value | Type | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    let mut known = BTreeSet::new();
    for entry in entries {
        let name = entry.path.join(".");
        let default = entry.path.iter().try_fold(defaults, |value, key| value.get(key));
        let default = default.with_context(|| format!("values.yaml: {name} has no value"))?;
        let field = entry
            .path
            .iter()
            .try_fold(schema, |field, key| field.get("properties")?.get(key));
        let field = field.with_context(|| format!("values.schema.json does not know {name}"))?;
        let default = cell(&format!("`{default}`"));
        writeln!(
            table,
            "| `{name}` | {} | {default} | {} |",
            cell(&type_of(field)),
            cell(&entry.meaning)
        )?;
        known.insert(name);
    }
    let mut missing = Vec::new();
    undocumented(schema, &mut Vec::new(), &known, &mut missing);
    if !missing.is_empty() {
        bail!(
            "values.yaml does not show {}, which values.schema.json allows",
            missing.join(", ")
        );
    }
    Ok(table)
}

/// Properties of the schema that are no value of the table, nor above or below one.
fn undocumented<'a>(
    schema: &'a Value,
    path: &mut Vec<&'a str>,
    known: &BTreeSet<String>,
    missing: &mut Vec<String>,
) {
    for (name, field) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        path.push(name);
        let full = path.join(".");
        // Both are there when the chart is a dependency of another one: `global` is Helm's own, and `enabled` is what the
        // dependency's condition usually names.
        if !known.contains(&full) && !["global", "enabled"].contains(&full.as_str()) {
            if field.get("properties").is_some() {
                undocumented(field, path, known, missing);
            } else {
                missing.push(full);
            }
        }
        path.pop();
    }
}

/// The commented keys of values.yaml. Two spaces a level; a key with commented keys below it is a group.
fn entries(values: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut comment = String::new();
    let mut inside_value = None;
    for line in values.lines() {
        let trimmed = line.trim_start();
        let depth = (line.len() - trimmed.len()) / 2;
        // What is nested below a value that is explained as a whole, such as resources.
        if inside_value.is_some_and(|value| depth > value || (depth == value && trimmed.starts_with('-'))) {
            continue;
        }
        inside_value = None;
        if trimmed.is_empty() {
            comment.clear();
        } else if let Some(text) = trimmed.strip_prefix('#') {
            let separator = if comment.is_empty() { "" } else { " " };
            write!(comment, "{separator}{}", text.trim())?;
        } else {
            let key = trimmed.split_once(':').map(|(key, rest)| (key, rest.trim()));
            let (key, rest) = key.with_context(|| format!("values.yaml: not a key: {line}"))?;
            path.truncate(depth);
            path.push(key.to_owned());
            // A key alone on its line without a comment groups what follows.
            if comment.is_empty() && !rest.is_empty() {
                bail!("values.yaml: {} has no comment", path.join("."));
            }
            if !comment.is_empty() {
                inside_value = Some(depth);
                entries.push(Entry {
                    path: path.clone(),
                    meaning: std::mem::take(&mut comment),
                });
            }
        }
    }
    Ok(entries)
}

fn type_of(field: &Value) -> String {
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let kind = match field.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "any".to_owned(),
    };
    let bound = |name: &str| field.get(name).and_then(Value::as_i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
        (Some(least), None) => format!("{kind}, {least} or more"),
        _ => kind,
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALUES: &str = "\
# Of the file, not of a key.

# How many
# run.
replicas: 2
image:
  # Where it is.
  repository: a
# As Kubernetes has them.
resources:
  limits:
    memory: 64Mi
# A list.
names:
- b
";

    fn schema() -> Value {
        json!({"properties": {
            "replicas": {"type": "integer", "minimum": 1, "maximum": 5},
            "image": {"properties": {"repository": {"type": "string"}}},
            "resources": {"type": "object", "properties": {"limits": {}}},
            "names": {"type": "array"}
        }})
    }

    fn rendered(values: &str, schema: &Value) -> Result<String> {
        table(&entries(values)?, &serde_saphyr::from_str(values)?, schema)
    }

    #[test]
    fn a_row_has_the_type_of_the_schema_and_default_and_comment_of_the_values() {
        let table = rendered(VALUES, &schema()).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `replicas` | integer, 1 to 5 | `2` | How many run. |",
                "| `image.repository` | string | `\"a\"` | Where it is. |",
                "| `resources` | object | `{\"limits\":{\"memory\":\"64Mi\"}}` | As Kubernetes has them. |",
                "| `names` | array | `[\"b\"]` | A list. |",
            ]
        );
    }

    #[test]
    fn a_value_that_one_of_the_files_has_not_is_an_error() {
        let more = format!("{VALUES}# New.\nfresh: 1\n");
        let error = rendered(&more, &schema()).unwrap_err().to_string();
        assert_eq!(error, "values.schema.json does not know fresh");
        let mut wider = schema();
        wider["properties"]["image"]["properties"]["tag"] = json!({"type": "string"});
        let error = rendered(VALUES, &wider).unwrap_err().to_string();
        assert!(error.contains("image.tag"), "{error}");
    }

    #[test]
    fn a_value_without_a_comment_is_an_error() {
        let error = entries("a: 1\n").unwrap_err().to_string();
        assert_eq!(error, "values.yaml: a has no comment");
    }
}
