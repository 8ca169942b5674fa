//! The simulated outside: AWS Directory Service, its domain controllers, Duo and Okta, as pods.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, PodPort};
use crate::logins::{BackgroundLogins, Login, LoginRequest, Report};
use crate::vendors::{DuoSimulator, OktaSimulator};
use crate::wait::until;

/// The namespace of the simulators.
pub const SIMULATED: &str = "simulated-aws";
/// The AWS Managed Microsoft AD; its domain controllers are the pods `dc-0` and `dc-1`.
pub const MICROSOFT_DIRECTORY: &str = "d-9067012345";
/// The AD Connector; its two addresses are those of the pods `connector-0` and `connector-1`.
pub const CONNECTOR_DIRECTORY: &str = "d-9067054321";

const SERVICES: &str = include_str!("../manifests/simulators-services.yaml");
const WORKLOADS: &str = include_str!("../manifests/simulators.yaml");

/// All of them, running.
#[derive(Debug, Clone)]
pub struct Simulators {
    kubectl: Kubectl,
    directory_host: String,
    duo_host: String,
    okta_host: String,
}

impl Simulators {
    /// Applies them and waits until each answers.
    pub fn deploy(kubectl: &Kubectl, image: &str, pull_policy: &str) -> Result<Self> {
        kubectl.ensure_namespace(SIMULATED)?;
        kubectl.apply(SERVICES)?;
        kubectl.apply(
            &WORKLOADS
                .replace("SIMULATORS_IMAGE", image)
                .replace("PULL_POLICY", pull_policy),
        )?;
        for set in ["directory", "duo", "okta", "dc", "connector"] {
            until(
                &format!("the simulator {set} to be ready"),
                Duration::from_secs(120),
                || {
                    let status = kubectl.get(&["-n", SIMULATED, "statefulset", set])?;
                    let (want, have) = (&status["spec"]["replicas"], &status["status"]["readyReplicas"]);
                    Ok(if want == have {
                        Ok(())
                    } else {
                        Err(format!("{have} of {want} ready"))
                    })
                },
            )?;
        }
        Self::existing(kubectl)
    }

    /// Those that run already.
    pub fn existing(kubectl: &Kubectl) -> Result<Self> {
        let host = |name: &str| -> Result<String> {
            let service = kubectl.get(&["-n", SIMULATED, "service", name])?;
            Ok(service["spec"]["clusterIP"]
                .as_str()
                .context("a Service without an address")?
                .to_owned())
        };
        Ok(Self {
            kubectl: kubectl.clone(),
            directory_host: host("directory")?,
            duo_host: host("duo")?,
            okta_host: host("okta")?,
        })
    }

    /// Two more domain controllers, `<name>-0` and `<name>-1`, of another directory than the two that there are.
    pub fn add_domain_controllers(&self, name: &str, directory: &str) -> Result<()> {
        let mut spec = self.kubectl.get(&["-n", SIMULATED, "statefulset", "dc"])?["spec"].take();
        let labels = json!({ "app": name });
        spec["replicas"] = json!(2);
        spec["selector"]["matchLabels"] = labels.clone();
        spec["template"]["metadata"] = json!({ "labels": labels });
        let args = &mut spec["template"]["spec"]["containers"][0]["args"];
        for arg in args.as_array_mut().context("controllers without arguments")? {
            if arg.as_str().is_some_and(|arg| arg.starts_with("--directory-id=")) {
                *arg = json!(format!("--directory-id={directory}"));
            }
        }
        let metadata = json!({"name": name, "namespace": SIMULATED});
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec});
        self.kubectl.apply(&set.to_string())?;
        let set = format!("statefulset/{name}");
        let wait = ["-n", SIMULATED, "rollout", "status", &set, "--timeout=120s"];
        self.kubectl.run(&wait).map(drop)
    }

    /// Where the AWS API is, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn aws_endpoint(&self) -> String {
        format!("http://{}:8080", self.directory_host)
    }

    /// The host of Duo's API, without port.
    #[must_use]
    pub fn duo_host(&self) -> &str {
        &self.duo_host
    }

    /// The host of Okta's API, without port.
    #[must_use]
    pub fn okta_host(&self) -> &str {
        &self.okta_host
    }

    /// AWS Directory Service.
    #[must_use]
    pub fn directory(&self) -> DirectorySimulator<'_> {
        DirectorySimulator(&self.kubectl)
    }

    /// Duo.
    #[must_use]
    pub fn duo(&self) -> DuoSimulator<'_> {
        DuoSimulator::new(&self.kubectl)
    }

    /// Okta.
    #[must_use]
    pub fn okta(&self) -> OktaSimulator<'_> {
        OktaSimulator::new(&self.kubectl)
    }

    /// A domain controller or connector, by its pod's name.
    #[must_use]
    pub fn controller(&self, pod: &str) -> Controller<'_> {
        Controller {
            kubectl: &self.kubectl,
            pod: pod.to_owned(),
        }
    }
}

/// A write that AWS saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Write {
    /// Its place in the journal.
    pub seq: u64,
    /// EnableRadius, UpdateRadius, DisableRadius, AddTagsToResource.
    pub operation: String,
    /// The directory.
    #[serde(default)]
    pub directory: Option<String>,
    /// `ok` or the exception's name.
    pub result: String,
    /// RadiusSettings, without the secret.
    #[serde(default)]
    pub settings: Value,
    /// A keyed digest of the secret.
    #[serde(default)]
    pub shared_secret_digest: Option<String>,
    /// RFC 3339.
    pub time: String,
}

/// How long AWS was changing settings.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Changing {
    /// In all, in milliseconds.
    pub total_ms: u64,
    /// Each time.
    #[serde(default)]
    pub intervals: Vec<Change>,
}

/// One change of settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// How long it took, in milliseconds; absent while it goes on.
    #[serde(default)]
    pub ms: Option<u64>,
    /// EnableRadius or UpdateRadius.
    pub operation: String,
}

/// The admin API of the simulated AWS Directory Service.
#[derive(Debug, Clone, Copy)]
pub struct DirectorySimulator<'a>(&'a Kubectl);

impl DirectorySimulator<'_> {
    const ADMIN: PodPort<'static> = PodPort {
        namespace: SIMULATED,
        pod: "directory-0",
        port: 8081,
    };

    /// The last entry's place in the journal.
    pub fn last_write(&self) -> Result<u64> {
        Ok(self.journal(0)?.last().map_or(0, |w| w.seq))
    }

    /// Every write after that place.
    pub fn journal(&self, since: u64) -> Result<Vec<Write>> {
        #[derive(Deserialize)]
        struct Journal {
            entries: Vec<Write>,
        }
        let journal: Journal = self.0.pod_get(&Self::ADMIN, &format!("/journal?since={since}"))?;
        Ok(journal.entries)
    }

    /// The writes after that place that change RADIUS settings of one directory, and were done.
    pub fn settings_writes(&self, since: u64, directory: &str) -> Result<Vec<Write>> {
        let mut writes = self.calls_to_write(since, directory)?;
        writes.retain(|write| write.result == "ok");
        Ok(writes)
    }

    /// Those that were refused or not answered.
    pub fn unmade_writes(&self, since: u64, directory: &str) -> Result<Vec<Write>> {
        let mut writes = self.calls_to_write(since, directory)?;
        writes.retain(|write| write.result != "ok");
        Ok(writes)
    }

    fn calls_to_write(&self, since: u64, directory: &str) -> Result<Vec<Write>> {
        let mut writes = self.journal(since)?;
        writes.retain(|w| w.operation.ends_with("Radius") && w.directory.as_deref() == Some(directory));
        Ok(writes)
    }

    /// A directory as the simulator holds it.
    pub fn state(&self, directory: &str) -> Result<Value> {
        self.0.pod_get(&Self::ADMIN, &format!("/directories/{directory}"))
    }

    /// How long its settings were changing, ever.
    pub fn changing(&self, directory: &str) -> Result<Changing> {
        Ok(serde_json::from_value(
            self.state(directory)?["changing"].clone(),
        )?)
    }

    /// What is registered.
    pub fn registered(&self, directory: &str) -> Result<Vec<String>> {
        let state = self.state(directory)?;
        let settings = &state["radius"]["eu-central-1"]["settings"];
        let servers = settings["radius_servers"].as_array().cloned().unwrap_or_default();
        Ok(servers
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// The RadiusStatus; None when RADIUS is off.
    pub fn radius_status(&self, directory: &str) -> Result<Option<String>> {
        Ok(self.state(directory)?["radius"]["eu-central-1"]["status"]
            .as_str()
            .map(str::to_owned))
    }

    /// The digest under which a secret appears in the journal.
    pub fn digest(&self, text: &str) -> Result<String> {
        let answer: Value = self.0.pod_post(&Self::ADMIN, "/digest", &json!({"text": text}))?;
        Ok(answer["digest"].as_str().context("no digest")?.to_owned())
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: &Value) -> Result<()> {
        self.0
            .pod_put(&Self::ADMIN, "/faults", &json!({ "faults": faults }))
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: &str) -> Result<u64> {
        let counters: Value = self.0.pod_get(&Self::ADMIN, "/counters")?;
        Ok(counters["operations"][operation]["calls"].as_u64().unwrap_or(0))
    }

    /// Merges settings.
    pub fn set_settings(&self, settings: &Value) -> Result<()> {
        self.0.pod_put(&Self::ADMIN, "/settings", settings)
    }

    /// Makes or changes a directory.
    pub fn put_directory(&self, id: &str, spec: &Value) -> Result<()> {
        self.0.pod_put(&Self::ADMIN, &format!("/directories/{id}"), spec)
    }

    /// Deletes a directory, as somebody would at AWS.
    pub fn delete_directory(&self, id: &str) -> Result<()> {
        self.0.pod_delete(&Self::ADMIN, &format!("/directories/{id}"))
    }

    /// Whether there is such a directory.
    pub fn has_directory(&self, id: &str) -> Result<bool> {
        let all: Value = self.0.pod_get(&Self::ADMIN, "/directories")?;
        Ok(all.to_string().contains(&format!("\"{id}\"")))
    }

    /// Settings made by a foreign hand.
    pub fn put_radius(&self, id: &str, body: &Value) -> Result<()> {
        self.0
            .pod_put(&Self::ADMIN, &format!("/directories/{id}/radius"), body)
    }

    /// RADIUS switched off by a foreign hand.
    pub fn delete_radius(&self, id: &str) -> Result<()> {
        self.0
            .pod_delete(&Self::ADMIN, &format!("/directories/{id}/radius"))
    }
}

/// A simulated domain controller or connector.
#[derive(Debug, Clone)]
pub struct Controller<'a> {
    kubectl: &'a Kubectl,
    pod: String,
}

impl Controller<'_> {
    fn admin(&self) -> PodPort<'_> {
        PodPort {
            namespace: SIMULATED,
            pod: &self.pod,
            port: 8082,
        }
    }

    /// Logs a user in and waits for the end of it.
    pub fn login(&self, request: &LoginRequest) -> Result<Login> {
        self.kubectl
            .pod_post(&self.admin(), "/login", &serde_json::to_value(request)?)
    }

    /// Begins logins in the background; answers with their id.
    pub fn begin_logins(&self, logins: &BackgroundLogins) -> Result<String> {
        let answer: Value =
            self.kubectl
                .pod_post(&self.admin(), "/logins", &serde_json::to_value(logins)?)?;
        Ok(answer["id"].as_str().context("no id")?.to_owned())
    }

    /// The same under another shared secret than the registered one, as somebody sends packets who does not know it.
    pub fn begin_forged_logins(&self, logins: &BackgroundLogins, secret: &str) -> Result<String> {
        let mut body = serde_json::to_value(logins)?;
        body["shared_secret"] = json!(secret);
        let answer: Value = self.kubectl.pod_post(&self.admin(), "/logins", &body)?;
        Ok(answer["id"].as_str().context("no id")?.to_owned())
    }

    /// How they went so far.
    pub fn report(&self, id: &str) -> Result<Report> {
        self.kubectl.pod_get(&self.admin(), &format!("/logins/{id}"))
    }

    /// Ends them and waits for those under way.
    pub fn end_logins(&self, id: &str) -> Result<Report> {
        self.kubectl.pod_delete(&self.admin(), &format!("/logins/{id}"))?;
        until("the logins to end", Duration::from_secs(120), || {
            let report = self.report(id)?;
            Ok(if report.running || report.in_flight > 0 {
                Err(format!("{} in flight", report.in_flight))
            } else {
                Ok(report)
            })
        })
    }
}
