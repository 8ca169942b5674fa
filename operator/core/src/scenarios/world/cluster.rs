//! The StatefulSet's controller and the kubelets.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;
use proxy_config::file::{ConfigFile, NamedFile};
use proxy_config::observed::Observed;
use proxy_config::{ConfigDigest, DigestKey, Secret};
use serde_json::Value;

use super::{BOOT, Mounted, Pod, World};
use crate::observed::{PodState, Surge};

/// What a kubelet that nobody touches takes to sync the volumes.
const RESYNC: Duration = Duration::from_secs(90);

/// The StatefulSet's revisions, by name.
#[derive(Debug, Clone, Default)]
pub(in crate::scenarios) struct Revisions {
    all: BTreeMap<String, Value>,
    pub(in crate::scenarios) current: String,
    pub(in crate::scenarios) update: String,
}

impl Revisions {
    /// A template that was there before is the revision that it was.
    pub(super) fn take(&mut self, template: &Value) {
        let known = self.all.iter().find(|(_, old)| *old == template);
        let name = known.map_or_else(|| format!("mfa-{}", self.all.len()), |(name, _)| name.clone());
        self.all.insert(name.clone(), template.clone());
        if self.current.is_empty() {
            self.current.clone_from(&name);
        }
        self.update = name;
    }

    pub(super) fn image(&self, revision: &str) -> Option<&str> {
        self.all.get(revision)?["spec"]["containers"][0]["image"].as_str()
    }
}

impl World {
    fn set(&self) -> Option<&Value> {
        self.objects.get(&("StatefulSet".to_owned(), "mfa".to_owned()))
    }

    pub(in crate::scenarios) fn replicas(&self) -> Option<usize> {
        usize::try_from(self.set()?["spec"]["replicas"].as_u64()?).ok()
    }

    pub(super) fn annotation_of_set(&self, name: &str) -> Option<String> {
        let annotation = &self.set()?["metadata"]["annotations"][name];
        annotation.as_str().map(str::to_owned)
    }

    pub(in crate::scenarios) fn is_upgrading(&self) -> bool {
        self.annotation_of_set(crate::names::UPGRADING_ANNOTATION)
            .is_some()
    }

    pub(in crate::scenarios) fn surge(&self) -> Option<Surge> {
        Surge::from_annotation(&self.annotation_of_set(crate::names::SURGE_ANNOTATION)?)
    }

    pub(super) fn restarted_at(&self) -> Option<String> {
        let annotations = &self.set()?["spec"]["template"]["metadata"]["annotations"];
        annotations[crate::names::RESTARTED_AT_ANNOTATION]
            .as_str()
            .map(str::to_owned)
    }

    pub(super) fn strategy(&self) -> &str {
        self.set()
            .and_then(|set| set["spec"]["updateStrategy"]["type"].as_str())
            .unwrap_or_default()
    }

    pub(super) fn next_container(&mut self) -> String {
        self.containers += 1;
        format!("containerd://{}", self.containers)
    }

    fn partition(&self) -> Option<usize> {
        let update = &self.set()?["spec"]["updateStrategy"];
        usize::try_from(update["rollingUpdate"]["partition"].as_u64()?).ok()
    }

    pub(super) fn statefulset(&mut self) -> bool {
        let Some(replicas) = self.replicas() else {
            return false;
        };
        let mut changed = false;
        // Pods are seen to in batches of 1, 2, 4 and so on; after one with a refusal the controller ends its round.
        let (mut next, mut batch) = (0, 1);
        while next < replicas {
            let mut refused = false;
            for ordinal in next..replicas.min(next + batch) {
                let name = format!("mfa-{ordinal}");
                if self.pods.iter().any(|pod| pod.state.name == name) {
                    continue;
                }
                let revision = self.revision_of_new(ordinal);
                if self.refused_pods.is_some() || self.is_refused(&revision) {
                    refused = true;
                } else {
                    self.create(ordinal, name, revision);
                    changed = true;
                }
            }
            if refused {
                return changed;
            }
            next += batch;
            batch *= 2;
        }
        for index in 0..self.pods.len() {
            if ordinal(&self.pods[index]) >= replicas && self.pods[index].state.deleted.is_none() {
                self.kill_pod(index);
                changed = true;
            }
        }
        changed | self.roll(replicas)
    }

    /// What the controller does by itself under RollingUpdate: from the last pod to the partition, each when those after it
    /// are updated and ready. When all are, the update revision is the current one.
    fn roll(&mut self, replicas: usize) -> bool {
        let Some(partition) = self.partition() else {
            return false;
        };
        let updated = |pod: &Pod| pod.state.revision.as_ref() == Some(&self.revisions.update);
        let mut victim = None;
        for at in (partition..replicas).rev() {
            let Some(index) = self.pods.iter().position(|pod| ordinal(pod) == at) else {
                break;
            };
            let pod = &self.pods[index];
            if !updated(pod) && pod.state.deleted.is_none() {
                victim = Some(index);
                break;
            }
            if !pod.is_ready() {
                break;
            }
        }
        let all = self.pods.len() == replicas && self.pods.iter().all(|pod| pod.is_ready() && updated(pod));
        if all {
            self.revisions.current.clone_from(&self.revisions.update);
        }
        victim.map(|index| self.kill_pod(index)).is_some()
    }

    fn revision_of_new(&self, ordinal: usize) -> String {
        if self.partition().is_some_and(|partition| ordinal < partition) {
            self.revisions.current.clone()
        } else {
            self.revisions.update.clone()
        }
    }

    fn is_refused(&self, revision: &str) -> bool {
        let limit = &self.revisions.all[revision]["spec"]["containers"][0]["resources"]["limits"]["memory"];
        limit
            .as_str()
            .is_some_and(|limit| self.refused_memory.iter().any(|refused| refused == limit))
    }

    /// `kubectl rollout restart statefulset/mfa`.
    pub(in crate::scenarios) fn rollout_restart(&mut self) {
        let at = self.now.to_string();
        let key = ("StatefulSet".to_owned(), "mfa".to_owned());
        if let Some(set) = self.objects.get_mut(&key) {
            set["spec"]["template"]["metadata"]["annotations"][crate::names::RESTARTED_AT_ANNOTATION] =
                at.clone().into();
            let template = set["spec"]["template"].clone();
            self.revisions.take(&template);
            self.restarted_at = Some(at);
        }
        self.wake();
    }

    fn create(&mut self, ordinal: usize, name: String, revision: String) {
        let address = Ipv4Addr::from(0x0a58_0000 + self.next_ip);
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xab, u16::try_from(self.next_ip).unwrap());
        // One after the other, as images are pulled and nodes are busy.
        let boot = BOOT + Duration::from_secs(2 * ordinal as u64);
        let container = self.next_container();
        let uid = format!("pod-{}", self.next_uid);
        self.next_ip += 1;
        self.next_uid += 1;
        let template = &self.revisions.all[&revision];
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap();
        let annotation = &template["metadata"]["annotations"][crate::names::POD_TEMPLATE_ANNOTATION];
        self.pods.push(Pod {
            state: PodState {
                name,
                uid,
                ips: vec![address.into(), v6.into()],
                host_ips: vec![Ipv4Addr::new(10, 10, 0, u8::try_from(ordinal).unwrap()).into()],
                node: Some(format!("node-{ordinal}")),
                node_ready: true,
                image: image.to_owned(),
                template: annotation.as_str().map(str::to_owned),
                revision: Some(revision),
                container: Some(container),
                ..PodState::default()
            },
            digest: ConfigDigest::from_reported("not started"),
            mounted: Mounted::new(),
            ready_at: Some(self.now.saturating_add(boot).unwrap()),
            gated: template["spec"]["readinessGates"].is_array(),
            running: image.to_owned(),
            next_containers: VecDeque::new(),
            sync_at: None,
            gone_at: None,
            sound: true,
            observed: Observed::default(),
            ahead: 0,
        });
    }

    /// The kubelets replace containers whose image has changed.
    pub(super) fn replace_containers(&mut self) {
        for index in 0..self.pods.len() {
            let now = self.now;
            let due = |next: &mut (Timestamp, String)| next.0 <= now;
            if let Some((_, image)) = self.pods[index].next_containers.pop_front_if(due) {
                self.pods[index].running = image;
                self.restart_container(index);
            }
        }
    }

    /// Without an annotation that changes, a kubelet syncs volumes when it comes to it.
    pub(super) fn mounts_change_some_day(&mut self) {
        let at = self.now.saturating_add(RESYNC).unwrap();
        for pod in &mut self.pods {
            pod.sync_at.get_or_insert(at);
        }
    }

    /// Whether every volume of a new pod can be mounted.
    pub(super) fn can_start(&self) -> bool {
        let has = |kind: &str, name: &str| self.objects.contains_key(&(kind.to_owned(), name.to_owned()));
        has("Secret", "mfa-radius-secrets") && has("ConfigMap", "mfa-radius-config")
    }

    /// What a kubelet would mount now.
    pub(in crate::scenarios) fn mountable(&self) -> Mounted {
        let mut mounted = Mounted::new();
        for ((kind, name), object) in &self.objects {
            let folder = match name.as_str() {
                "mfa-radius-config" | "mfa-radius-peers" => "config",
                "mfa-radius-secrets" => "radius",
                "mfa-radius-provider" => "provider",
                "mfa-radius-seeds" => "seeds",
                shard if shard.starts_with("mfa-radius-seeds-") => "seeds-by-label",
                _ => continue,
            };
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                let content = match kind.as_str() {
                    "Secret" => decode(value),
                    _ => value.as_str().unwrap().as_bytes().to_vec(),
                };
                mounted.insert(format!("/etc/radius-proxy/{folder}/{key}"), Secret::new(content));
            }
        }
        mounted
    }
}

fn ordinal(pod: &Pod) -> usize {
    pod.state.name.trim_start_matches("mfa-").parse().unwrap()
}

pub(super) fn decode(value: &Value) -> Vec<u8> {
    serde_json::from_value::<k8s_openapi::ByteString>(value.clone())
        .unwrap()
        .0
}

/// The digest as a proxy computes it over what it has mounted.
pub(super) fn digest_of(mounted: &Mounted) -> ConfigDigest {
    let text = mounted.get("/etc/radius-proxy/config/radius-proxy.toml").unwrap();
    let file = ConfigFile::parse(text.expose_str().unwrap()).unwrap();
    let key_path = file.server.digest_key_file.clone().unwrap();
    let key = DigestKey::new(mounted[&key_path].trim_end().expose().to_vec());
    let mut parts: Vec<(&str, &[u8])> = vec![("", text.expose())];
    for named in file.named_files() {
        for (path, content) in mounted {
            let is = match &named {
                NamedFile::File(file) => file == path,
                NamedFile::Folder(folder) => path
                    .strip_prefix(folder.as_str())
                    .is_some_and(|r| r.starts_with('/')),
            };
            if is && file.is_digested(path) {
                parts.push((path, content.expose()));
            }
        }
    }
    ConfigDigest::compute(&key, parts)
}

/// Puts what somebody else's annotation says into what is applied: server-side apply leaves it as it is.
pub(super) fn keep_annotation(template: &mut Value, name: &str, value: &str) {
    let annotations = &mut template["metadata"]["annotations"];
    if annotations[name].is_null() {
        annotations[name] = value.into();
    }
}
