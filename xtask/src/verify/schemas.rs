//! JSON schemas for kubeconform, which has none of its own and would else ask the network: Kubernetes' from the
//! sources that the local cluster is built from, the Prometheus operator's from its module, the project's from its types.
//!
//! All of them are strict: a field that the API server would drop or refuse is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use local_cluster::Console;
use local_cluster::tools::{self, Tool, cache_folder, kubernetes_version};
use serde_json::{Map, Value, json};

use super::output;
use crate::generate::definitions;

/// The module with the CustomResourceDefinitions of ServiceMonitor and PrometheusRule, and the checksum of its content
/// as go.sum would have it.
const PROMETHEUS_OPERATOR: (&str, &str, &str) = (
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
);

/// Changed with the conversion below, so that what an older one cached is not used.
const CONVERSION: u32 = 1;

/// Checks manifests against all schemas; the number of objects.
///
/// # Errors
/// With what kubeconform refused, or when the schemas cannot be made.
pub(super) fn conform(manifests: &str, schemas: &Path) -> Result<usize> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let file = folder.path().join("manifests.yaml");
    fs::write(&file, manifests).with_context(|| format!("cannot write {}", file.display()))?;
    let own = folder.path().join("schemas");
    write_own(&own)?;
    let mut kubeconform = Command::new(Tool::Kubeconform.path());
    kubeconform.args(["-strict", "-output", "json", "-summary"]);
    for location in [schemas, &own] {
        let location = location.join("{{.ResourceKind}}{{.KindSuffix}}.json");
        kubeconform.arg("-schema-location").arg(location);
    }
    let found: Value = match output(kubeconform.arg(&file)) {
        Ok(text) => serde_json::from_str(&text).context("kubeconform wrote no JSON")?,
        Err(error) => return Err(error.context("kubeconform refuses a manifest")),
    };
    let count = |name: &str| found.pointer(&format!("/summary/{name}")).and_then(Value::as_u64).unwrap_or(u64::MAX);
    ensure!(count("skipped") == 0, "kubeconform skipped {} manifests", count("skipped"));
    usize::try_from(count("valid")).context("kubeconform counted nothing")
}

/// Makes what is not in the cache yet: the programs and the schemas; the folder of the latter.
///
/// # Errors
/// When a program cannot be built, or sources cannot be had.
pub(super) fn ensure_all() -> Result<PathBuf> {
    tools::ensure(&[Tool::Helm, Tool::Kubeconform], &Console::new())?;
    let (_, monitoring, _) = PROMETHEUS_OPERATOR;
    let folder = cache_folder().join(format!("schemas-{}-{monitoring}-{CONVERSION}", kubernetes_version()));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Made beside and renamed, so that half of them are never taken for all.
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    write_kubernetes(&unfinished)?;
    write_monitoring(&unfinished)?;
    match fs::rename(&unfinished, &folder) {
        // Somebody else was quicker.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&unfinished).context("cannot remove a folder")?,
        renamed => renamed.with_context(|| format!("cannot make {}", folder.display()))?,
    }
    Ok(folder)
}

fn write_kubernetes(folder: &Path) -> Result<()> {
    let sources = module("k8s.io/kubernetes", kubernetes_version(), None)?;
    let file = sources.join("api/openapi-spec/swagger.json");
    let swagger = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let swagger: Value = serde_json::from_str(&swagger).context("Kubernetes' OpenAPI document is not JSON")?;
    let definitions = swagger.get("definitions").and_then(Value::as_object).context("it has no definitions")?;
    for (name, schema) in kinds(definitions) {
        write(folder, &name, &schema)?;
    }
    Ok(())
}

fn write_monitoring(folder: &Path) -> Result<()> {
    let (path, version, sum) = PROMETHEUS_OPERATOR;
    let sources = module(path, version, Some(sum))?.join("example/prometheus-operator-crd");
    for plural in ["servicemonitors", "prometheusrules"] {
        let file = sources.join(format!("monitoring.coreos.com_{plural}.yaml"));
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let definition: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", file.display()))?;
        write_definition(folder, &definition)?;
    }
    Ok(())
}

fn write_own(folder: &Path) -> Result<()> {
    for definition in definitions()? {
        write_definition(folder, &definition.object)?;
    }
    Ok(())
}

/// The schemas of each version of a CustomResourceDefinition.
fn write_definition(folder: &Path, definition: &Value) -> Result<()> {
    let word = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, group) = (word("/spec/names/kind"), word("/spec/group"));
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        let schema = version.pointer("/schema/openAPIV3Schema").context("a CustomResourceDefinition without a schema")?;
        let mut schema = strict(schema);
        for field in ["apiVersion", "kind"] {
            set_property(&mut schema, field, json!({"type": "string"}));
        }
        set_property(&mut schema, "metadata", json!({"type": "object"}));
        write(folder, &file_name(kind, group, name), &schema)?;
    }
    Ok(())
}

fn set_property(schema: &mut Value, name: &str, value: Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(name.to_owned(), value);
    }
}

fn write(folder: &Path, name: &str, schema: &Value) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, schema.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// As kubeconform fills `{{.ResourceKind}}{{.KindSuffix}}.json`.
fn file_name(kind: &str, group: &str, version: &str) -> String {
    let group = group.split('.').next().filter(|group| !group.is_empty());
    let group = group.map(|group| format!("-{group}")).unwrap_or_default();
    format!("{}{group}-{version}.json", kind.to_lowercase())
}

/// A schema with all it refers to for each kind of an OpenAPI 2 document, by file name.
fn kinds(definitions: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for (name, schema) in definitions {
        let Some([kind]) = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).map(Vec::as_slice)
        else {
            continue;
        };
        let word = |field: &str| kind.get(field).and_then(Value::as_str).unwrap_or_default();
        let mut needed = BTreeSet::new();
        refer(name, definitions, &mut needed);
        let needed: Map<String, Value> =
            needed.iter().filter_map(|name| Some(((*name).to_owned(), strict(definitions.get(*name)?)))).collect();
        let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": needed});
        files.insert(file_name(word("kind"), word("group"), word("version")), schema);
    }
    files
}

fn refer<'a>(name: &'a str, definitions: &'a Map<String, Value>, found: &mut BTreeSet<&'a str>) {
    fn walk<'a>(value: &'a Value, definitions: &'a Map<String, Value>, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, definitions, found)),
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                if let Some(name) = reference.and_then(|reference| reference.strip_prefix("#/definitions/")) {
                    refer(name, definitions, found);
                }
                fields.values().for_each(|field| walk(field, definitions, found));
            }
            _ => {}
        }
    }
    if found.insert(name) && let Some(schema) = definitions.get(name) {
        walk(schema, definitions, found);
    }
}

/// The schema as JSON Schema: Kubernetes' own types said in its words, and no field beside those that are named.
fn strict(schema: &Value) -> Value {
    let fields = match schema {
        Value::Array(items) => return items.iter().map(strict).collect(),
        Value::Object(fields) => fields,
        other => return other.clone(),
    };
    let number_or_text = fields.get("format").and_then(Value::as_str) == Some("int-or-string")
        || fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
        || fields.get("description").and_then(Value::as_str).is_some_and(|text| text.starts_with("Quantity is"));
    if number_or_text {
        return json!({"type": ["string", "number"]});
    }
    let mut copy: Map<String, Value> =
        fields.iter().filter(|(name, _)| *name != "description").map(|(name, field)| (name.clone(), strict(field))).collect();
    // Formats are the API server's business; a description was dropped, unless it is the name of a field.
    if let (Some(properties), Some(Value::Object(copied))) = (fields.get("properties"), copy.get_mut("properties"))
        && let Some(field) = properties.get("description")
    {
        copied.insert("description".to_owned(), strict(field));
    }
    let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties") && !open {
        copy.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(copy)
}

/// The folder of a module in Go's cache, fetched if it is not there.
fn module(path: &str, version: &str, sum: Option<&str>) -> Result<PathBuf> {
    let mut go = Command::new(if Path::new("/usr/local/go/bin/go").is_file() { "/usr/local/go/bin/go" } else { "go" });
    // Outside of any module.
    go.current_dir(std::env::temp_dir()).args(["mod", "download", "-json"]).arg(format!("{path}@{version}"));
    let answer = output(&mut go).with_context(|| format!("cannot fetch {path} {version}"))?;
    let answer: Value = serde_json::from_str(&answer).context("Go wrote no JSON")?;
    let word = |field: &str| answer.get(field).and_then(Value::as_str);
    if let Some(sum) = sum {
        ensure!(word("Sum") == Some(sum), "{path} {version} is not what was pinned");
    }
    word("Dir").map(PathBuf::from).with_context(|| format!("Go says nothing of where {path} is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_kubeconform_looks_for_them() {
        assert_eq!(file_name("Secret", "", "v1"), "secret-v1.json");
        assert_eq!(file_name("RadiusProxy", "radius-mfa.dev", "v1alpha1"), "radiusproxy-radius-mfa-v1alpha1.json");
        assert_eq!(file_name("Role", "rbac.authorization.k8s.io", "v1"), "role-rbac-v1.json");
    }

    #[test]
    fn a_field_that_is_not_named_is_refused_at_every_depth() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "open": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true}
        }});
        let strict = strict(&schema);
        assert_eq!(strict["additionalProperties"], false);
        assert_eq!(strict["properties"]["a"]["items"]["additionalProperties"], false);
        assert_eq!(strict["properties"]["map"]["additionalProperties"]["type"], "string");
        assert_eq!(strict["properties"]["open"].get("additionalProperties"), None);
    }

    #[test]
    fn a_field_called_description_stays() {
        let schema = json!({"description": "x", "properties": {"description": {"type": "string", "description": "y"}}});
        let strict = strict(&schema);
        assert_eq!(strict.get("description"), None);
        assert_eq!(strict["properties"]["description"]["type"], "string");
    }

    #[test]
    fn a_port_and_a_quantity_are_number_or_text() {
        for schema in [
            json!({"type": "string", "format": "int-or-string"}),
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}),
            json!({"type": "string", "description": "Quantity is a fixed-point representation"}),
        ] {
            assert_eq!(strict(&schema), json!({"type": ["string", "number"]}));
        }
    }

    #[test]
    fn a_kind_brings_what_it_refers_to_and_no_more() {
        let definitions = json!({
            "a.Kind": {"x-kubernetes-group-version-kind": [{"group": "g.x", "version": "v1", "kind": "Kind"}],
                       "properties": {"b": {"$ref": "#/definitions/a.B"}}},
            "a.B": {"properties": {"self": {"$ref": "#/definitions/a.B"}}},
            "a.C": {"type": "string"}
        });
        let files = kinds(definitions.as_object().unwrap());
        let kind = &files["kind-g-v1.json"];
        assert_eq!(kind["$ref"], "#/definitions/a.Kind");
        assert_eq!(kind["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a.B", "a.Kind"]);
    }
}
