//! JSON schemas for kubeconform, so that a chart is checked without a network.
//!
//! They are made from the OpenAPI document that comes with the pinned sources of Kubernetes, and from
//! CustomResourceDefinitions, in the layout that kubeconform reads:
//! `-schema-location '<folder>/{{.ResourceKind}}{{.KindSuffix}}.json'`. They are strict: a field that the API does not know
//! is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::progress::{Progress, step};
use crate::tools;

const DEFINITION: &str = "#/definitions/";
/// Ends the name of a definition that allows null, too.
const OR_NULL: &str = "-or-null";

/// Makes the schemas of Kubernetes' own kinds, once for each pinned version, and returns their folder in the cache.
///
/// # Errors
/// When the sources cannot be fetched or read, or the folder cannot be written.
pub fn ensure(progress: &dyn Progress) -> Result<PathBuf, Error> {
    let version = tools::kubernetes_version();
    let folder = tools::cache_folder().join(format!("schemas-{version}-{FORMAT}"));
    if folder.exists() {
        return Ok(folder);
    }
    step(
        progress,
        "make schemas",
        |count| format!("{count} kinds of Kubernetes {version}"),
        || {
            let source = tools::kubernetes_sources()?.join("api/openapi-spec/swagger.json");
            let text = fs::read_to_string(&source).map_err(Error::file("read", &source))?;
            let document: Value = serde_json::from_str(&text).map_err(|error| Error::Content {
                path: source.clone(),
                what: "an OpenAPI document",
                reason: error.to_string(),
            })?;
            let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
            fs::create_dir_all(&unfinished).map_err(Error::file("create", &unfinished))?;
            let schemas = of_document(&document);
            for (name, schema) in &schemas {
                write(&unfinished.join(name), schema)?;
            }
            // Another process may have been quicker with the same content.
            if fs::rename(&unfinished, &folder).is_err() && !folder.exists() {
                return Err(Error::file("write", &folder)(std::io::ErrorKind::Other.into()));
            }
            _ = fs::remove_dir_all(&unfinished);
            Ok(schemas.len())
        },
    )?;
    Ok(folder)
}

/// Part of the folder's name: to be raised when what is written changes.
const FORMAT: u8 = 2;

/// Writes the schemas of CustomResourceDefinitions, read from YAML files, to a folder.
///
/// # Errors
/// When a file cannot be read, or the folder cannot be written.
pub fn write_custom(definitions: &[PathBuf], folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    for path in definitions {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| Error::Content {
            path: path.clone(),
            what: "YAML",
            reason: error.to_string(),
        })?;
        for (name, schema) in documents.iter().flat_map(of_custom) {
            write(&folder.join(name), &schema)?;
        }
    }
    Ok(())
}

fn write(path: &Path, schema: &Value) -> Result<(), Error> {
    fs::write(path, schema.to_string()).map_err(Error::file("write", path))
}

/// kubeconform's name of a kind: `deployment-apps-v1.json`, of the group only what is before its first dot.
fn file_name(group: &str, version: &str, kind: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    let group = if group.is_empty() {
        String::new()
    } else {
        format!("-{group}")
    };
    format!("{}{group}-{version}.json", kind.to_lowercase()).to_lowercase()
}

/// One schema for each kind: itself, and of the other definitions those that it reaches.
fn of_document(document: &Value) -> BTreeMap<String, Value> {
    let empty = Map::new();
    let definitions = document
        .get("definitions")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut schemas = BTreeMap::new();
    for (name, definition) in definitions {
        let kinds = definition
            .get("x-kubernetes-group-version-kind")
            .and_then(Value::as_array);
        for kind in kinds.into_iter().flatten() {
            let text = |field| kind.get(field).and_then(Value::as_str).unwrap_or_default();
            let file = file_name(text("group"), text("version"), text("kind"));
            schemas.insert(file, standalone(name, definitions, text("kind")));
        }
    }
    schemas
}

fn standalone(name: &str, definitions: &Map<String, Value>, kind: &str) -> Value {
    let mut kept = Map::new();
    let mut new = BTreeSet::from([name.to_owned()]);
    while let Some(next) = new.pop_first() {
        let (base, nullable) = next
            .strip_suffix(OR_NULL)
            .map_or((next.as_str(), false), |base| (base, true));
        let schema = special(base).unwrap_or_else(|| definitions.get(base).map_or(json!({}), strict));
        let schema = if nullable { or_null(schema) } else { schema };
        let mut named = BTreeSet::new();
        references(&schema, &mut named);
        kept.insert(next, schema);
        new.extend(named.into_iter().filter(|name| !kept.contains_key(name)));
    }
    if let Some(property) = kept
        .get_mut(name)
        .and_then(|root| root.pointer_mut("/properties/kind"))
    {
        *property = json!({"type": "string", "enum": [kind]});
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": format!("{DEFINITION}{name}"),
        "definitions": kept,
    })
}

/// Definitions whose written form is wider than what the document says of them.
fn special(name: &str) -> Option<Value> {
    match name {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(json!({"type": ["integer", "string"]})),
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(json!({"type": ["string", "number"]})),
        _ => None,
    }
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let name = fields
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix(DEFINITION));
            found.extend(name.map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// A schema that refuses unknown fields, and allows null for what may be left out, as the API server does.
fn strict(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let mut out = Map::new();
    for (name, value) in fields.iter().filter(|(name, _)| !is_for_others(name)) {
        let value = match name.as_str() {
            "properties" => properties(value, fields.get("required")),
            "items" | "additionalProperties" | "not" => strict(value),
            "allOf" | "anyOf" | "oneOf" => value
                .as_array()
                .map_or(Value::Null, |all| all.iter().map(strict).collect()),
            _ => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    let is_set = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    if is_set("x-kubernetes-int-or-string") {
        return json!({"type": ["integer", "string"]});
    }
    let open = is_set("x-kubernetes-preserve-unknown-fields") || is_set("x-kubernetes-embedded-resource");
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && !open {
        out.insert("additionalProperties".into(), false.into());
    }
    Value::Object(out)
}

/// What is for other readers, and `nullable`, which JSON Schema does not know and [`or_null`] covers.
fn is_for_others(name: &str) -> bool {
    name.starts_with("x-kubernetes-") || matches!(name, "nullable" | "description")
}

fn properties(properties: &Value, required: Option<&Value>) -> Value {
    let required: Vec<&str> = required
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let strict_one = |(name, schema): (&String, &Value)| {
        let strict = strict(schema);
        let schema = if required.contains(&name.as_str()) {
            strict
        } else {
            or_null(strict)
        };
        (name.clone(), schema)
    };
    properties.as_object().map_or(Value::Null, |all| {
        Value::Object(all.iter().map(strict_one).collect())
    })
}

/// The same schema with null beside it, where it can be in the schema's own words: an error then names the one thing
/// that is wrong, and not two that could have been right.
fn or_null(mut schema: Value) -> Value {
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    if let Some(Value::String(name)) = schema.get_mut("$ref") {
        name.push_str(OR_NULL);
        return schema;
    }
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.push("null".into()),
        Some(one) => *one = json!([one.take(), "null"]),
        // Without a type, anything goes already.
        None => {}
    }
    schema
}

/// One schema for each version of a CustomResourceDefinition; what is no definition has none.
fn of_custom(document: &Value) -> Vec<(String, Value)> {
    let text = |at: &str| document.pointer(at).and_then(Value::as_str);
    let (Some("CustomResourceDefinition"), Some(group), Some(kind)) =
        (text("/kind"), text("/spec/group"), text("/spec/names/kind"))
    else {
        return Vec::new();
    };
    let versions = document.pointer("/spec/versions").and_then(Value::as_array);
    let schema_of = |version: &Value| {
        let name = version.get("name")?.as_str()?;
        let mut schema = strict(version.pointer("/schema/openAPIV3Schema")?);
        let known = schema.pointer_mut("/properties").and_then(Value::as_object_mut)?;
        // A structural schema leaves these to the API server.
        known.insert(
            "apiVersion".into(),
            json!({"type": "string", "enum": [format!("{group}/{name}")]}),
        );
        known.insert("kind".into(), json!({"type": "string", "enum": [kind]}));
        known.insert("metadata".into(), json!({"type": "object"}));
        Some((file_name(group, name, kind), schema))
    };
    versions.into_iter().flatten().filter_map(schema_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_kubeconform_asks_for_them() {
        assert_eq!(file_name("apps", "v1", "StatefulSet"), "statefulset-apps-v1.json");
        assert_eq!(file_name("", "v1", "Secret"), "secret-v1.json");
        let name = file_name("rbac.authorization.k8s.io", "v1", "ClusterRole");
        assert_eq!(name, "clusterrole-rbac-v1.json");
        assert_eq!(
            file_name("radius-mfa.dev", "v1alpha1", "RadiusProxy"),
            "radiusproxy-radius-mfa-v1alpha1.json"
        );
    }

    #[test]
    fn a_kind_brings_what_it_reaches_and_nothing_else() {
        let document = json!({"definitions": {
            "a.Thing": {
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Thing"}],
                "properties": {"kind": {"type": "string"}, "part": {"$ref": "#/definitions/a.Part"}},
                "required": ["kind"],
            },
            "a.Part": {"type": "object", "properties": {"again": {"$ref": "#/definitions/a.Part"}}},
            "a.Other": {"type": "object"},
        }});
        let schemas = of_document(&document);
        let thing = &schemas["thing-v1.json"];
        assert_eq!(thing["$ref"], "#/definitions/a.Thing");
        let definitions = thing["definitions"].as_object().unwrap();
        assert_eq!(
            definitions.keys().collect::<Vec<_>>(),
            ["a.Part-or-null", "a.Thing"]
        );
        assert_eq!(
            definitions["a.Thing"]["properties"]["kind"]["enum"],
            json!(["Thing"])
        );
        assert_eq!(definitions["a.Part-or-null"]["additionalProperties"], false);
    }

    #[test]
    fn a_required_field_may_not_be_null_and_an_optional_one_may() {
        let schema = strict(&json!({
            "properties": {"a": {"type": "string"}, "b": {"type": "string", "nullable": true}},
            "required": ["a"],
        }));
        assert_eq!(schema["properties"]["a"], json!({"type": "string"}));
        assert_eq!(schema["properties"]["b"], json!({"type": ["string", "null"]}));
    }

    #[test]
    fn a_custom_kind_is_strict_but_where_it_says_otherwise() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {}},
            "port": {"x-kubernetes-int-or-string": true},
        }}}});
        let definition = json!({"kind": "CustomResourceDefinition", "spec": {
            "group": "radius-mfa.dev", "names": {"kind": "RadiusProxy"},
            "versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": schema}}],
        }});
        let schemas = of_custom(&definition);
        let (name, schema) = schemas.first().unwrap();
        assert_eq!(name, "radiusproxy-radius-mfa-v1alpha1.json");
        assert_eq!(
            schema["properties"]["apiVersion"]["enum"],
            json!(["radius-mfa.dev/v1alpha1"])
        );
        let spec = &schema["properties"]["spec"];
        assert_eq!(spec["additionalProperties"], false);
        assert_eq!(spec["properties"]["open"].get("additionalProperties"), None);
        assert_eq!(
            spec["properties"]["port"]["type"],
            json!(["integer", "string", "null"])
        );
    }
}
