use serde_json::json;

use super::*;

fn pod() -> PodSpec {
    serde_json::from_value(json!({
        "serviceAccountName": "mfa",
        "terminationGracePeriodSeconds": 630,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532},
        "containers": [{
            "name": "proxy", "args": ["serve"], "env": [{"name": "POD_NAME", "value": "x"}],
            "volumeMounts": [{"name": "config", "mountPath": "/etc/radius-proxy/config"}],
            "securityContext": {"allowPrivilegeEscalation": false},
        }],
        "volumes": [{"name": "config", "configMap": {"name": "mfa"}}],
        "dnsConfig": {"nameservers": ["10.0.0.2"]},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
            {"topologyKey": "node", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
        ],
    }))
    .unwrap()
}

fn with(overrides: &Value) -> Result<Value, String> {
    merged(&pod(), overrides.as_object().unwrap()).map(|pod| serde_json::to_value(pod).unwrap())
}

fn refused(overrides: &Value) -> String {
    with(overrides).unwrap_err()
}

#[test]
fn lists_are_merged_by_their_keys_and_null_removes_a_field() {
    let pod = with(&json!({
        "runtimeClassName": "kata",
        "securityContext": {"runAsUser": null},
        "topologySpreadConstraints": [
            {"$patch": "replace"}, {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "containers": [
            {"name": "proxy", "env": [{"name": "TZ", "value": "UTC"}], "volumeMounts": [{"name": "ca", "mountPath": "/ca"}]},
            {"name": "sidecar", "image": "sidecar:1", "resources": {"limits": {"cpu": 1}}},
        ],
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "tolerations": [{"key": "b", "operator": "Exists"}],
    }))
    .unwrap();
    assert_eq!(pod["runtimeClassName"], "kata");
    assert_eq!(pod["securityContext"], json!({"runAsNonRoot": true}));
    assert_eq!(pod["topologySpreadConstraints"].as_array().unwrap().len(), 1);
    let proxy = &pod["containers"][0];
    assert_eq!(
        (proxy["env"][0]["name"].as_str(), proxy["env"][1]["name"].as_str()),
        (Some("POD_NAME"), Some("TZ"))
    );
    assert_eq!(proxy["volumeMounts"].as_array().unwrap().len(), 2);
    assert_eq!(pod["containers"][1]["resources"]["limits"]["cpu"], "1");
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(pod["tolerations"], json!([{"key": "b", "operator": "Exists"}]));
}

#[test]
fn directives_delete_and_replace_as_in_a_strategic_merge_patch() {
    let replaced = with(&json!({"securityContext": {"$patch": "replace", "runAsNonRoot": true}})).unwrap();
    assert_eq!(replaced["securityContext"], json!({"runAsNonRoot": true}));
    let deleted = with(&json!({
        "dnsConfig": {"$patch": "delete"},
        "topologySpreadConstraints": [{"topologyKey": "zone", "$patch": "delete"}],
    }))
    .unwrap();
    assert!(deleted["dnsConfig"].is_null());
    assert_eq!(deleted["topologySpreadConstraints"][0]["topologyKey"], "node");
    for (overrides, field) in [
        (
            json!({"volumes": [{"name": "config", "$patch": "delete"}]}),
            ".volumes[name=config]",
        ),
        (json!({"containers": [{"$patch": "replace"}]}), ".args"),
        (
            json!({"securityContext": {"$patch": "delete"}}),
            ".securityContext.runAsNonRoot cannot be changed",
        ),
    ] {
        assert!(refused(&overrides).contains(field));
    }
}

#[test]
fn what_the_operator_relies_on_cannot_be_changed() {
    let proxy = |change: Value| {
        let mut proxy = json!({"name": "proxy"});
        proxy
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        json!({"containers": [proxy]})
    };
    for (overrides, field) in [
        (json!({"hostNetwork": true}), ".hostNetwork"),
        (json!({"serviceAccountName": "admin"}), ".serviceAccountName"),
        (json!({"restartPolicy": "Never"}), ".restartPolicy"),
        (
            json!({"readinessGates": [{"conditionType": "a/b"}]}),
            ".readinessGates",
        ),
        (
            json!({"terminationGracePeriodSeconds": 30}),
            ".terminationGracePeriodSeconds must be at least 630",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": false}}),
            ".securityContext.runAsNonRoot",
        ),
        (
            proxy(json!({"securityContext": {"allowPrivilegeEscalation": true}})),
            "level restricted",
        ),
        (json!({"containers": null}), ".containers[name=proxy].args"),
        (
            json!({"volumes": [{"name": "config", "emptyDir": {}}]}),
            ".volumes[name=config]",
        ),
        (json!({"volumes": null}), ".volumes[name=config]"),
        (proxy(json!({"image": "mine:1"})), "use spec.image"),
        (
            proxy(json!({"resources": {"limits": {"cpu": "1"}}})),
            "use spec.resources",
        ),
        (proxy(json!({"args": ["version"]})), ".args"),
        (
            proxy(json!({"livenessProbe": {"tcpSocket": {"port": 1}}})),
            ".livenessProbe",
        ),
        (
            proxy(json!({"env": [{"name": "POD_NAME", "value": "y"}]})),
            ".env[name=POD_NAME]",
        ),
        (
            proxy(json!({"volumeMounts": null})),
            ".volumeMounts[mountPath=/etc/radius-proxy/config]",
        ),
    ] {
        let told = refused(&overrides);
        assert!(told.contains(field), "{overrides}: {told}");
    }
}

#[test]
fn a_pod_gets_no_privileges_that_its_author_may_not_have() {
    let sidecar = |context: Value| json!({"initContainers": [{"name": "s", "image": "s:1", "securityContext": context}]});
    for overrides in [
        sidecar(json!({"privileged": true})),
        sidecar(json!({"allowPrivilegeEscalation": true})),
        sidecar(json!({"runAsUser": 0})),
        sidecar(json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
        sidecar(json!({"seccompProfile": {"type": "Unconfined"}})),
        sidecar(json!({"runAsNonRoot": false})),
        json!({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        json!({"containers": [{"name": "s", "image": "s:1", "ports": [{"containerPort": 1, "hostPort": 1}]}]}),
    ] {
        let told = refused(&overrides);
        assert!(told.ends_with("is not allowed"), "{overrides}: {told}");
    }
}

#[test]
fn misspelt_fields_and_wrong_types_are_told() {
    assert_eq!(
        refused(&json!({"dnsConfig": {"nameserver": ["10.0.0.2"]}})),
        "spec.podTemplate.spec.dnsConfig.nameserver is unknown"
    );
    assert!(refused(&json!({"priority": "high"})).contains("is not a PodSpec"));
    assert_eq!(
        refused(&json!({"volumes": [{"emptyDir": {}}]})),
        "spec.podTemplate.spec.volumes[0] has no name"
    );
}
