//! `spec.podTemplate`: a strategic merge into the pod's template, without what the operator relies on.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Map, Value};

use crate::api::quantities_as_text;
use crate::names::CONTAINER;

/// Where users find the fields.
const FIELD: &str = "spec.podTemplate.spec";
/// Fields of a PodSpec that must stay as they are.
const FIXED: [&str; 13] = [
    "serviceAccount",
    "serviceAccountName",
    "automountServiceAccountToken",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "restartPolicy",
    "readinessGates",
    "nodeName",
    "hostname",
    "subdomain",
    "activeDeadlineSeconds",
    "ephemeralContainers",
];
/// Fields of the container `proxy` that must stay as they are, each with what to use instead.
const FIXED_IN_PROXY: [(&str, &str); 11] = [
    ("image", "use spec.image instead"),
    ("resources", "use spec.resources instead"),
    ("command", RELIES),
    ("args", RELIES),
    ("workingDir", RELIES),
    ("ports", RELIES),
    ("startupProbe", RELIES),
    ("livenessProbe", RELIES),
    ("readinessProbe", RELIES),
    ("lifecycle", RELIES),
    ("restartPolicy", RELIES),
];
/// Fields of security contexts that must stay as they are, of the pod and of the container `proxy`.
const FIXED_OF_POD: [&str; 2] = ["runAsNonRoot", "seccompProfile"];
const FIXED_OF_PROXY: [&str; 5] = [
    "allowPrivilegeEscalation",
    "capabilities",
    "readOnlyRootFilesystem",
    "runAsNonRoot",
    "seccompProfile",
];
const RELIES: &str = "the operator relies on it";
const RESTRICTED: &str = "the pods pass Pod Security's level restricted";
/// What a strategic merge does with an object or an item, when it does not merge it.
const DIRECTIVE: &str = "$patch";
const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// Merges the overrides into the operator's own pod.
///
/// # Errors
/// What is wrong with the overrides, by the fields of the RadiusProxy.
pub(super) fn merged(pod: &PodSpec, overrides: &Map<String, Value>) -> Result<PodSpec, String> {
    let invalid = |error: serde_json::Error| format!("{FIELD} is not a PodSpec: {error}");
    let base = serde_json::to_value(pod).map_err(invalid)?;
    let mut merged = base.clone();
    merge(&mut merged, &Value::Object(overrides.clone()), FIELD)?;
    quantities_as_text(&mut merged);
    let pod: PodSpec = serde_json::from_value(merged.clone()).map_err(invalid)?;
    let problems: Vec<String> = unknown(&merged, &serde_json::to_value(&pod).map_err(invalid)?, FIELD)
        .into_iter()
        .chain(changed(&base, &merged))
        .chain(privileged(&merged))
        .collect();
    if problems.is_empty() {
        Ok(pod)
    } else {
        Err(problems.join("; "))
    }
}

/// The field that identifies the items of a list; `None` for a list that is replaced as a whole.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" => {
            Some("name")
        }
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

/// The API server's strategic merge: objects field by field, lists by their key; null and `$patch: delete` remove,
/// `$patch: replace` replaces. `kubectl apply` drops null from a new object, so null alone would not do.
fn merge(target: &mut Value, patch: &Value, at: &str) -> Result<(), String> {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() || directive(patch) == Some("replace") {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return Ok(());
    };
    for (name, value) in fields.iter().filter(|(name, _)| *name != DIRECTIVE) {
        let at = format!("{at}.{name}");
        match (value, merge_key(name)) {
            (value, _) if value.is_null() || directive(value) == Some("delete") => {
                object.remove(name);
            }
            (Value::Array(items), Some(key)) => {
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(list, items, key, &at)?;
            }
            _ => merge(object.entry(name).or_insert(Value::Null), value, &at)?,
        }
    }
    Ok(())
}

fn merge_list(list: &mut Value, items: &[Value], key: &str, at: &str) -> Result<(), String> {
    let Some(list) = list.as_array_mut() else {
        return Ok(());
    };
    if items.iter().any(|item| directive(item) == Some("replace")) {
        list.clear();
    }
    for (i, item) in items.iter().enumerate() {
        let known = |known: &Value| item.get(key).is_some() && known.get(key) == item.get(key);
        let Some(id) = item.get(key).filter(|id| !id.is_null()) else {
            if directive(item) == Some("replace") {
                continue;
            }
            return Err(format!("{at}[{i}] has no {key}"));
        };
        let at = format!("{at}[{key}={}]", text(id));
        if directive(item) == Some("delete") {
            list.retain(|item| !known(item));
        } else if let Some(target) = list.iter_mut().find(|item| known(item)) {
            merge(target, item, &at)?;
        } else {
            let mut new = Value::Null;
            merge(&mut new, item, &at)?;
            list.push(new);
        }
    }
    Ok(())
}

fn directive(patch: &Value) -> Option<&str> {
    patch.get(DIRECTIVE)?.as_str()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Fields that a PodSpec doesn't have, such as misspelt ones: `known` is what is left after parsing.
fn unknown(given: &Value, known: &Value, at: &str) -> Vec<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given
            .iter()
            .flat_map(|(name, value)| match known.get(name) {
                Some(known) => unknown(value, known, &format!("{at}.{name}")),
                None => vec![format!("{at}.{name} is unknown")],
            })
            .collect(),
        (Value::Array(given), Value::Array(known)) => (0_usize..)
            .zip(given.iter().zip(known))
            .flat_map(|(i, (given, known))| unknown(given, known, &format!("{at}[{i}]")))
            .collect(),
        _ => Vec::new(),
    }
}

/// What the operator relies on and is not as it was.
fn changed(before: &Value, after: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut same = |before: &Value, after: &Value, at: String, instead: &str| {
        if before != after {
            problems.push(format!("{at} cannot be changed: {instead}"));
        }
    };
    for field in FIXED {
        same(&before[field], &after[field], format!("{FIELD}.{field}"), RELIES);
    }
    let (own, proxy) = (
        item(before, "containers", CONTAINER),
        item(after, "containers", CONTAINER),
    );
    let at = format!("{FIELD}.containers[name={CONTAINER}]");
    for (field, instead) in FIXED_IN_PROXY {
        same(&own[field], &proxy[field], format!("{at}.{field}"), instead);
    }
    for (fields, before, after, at) in [
        (&FIXED_OF_POD[..], before, after, FIELD),
        (&FIXED_OF_PROXY[..], own, proxy, at.as_str()),
    ] {
        let (before, after) = (&before["securityContext"], &after["securityContext"]);
        for field in fields {
            same(
                &before[field],
                &after[field],
                format!("{at}.securityContext.{field}"),
                RESTRICTED,
            );
        }
    }
    for list in ["env", "volumeMounts"] {
        let key = merge_key(list).unwrap_or_default();
        for entry in items(own, list) {
            let id = text(&entry[key]);
            same(
                entry,
                item(proxy, list, &id),
                format!("{at}.{list}[{key}={id}]"),
                RELIES,
            );
        }
    }
    for volume in items(before, "volumes") {
        let id = text(&volume["name"]);
        same(
            volume,
            item(after, "volumes", &id),
            format!("{FIELD}.volumes[name={id}]"),
            RELIES,
        );
    }
    let grace = |pod: &Value| pod["terminationGracePeriodSeconds"].as_i64().unwrap_or_default();
    if grace(after) < grace(before) {
        problems.push(format!(
            "{FIELD}.terminationGracePeriodSeconds must be at least {}: a proxy answers pending logins before it ends",
            grace(before)
        ));
    }
    problems
}

/// What would give the pod more than the operator gives it: the operator must not create for the author of a RadiusProxy
/// what the author may not create.
fn privileged(pod: &Value) -> Vec<String> {
    let mut found: Vec<String> = CONTAINERS
        .iter()
        .flat_map(|list| items(pod, list).iter().map(move |container| (*list, container)))
        .flat_map(|(list, container)| {
            let name = text(&container["name"]);
            let ports = items(container, "ports").iter();
            let host_port = name != CONTAINER && ports.into_iter().any(|port| !port["hostPort"].is_null());
            let host_port = host_port.then(|| format!("{FIELD}.{list}[name={name}].ports[].hostPort"));
            let at = format!("{FIELD}.{list}[name={name}].securityContext");
            host_port
                .into_iter()
                .chain(raised(&container["securityContext"], &at))
        })
        .chain(raised(
            &pod["securityContext"],
            &format!("{FIELD}.securityContext"),
        ))
        .collect();
    for volume in items(pod, "volumes") {
        if !volume["hostPath"].is_null() {
            found.push(format!(
                "{FIELD}.volumes[name={}].hostPath",
                text(&volume["name"])
            ));
        }
    }
    found.iter().map(|at| format!("{at} is not allowed")).collect()
}

/// The fields of a security context that Pod Security's restricted level doesn't allow.
fn raised(context: &Value, at: &str) -> Vec<String> {
    let unconfined = |profile: &str| {
        context
            .get(profile)
            .is_some_and(|profile| profile["type"] == "Unconfined")
    };
    let adds = |name: &Value| name != "NET_BIND_SERVICE";
    let is = [
        ("privileged", context["privileged"] == true),
        (
            "allowPrivilegeEscalation",
            context["allowPrivilegeEscalation"] == true,
        ),
        ("runAsNonRoot", context["runAsNonRoot"] == false),
        ("runAsUser", context["runAsUser"] == 0),
        (
            "capabilities.add",
            items(&context["capabilities"], "add").iter().any(adds),
        ),
        ("seccompProfile", unconfined("seccompProfile")),
        ("appArmorProfile", unconfined("appArmorProfile")),
        ("procMount", context["procMount"] == "Unmasked"),
        ("windowsOptions", !context["windowsOptions"].is_null()),
    ];
    is.into_iter()
        .filter(|(_, is)| *is)
        .map(|(field, _)| format!("{at}.{field}"))
        .collect()
}

fn items<'a>(object: &'a Value, list: &str) -> &'a [Value] {
    object[list].as_array().map_or(&[], Vec::as_slice)
}

/// An item of a list by its key; null when it isn't there.
fn item<'a>(object: &'a Value, list: &str, id: &str) -> &'a Value {
    let key = merge_key(list).unwrap_or_default();
    let found = items(object, list).iter().find(|item| text(&item[key]) == id);
    found.unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests;
