//! Wrong values: `refused.yaml` has them, and what the API server must say of each.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{project, world};

/// A namespace without a grant: what exists there for a moment makes the operator write nothing to AWS.
const NAMESPACE: &str = "refused";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default = "radius_proxy")]
    kind: String,
    /// What exists before, as a patch of the good object.
    before: Option<Value>,
    patch: Value,
    says: Vec<String>,
}

fn radius_proxy() -> String {
    "RadiusProxy".to_owned()
}

fn good(kind: &str) -> Value {
    let (namespace, spec) = match kind {
        "DirectoryGrant" => (
            Value::Null,
            json!({"namespaces": [NAMESPACE], "directories": [{"directoryIds": ["d-1234567890"], "region": "eu-central-1"}]}),
        ),
        _ => (
            NAMESPACE.into(),
            json!({
                "directory": {"id": "d-1234567890", "region": "eu-central-1"},
                "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}},
            }),
        ),
    };
    json!({
        "apiVersion": "radius-mfa.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "refused", "namespace": namespace},
        "spec": spec,
    })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(fields), true) = (patch, target.is_object()) else {
        *target = patch.clone();
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

#[test]
fn every_wrong_value_is_refused_in_words_that_name_it_and_its_bound() {
    let world = world();
    world.kubectl.ensure_namespace(NAMESPACE).unwrap();
    let text = std::fs::read_to_string(project().join("tests/e2e/refused.yaml")).unwrap();
    let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
    assert!(cases.len() >= 80, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut object = good(&case.kind);
        if let Some(before) = &case.before {
            merge(&mut object, before);
            world.kubectl.apply(&object.to_string()).unwrap();
        }
        merge(&mut object, &case.patch);
        let output = world.kubectl.try_apply(&object.to_string(), true).unwrap();
        if output.code == 0 {
            wrong.push(format!("{} was accepted", case.patch));
        }
        for words in case
            .says
            .iter()
            .filter(|words| !output.stderr.contains(words.as_str()))
        {
            wrong.push(format!(
                "{} was refused without {words:?}: {}",
                case.patch,
                output.stderr.trim()
            ));
        }
        if case.before.is_some() {
            world
                .kubectl
                .run(&[
                    "-n",
                    NAMESPACE,
                    "delete",
                    "radiusproxy",
                    "refused",
                    "--timeout=60s",
                ])
                .unwrap();
        }
    }
    world
        .kubectl
        .run(&["delete", "namespace", NAMESPACE, "--wait=false"])
        .unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
