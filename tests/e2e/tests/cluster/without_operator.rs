//! Pods that start while no operator runs.

use e2e::{OPERATOR_NAMESPACE, RELEASE, until};
use serde_json::Value;

use crate::bad_input::totp_proxy;
use crate::site::{Site, proxy_without_directory};
use crate::world::{PATIENCE, World};

const NS: &str = "unattended";

/// No operator runs until this is dropped.
struct NoOperator<'a>(&'a World);

impl<'a> NoOperator<'a> {
    fn now(world: &'a World) -> Self {
        let none = Self(world);
        none.scale("0").unwrap();
        until("the operators to be gone", PATIENCE, || {
            let pods = world.kubectl.get(&["-n", OPERATOR_NAMESPACE, "pods"])?;
            let left = pods["items"].as_array().map_or(0, Vec::len);
            Ok(if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} pods"))
            })
        })
        .unwrap();
        none
    }

    fn scale(&self, replicas: &str) -> anyhow::Result<()> {
        let (deployment, replicas) = (format!("deployment/{RELEASE}"), format!("--replicas={replicas}"));
        let scale = ["-n", OPERATOR_NAMESPACE, "scale", &deployment, &replicas];
        self.0.kubectl.run(&scale).map(drop)
    }
}

impl Drop for NoOperator<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.scale("2") {
            eprintln!("no operator runs still: {error:#}");
        }
    }
}

/// Waits until a pod is Ready that is another one than `before`, and returns its uid.
fn ready_pod(world: &World, pod: &str, before: &Value) -> Value {
    until(&format!("{pod} to be Ready"), PATIENCE, || {
        let pod = world.kubectl.get(&["-n", NS, "pod", pod])?;
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions
            .filter(|c| c["type"] == "Ready" && c["status"] == "True")
            .count();
        let uid = &pod["metadata"]["uid"];
        Ok(if ready == 1 && uid != before {
            Ok(uid.clone())
        } else {
            Err(pod["status"]["conditions"].to_string())
        })
    })
    .unwrap()
}

#[test]
fn pods_whose_addresses_are_not_registered_are_ready_without_an_operator() {
    let site = Site::in_namespace("d-9067000161", NS);
    let world = site.world;
    let balanced = totp_proxy("balanced", NS, site.directory).replace(
        "  provider:\n",
        "  addresses: {source: LoadBalancer}\n  provider:\n",
    );
    site.apply(NS, &balanced);
    site.apply(NS, &proxy_without_directory("standalone", NS));
    let pods = ["balanced-0", "standalone-0"];
    let before = pods.map(|pod| ready_pod(world, pod, &Value::Null));
    let _away = NoOperator::now(world);
    for pod in pods {
        world.kill_pod_in(NS, pod);
    }
    for (pod, before) in pods.iter().zip(&before) {
        ready_pod(world, pod, before);
    }
}
