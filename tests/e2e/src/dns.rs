//! A name server whose names a test changes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, PodPort};
use crate::simulators::SIMULATED;
use crate::wait::until;

const MANIFESTS: &str = include_str!("../manifests/dns.yaml");

/// It runs as a pod.
#[derive(Debug, Clone)]
pub struct NameServer {
    kubectl: Kubectl,
    address: String,
}

impl NameServer {
    const ADMIN: PodPort<'static> = PodPort {
        namespace: SIMULATED,
        pod: "dns-0",
        port: 8083,
    };

    /// Applies it and waits until it answers.
    pub fn deploy(kubectl: &Kubectl, image: &str, pull_policy: &str) -> Result<Self> {
        let manifests = MANIFESTS
            .replace("SIMULATORS_IMAGE", image)
            .replace("PULL_POLICY", pull_policy);
        kubectl.apply(&manifests)?;
        until("the name server to be ready", Duration::from_secs(120), || {
            let status = kubectl.get(&["-n", SIMULATED, "statefulset", "dns"])?;
            let ready = status["status"]["readyReplicas"].as_u64();
            Ok(if ready == Some(1) {
                Ok(())
            } else {
                Err(format!("{ready:?} ready"))
            })
        })?;
        let service = kubectl.get(&["-n", SIMULATED, "service", "dns"])?;
        let address = service["spec"]["clusterIP"].as_str();
        Ok(Self {
            kubectl: kubectl.clone(),
            address: address.context("a Service without an address")?.to_owned(),
        })
    }

    /// Removes what [`Self::deploy`] made.
    pub fn remove(&self) -> Result<()> {
        let delete = [
            "-n",
            SIMULATED,
            "delete",
            "service/dns",
            "statefulset/dns",
            "--ignore-not-found",
        ];
        self.kubectl.run(&delete).map(drop)
    }

    /// For `dnsConfig.nameservers`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on the name has these addresses, in this order.
    pub fn answer(&self, name: &str, addresses: &[&str]) -> Result<()> {
        self.put(name, &json!({ "addresses": addresses }))
    }

    /// From now on it is answered with `servfail` or `nxdomain`, or not at all: `silent`.
    pub fn fail(&self, name: &str, trouble: &str) -> Result<()> {
        self.put(name, &json!({ "trouble": trouble }))
    }

    /// How often a name was asked for, by either family.
    pub fn queries(&self, name: &str) -> Result<u64> {
        let names: Value = self.kubectl.pod_get(&Self::ADMIN, "/names")?;
        Ok(names["queries"][name].as_u64().unwrap_or(0))
    }

    fn put(&self, name: &str, entry: &Value) -> Result<()> {
        self.kubectl
            .pod_put(&Self::ADMIN, &format!("/names/{name}"), entry)
    }
}
