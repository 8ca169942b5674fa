//! A small world for the plans: an API server, a StatefulSet with its kubelet, and AWS Directory Service. Time moves from
//! one thing that happens to the next. What goes through the API server goes through JSON.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::observed::Observed;
use proxy_config::{ConfigDigest, Secret};

use crate::api::{
    DirectoryGrant, DirectoryRegistration, DirectoryRegistrationStatus, RadiusProxy, RadiusProxyStatus,
};
use crate::aws::AwsErrorClass;
use crate::names::ClusterName;
use crate::observed::{Directory, PodState, ReportedProblem, Settings, WriteOutcome};
use crate::outcomes::{Failure, Outcomes, Step};
use crate::registration::Candidate;

mod aws;
mod checks;
mod cluster;
mod dns;
mod logins;
mod registration;
mod rollout;

use cluster::{Revisions, digest_of};

pub(super) use aws::{Answer, Aws, Written, failure};

/// The secret of somebody else's settings.
pub(super) const THEIR_SECRET: &[u8] = b"their secret";
pub(super) const SECRET: &str = "shared";
const BOOT: Duration = Duration::from_secs(3);

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
    /// Whether its template has the readiness gate.
    gated: bool,
    /// The image of the container that runs now.
    pub(super) running: String,
    /// The containers that the kubelet starts next, each after the one before it has drained.
    next_containers: VecDeque<(Timestamp, String)>,
    /// When the kubelet has synced the volumes after the annotation changed, and the proxy has read them.
    sync_at: Option<Timestamp>,
    gone_at: Option<Timestamp>,
    /// Whether its containers can become ready at all.
    pub(super) sound: bool,
    /// What it reports of the directory.
    pub(super) observed: Observed,
    /// How far its node's clock is ahead, in seconds.
    pub(super) ahead: i64,
}

impl Pod {
    /// The pod's condition Ready, as the kubelet sets it.
    pub(super) fn is_ready(&self) -> bool {
        self.state.containers_ready
            && (!self.gated || self.state.gate == Some(true))
            && self.state.deleted.is_none()
    }

    /// Kubelets take their time, and each another: one takes longer than churn may settle.
    fn syncs_in(&self) -> Duration {
        Duration::from_secs(if self.state.name.ends_with("-0") { 1 } else { 45 })
    }

    /// Where it believes the others to be.
    pub(super) fn peers(&self) -> &str {
        let file = self.mounted.get("/etc/radius-proxy/config/peers");
        file.map_or("", |file| file.expose_str().unwrap())
    }

    /// A volume whose object is gone keeps its content.
    fn mount(&mut self, mounted: &Mounted) {
        let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let is_there = |path: &str| mounted.keys().any(|new| folder(new) == folder(path));
        let kept = self.mounted.iter().filter(|(path, _)| !is_there(path));
        let kept: Mounted = kept.map(|(path, file)| (path.clone(), file.clone())).collect();
        let mounted = &mounted.clone().into_iter().chain(kept).collect::<Mounted>();
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
    /// Other RadiusProxy resources that name the directory.
    pub(super) rivals: Vec<Candidate>,
    /// The DirectoryRegistration, and what it was before it changed last.
    pub(super) registration: Option<DirectoryRegistration>,
    registration_before: Option<DirectoryRegistration>,
    /// How often the rollout reads the one from before.
    pub(super) stale_reads: usize,
    versions: i64,
    /// What the Service of type LoadBalancer has in its status.
    pub(super) load_balancer: Vec<String>,
    /// What DNS answers, by name; others do not exist.
    pub(super) dns: BTreeMap<String, crate::dns::Answer>,
    /// What the operator remembers of names, and when it looks next.
    looks: BTreeMap<String, (crate::dns::HostName, Timestamp)>,
    /// Steps that fail, and how.
    pub(super) failing: BTreeMap<Step, Failure>,
    /// The words of whoever refuses pods at their creation.
    pub(super) refused_pods: Option<&'static str>,
    /// How the API server refuses what the registration writes.
    pub(super) refused_registration: Option<&'static str>,
    /// Whether a grant can't be decoded.
    pub(super) undecodable_grant: bool,
    /// Whether the operator works in the namespace of the directory's holder.
    pub(super) holder_is_watched: bool,
    /// Why Secrets can't be read, by name.
    pub(super) unreadable_secrets: BTreeMap<String, String>,
    pub(super) unreadable_seeds: Option<String>,
    /// How AWS fails to tag the directory.
    pub(super) refused_tags: Option<AwsErrorClass>,
    pub(super) settings: Settings,
    pub(super) revisions: Revisions,
    pub(super) service_account: Option<crate::observed::ServiceAccountState>,
    /// Images that never become ready.
    pub(super) bad_images: Vec<String>,
    /// Pods that never become ready, by name.
    pub(super) lame: Vec<String>,
    /// Whether an admission policy refuses to change an image in place.
    pub(super) refuses_patches: bool,
    /// Whether an admission policy puts the old image back into a pod that is patched.
    pub(super) reverts_images: bool,
    /// Memory limits of pods that admission refuses to create, as a quota or a LimitRange does.
    pub(super) refused_memory: Vec<String>,
    /// How long a container drains whose image is changed.
    pub(super) drain: Duration,
    /// Whether the operator may begin another rollout.
    pub(super) may_begin: bool,
    /// What `kubectl rollout restart` put into the StatefulSet's template.
    restarted_at: Option<String>,
    /// How many registered servers may be down at any time.
    pub(super) most_down: Option<usize>,
    /// Whether the StatefulSet was changed in this round.
    set_changed: bool,
    /// How the steps of the last round failed, and whether that round ended before the status.
    outcomes: Outcomes,
    stopped_short: bool,
    /// When the operator looks again for the sake of steps that failed.
    again: Duration,
    /// How often AWS was asked to add tags.
    pub(super) asked_tags: usize,
    /// How often somebody logs in through each client address of the directory, and when next.
    pub(super) traffic: Option<Duration>,
    next_login: Timestamp,
    /// What every pod reports beside its configuration.
    pub(super) reported_problem: Option<ReportedProblem>,
    // The operator's memory, lost in a crash.
    described: Option<Directory>,
    /// Asked for, and not answered yet.
    asking: Option<Directory>,
    outcome: Option<WriteOutcome>,
    /// How the last tag write failed.
    tag_failure: Option<crate::registration::TagFailure>,
    /// Since when the holder's grant is missing.
    grant_missing_since: Option<Timestamp>,
    /// Since when the rounds of the registration fail.
    failing_since: Option<Timestamp>,
    /// When the rollout and the registration are looked at next.
    due: Timestamp,
    registration_due: Timestamp,
    /// Whether the next description has to have the tags of now.
    read_tags: bool,
    /// How often another leader took over, and how far the present one's clock is ahead.
    leader: u32,
    pub(super) clock_ahead: i64,
    /// What the operator remembers of its own Secret.
    own_secret: Option<Data>,
    /// Until when nobody leads.
    away_until: Timestamp,
    describe_after: Duration,
    /// How long it takes until another leader is there after a crash.
    pub(super) takeover: Duration,
    /// Ends the round of the next write, when AWS has it and nobody knows.
    pub(super) crash_after_write: bool,
    /// Ends the operator after so many steps of whichever controller.
    pub(super) crash_after: Option<usize>,
    /// How many steps were made since time last moved.
    steps_at_once: usize,
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
            "spec": {"namespaces": ["auth"], "directories": [{"directoryIds": ["d-1234567890"], "region": "eu-central-1"}]},
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
            registration: None,
            registration_before: None,
            stale_reads: 0,
            versions: 0,
            load_balancer: Vec::new(),
            dns: BTreeMap::new(),
            looks: BTreeMap::new(),
            failing: BTreeMap::new(),
            refused_pods: None,
            refused_registration: None,
            undecodable_grant: false,
            holder_is_watched: true,
            unreadable_secrets: BTreeMap::new(),
            unreadable_seeds: None,
            refused_tags: None,
            revisions: Revisions::default(),
            bad_images: Vec::new(),
            lame: Vec::new(),
            refuses_patches: false,
            reverts_images: false,
            refused_memory: Vec::new(),
            drain: Duration::from_secs(1),
            may_begin: true,
            restarted_at: None,
            most_down: None,
            service_account: None,
            set_changed: false,
            outcomes: Outcomes::default(),
            stopped_short: false,
            again: Duration::MAX,
            asked_tags: 0,
            traffic: None,
            next_login: now,
            reported_problem: None,
            settings: Settings::new(cluster, "proxy:1".to_owned()),
            described: None,
            asking: None,
            outcome: None,
            tag_failure: None,
            grant_missing_since: None,
            failing_since: None,
            due: now,
            registration_due: Timestamp::MAX,
            read_tags: false,
            leader: 0,
            clock_ahead: 0,
            own_secret: None,
            away_until: now,
            describe_after: Duration::MAX,
            takeover: Duration::from_secs(5),
            crash_after_write: false,
            crash_after: None,
            steps_at_once: 0,
            next_ip: 1,
            next_uid: 1,
            containers: 0,
        }
    }

    pub(super) fn status(&self) -> RadiusProxyStatus {
        self.proxy.status.clone().unwrap_or_default()
    }

    /// What is remembered of the directory.
    pub(super) fn record(&self) -> DirectoryRegistrationStatus {
        let registration = self.registration.clone();
        registration
            .and_then(|registration| registration.status)
            .unwrap_or_default()
    }

    /// Registered and wanted servers.
    pub(super) fn servers(&self) -> String {
        let status = self.status();
        format!("{}/{}", status.registered_count, status.desired_count)
    }

    /// The cluster is built again, from what is in Git.
    pub(super) fn forget(&mut self) {
        self.proxy.status = None;
        self.registration = None;
        self.wake();
    }

    /// Whether the RadiusProxy is gone and AWS is dealt with.
    pub(super) fn has_ended(&self) -> bool {
        self.gone && self.registration.is_none()
    }

    pub(super) fn condition(&self, kind: &str) -> (String, String, String) {
        let status = self.status();
        let found = status.conditions.iter().find(|c| c.type_ == kind);
        found.map_or_else(Default::default, |c| {
            (c.status.clone(), c.reason.clone(), c.message.clone())
        })
    }

    /// The API server refuses a step in these words.
    pub(super) fn refuse(&mut self, step: Step, code: u16, message: &str) {
        let message = message.to_owned();
        self.failing.insert(step, Failure::Refused { code, message });
        self.wake();
    }

    /// The API server refuses nothing any more; nobody tells the operator.
    pub(super) fn refuse_nothing(&mut self) {
        self.failing.clear();
        self.refused_pods = None;
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
        self.wake_registration();
    }

    pub(super) fn delete(&mut self) {
        self.proxy.metadata.deletion_timestamp = Some(Time(self.now));
        if self.proxy.metadata.finalizers.is_none() {
            self.vanish();
        }
        self.wake();
        self.wake_registration();
    }

    /// The RadiusProxy is gone, and with it everything that it owns.
    fn vanish(&mut self) {
        self.gone = true;
        self.pods.clear();
        self.objects.clear();
    }

    /// Something that is watched changed.
    pub(super) fn wake(&mut self) {
        self.due = self.now.max(self.away_until);
    }

    /// The registration is looked at now.
    pub(super) fn wake_registration(&mut self) {
        self.registration_due = self.now.max(self.away_until);
    }

    /// Nobody leads for a while.
    pub(super) fn away(&mut self, duration: Duration) {
        self.away_until = self.now.saturating_add(duration).unwrap();
        self.lose_memory();
    }

    pub(super) fn foreign_write(&mut self, label: &str) {
        if let Some(settings) = &mut self.aws.settings {
            label.clone_into(&mut settings.display_label);
        }
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
            pod.observed = Observed::default();
            pod.ready_at = Some(at);
        }
        self.wake();
    }

    /// Lets time pass until `until`, or for a day.
    pub(super) fn run_until(&mut self, until: impl Fn(&Self) -> bool) {
        let end = self.now.saturating_add(Duration::from_secs(86_400)).unwrap();
        while !until(self) {
            assert!(
                self.now < end,
                "never came true: {:#?} {:#?}",
                self.status(),
                self.registration
            );
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
        let before = self.now;
        let mut next = self.due.min(self.registration_due).min(end);
        for pod in &self.pods {
            let container = pod.next_containers.front().map(|(at, _)| *at);
            next = [pod.ready_at, pod.gone_at, pod.sync_at, container]
                .into_iter()
                .flatten()
                .fold(next, Timestamp::min);
        }
        if let Some((at, _)) = self.aws.done_at {
            next = next.min(at);
        }
        if self.traffic.is_some() {
            next = next.min(self.next_login);
        }
        next = self.looks.values().fold(next, |next, (_, at)| next.min(*at));
        self.now = self.now.max(next);
        self.steps_at_once = if self.now == before {
            self.steps_at_once + 1
        } else {
            0
        };
        assert!(
            self.steps_at_once < 1000,
            "time stands still: {:?} {:#?}",
            self.outcomes,
            self.registration
        );
        self.tick();
        if self.now >= self.due {
            self.roll_out();
        }
        if self.now >= self.registration_due {
            self.register();
        }
        self.check_that_logins_work();
        self.check_that_servers_answer();
        self.check_that_revisions_tell_the_image();
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
        let can_start = self.can_start();
        let mounted = if boots { self.mountable() } else { Mounted::new() };
        let (bad, lame) = (&self.bad_images, &self.lame);
        for pod in &mut self.pods {
            if !can_start && pod.mounted.is_empty() {
                // The kubelet retries.
                let later = now.saturating_add(Duration::from_secs(5)).unwrap();
                pod.ready_at = pod.ready_at.map(|at| at.max(later));
                pod.sync_at = pod.sync_at.map(|at| at.max(later));
            }
            if pod.sync_at.take_if(|at| *at <= now).is_some() {
                pod.mount(&mounted);
                changed = true;
            }
            if pod.ready_at.take_if(|at| *at <= now).is_some()
                && pod.sound
                && !bad.contains(&pod.running)
                && !lame.contains(&pod.state.name)
            {
                pod.state.containers_ready = true;
                pod.mount(&mounted);
                changed = true;
            }
        }
        changed |= self.statefulset() | self.look_up() | self.traffic();
        if changed {
            self.wake();
        }
    }
}
