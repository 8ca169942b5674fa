use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::names::ClusterName;
use crate::objects::Object;
use crate::observed::{PodState, Settings};

fn proxy() -> RadiusProxy {
    serde_json::from_value(json!({
        "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
        "metadata": {"name": "mfa", "namespace": "auth", "uid": "uid-1"},
        "spec": {
            "directory": {"id": "d-1234567890", "region": "eu-central-1"},
            "clients": [{"name": "vpn", "networks": ["10.1.0.7/24", "10.2.0.1", "fd01::5/64"], "secretRef": {"name": "vpn"}}],
            "labels": {"team": "a", "app.kubernetes.io/name": "mine"},
            "annotations": {"radius-mfa.dev/config-digest": "mine"},
            "scheduling": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]},
            "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}},
        },
    }))
    .unwrap()
}

fn settings() -> Settings {
    Settings::new(ClusterName::parse("test").unwrap(), "proxy:1".to_owned())
}

fn set_of(proxy: &RadiusProxy, layout: Layout) -> serde_json::Value {
    let owner = Owner::new(proxy);
    let template = Template::new(&owner, &settings(), None);
    serde_json::to_value(stateful_set(&owner, &template, layout, None).unwrap()).unwrap()
}

fn set() -> serde_json::Value {
    set_of(&proxy(), Layout::at_rest(2))
}

fn template() -> serde_json::Value {
    template_of(&proxy())
}

fn template_of(proxy: &RadiusProxy) -> serde_json::Value {
    set_of(proxy, Layout::at_rest(2))["spec"]["template"].clone()
}

#[test]
fn the_stateful_set_leaves_every_replacement_to_the_operator() {
    let set = set();
    assert_eq!(set["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
    );
    assert_eq!(set["spec"]["serviceName"], "mfa");
    let layout = Layout {
        on_delete: true,
        ..Layout::at_rest(4)
    };
    let surging = set_of(&proxy(), layout);
    assert_eq!(surging["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn another_image_is_another_template_for_the_same_pods() {
    let other = |change: fn(&mut RadiusProxy)| {
        let mut proxy = proxy();
        change(&mut proxy);
        Template::new(&Owner::new(&proxy), &settings(), None)
    };
    let before = other(|_| {});
    let image = other(|proxy| proxy.spec.image = Some("proxy:2".to_owned()));
    assert_ne!(before.digest, image.digest);
    assert_eq!(before.pod_digest, image.pod_digest);
    let priority = other(|proxy| proxy.spec.scheduling.priority_class_name = Some("high".to_owned()));
    assert_ne!(before.digest, priority.digest);
    assert_ne!(before.pod_digest, priority.pod_digest);
}

#[test]
fn the_pods_pass_restricted_pod_security() {
    let pod = &template()["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert!(container["ports"][0].get("hostPort").is_none());
    assert_eq!(pod["terminationGracePeriodSeconds"], 630);
}

#[test]
fn the_template_does_not_know_clients_secrets_provider_or_limits() {
    let mut proxy = proxy();
    let before = template();
    proxy.spec.clients[0].timeout_seconds = 50;
    proxy.spec.clients[0].retries = 10;
    assert_eq!(set_of(&proxy, Layout::at_rest(2))["spec"]["template"], before);
    proxy.spec.clients.clear();
    proxy.spec.directory.as_mut().unwrap().timeout_seconds = 50;
    proxy.spec.policy.limits.pending = 7;
    proxy.spec.provider = serde_json::from_value(json!({
        "duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}
    }))
    .unwrap();
    assert_eq!(set_of(&proxy, Layout::at_rest(2))["spec"]["template"], before);
}

#[test]
fn labels_and_annotations_of_the_operator_cannot_be_taken() {
    let meta = &template()["metadata"];
    assert_eq!(meta["labels"]["team"], "a");
    assert_eq!(meta["labels"]["app.kubernetes.io/name"], "radius-proxy");
    let annotations: Vec<&String> = meta["annotations"].as_object().unwrap().keys().collect();
    assert_eq!(annotations, [crate::names::POD_TEMPLATE_ANNOTATION]);
}

#[test]
fn radius_comes_from_the_directory_and_the_clients_only() {
    let proxy = proxy();
    let directory: BTreeSet<_> = ["10.0.0.10".parse().unwrap(), "fd00::1".parse().unwrap()].into();
    let policy = serde_json::to_value(network_policy(&Owner::new(&proxy), &directory)).unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    let from: Vec<&str> = policy["spec"]["ingress"][0]["from"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer["ipBlock"]["cidr"].as_str().unwrap())
        .collect();
    assert_eq!(
        from,
        [
            "10.0.0.10/32",
            "10.1.0.0/24",
            "10.2.0.1/32",
            "fd00::1/128",
            "fd01::/64"
        ],
        "host bits are cleared, as in the proxy"
    );
    assert_eq!(
        policy["spec"]["ingress"][0]["ports"],
        json!([{"port": 1812, "protocol": "UDP"}])
    );
    assert_eq!(
        policy["spec"]["ingress"][1]["ports"],
        json!([{"port": 8080, "protocol": "TCP"}, {"port": 8081, "protocol": "TCP"}])
    );
    assert_eq!(
        policy["spec"]["ingress"][2],
        json!({"ports": [{"port": 1814, "protocol": "UDP"}],
            "from": [{"podSelector": {"matchLabels": policy["spec"]["podSelector"]["matchLabels"]}}]})
    );
}

#[test]
fn nobody_is_let_in_when_nobody_is_known() {
    let mut proxy = proxy();
    proxy.spec.clients.clear();
    let policy = serde_json::to_value(network_policy(&Owner::new(&proxy), &BTreeSet::new())).unwrap();
    let ports: Vec<_> = policy["spec"]["ingress"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["ports"][0]["port"].clone())
        .collect();
    assert_eq!(ports, [8080, 1814]);
}

#[test]
fn probes_ask_the_port_that_nothing_but_health_uses() {
    let set = set();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "health", "{probe}");
    }
    let ports = container["ports"].as_array().unwrap();
    let health = ports.iter().find(|port| port["name"] == "health").unwrap();
    assert_eq!(health["containerPort"], 8081);
}

#[test]
fn a_pod_may_report_in_the_leases_of_its_like_and_nothing_else() {
    let mut proxy = proxy();
    proxy.spec.provider.totp = None;
    let role = serde_json::to_value(role(&Owner::new(&proxy), 2)).unwrap();
    assert_eq!(
        role["rules"],
        json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["mfa-0", "mfa-1"],
            "verbs": ["get", "patch"]}])
    );
}

#[test]
fn a_host_port_is_taken_only_where_the_nodes_addresses_are_registered() {
    let mut proxy = proxy();
    proxy.spec.addresses.source = AddressSource::HostIp;
    let set = set_of(&proxy, Layout::at_rest(2));
    let ports = &set["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports[0]["hostPort"], 1812);
    assert!(ports[1].get("hostPort").is_none());
}

#[test]
fn the_same_spec_makes_the_same_bytes_and_debug_shows_no_secret() {
    let proxy = proxy();
    let owner = Owner::new(&proxy);
    let files = [("a".to_owned(), proxy_config::Secret::new(b"hunter2".to_vec()))].into();
    let object = Object::Secret(Box::new(secret(&owner, owner.names.radius_secret(), &files)));
    assert_eq!(format!("{object:?}"), "Secret/mfa-radius-secrets");
    assert_eq!(set(), set());
}

#[test]
fn a_load_balancer_gets_what_the_aws_controller_needs_and_what_the_spec_says() {
    let mut proxy = proxy();
    proxy.spec.addresses = serde_json::from_value(json!({
        "source": "LoadBalancer",
        "loadBalancer": {"annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"}},
    }))
    .unwrap();
    let service = serde_json::to_value(load_balancer(&Owner::new(&proxy))).unwrap();
    assert_eq!(
        service["metadata"]["ownerReferences"][0]["uid"],
        proxy.metadata.uid.unwrap()
    );
    let annotations = &service["metadata"]["annotations"];
    assert_eq!(
        annotations["service.beta.kubernetes.io/aws-load-balancer-scheme"],
        "internet-facing"
    );
    assert_eq!(
        annotations["service.beta.kubernetes.io/aws-load-balancer-healthcheck-port"],
        "8081"
    );
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
}

#[test]
fn the_pods_are_told_where_all_of_them_are_that_may_speak() {
    let proxy = proxy();
    let owner = Owner::new(&proxy);
    let pod = |name: &str, ips: &[&str]| PodState {
        name: name.to_owned(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..PodState::default()
    };
    let terminating = PodState {
        deleted: Some(jiff::Timestamp::UNIX_EPOCH),
        ..pod("mfa-1", &["10.0.0.9"])
    };
    let ended = PodState {
        ended: true,
        ..pod("mfa-3", &["10.0.0.3"])
    };
    let pods = [
        pod("mfa-0", &["10.0.0.10", "fd00::a"]),
        terminating,
        pod("mfa-2", &[]),
        ended,
        pod("stranger-0", &["10.0.0.4"]),
        pod("mfa-4", &["fd00::b"]),
    ];
    let addresses = peer_addresses(&owner, &pods);
    assert_eq!(addresses, "10.0.0.9:1814\n10.0.0.10:1814\n[fd00::b]:1814\n");
    let map = serde_json::to_value(peers(&owner, &addresses)).unwrap();
    assert_eq!(map["metadata"]["name"], "mfa-radius-peers");
    assert_eq!(map["data"], json!({"peers": addresses}));
    let reversed: Vec<PodState> = pods.iter().rev().cloned().collect();
    assert_eq!(
        peers_digest(&addresses),
        peers_digest(&peer_addresses(&owner, &reversed))
    );
    assert_ne!(peers_digest(&addresses), peers_digest(""));

    let volume = &template()["spec"]["volumes"][0];
    assert_eq!(
        volume["projected"]["sources"],
        json!([{"configMap": {"name": "mfa-radius-config"}},
            {"configMap": {"name": "mfa-radius-peers", "optional": true}}])
    );
}

#[test]
fn only_pods_whose_own_addresses_are_registered_have_a_readiness_gate() {
    let gates = |change: fn(&mut RadiusProxy)| {
        let mut proxy = proxy();
        change(&mut proxy);
        set_of(&proxy, Layout::at_rest(2))["spec"]["template"]["spec"]["readinessGates"].clone()
    };
    assert_eq!(
        gates(|_| {}),
        json!([{"conditionType": "radius-mfa.dev/registered"}])
    );
    assert!(gates(|proxy| proxy.spec.directory = None).is_null());
    assert!(gates(|proxy| proxy.spec.addresses.source = AddressSource::LoadBalancer).is_null());
}

#[test]
fn ids_are_left_to_a_platform_that_assigns_them() {
    let proxy = proxy();
    let settings = Settings {
        fixed_ids: false,
        ..settings()
    };
    let owner = Owner::new(&proxy);
    let template = Template::new(&owner, &settings, None);
    let set =
        serde_json::to_value(stateful_set(&owner, &template, Layout::at_rest(2), None).unwrap()).unwrap();
    assert_eq!(
        set["spec"]["template"]["spec"]["securityContext"],
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let context = &template_of(&self::proxy())["spec"]["securityContext"];
    assert_eq!(
        (context["runAsUser"].as_i64(), context["fsGroup"].as_i64()),
        (Some(65_532), Some(65_532))
    );
}

#[test]
fn pods_run_on_nodes_that_the_image_is_built_for_unless_the_spec_says_otherwise() {
    let mut proxy = proxy();
    proxy.spec.scheduling.node_selector = [("kubernetes.io/arch", "arm64"), ("disk", "ssd")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let mut settings = settings();
    settings.node_selector = [("kubernetes.io/arch", "amd64"), ("kubernetes.io/os", "linux")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let owner = Owner::new(&proxy);
    let template = Template::new(&owner, &settings, None);
    let set =
        serde_json::to_value(stateful_set(&owner, &template, Layout::at_rest(2), None).unwrap()).unwrap();
    assert_eq!(
        set["spec"]["template"]["spec"]["nodeSelector"],
        json!({"kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux", "disk": "ssd"})
    );
}

#[test]
fn the_template_takes_overrides_and_only_the_proxy_gets_the_proxys_image() {
    let mut proxy = proxy();
    proxy.spec.pod_template = serde_json::from_value(json!({
        "metadata": {"labels": {"team": "b", "radius-mfa.dev/proxy": "mine"}, "annotations": {"a": "b"}},
        "spec": {"runtimeClassName": "kata", "containers": [{"name": "sidecar", "image": "sidecar:1"}]},
    }))
    .unwrap();
    let template = template_of(&proxy);
    assert_eq!(template["metadata"]["labels"]["team"], "b");
    assert_eq!(template["metadata"]["labels"]["radius-mfa.dev/proxy"], "mfa");
    assert_eq!(template["metadata"]["annotations"]["a"], "b");
    assert_eq!(template["spec"]["runtimeClassName"], "kata");
    let images: Vec<_> = template["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["image"].clone())
        .collect();
    assert_eq!(images, ["proxy:1", "sidecar:1"]);
}
