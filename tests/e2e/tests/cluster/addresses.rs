//! What is registered, by where addresses come from. The tests play what the cluster does not have: the controller of load
//! balancers, and their DNS.

use std::collections::BTreeSet;

use e2e::{LoginRequest, NameServer, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::world::{PATIENCE, World, unused_code, world};

const NS: &str = "addresses";

/// A directory with one RadiusProxy.
struct Scene {
    site: Site,
    name: &'static str,
    since: u64,
}

impl Scene {
    /// `spec` is what the RadiusProxy has beside the usual, as JSON, and `more` the directory.
    fn new(directory: &'static str, name: &'static str, more: &Value, spec: &Value) -> Self {
        Self::at(Site::new(directory), name, more, spec)
    }

    fn at(site: Site, name: &'static str, more: &Value, spec: &Value) -> Self {
        // A host port is what Pod Security refuses at any other level.
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NS}\n  labels: {{pod-security.kubernetes.io/enforce: \
             privileged}}\n"
        );
        site.world.kubectl.apply(&namespace).unwrap();
        let mut entry = json!({"type": "MicrosoftAD", "name": "addresses.example.com"});
        merge(&mut entry, more);
        site.directory(&entry);
        let since = site.world.simulators.directory().last_write().unwrap();
        site.grant(name, NS);
        let mut manifest = totp_proxy(name, NS, site.directory);
        for (field, value) in spec.as_object().unwrap() {
            manifest = manifest.replace("  provider:\n", &format!("  {field}: {value}\n  provider:\n"));
        }
        site.apply(NS, &manifest);
        Self { site, name, since }
    }

    fn ready(&self) {
        self.site.world.ready(NS, self.name).unwrap();
    }

    /// How often AWS's settings were written.
    fn writes(&self) -> usize {
        let simulator = self.site.world.simulators.directory();
        let writes = simulator
            .settings_writes(self.since, self.site.directory)
            .unwrap();
        writes.len()
    }

    /// RadiusServers and RadiusServersIpv6.
    fn registered(&self) -> [BTreeSet<String>; 2] {
        let settings = self.site.settings("eu-central-1");
        ["radius_servers", "radius_servers_ipv6"].map(|field| {
            let list = settings[field].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        })
    }

    /// Waits until these are registered, and the RadiusProxy is Ready with them.
    fn follows(&self, v4: &[&str], v6: &[&str]) {
        let wanted = [v4, v6].map(|list| list.iter().map(|each| (*each).to_owned()).collect());
        until(&format!("{v4:?} {v6:?} to be registered"), PATIENCE, || {
            let now = self.registered();
            Ok(if now == wanted {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            })
        })
        .unwrap();
        self.ready();
    }

    /// The controller of load balancers says where the load balancer is.
    fn balance(&self, ingress: &Value) {
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}}).to_string();
        let service = format!("{}-radius-lb", self.name);
        let args = ["-n", NS, "patch", "service", &service, "--subresource=status"];
        let args = [&args[..], &["--type=merge", "-p", &patch]].concat();
        self.site.world.kubectl.run(&args).unwrap();
    }

    fn service(&self) -> Value {
        let service = format!("{}-radius-lb", self.name);
        until("the Service of type LoadBalancer", PATIENCE, || {
            Ok(Ok(self
                .site
                .world
                .kubectl
                .get(&["-n", NS, "service", &service])?))
        })
        .unwrap()
    }

    /// The one pod.
    fn pod(&self) -> Value {
        let pod = format!("{}-0", self.name);
        self.site.world.kubectl.get(&["-n", NS, "pod", &pod]).unwrap()
    }

    /// Waits until the pod is Ready, which takes no operator: its template has no readiness gate.
    fn pod_is_ready(&self) {
        until("the pod to be Ready", PATIENCE, || {
            let pod = self.pod();
            assert!(pod["spec"]["readinessGates"].is_null(), "{}", pod["spec"]);
            let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let is_ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
            Ok(is_ready.then_some(()).ok_or_else(|| pod["status"].to_string()))
        })
        .unwrap();
    }
}

fn merge(entry: &mut Value, more: &Value) {
    for (field, value) in more.as_object().into_iter().flatten() {
        entry[field] = value.clone();
    }
}

/// A directory that nobody asks from: its servers need not answer.
fn silent() -> Value {
    json!({"static_controllers": [{"address": "10.9.9.9"}]})
}

#[test]
fn a_node_is_registered_and_answers_through_its_port_also_after_its_pod_was_killed() {
    let world = world();
    let site = Site::new("d-90670000a1");
    let node = &world.simulators_node;
    let simulators = &world.simulators;
    site.directory(&json!({"type": "MicrosoftAD", "name": "addresses.example.com"}));
    site.domain_controllers("hostdc");
    let scene = Scene::at(
        site,
        "host",
        &json!({}),
        &json!({"addresses": {"source": "HostIP"}, "scheduling": {"nodeSelector": {"kubernetes.io/hostname": node}}}),
    );
    let addresses = world.kubectl.get(&["node", node]).unwrap()["status"]["addresses"].take();
    let mut addresses = addresses.as_array().unwrap().iter();
    let internal = addresses.find(|each| each["type"] == "InternalIP").unwrap();
    scene.follows(&[internal["address"].as_str().unwrap()], &[]);
    let accepted = || {
        let request = LoginRequest {
            username: "bob".to_owned(),
            password: unused_code(),
            ..LoginRequest::default()
        };
        let login = simulators.controller("hostdc-0").login(&request).unwrap();
        assert_eq!(login.outcome, "accept", "{login:?}");
    };
    accepted();
    let before = scene.pod()["metadata"]["uid"].take();
    let kill = ["-n", NS, "delete", "pod", "host-0", "--force", "--grace-period=0"];
    world.kubectl.run(&kill).unwrap();
    until("another pod, ready", PATIENCE, || {
        let pod = world.kubectl.get(&["-n", NS, "pod", "host-0"])?;
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        Ok(if ready && pod["metadata"]["uid"] != before {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        })
    })
    .unwrap();
    scene.ready();
    accepted();
    assert_eq!(scene.writes(), 1);
}

#[test]
fn a_load_balancer_gets_its_service_and_its_address_is_registered_and_followed() {
    let spec = json!({"addresses": {"source": "LoadBalancer", "loadBalancer": {"annotations": {
        "service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing", "example.com/team": "identity"}}}});
    let scene = Scene::new("d-90670000a2", "balanced", &silent(), &spec);
    let service = scene.service();
    let told = scene
        .site
        .world
        .reason(NS, scene.name, "Registered", "False", "WaitingForAddresses");
    assert!(told.contains("Service of type LoadBalancer"), "{told}");
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["protocol"]), (&json!(1812), &json!("UDP")));
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
    let annotation = |key: &str| {
        service["metadata"]["annotations"][key]
            .as_str()
            .map(str::to_owned)
    };
    let aws = |key: &str| annotation(&format!("service.beta.kubernetes.io/aws-load-balancer-{key}"));
    assert_eq!(annotation("example.com/team").as_deref(), Some("identity"));
    assert_eq!(aws("scheme").as_deref(), Some("internet-facing"));
    assert_eq!(aws("nlb-target-type").as_deref(), Some("ip"));
    assert_eq!(aws("healthcheck-protocol").as_deref(), Some("http"));
    // UDP has no health: it is asked for at a TCP port of the pod.
    let health: u64 = aws("healthcheck-port").unwrap().parse().unwrap();
    let ports = scene.pod()["spec"]["containers"][0]["ports"].take();
    let mut ports = ports.as_array().unwrap().iter();
    assert!(ports.any(|p| p["protocol"] == "TCP" && p["containerPort"] == health));
    // Nothing is registered, and the pod answers: nobody has to wait for AWS to count on it.
    scene.pod_is_ready();
    assert_eq!(scene.writes(), 0);
    scene.balance(&json!([{"ip": "10.9.1.1"}]));
    scene.follows(&["10.9.1.1"], &[]);
    scene.balance(&json!([{"ip": "10.9.1.2"}, {"ip": "10.9.1.3"}]));
    scene.follows(&["10.9.1.2", "10.9.1.3"], &[]);
    // A controller that has lost sight of it takes nothing away.
    scene.balance(&json!([]));
    scene
        .site
        .world
        .reason(NS, scene.name, "Registered", "False", "WaitingForAddresses");
    scene.balance(&json!([{"ip": "10.9.1.3"}, {"ip": "10.9.1.2"}]));
    scene.ready();
    assert_eq!(scene.writes(), 2);
}

/// The operator with a name server of the test's own; with that of the node again when this goes.
struct Named(NameServer);

impl Named {
    fn new(world: &World) -> Self {
        let images = &world.images;
        let server = NameServer::deploy(&world.kubectl, &images.simulators, &images.pull_policy).unwrap();
        let nameservers = format!("dnsConfig.nameservers={{{}}}", server.address());
        let named = Self(server);
        let more = ["dnsPolicy=None", &nameservers, "resolveIntervalSeconds=5"];
        world.install().run(&world.simulators, &more).unwrap();
        named
    }

    /// Waits until the name was looked up some more times, both families each time.
    fn looked_up(&self, name: &str, times: u64) {
        let before = self.0.queries(name).unwrap();
        until("the name to be looked up", PATIENCE, || {
            let now = self.0.queries(name)?;
            Ok(if now >= before + 2 * times {
                Ok(())
            } else {
                Err(format!("{before}, then {now} queries"))
            })
        })
        .unwrap();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let world = world();
        let back = world.install().run(&world.simulators, &[]).map(drop);
        for error in [back, self.0.remove()].into_iter().filter_map(Result::err) {
            eprintln!("the operator has another name server still: {error:#}");
        }
    }
}

#[test]
fn a_load_balancers_name_is_resolved_and_followed_and_its_order_and_failures_are_no_change() {
    const NAME: &str = "nlb-1.elb.example.com";
    let named = Named::new(world());
    let answer = |addresses: &[&str]| named.0.answer(NAME, addresses).unwrap();
    answer(&["10.9.2.1", "fd00::9:2:1", "10.9.2.2"]);
    let mut directory = silent();
    merge(&mut directory, &json!({"network_type": "Dual-stack"}));
    let spec = json!({"addresses": {"source": "LoadBalancer"}});
    let scene = Scene::new("d-90670000a3", "named", &directory, &spec);
    scene.service();
    scene.balance(&json!([{"hostname": NAME}]));
    scene.follows(&["10.9.2.1", "10.9.2.2"], &["fd00::9:2:1"]);
    answer(&["10.9.2.2", "fd00::9:2:1", "10.9.2.1"]);
    named.looked_up(NAME, 3);
    for trouble in ["servfail", "nxdomain", "silent"] {
        named.0.fail(NAME, trouble).unwrap();
        named.looked_up(NAME, 2);
    }
    scene.ready();
    assert_eq!(scene.writes(), 1);
    // One is another now, of each family.
    answer(&["10.9.2.3", "10.9.2.2", "fd00::9:2:2"]);
    scene.follows(&["10.9.2.2", "10.9.2.3"], &["fd00::9:2:2"]);
    assert_eq!(scene.writes(), 2);
    // Another name, as a load balancer that was made anew has.
    named.0.answer("nlb-2.elb.example.com", &["10.9.2.9"]).unwrap();
    scene.balance(&json!([{"hostname": "nlb-2.elb.example.com"}]));
    scene.follows(&["10.9.2.9"], &[]);
    assert_eq!(scene.writes(), 3);
}

#[test]
fn a_list_is_registered_as_it_is_written_and_another_list_is_one_write() {
    let list = |addresses: &[&str]| json!({"addresses": {"source": "Static", "static": addresses}});
    let spec = list(&["10.9.3.1", "mfa.corp.example.com"]);
    let scene = Scene::new("d-90670000a4", "listed", &silent(), &spec);
    scene.follows(&["10.9.3.1", "mfa.corp.example.com"], &[]);
    scene.pod_is_ready();
    let patch = json!({"spec": list(&["10.9.3.2", "10.9.3.3"])}).to_string();
    scene.site.world.patch_in(NS, scene.name, &patch).unwrap();
    scene.follows(&["10.9.3.2", "10.9.3.3"], &[]);
    assert_eq!(scene.writes(), 2);
}

#[test]
fn a_dual_stack_directory_gets_the_addresses_of_each_family_and_one_of_ipv6_its_own() {
    let spec =
        json!({"addresses": {"source": "Static", "static": ["10.9.4.1", "fd00::9:4:1", "FD00:0::9:4:2"]}});
    for (directory, name, network, v4) in [
        ("d-90670000a5", "dual", "Dual-stack", &["10.9.4.1"][..]),
        ("d-90670000a6", "six", "IPv6", &[]),
    ] {
        let mut more = silent();
        merge(&mut more, &json!({"network_type": network}));
        if network == "IPv6" {
            merge(
                &mut more,
                &json!({"static_controllers": [{"address": "fd00::9:9"}]}),
            );
        }
        let scene = Scene::new(directory, name, &more, &spec);
        scene.follows(v4, &["fd00::9:4:1", "fd00::9:4:2"]);
        assert_eq!(scene.writes(), 1);
        let status = scene.site.world.kubectl.get(&["-n", NS, "rp", name]).unwrap()["status"].take();
        let servers = v4.len() + 2;
        assert_eq!(status["servers"], format!("{servers}/{servers}"), "{status}");
    }
}
