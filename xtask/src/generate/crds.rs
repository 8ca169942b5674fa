//! The CustomResourceDefinitions, as files for `kubectl apply -f crds/` and as templates of the chart.

use anyhow::{Context as _, Result, ensure};
use kube::CustomResourceExt as _;
use operator_core::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};
use serde_json::{Map, Value};

use super::NOTICE;

const SOURCE: &str = "operator/core/src/api";

/// The pattern of a quantity, which Kubernetes' own types leave to the server's code.
const QUANTITY: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// A CustomResourceDefinition.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Its kind.
    pub(crate) kind: String,
    /// Its plural, which names the file.
    pub(crate) plural: String,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
    /// The whole object.
    pub(crate) object: Value,
}

impl Definition {
    fn of(crd: impl serde::Serialize) -> Result<Self> {
        let mut object = serde_json::to_value(crd).context("a CustomResourceDefinition is not JSON")?;
        let word = |pointer: &str| -> Result<String> {
            let word = object.pointer(pointer).and_then(Value::as_str);
            word.map(str::to_owned)
                .with_context(|| format!("a CustomResourceDefinition has no {pointer}"))
        };
        let (kind, plural) = (word("/spec/names/kind")?, word("/spec/names/plural")?);
        let namespaced = word("/spec/scope")? == "Namespaced";
        let versions = object.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
        for version in versions.into_iter().flatten() {
            version.pointer_mut("/schema/openAPIV3Schema").map(mend);
        }
        Ok(Self {
            kind,
            plural,
            namespaced,
            object,
        })
    }

    /// The schema of the only version.
    pub(crate) fn schema(&self) -> Result<&Value> {
        let schema = self.object.pointer("/spec/versions/0/schema/openAPIV3Schema");
        schema.with_context(|| format!("{} has no schema", self.kind))
    }
}

/// The definitions of the project's kinds, in the order of the files.
///
/// # Errors
/// When one is not what a CustomResourceDefinition must be.
pub(crate) fn definitions() -> Result<[Definition; 3]> {
    Ok([
        Definition::of(DirectoryGrant::crd())?,
        Definition::of(DirectoryRegistration::crd())?,
        Definition::of(RadiusProxy::crd())?,
    ])
}

/// The file for `kubectl apply`.
pub(super) fn manifest(definition: &Definition) -> Result<String> {
    let mut object = definition.object.clone();
    tell_defaults(&mut object);
    Ok(format!("# {NOTICE} {SOURCE}\n{}", yaml(&object)?))
}

/// The chart's template: an ordinary one, so that `helm upgrade` brings new fields, and kept on uninstall unless
/// `crds.keep` is false, since with a definition go all objects of it.
pub(super) fn template(definition: &Definition) -> Result<String> {
    let mut object = definition.object.clone();
    tell_defaults(&mut object);
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let spec = object.get_mut("spec").map(Value::take).unwrap_or_default();
    let spec = yaml(&Map::from_iter([("spec".to_owned(), spec)]).into())?;
    // Helm would read it as a template.
    ensure!(
        !spec.contains("{{"),
        "a description of {name} has two opening braces"
    );
    Ok(format!(
        "{{{{- /* {NOTICE} {SOURCE} */ -}}}}
{{{{- if .Values.crds.enabled }}}}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {name}
  labels:
    {{{{- include \"radius-mfa-operator.labels\" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
{spec}{{{{- end }}}}
"
    ))
}

/// YAML with sorted keys: the same bytes whatever map the JSON library was built with.
///
/// # Errors
/// When the value cannot be written as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    serde_saphyr::to_string_with_options(&sorted(value), options).context("cannot write YAML")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let fields: std::collections::BTreeMap<_, _> =
                fields.iter().map(|(k, v)| (k, sorted(v))).collect();
            fields.into_iter().map(|(k, v)| (k.clone(), v)).collect()
        }
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        other => other.clone(),
    }
}

/// 50.0 is written 50.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    format!("{float:.0}")
        .parse()
        .ok()
        .filter(|_| float.fract() == 0.0)
}

/// What a schema made from Rust types says otherwise than the API server understands it.
fn mend(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(mend),
        Value::Object(fields) => {
            // Without it the API server takes a null for an absent field; with it a null would count as present in the
            // rules (`has(self.directory)`) and as absent in the operator.
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
            }
            // Formats that OpenAPI has not: the API server warns of them at each apply.
            if fields
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"))
            {
                let largest = fields
                    .get("maximum")
                    .and_then(Value::as_f64)
                    .unwrap_or(f64::INFINITY);
                let format = if largest <= f64::from(i32::MAX) {
                    "int32"
                } else {
                    "int64"
                };
                fields.insert("format".into(), format.into());
            }
            if fields
                .get("description")
                .and_then(Value::as_str)
                .is_some_and(|text| text.starts_with("Quantity is"))
            {
                fields.insert("description".into(), "A quantity, such as 64Mi or 100m.".into());
                fields.insert("pattern".into(), QUANTITY.into());
            }
            // Items of a list have no description of their own but Go's.
            if let Some(Value::String(description)) = fields.get_mut("description")
                && description.starts_with("Time is a wrapper")
            {
                *description = "A time (RFC 3339).".to_owned();
            }
            // `kubectl explain` wraps lines itself and keeps those it finds.
            if let Some(Value::String(description)) = fields.get_mut("description") {
                *description = unwrapped(description);
            }
            fields.values_mut().for_each(mend);
        }
        _ => {}
    }
}

/// Puts defaults into descriptions, since `kubectl explain` shows no others. That of an object is told field by field.
fn tell_defaults(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tell_defaults),
        Value::Object(fields) => {
            let default = fields.get("default").and_then(default_words);
            if let (Some(default), Some(Value::String(description))) =
                (default, fields.get_mut("description"))
            {
                description.push_str(&format!(" Default: {default}."));
            }
            fields.values_mut().for_each(tell_defaults);
        }
        _ => {}
    }
}

fn default_words(default: &Value) -> Option<String> {
    match default {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(default.to_string()),
        Value::Array(items) if !items.is_empty() => {
            let words: Option<Vec<String>> = items.iter().map(default_words).collect();
            Some(words?.join(", "))
        }
        _ => None,
    }
}

/// Joins the lines of each paragraph; lists keep theirs.
fn unwrapped(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let starts_item = line.trim_start().starts_with(['-', '*']);
        if line.is_empty() || starts_item || joined.is_empty() || joined.ends_with('\n') {
            if !joined.is_empty() {
                joined.push('\n');
            }
        } else {
            joined.push(' ');
        }
        joined.push_str(line);
    }
    joined
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_is_nowhere_a_value_and_no_format_is_unknown_to_the_api_server() {
        for definition in definitions().unwrap() {
            let text = definition.object.to_string();
            assert!(!text.contains("\"nullable\":true"), "{}", definition.kind);
            assert!(!text.contains("\"format\":\"uint"), "{}", definition.kind);
        }
    }

    #[test]
    fn the_format_of_a_whole_number_holds_its_largest_value() {
        let mut schema = json!({"properties": {
            "small": {"format": "uint32", "maximum": 16.0}, "open": {"format": "uint32"}, "kept": {"format": "date-time"}
        }});
        mend(&mut schema);
        assert_eq!(schema["properties"]["small"]["format"], "int32");
        assert_eq!(schema["properties"]["open"]["format"], "int64");
        assert_eq!(schema["properties"]["kept"]["format"], "date-time");
    }

    #[test]
    fn a_description_ends_with_the_default_since_explain_shows_no_other() {
        let mut schema = json!({"properties": {
            "mode": {"description": "A mode.", "default": "secure"},
            "list": {"description": "A list.", "default": ["push", "totp"]},
            "none": {"description": "Nothing.", "default": []},
            "whole": {"description": "An object.", "default": {"a": 1}},
            "default": {"description": "A field of that name.", "type": "string"},
        }});
        tell_defaults(&mut schema);
        let told = |name: &str| {
            schema["properties"][name]["description"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(told("mode"), "A mode. Default: secure.");
        assert_eq!(told("list"), "A list. Default: push, totp.");
        assert_eq!(told("none"), "Nothing.");
        assert_eq!(told("whole"), "An object.");
        assert_eq!(told("default"), "A field of that name.");
    }

    #[test]
    fn a_field_named_like_a_keyword_is_left_alone() {
        let mut schema =
            json!({"properties": {"format": {"type": "string"}, "nullable": {"type": "boolean"}}});
        let before = schema.clone();
        mend(&mut schema);
        assert_eq!(schema, before);
    }

    #[test]
    fn lines_of_a_paragraph_are_joined_and_paragraphs_kept() {
        assert_eq!(
            unwrapped("one\ntwo\n\nthree\n- a\n- b"),
            "one two\n\nthree\n- a\n- b"
        );
    }

    #[test]
    fn whole_numbers_are_written_without_a_point() {
        assert_eq!(yaml(&json!({"b": 50.0, "a": 0.5})).unwrap(), "a: 0.5\nb: 50\n");
    }
}
