//! docs/reference/api.md: every field of the API, from the schemas that the API server holds.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value;

use super::{NOTICE, crds::Definition};

/// Fields whose schema is one of Kubernetes' own types, which its documentation explains better.
const KUBERNETES_TYPES: [(&str, &str); 4] = [
    ("conditions", "list of Condition of Kubernetes"),
    ("imagePullSecrets", "list of LocalObjectReference of Kubernetes"),
    ("resources", "ResourceRequirements of Kubernetes"),
    ("tolerations", "list of Toleration of Kubernetes"),
];

/// The page.
pub(super) fn page(definitions: &[Definition]) -> Result<String> {
    let mut page = format!(
        "<!-- {NOTICE} operator/core/src/api -->\n# API reference: radius-mfa.dev/v1alpha1\n\nWhat `kubectl explain` shows, \
         on one page. A value outside of its bounds is refused by `kubectl apply` with a sentence that names them.\n"
    );
    for definition in definitions {
        let schema = definition.schema()?;
        let scope = if definition.namespaced {
            "namespaced"
        } else {
            "cluster-scoped"
        };
        let kind = &definition.kind;
        write!(
            page,
            "\n## {kind}\n\n{} ({scope}).\n",
            text(schema).trim_end_matches('.')
        )?;
        rules(&mut page, schema)?;
        for part in ["spec", "status"] {
            if let Some(schema) = property(schema, part) {
                object(&mut page, &format!("{kind}.{part}"), schema)?;
            }
        }
    }
    Ok(page)
}

/// One section: the fields of an object, then a section for each object among them.
fn object(page: &mut String, path: &str, schema: &Value) -> Result<()> {
    write!(
        page,
        "\n### {path}\n\n{}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n",
        text(schema)
    )?;
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let is_required = |name: &str| required.iter().any(|entry| entry == name);
    let (first, then): (Vec<_>, Vec<_>) = properties(schema).partition(|(name, _)| is_required(name));
    for (name, field) in first.into_iter().chain(then) {
        let default = if is_required(name) {
            "**required**".to_owned()
        } else {
            field.get("default").map(default_text).unwrap_or_default()
        };
        writeln!(
            page,
            "| `{name}` | {} | {default} | {} |",
            type_of(name, field),
            cell(text(field))
        )?;
    }
    rules(page, schema)?;
    for (name, field) in properties(schema) {
        if KUBERNETES_TYPES.iter().any(|(own, _)| own == name) {
            continue;
        }
        if properties(field).next().is_some() {
            object(page, &format!("{path}.{name}"), field)?;
        } else if let Some(item) = field
            .get("items")
            .filter(|item| properties(item).next().is_some())
        {
            object(page, &format!("{path}.{name}[]"), item)?;
        }
    }
    Ok(())
}

/// The rules across fields (CEL), as the refusals say them.
fn rules(page: &mut String, schema: &Value) -> Result<()> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let messages: Vec<String> = rules.into_iter().flatten().filter_map(message).collect();
    if !messages.is_empty() {
        page.push_str("\nRules:\n");
    }
    for message in messages {
        writeln!(page, "- {message}")?;
    }
    Ok(())
}

/// What a refusal says; of a message that is computed, the words between the values: `'a is ' + self + ', not b'`.
fn message(rule: &Value) -> Option<String> {
    let text = |name: &str| rule.get(name).and_then(Value::as_str);
    let computed = |expression: &str| {
        let pieces: Vec<&str> = expression.split('\'').collect();
        let words: Vec<&str> = pieces
            .iter()
            .skip(1)
            .step_by(2)
            .copied()
            .filter(|word| word.len() > 2)
            .collect();
        let open = pieces.last().is_some_and(|last| !last.is_empty());
        format!("{}{}", words.join("…"), if open { "…" } else { "" })
    };
    text("message")
        .map(str::to_owned)
        .or_else(|| text("messageExpression").map(computed))
}

fn type_of(name: &str, field: &Value) -> String {
    if let Some((_, own)) = KUBERNETES_TYPES.iter().find(|(own, _)| *own == name) {
        return (*own).to_owned();
    }
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", plain(value))).collect();
        return values.join(", ");
    }
    let kind = field.get("type").and_then(Value::as_str).unwrap_or("any");
    let bounds = match kind {
        "integer" => bounds(field, "minimum", "maximum", ""),
        "string" => bounds(field, "minLength", "maxLength", " characters"),
        "array" => bounds(field, "minItems", "maxItems", ""),
        _ => String::new(),
    };
    let pattern = field.get("pattern").and_then(Value::as_str);
    let pattern = pattern
        .map(|pattern| format!(", `{}`", pattern.replace('|', "\\|")))
        .unwrap_or_default();
    let kind = match (kind, field.get("items"), field.get("additionalProperties")) {
        ("array", Some(item), _) => {
            let bounds = bounds.trim_start_matches(", ");
            let bounds = if bounds.is_empty() {
                String::new()
            } else {
                format!(" ({bounds})")
            };
            return format!("list{bounds} of {}", type_of("", item));
        }
        ("object", _, Some(value)) => format!("map of string to {}", type_of("", value)),
        (kind, ..) => field
            .get("format")
            .and_then(Value::as_str)
            .filter(|f| *f == "date-time")
            .unwrap_or(kind)
            .into(),
    };
    format!("{kind}{bounds}{pattern}")
}

fn bounds(field: &Value, least: &str, most: &str, unit: &str) -> String {
    // A lower bound of nothing is no news.
    let least = field
        .get(least)
        .and_then(Value::as_f64)
        .filter(|least| *least != 0.0 || field.get(most).is_some());
    match (least, field.get(most).and_then(Value::as_f64)) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (Some(least), None) => format!(", {least} or more{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (None, None) => String::new(),
    }
}

/// The default of a field; that of an object is told field by field in its own section.
fn default_text(value: &Value) -> String {
    match value {
        Value::Object(_) => String::new(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        other => format!("`{}`", plain(other)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(schema: &Value) -> &str {
    schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn cell(text: &str) -> String {
    // A name in angle brackets would be taken for HTML where it is not code already.
    text.replace('\n', " ").replace('|', "\\|")
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_names_its_bounds_its_pattern_and_its_items() {
        let cases = [
            (
                json!({"type": "integer", "minimum": 1.0, "maximum": 16.0}),
                "integer, 1 to 16",
            ),
            (json!({"type": "integer", "minimum": 0.0}), "integer"),
            (
                json!({"type": "string", "maxLength": 64}),
                "string, at most 64 characters",
            ),
            (json!({"type": "string", "pattern": "^a|b$"}), "string, `^a\\|b$`"),
            (json!({"type": "string", "enum": ["a", "b"]}), "`a`, `b`"),
            (json!({"type": "string", "format": "date-time"}), "date-time"),
            (
                json!({"type": "array", "minItems": 1, "maxItems": 5, "items": {"type": "string", "minLength": 1}}),
                "list (1 to 5) of string, 1 or more characters",
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "map of string to string",
            ),
        ];
        for (schema, wanted) in cases {
            assert_eq!(type_of("x", &schema), wanted);
        }
    }

    #[test]
    fn every_field_of_the_schemas_is_on_the_page() {
        fn fields(schema: &Value, found: &mut Vec<String>) {
            for (name, field) in properties(schema) {
                found.push(name.clone());
                if !KUBERNETES_TYPES.iter().any(|(own, _)| own == name) {
                    fields(field, found);
                    fields(field.get("items").unwrap_or(&Value::Null), found);
                }
            }
        }
        let definitions = crate::generate::definitions().unwrap();
        let page = page(&definitions).unwrap();
        let mut names = Vec::new();
        for definition in &definitions {
            fields(
                property(definition.schema().unwrap(), "spec").unwrap(),
                &mut names,
            );
        }
        assert!(names.len() > 80, "{}", names.len());
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
