//! A small world for the plans: an API server, a StatefulSet with its kubelet, and AWS Directory Service. Time moves from
//! one thing that happens to the next. What goes through the API server goes through JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::file::{ConfigFile, NamedFile};
use proxy_config::{ConfigDigest, DigestKey, Secret};

use crate::api::{DirectoryGrant, RadiusProxy, RadiusProxyStatus, RegisteredSettings};
use crate::aws::AwsOperation;
use crate::input::{
    Directory, DirectoryObservation, Entropy, Input, PodState, RadiusStatus, Report, SecretContent, Settings,
    StatefulSetState, WriteOutcome,
};
use crate::names::{ClusterName, FINALIZER};
use crate::plan::{FinalizerChange, Object, ObjectKind, Plan, PodPatch, plan};

mod aws;
mod cluster;

use cluster::Revisions;

pub(super) use aws::{Answer, Aws, Written, failure};

/// The secret of somebody else's settings.
pub(super) const THEIR_SECRET: &[u8] = b"their secret";
pub(super) const SECRET: &str = "shared";
const BOOT: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(90);

pub(super) type Data = BTreeMap<String, Secret>;

/// What a pod has mounted: file contents by path.
type Mounted = BTreeMap<String, Secret>;

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) state: PodState,
    mounted: Mounted,
    /// The digest of what is mounted, which is what the Lease says.
    digest: ConfigDigest,
    ready_at: Option<Timestamp>,
    /// When the kubelet replaces the container, since the image changed.
    image_at: Option<Timestamp>,
    /// When the kubelet has synced the volumes after the annotation changed, and the proxy has read them.
    sync_at: Option<Timestamp>,
    gone_at: Option<Timestamp>,
    /// Whether its containers can become ready at all.
    pub(super) sound: bool,
}

impl Pod {
    /// Kubelets take their time, and each another: one takes longer than churn may settle.
    fn syncs_in(&self) -> Duration {
        Duration::from_secs(if self.state.name.ends_with("-0") { 1 } else { 45 })
    }

    /// Where it believes the others to be.
    pub(super) fn peers(&self) -> &str {
        let file = self.mounted.get("/etc/radius-proxy/config/peers");
        file.map_or("", |file| file.expose_str().unwrap())
    }

    fn mount(&mut self, mounted: &Mounted) {
        if *mounted != self.mounted {
            self.mounted.clone_from(mounted);
            self.digest = digest_of(mounted);
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) proxy: RadiusProxy,
    pub(super) gone: bool,
    pub(super) grants: Vec<DirectoryGrant>,
    pub(super) secrets: BTreeMap<String, Data>,
    /// Those that the selector of seeds means.
    pub(super) seeds_by_label: BTreeMap<String, Data>,
    pub(super) objects: BTreeMap<(String, String), serde_json::Value>,
    pub(super) pods: Vec<Pod>,
    pub(super) aws: Aws,
    pub(super) events: Vec<String>,
    pub(super) rivals: Vec<crate::input::Rival>,
    pub(super) load_balancer: Vec<String>,
    pub(super) refusal: Option<crate::input::ObjectRefusal>,
    pub(super) settings: Settings,
    pub(super) revisions: Revisions,
    /// Images that never become ready.
    pub(super) bad_images: Vec<String>,
    /// Whether an admission policy refuses to change an image in place.
    pub(super) refuses_patches: bool,
    /// How many registered servers may be down at any time.
    pub(super) most_down: Option<usize>,
    in_place_refused: Option<String>,
    // The operator's memory, lost in a crash.
    described: Option<Directory>,
    outcome: Option<WriteOutcome>,
    due: Timestamp,
    /// Until when nobody leads.
    away_until: Timestamp,
    describe_after: Duration,
    /// How long it takes until another leader is there after a crash.
    pub(super) takeover: Duration,
    /// Ends the round of the next write, when AWS has it and nobody knows.
    pub(super) crash_after_write: bool,
    /// Ends the next round after so many steps.
    pub(super) crash_after: Option<usize>,
    next_ip: u32,
    next_uid: u32,
    containers: u32,
}

fn proxy(spec: &serde_json::Value) -> RadiusProxy {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
        "metadata": {"name": "mfa", "namespace": "auth", "uid": "uid-1", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

pub(super) fn data(pairs: &[(&str, &str)]) -> Data {
    pairs
        .iter()
        .map(|(key, text)| ((*key).to_owned(), Secret::new(text.as_bytes().to_vec())))
        .collect()
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&serde_json::json!({
            "replicas": 2,
            "directory": {"id": "d-1234567890", "region": "eu-central-1"},
            "sharedSecretRef": {"name": SECRET},
            "provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}},
        }))
    }

    pub(super) fn with(spec: &serde_json::Value) -> Self {
        let grant = serde_json::json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": "g"},
            "spec": {"namespaces": ["auth"], "directoryIds": ["d-1234567890"], "region": "eu-central-1"},
        });
        let now: Timestamp = "2026-01-02T03:04:05.3Z".parse().unwrap();
        let cluster = ClusterName::parse("test").unwrap();
        Self {
            now,
            proxy: proxy(spec),
            gone: false,
            grants: vec![serde_json::from_value(grant).unwrap()],
            seeds_by_label: BTreeMap::new(),
            secrets: [
                (SECRET.to_owned(), data(&[("secret", "the first secret")])),
                ("duo".to_owned(), data(&[("ikey", "DI1"), ("skey", "k")])),
            ]
            .into(),
            objects: BTreeMap::new(),
            pods: Vec::new(),
            aws: Aws {
                clients: [IpAddr::from(Ipv4Addr::new(10, 0, 0, 10))].into(),
                ..Aws::default()
            },
            events: Vec::new(),
            rivals: Vec::new(),
            load_balancer: Vec::new(),
            refusal: None,
            revisions: Revisions::default(),
            bad_images: Vec::new(),
            refuses_patches: false,
            most_down: None,
            in_place_refused: None,
            settings: Settings::new(cluster, "proxy:1".to_owned()),
            described: None,
            outcome: None,
            due: now,
            away_until: now,
            describe_after: Duration::MAX,
            takeover: Duration::from_secs(5),
            crash_after_write: false,
            crash_after: None,
            next_ip: 1,
            next_uid: 1,
            containers: 0,
        }
    }

    pub(super) fn status(&self) -> RadiusProxyStatus {
        self.proxy.status.clone().unwrap_or_default()
    }

    pub(super) fn condition(&self, kind: &str) -> (String, String, String) {
        let status = self.status();
        let found = status.conditions.iter().find(|c| c.type_ == kind);
        found.map_or_else(Default::default, |c| {
            (c.status.clone(), c.reason.clone(), c.message.clone())
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.condition("Ready").0 == "True"
    }

    pub(super) fn set_secret(&mut self, text: &str) {
        self.secrets.insert(SECRET.to_owned(), data(&[("secret", text)]));
        self.wake();
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut RadiusProxy)) {
        change(&mut self.proxy);
        *self.proxy.metadata.generation.get_or_insert(0) += 1;
        self.wake();
    }

    pub(super) fn delete(&mut self) {
        self.proxy.metadata.deletion_timestamp = Some(Time(self.now));
        self.wake();
    }

    /// Something that is watched changed.
    pub(super) fn wake(&mut self) {
        self.due = self.now.max(self.away_until);
    }

    pub(super) fn foreign_write(&mut self, label: &str) {
        if let Some(settings) = &mut self.aws.settings {
            label.clone_into(&mut settings.display_label);
        }
    }

    /// RADIUS is on, by somebody else's doing.
    pub(super) fn somebody_elses(&mut self) {
        self.aws.status = Some(RadiusStatus::Completed);
        self.aws.secret = THEIR_SECRET.to_vec();
        self.aws.settings = Some(RegisteredSettings {
            servers: vec!["10.7.7.7".to_owned()],
            port: 1812,
            timeout_seconds: 20,
            retries: 4,
            protocol: "PAP".to_owned(),
            display_label: "MFA".to_owned(),
            use_same_username: true,
            ..RegisteredSettings::default()
        });
    }

    /// Somebody does it in the console.
    pub(super) fn switch_off(&mut self) {
        self.aws.status = None;
        self.aws.settings = None;
        self.aws.done_at = None;
    }

    pub(super) fn kill_pod(&mut self, index: usize) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(index) {
            pod.state.deleted.get_or_insert(now);
            pod.gone_at
                .get_or_insert(now.saturating_add(Duration::from_secs(2)).unwrap());
        }
        self.wake();
    }

    pub(super) fn restart_container(&mut self, index: usize) {
        let at = self.now.saturating_add(BOOT).unwrap();
        let container = self.next_container();
        if let Some(pod) = self.pods.get_mut(index) {
            pod.state.container = Some(container);
            pod.state.containers_ready = false;
            pod.ready_at = Some(at);
        }
        self.wake();
    }

    /// Lets time pass until `until`, or for a day.
    pub(super) fn run_until(&mut self, until: impl Fn(&Self) -> bool) {
        let end = self.now.saturating_add(Duration::from_secs(86_400)).unwrap();
        while !until(self) {
            assert!(self.now < end, "never came true: {:#?}", self.status());
            self.step(end);
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now.saturating_add(duration).unwrap();
        while self.now < end {
            self.step(end);
        }
    }

    /// To the next thing that happens, `end` at the latest.
    fn step(&mut self, end: Timestamp) {
        let mut next = self.due.min(end);
        for pod in &self.pods {
            next = [pod.ready_at, pod.gone_at, pod.sync_at, pod.image_at]
                .into_iter()
                .flatten()
                .fold(next, Timestamp::min);
        }
        if let Some((at, _)) = self.aws.done_at {
            next = next.min(at);
        }
        self.now = self.now.max(next);
        self.tick();
        if self.now >= self.due {
            self.reconcile();
        }
        self.check_that_logins_work();
        self.check_that_servers_answer();
    }

    fn tick(&mut self) {
        if let Some((_, status)) = self.aws.done_at.take_if(|(at, _)| *at <= self.now) {
            self.aws.status = Some(status);
            self.aws.old_secret = None;
            self.aws.old_until = self.now.saturating_add(Duration::from_secs(30)).ok();
        }
        self.replace_containers();
        let before = self.pods.len();
        let now = self.now;
        self.pods.retain(|pod| pod.gone_at.is_none_or(|at| at > now));
        let mut changed = before != self.pods.len();
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let boots = self.pods.iter().any(|pod| due(pod.ready_at) || due(pod.sync_at));
        let mounted = if boots { self.mountable() } else { Mounted::new() };
        let bad = &self.bad_images;
        for pod in &mut self.pods {
            if pod.sync_at.take_if(|at| *at <= now).is_some() {
                pod.mount(&mounted);
                changed = true;
            }
            if pod.ready_at.take_if(|at| *at <= now).is_some() && pod.sound && !bad.contains(&pod.state.image)
            {
                pod.state.containers_ready = true;
                pod.mount(&mounted);
                changed = true;
            }
        }
        changed |= self.statefulset();
        if changed {
            self.wake();
        }
    }

    fn gather(&self) -> Input {
        let described = self.described.clone().map(Box::new);
        Input {
            proxy: self.proxy.clone(),
            rivals: self.rivals.clone(),
            grants: self.grants.clone(),
            secrets: self
                .secrets
                .iter()
                .map(|(name, data)| (name.clone(), SecretContent { data: data.clone() }))
                .collect(),
            seeds_by_label: self
                .seeds_by_label
                .iter()
                .map(|(name, data)| (name.clone(), SecretContent { data: data.clone() }))
                .collect(),
            has_seed_shards: self
                .objects
                .contains_key(&("Secret".to_owned(), "mfa-radius-seeds-0".to_owned())),
            radius_secret: self
                .objects
                .get(&("Secret".to_owned(), "mfa-radius-secrets".to_owned()))
                .map(|object| SecretContent {
                    data: object["data"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, value)| (key.clone(), Secret::new(decode(value))))
                        .collect(),
                }),
            foreign: Vec::new(),
            stateful_set: self.replicas().map(|replicas| StatefulSetState {
                replicas: u32::try_from(replicas).unwrap(),
                current_revision: self.revisions.current.clone(),
                update_revision: self.revisions.update.clone(),
                template: self.template_annotation(),
                on_delete: self.strategy() == "OnDelete",
                ..StatefulSetState::default()
            }),
            in_place_refused: self.in_place_refused.clone(),
            pods: self.pods.iter().map(|pod| pod.state.clone()).collect(),
            reports: self
                .pods
                .iter()
                .filter(|pod| pod.state.containers_ready)
                .map(|pod| {
                    let report = Report {
                        digest: pod.digest.clone(),
                        version: None,
                    };
                    (pod.state.uid.clone(), report)
                })
                .collect(),
            load_balancer: self.load_balancer.clone(),
            directory: match (self.aws.blind, described) {
                (Some(class), last) => DirectoryObservation::Failed {
                    failure: failure(AwsOperation::DescribeDirectories, class),
                    last,
                },
                (None, Some(directory)) => DirectoryObservation::Described(directory),
                (None, None) => DirectoryObservation::Unasked,
            },
            outcome: self.outcome.clone(),
            refusal: self.refusal.clone(),
            tag_failure: None,
            settings: self.settings.clone(),
            entropy: Entropy::new([u8::try_from(self.next_uid % 251).unwrap(); 96]),
        }
    }

    /// One round: describe when it is time to, plan, do.
    pub(super) fn reconcile(&mut self) {
        if self.gone {
            self.due = Timestamp::MAX;
            return;
        }
        let interval = self.describe_after.min(INTERVAL);
        let fresh = self
            .described
            .as_ref()
            .is_some_and(|d| d.as_of.saturating_add(interval).unwrap() > self.now);
        if !fresh {
            self.describe();
        }
        let input = self.gather();
        let plan = plan(&input, self.now);
        assert_eq!(format!("{plan:?}").find("first secret"), None);
        let crash = self.crash_after.take();
        let finished = self.execute(&plan, crash);
        if finished {
            self.due = self.now.saturating_add(plan.requeue_after.min(INTERVAL)).unwrap();
            self.describe_after = plan.describe_after;
        } else {
            // Another leader takes over a little later, with nothing in memory.
            self.described = None;
            self.outcome = None;
            self.in_place_refused = None;
            self.away_until = self.now.saturating_add(self.takeover).unwrap();
            self.due = self.away_until;
        }
    }

    /// Does what was planned, in the order of the documentation, up to the step of a crash.
    fn execute(&mut self, plan: &Plan, crash: Option<usize>) -> bool {
        let mut steps = 0;
        let mut alive = move || {
            steps += 1;
            crash.is_none_or(|crash| steps <= crash)
        };
        if plan.finalizer == FinalizerChange::Add {
            if !alive() {
                return false;
            }
            self.proxy.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        }
        for object in &plan.apply {
            if !alive() {
                return false;
            }
            self.apply(object);
        }
        for patch in &plan.pods {
            if !alive() {
                return false;
            }
            self.patch_pod(patch);
        }
        if !alive() {
            return false;
        }
        let status = serde_json::to_string(&plan.status).unwrap();
        let status: RadiusProxyStatus = serde_json::from_str(&status).unwrap();
        assert_eq!(
            status, plan.status,
            "a status that changes when it is stored is written for ever"
        );
        self.proxy.status = Some(status);
        if !plan.tags.is_empty() {
            if !alive() {
                return false;
            }
            self.aws.tags.extend(plan.tags.iter().cloned());
        }
        if let Some(write) = &plan.write {
            if !alive() {
                return false;
            }
            assert!(
                self.proxy.metadata.finalizers.is_some(),
                "the finalizer comes first"
            );
            let result = self.call_aws(&write.call);
            if std::mem::take(&mut self.crash_after_write) {
                return false;
            }
            if !alive() {
                return false;
            }
            self.outcome = Some(WriteOutcome {
                id: write.id.clone(),
                result,
            });
        }
        for object in &plan.delete {
            let is = |pod: &Pod| Some(&pod.state.uid) == object.uid.as_ref();
            match object.kind {
                ObjectKind::PodByForce => self.pods.retain(|pod| !is(pod)),
                ObjectKind::Pod => {
                    let index = self.pods.iter().position(is).unwrap();
                    self.kill_pod(index);
                }
                ObjectKind::Service => {}
            }
        }
        self.events
            .extend(plan.events.iter().map(|event| event.reason.to_owned()));
        if plan.finalizer == FinalizerChange::Remove {
            self.proxy.metadata.finalizers = None;
            self.gone = true;
            self.pods.clear();
            self.objects.clear();
        }
        true
    }

    fn patch_pod(&mut self, patch: &PodPatch) {
        let pod = self
            .pods
            .iter_mut()
            .find(|pod| pod.state.uid == patch.uid)
            .unwrap();
        if let Some(change) = &patch.image {
            if self.refuses_patches {
                self.in_place_refused = Some(change.revision.clone());
            } else {
                pod.state.image.clone_from(&change.image);
                pod.state.in_place = Some(change.marker.clone());
                pod.image_at = self.now.saturating_add(Duration::from_secs(1)).ok();
            }
        }
        if let Some(revision) = &patch.revision {
            pod.state.revision = Some(revision.clone());
            pod.state.in_place = None;
        }
        for (new, old) in [
            (&patch.config_digest, &mut pod.state.config_digest),
            (&patch.peers_digest, &mut pod.state.peers_digest),
        ] {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        if patch.config_digest.is_some() || patch.peers_digest.is_some() {
            let at = self.now.saturating_add(pod.syncs_in()).unwrap();
            pod.sync_at = Some(pod.sync_at.map_or(at, |before| before.min(at)));
        }
        if let Some(gate) = &patch.gate {
            pod.state.gate = Some(gate.open);
        }
    }

    fn apply(&mut self, object: &Object) {
        let json = object.to_json().unwrap();
        let key = (object.kind().to_owned(), object.name().to_owned());
        let changed = self.objects.insert(key, json.clone()).as_ref() != Some(&json);
        if changed {
            self.mounts_change_some_day();
        }
        if changed && object.kind() == "StatefulSet" {
            self.revisions.take(&json["spec"]["template"]);
        }
        self.statefulset();
    }

    /// No more registered servers are down than the scene allows; those of the list before count until every domain
    /// controller has the present one.
    fn check_that_servers_answer(&self) {
        let (Some(most), Some(settings)) = (self.most_down, &self.aws.settings) else {
            return;
        };
        let old = self.aws.old_until.is_none_or(|until| self.now < until);
        let lists = [
            Some(&settings.servers),
            self.aws.old_servers.as_ref().filter(|_| old),
        ];
        for list in lists.into_iter().flatten() {
            let answers = |address: &&String| {
                self.pods.iter().any(|pod| {
                    pod.state.containers_ready
                        && pod.state.deleted.is_none()
                        && pod.state.ips[0].to_string() == **address
                })
            };
            let down = list.iter().filter(|address| !answers(address)).count();
            assert!(down <= most, "{down} of {list:?} are down: {:#?}", self.status());
        }
    }

    /// Rule 9: whichever secret a domain controller may hold, each registered proxy that answers accepts it.
    fn check_that_logins_work(&self) {
        if self.aws.writes.is_empty() {
            return;
        }
        let Some(settings) = &self.aws.settings else {
            return;
        };
        for pod in self.pods.iter().filter(|pod| pod.state.containers_ready) {
            let address = pod.state.ips[0].to_string();
            if !settings.servers.contains(&address) {
                continue;
            }
            let accepted: Vec<&[u8]> = ["directory", "directory-previous"]
                .iter()
                .filter_map(|key| pod.mounted.get(&format!("/etc/radius-proxy/radius/{key}")))
                .map(Secret::expose)
                .collect();
            let held = std::iter::once(&self.aws.secret).chain(&self.aws.old_secret);
            for secret in held.filter(|secret| *secret != THEIR_SECRET) {
                assert!(
                    accepted.contains(&secret.as_slice()),
                    "{} refuses what AWS holds",
                    pod.state.name
                );
            }
        }
    }
}

fn decode(value: &serde_json::Value) -> Vec<u8> {
    serde_json::from_value::<k8s_openapi::ByteString>(value.clone())
        .unwrap()
        .0
}

/// The digest as a proxy computes it over what it has mounted.
fn digest_of(mounted: &Mounted) -> ConfigDigest {
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
