//! What the tests share: the cluster, the simulators, the operator, two RadiusProxy resources.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::{
    DuoProxy, Images, Install, Kubectl, Login, LoginRequest, NAMESPACE, OPERATOR_NAMESPACE, Seed, Simulators,
    TotpProxy, code_at, until,
};
use serde_json::Value;

/// Bob's seed: of RFC 6238 appendix B, in base32.
pub const BOB: &str = "otpauth://totp/Test:bob?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Test";
/// The shared secret that the Microsoft directory begins with.
pub const FIRST_SECRET: &str = "first-shared-secret-of-the-tests";
/// How long anything may take on a busy machine before a test gives up. Not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct World {
    pub kubectl: Kubectl,
    pub helm: PathBuf,
    pub images: Images,
    pub simulators: Simulators,
    /// The one node that all simulators run on: any other can be lost.
    pub simulators_node: String,
    /// From `kubectl apply` of both resources to both being Ready.
    pub apply_to_ready: Duration,
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the tests by `cargo xtask e2e`"))
}

impl World {
    fn build() -> Result<Self> {
        let kubeconfig = variable("E2E_KUBECONFIG")?;
        let kubectl = Kubectl::new(Path::new(&variable("E2E_KUBECTL")?), Some(Path::new(&kubeconfig)));
        let helm = PathBuf::from(variable("E2E_HELM")?);
        let images = Images {
            operator: variable("E2E_OPERATOR_IMAGE")?,
            proxy: variable("E2E_PROXY_IMAGE")?,
            simulators: variable("E2E_SIMULATORS_IMAGE")?,
            pull_policy: "Never".to_owned(),
        };
        let (simulators_node, others) = nodes(&kubectl)?;
        for node in &others {
            kubectl.run(&["cordon", node])?;
        }
        let simulators = Simulators::deploy(&kubectl, &images.simulators, &images.pull_policy);
        for node in &others {
            kubectl.run(&["uncordon", node])?;
        }
        let simulators = simulators?;
        simulators.duo().generate_users("user", 200, 300)?;
        let mut world = Self {
            kubectl,
            helm,
            images,
            simulators,
            simulators_node,
            apply_to_ready: Duration::ZERO,
        };
        world.install().prepare()?;
        world.install().run(&world.simulators, &[])?;
        world.apply_to_ready = world.apply_both()?;
        Ok(world)
    }

    /// The installation by Helm.
    pub fn install(&self) -> Install<'_> {
        Install {
            kubectl: &self.kubectl,
            helm: &self.helm,
            chart: project().join("charts/radius-mfa-operator"),
            images: &self.images,
            without_dns: true,
            describe_every: std::env::var("E2E_DESCRIBE_EVERY")
                .ok()
                .and_then(|seconds| seconds.parse().ok()),
        }
    }

    fn apply_both(&self) -> Result<Duration> {
        let duo = self.duo_proxy()?;
        self.kubectl.apply(
            &[
                DuoProxy::secrets(FIRST_SECRET),
                TotpProxy::secrets(&[("bob", BOB)]),
            ]
            .join("---\n"),
        )?;
        let begun = Instant::now();
        self.kubectl
            .apply(&[duo.manifest(), TotpProxy::manifest()].join("---\n"))?;
        self.both_ready()?;
        Ok(begun.elapsed())
    }

    /// The Duo RadiusProxy as it is applied first.
    pub fn duo_proxy(&self) -> Result<DuoProxy> {
        Ok(DuoProxy {
            api_host: format!("{}:8443", self.simulators.duo_host()),
            ca_bundle: self.simulators.duo().ca()?,
            replicas: 2,
        })
    }

    /// Waits until both are Ready.
    pub fn both_ready(&self) -> Result<()> {
        for name in [DuoProxy::NAME, TotpProxy::NAME] {
            self.ready(NAMESPACE, name)?;
        }
        Ok(())
    }

    /// Waits until a RadiusProxy is Ready.
    pub fn ready(&self, namespace: &str, name: &str) -> Result<()> {
        self.kubectl
            .wait_for_condition(namespace, &format!("rp/{name}"), "Ready", PATIENCE)
    }

    /// A login at a domain controller.
    pub fn login(&self, controller: &str, user: &str, typed: &str) -> Login {
        let request = LoginRequest {
            username: user.to_owned(),
            password: typed.to_owned(),
            ..LoginRequest::default()
        };
        self.simulators.controller(controller).login(&request).unwrap()
    }

    /// The pods of a RadiusProxy.
    pub fn pods(&self, proxy: &str) -> Result<Value> {
        let selector = format!("radius-mfa.dev/proxy={proxy}");
        self.kubectl.get(&["-n", NAMESPACE, "pods", "-l", &selector])
    }

    /// Merges a patch into a RadiusProxy.
    pub fn patch(&self, proxy: &str, patch: &str) -> Result<()> {
        self.patch_in(NAMESPACE, proxy, patch)
    }

    /// The same in another namespace.
    pub fn patch_in(&self, namespace: &str, proxy: &str, patch: &str) -> Result<()> {
        let args = ["-n", namespace, "patch", "rp", proxy, "--type=merge", "-p", patch];
        self.kubectl.run(&args).map(drop)
    }

    /// Deletes a pod without a farewell.
    pub fn kill_pod(&self, pod: &str) {
        self.kill_pod_in(NAMESPACE, pod);
    }

    /// The same in another namespace.
    pub fn kill_pod_in(&self, namespace: &str, pod: &str) {
        let args = [
            "-n",
            namespace,
            "delete",
            "pod",
            pod,
            "--force",
            "--grace-period=0",
        ];
        self.kubectl.run(&args).unwrap();
    }

    /// Kills every pod of the operator.
    pub fn kill_operators(&self) {
        let args = [
            "-n",
            OPERATOR_NAMESPACE,
            "delete",
            "pods",
            "--all",
            "--force",
            "--grace-period=0",
        ];
        self.kubectl.run(&args).unwrap();
    }

    /// Everything that the pods of a RadiusProxy have logged.
    pub fn proxy_logs(&self, proxy: &str) -> String {
        let selector = format!("radius-mfa.dev/proxy={proxy}");
        self.kubectl
            .run(&["-n", NAMESPACE, "logs", "-l", &selector, "--tail=-1"])
            .unwrap()
    }

    /// A condition of a RadiusProxy.
    pub fn condition(&self, namespace: &str, proxy: &str, kind: &str) -> Value {
        let object = self.kubectl.get(&["-n", namespace, "rp", proxy]).unwrap();
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c["type"] == kind)
            .unwrap_or_default()
    }

    /// Waits until a condition has a reason, and returns its message.
    pub fn reason(&self, namespace: &str, proxy: &str, kind: &str, status: &str, reason: &str) -> String {
        until(
            &format!("{namespace}/{proxy}: {kind}={status} ({reason})"),
            PATIENCE,
            || {
                let condition = self.condition(namespace, proxy, kind);
                Ok(
                    if condition["status"] == status && condition["reason"] == reason {
                        Ok(condition["message"].as_str().unwrap_or_default().to_owned())
                    } else {
                        Err(condition.to_string())
                    },
                )
            },
        )
        .unwrap()
    }

    /// The metrics of a pod.
    pub fn metrics(&self, namespace: &str, pod: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics");
        self.kubectl.run(&["get", "--raw", &path]).unwrap()
    }

    /// The operator's replica that leads.
    pub fn leader(&self) -> String {
        until("one operator to lead", PATIENCE, || {
            let pods = self.kubectl.get(&[
                "-n",
                OPERATOR_NAMESPACE,
                "pods",
                "--field-selector",
                "status.phase=Running",
            ])?;
            let leads = |pod: &&Value| {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                pod["metadata"]["deletionTimestamp"].is_null()
                    && self.metric(OPERATOR_NAMESPACE, name, "radius_mfa_operator_leader", &[]) > 0.5
            };
            let leader = pods["items"].as_array().into_iter().flatten().find(leads);
            let name = leader.and_then(|pod| pod["metadata"]["name"].as_str());
            Ok(name.map(str::to_owned).ok_or_else(|| "no leader".to_owned()))
        })
        .unwrap()
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    pub fn metric(&self, namespace: &str, pod: &str, name: &str, labels: &[&str]) -> f64 {
        self.metrics(namespace, pod)
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// The first node and the others.
fn nodes(kubectl: &Kubectl) -> Result<(String, Vec<String>)> {
    let nodes = kubectl.get(&["nodes"])?;
    let mut names = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned));
    let first = names.next().context("the cluster has no nodes")?;
    Ok((first, names.collect()))
}

/// The one world. Its making is part of whichever test comes first.
pub fn world() -> &'static World {
    static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
    match WORLD.get_or_init(|| World::build().map_err(|error| format!("{error:#}"))) {
        Ok(world) => world,
        Err(error) => panic!("the world could not be made: {error}"),
    }
}

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A code of bob's that was not used in this run: each time step is used once, the next one being valid already.
pub fn unused_code() -> String {
    unused_code_from(|now| now.saturating_sub(1))
}

/// One of the present time step: it stays valid for half a minute at least, also for a proxy that has seen bob's clock
/// go slow.
pub fn code_of_now() -> String {
    unused_code_from(|now| now)
}

fn unused_code_from(earliest: impl Fn(u64) -> u64) -> String {
    static LAST: std::sync::Mutex<u64> = std::sync::Mutex::new(0);
    let seed = Seed::from_uri(BOB).unwrap();
    let mut last = LAST.lock().unwrap();
    let step = until("an unused time step", PATIENCE, || {
        let now = e2e::fresh_code(&seed)?.0;
        let step = (*last + 1).max(earliest(now));
        Ok(if step <= now + 1 {
            Ok(step)
        } else {
            Err(format!("step {step} is still to come at {now}"))
        })
    })
    .unwrap();
    *last = step;
    code_at(&seed, step).unwrap()
}
