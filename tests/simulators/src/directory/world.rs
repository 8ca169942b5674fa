//! What the directory simulator holds, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    radius_settings::RadiusSettings,
    seeds::{Credential, DirectorySpec, DirectoryType, Role},
    settings::{Config, Settings},
};
use crate::{
    admin::Journal,
    clock,
    secret::{Secret, in_the_clear},
};

/// Assumed-role sessions that are remembered at once.
const SESSIONS: usize = 10_000;
/// Changing intervals that are remembered for each directory.
const INTERVALS: usize = 1_000;

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) credentials: BTreeMap<String, Credential>,
    pub(crate) roles: Vec<Role>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) journal: Journal<Entry>,
    pub(crate) digest_key: String,
    pub(crate) counters: BTreeMap<String, Counter>,
    /// Counts changes that must be on disk before they are told.
    pub(crate) version: u64,
    pub(crate) generations: u64,
}

/// Calls of one operation.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counter {
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// A session of an assumed role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) access_key_id: String,
    #[serde(with = "in_the_clear")]
    pub(crate) secret_access_key: Secret,
    #[serde(with = "in_the_clear")]
    pub(crate) session_token: Secret,
    pub(crate) role: String,
    pub(crate) principal: String,
    pub(crate) expires: Timestamp,
}

/// A directory and what belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Directory {
    pub(crate) spec: DirectorySpec,
    pub(crate) launched: Timestamp,
    pub(crate) stage_since: Timestamp,
    pub(crate) tags: BTreeMap<String, String>,
    /// By region.
    pub(crate) radius: BTreeMap<String, Radius>,
    /// By region: what was there before the last write.
    #[serde(default)]
    pub(crate) before: BTreeMap<String, Before>,
    pub(crate) intervals: Vec<Interval>,
    /// Registered controllers by name.
    pub(crate) controllers: BTreeMap<String, Controller>,
}

/// RADIUS in one region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Radius {
    pub(crate) settings: RadiusSettings,
    /// Those of before, for logins while they change.
    pub(crate) previous: Option<RadiusSettings>,
    pub(crate) status: RadiusStatus,
    pub(crate) since: Timestamp,
    pub(crate) operation: String,
    pub(crate) generation: u64,
    pub(crate) probes: Vec<ProbeReport>,
}

/// RADIUS before a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    pub(crate) radius: Option<Radius>,
    pub(crate) written: Timestamp,
}

/// The service's own words.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum RadiusStatus {
    Creating,
    Completed,
    Failed,
}

/// What one controller found of the servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Who.
    pub controller: String,
    /// Which settings.
    pub generation: u64,
    /// What each server did.
    pub servers: Vec<ProbeOutcome>,
}

/// What one server did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// As registered.
    pub server: String,
    /// accept, reject, challenge, timeout, unresolvable.
    pub outcome: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// A span of time in which nobody could log in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) region: String,
    pub(crate) from: Timestamp,
    pub(crate) to: Option<Timestamp>,
    pub(crate) operation: String,
    pub(crate) result: Option<String>,
}

/// A controller that said its address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Controller {
    pub(crate) region: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    /// Where its admin API answers; 0: it did not say.
    #[serde(default)]
    pub(crate) admin_port: u16,
}

/// A write, as the journal keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) time: String,
    pub(crate) operation: String,
    pub(crate) directory: String,
    pub(crate) region: String,
    pub(crate) caller: String,
    pub(crate) access_key_id: String,
    pub(crate) request_id: String,
    pub(crate) invocation_id: String,
    pub(crate) attempt: String,
    pub(crate) settings: Value,
    pub(crate) shared_secret_digest: String,
    pub(crate) tags: Value,
    pub(crate) result: String,
    pub(crate) error_message: String,
}

/// A controller as others see it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) source: &'static str,
    pub(crate) status: String,
    pub(crate) since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen_ms: Option<u64>,
}

impl Directory {
    pub(crate) fn new(spec: DirectorySpec, now: Timestamp) -> Self {
        let tags = spec.tags.clone().unwrap_or_default();
        let (radius, controllers) = (BTreeMap::new(), BTreeMap::new());
        Self {
            spec,
            launched: now,
            stage_since: now,
            tags,
            radius,
            before: BTreeMap::new(),
            intervals: Vec::new(),
            controllers,
        }
    }

    /// All controllers of a region, in an order that does not change while they live.
    pub(crate) fn controllers_in(&self, region: &str, now: Timestamp, lost_after_ms: u64) -> Vec<Seen> {
        let fixed = self.spec.static_controllers.iter().filter_map(|controller| {
            let home = match controller.region.as_str() {
                "" => &self.spec.region,
                region => region,
            };
            let addresses: Vec<IpAddr> = [Some(controller.address), controller.address6]
                .into_iter()
                .flatten()
                .collect();
            let name = format!("static-{}", controller.address);
            (home == region).then(|| Seen {
                id: controller_id(&self.spec.id, &name),
                name,
                region: region.to_owned(),
                addresses,
                source: "static",
                status: controller.status.clone(),
                since: clock::rfc3339(self.launched),
                last_seen_ms: None,
            })
        });
        let registered = self
            .controllers
            .iter()
            .filter(|(_, controller)| controller.region == region)
            .map(|(name, controller)| {
                let silent = clock::ms_between(controller.last_seen, now);
                Seen {
                    id: controller_id(&self.spec.id, name),
                    name: name.clone(),
                    region: region.to_owned(),
                    addresses: controller.addresses.clone(),
                    source: "registered",
                    status: if silent > lost_after_ms {
                        "Impaired"
                    } else {
                        "Active"
                    }
                    .to_owned(),
                    since: clock::rfc3339(controller.first_seen),
                    last_seen_ms: Some(silent),
                }
            });
        fixed.chain(registered).collect()
    }

    /// Names of the registered controllers of a region that are heard of.
    pub(crate) fn live(&self, region: &str, now: Timestamp, lost_after_ms: u64) -> BTreeSet<String> {
        let heard = |controller: &Controller| clock::ms_between(controller.last_seen, now) <= lost_after_ms;
        self.controllers
            .iter()
            .filter(|(_, controller)| controller.region == region && heard(controller))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The first address and the admin port of every live controller of a region but one.
    pub(crate) fn others(
        &self,
        region: &str,
        but: &str,
        now: Timestamp,
        lost_after_ms: u64,
    ) -> Vec<SocketAddr> {
        let live = self.live(region, now, lost_after_ms);
        self.controllers
            .iter()
            .filter(|(name, controller)| *name != but && live.contains(*name) && controller.admin_port != 0)
            .filter_map(|(_, controller)| {
                let ip = *controller.addresses.first()?;
                Some(SocketAddr::new(ip, controller.admin_port))
            })
            .collect()
    }

    /// Keeps what a write is about to replace.
    pub(crate) fn keep_before(&mut self, region: &str, now: Timestamp) {
        let before = Before {
            radius: self.radius.get(region).cloned(),
            written: now,
        };
        self.before.insert(region.to_owned(), before);
    }

    /// RADIUS as a description shows it, which may be one write old for a while.
    pub(crate) fn shown(&self, region: &str, now: Timestamp, settings: &Settings) -> Option<&Radius> {
        let is_old = |before: &&Before| {
            let since = clock::ms_between(before.written, now);
            let in_turn = !settings.description_alternates || since / 1000 % 2 == 1;
            since < settings.description_lag_ms && in_turn
        };
        match self.before.get(region).filter(is_old) {
            Some(before) => before.radius.as_ref(),
            None => self.radius.get(region),
        }
    }

    /// Begins an outage.
    pub(crate) fn begin_change(&mut self, region: &str, operation: &str, now: Timestamp) {
        self.end_change(region, "superseded", now);
        if self.intervals.len() == INTERVALS {
            self.intervals.remove(0);
        }
        self.intervals.push(Interval {
            region: region.to_owned(),
            from: now,
            to: None,
            operation: operation.to_owned(),
            result: None,
        });
    }

    /// Ends the outage of a region, if there is one.
    pub(crate) fn end_change(&mut self, region: &str, result: &str, now: Timestamp) {
        let open = self
            .intervals
            .iter_mut()
            .rev()
            .find(|span| span.region == region && span.to.is_none());
        if let Some(span) = open {
            span.to = Some(now);
            span.result = Some(result.to_owned());
        }
    }

    /// Whether its RADIUS can be configured at all.
    pub(crate) fn has_no_radius(&self) -> bool {
        self.spec.kind == DirectoryType::SimpleAD
    }
}

impl World {
    /// The world of a config file.
    pub(crate) fn of(config: &Config, digest_key: String, now: Timestamp) -> Self {
        let mut world = Self {
            settings: config.settings.clone(),
            credentials: BTreeMap::new(),
            roles: config.roles.clone(),
            sessions: Vec::new(),
            directories: BTreeMap::new(),
            journal: Journal::default(),
            digest_key,
            counters: BTreeMap::new(),
            version: 0,
            generations: 0,
        };
        for credential in &config.credentials {
            world
                .credentials
                .insert(credential.access_key_id.clone(), credential.clone());
        }
        for spec in &config.directories {
            world.seed(spec.clone(), now);
        }
        world
    }

    /// Creates a directory that is missing.
    pub(crate) fn seed(&mut self, mut spec: DirectorySpec, now: Timestamp) {
        if spec.region.is_empty() {
            spec.region.clone_from(&self.settings.region);
        }
        self.directories
            .entry(spec.id.clone())
            .or_insert_with(|| Directory::new(spec, now));
    }

    /// Remembers a session, forgetting those that ran out and then the oldest.
    pub(crate) fn add_session(&mut self, session: Session, now: Timestamp) {
        self.sessions.retain(|session| session.expires > now);
        if self.sessions.len() >= SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(session);
    }

    /// A number that no settings had before.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }
}

/// `dc-` and ten hex digits that stay the same for a name.
pub(crate) fn controller_id(directory: &str, name: &str) -> String {
    let digest = hex::encode(Sha256::digest(format!("{directory}/{name}")));
    format!("dc-{}", digest.get(..10).unwrap_or_default())
}
