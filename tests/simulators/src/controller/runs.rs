//! Logins by the clock, with a report.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Controller, LoginRequest};
use crate::{
    clock,
    radius::{LoginResult, Outcome, PacketKind},
    secret::Secret,
    serve::until_told,
};

/// Results of a kind that are kept.
const KEPT: usize = 100;
/// Logins of one run.
const COUNT: u64 = 100_000;
/// A run's length.
const LENGTH_MS: u64 = 24 * 3_600_000;

/// `POST /logins`: what to do, over and over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Pause between the beginnings of two logins.
    pub every_ms: u64,
    /// How many.
    #[serde(default)]
    pub count: Option<u64>,
    /// How long.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Logins under way at once.
    #[serde(default = "sixty_four")]
    pub max_in_flight: usize,
    /// Who, in turn; empty: `username`.
    #[serde(default)]
    pub usernames: Vec<String>,
    /// What they type, in turn; empty: `password`.
    #[serde(default)]
    pub passwords: Vec<Secret>,
    /// Who.
    #[serde(default)]
    pub username: String,
    /// What they type.
    #[serde(default)]
    pub password: Secret,
    /// As in a single login.
    #[serde(default)]
    pub protocol: Option<crate::radius::Protocol>,
    /// As in a single login.
    #[serde(default)]
    pub calling_station_id: Option<String>,
    /// As in a single login.
    #[serde(default)]
    pub timeout_s: Option<f64>,
    /// As in a single login.
    #[serde(default)]
    pub retries: Option<u32>,
    /// As in a single login.
    #[serde(default)]
    pub servers: Option<Vec<String>>,
    /// As in a single login.
    #[serde(default)]
    pub port: Option<u16>,
    /// As in a single login.
    #[serde(default)]
    pub shared_secret: Option<Secret>,
    /// As in a single login.
    #[serde(default)]
    pub radius_client: Option<crate::directory::RadiusClient>,
}

fn sixty_four() -> usize {
    64
}

impl RunRequest {
    /// Refuses what would not end or not begin.
    pub(super) fn check(&self) -> Result<(), String> {
        match () {
            () if self.every_ms == 0 => Err("every_ms must be at least 1".to_owned()),
            () if self.count.is_none() && self.for_ms.is_none() => {
                Err("count or for_ms is needed".to_owned())
            }
            () if self.count.is_some_and(|count| count > COUNT) => {
                Err(format!("count can be {COUNT} at most"))
            }
            () if self.for_ms.is_some_and(|ms| ms > LENGTH_MS) => {
                Err(format!("for_ms can be {LENGTH_MS} at most"))
            }
            () if self.max_in_flight == 0 || self.max_in_flight > 4096 => {
                Err("max_in_flight must be between 1 and 4096".to_owned())
            }
            () => Ok(()),
        }
    }

    fn login(&self, number: u64) -> LoginRequest {
        let in_turn = |length: usize| {
            usize::try_from(number)
                .ok()
                .and_then(|number| number.checked_rem(length))
                .unwrap_or(0)
        };
        LoginRequest {
            username: self
                .usernames
                .get(in_turn(self.usernames.len()))
                .unwrap_or(&self.username)
                .clone(),
            password: self
                .passwords
                .get(in_turn(self.passwords.len()))
                .unwrap_or(&self.password)
                .clone(),
            protocol: self.protocol,
            calling_station_id: self.calling_station_id.clone(),
            timeout_s: self.timeout_s,
            retries: self.retries,
            servers: self.servers.clone(),
            port: self.port,
            shared_secret: self.shared_secret.clone(),
            radius_client: self.radius_client.clone(),
        }
    }
}

/// How a run goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The run's.
    pub id: String,
    /// Whether logins are begun or under way.
    pub running: bool,
    /// Begun.
    pub tried: u64,
    /// Ended with Access-Accept.
    pub accepted: u64,
    /// Ended with Access-Reject or a challenge.
    pub rejected: u64,
    /// Ended without a valid answer, or with none that the protocol allows.
    pub failed: u64,
    /// Under way.
    pub in_flight: u64,
    /// Not begun since too many were under way.
    pub skipped: u64,
    /// RADIUS settings were changing meanwhile.
    pub would_have_been_refused: u64,
    /// More than one server was asked.
    pub failed_over: u64,
    /// Of all that ended.
    pub slowest_ms: u64,
    /// Of all that ended.
    pub fastest_ms: u64,
    /// Of all that ended.
    pub mean_ms: u64,
    /// By server.
    pub per_server: BTreeMap<String, PerServer>,
    /// The first 100.
    pub fail_overs: Vec<FailOver>,
    /// The first 100.
    pub failures: Vec<LoginResult>,
    /// The first 100.
    pub rejections: Vec<LoginResult>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339; empty while running.
    pub ended: String,
}

/// What one server got and gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PerServer {
    /// Packets sent to it.
    pub requests: u64,
    /// Valid answers of it.
    pub answers: u64,
    /// Access-Accepts of it.
    pub accepts: u64,
    /// Access-Rejects of it.
    pub rejects: u64,
}

/// A login that another server had to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailOver {
    /// Number of the login, from 0.
    pub login: u64,
    /// When it began, since the run began.
    pub at_ms: u64,
    /// Who did not answer.
    pub from: Vec<String>,
    /// Who did, if anyone.
    pub to: Option<String>,
    /// The whole login.
    pub duration_ms: u64,
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    report: Mutex<(Report, u64)>,
    stop: watch::Sender<bool>,
}

impl Run {
    pub(super) fn begin(id: u64, controller: &Arc<Controller>, asked: RunRequest) -> Arc<Self> {
        let report = Report {
            id: id.to_string(),
            running: true,
            started: clock::rfc3339(Timestamp::now()),
            ..Report::default()
        };
        let run = Arc::new(Self {
            report: Mutex::new((report, 0)),
            stop: watch::channel(false).0,
        });
        tokio::spawn(Arc::clone(&run).go(Arc::clone(controller), asked));
        run
    }

    pub(super) fn report(&self) -> Report {
        self.change(|report, _| report.clone())
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Report, &mut u64) -> T) -> T {
        let mut both = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let (report, sum) = &mut *both;
        change(report, sum)
    }

    async fn go(self: Arc<Self>, controller: Arc<Controller>, asked: RunRequest) {
        let began = Instant::now();
        let end = asked.for_ms.map(|ms| began + Duration::from_millis(ms));
        let mut ticks = interval(Duration::from_millis(asked.every_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stopped = self.stop.subscribe();
        let mut open = JoinSet::new();
        let mut number = 0;
        while asked.count.is_none_or(|count| number < count) {
            tokio::select! {
                biased;
                () = until_told(&mut stopped) => break,
                _ = ticks.tick() => {}
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            while open.try_join_next().is_some() {}
            if open.len() >= asked.max_in_flight {
                self.change(|report, _| report.skipped += 1);
                number += 1;
                continue;
            }
            self.change(|report, _| {
                report.tried += 1;
                report.in_flight += 1;
            });
            let (run, controller, login) = (Arc::clone(&self), Arc::clone(&controller), asked.login(number));
            let (at, this) = (clock::ms(began.elapsed()), number);
            open.spawn(async move {
                let result = controller.login(&login).await;
                run.change(|report, sum| add(report, sum, this, at, result));
            });
            number += 1;
        }
        while open.join_next().await.is_some() {}
        self.change(|report, _| {
            report.running = false;
            report.ended = clock::rfc3339(Timestamp::now());
        });
    }
}

/// Adds a login to a report.
fn add(report: &mut Report, sum: &mut u64, login: u64, at_ms: u64, result: LoginResult) {
    report.in_flight = report.in_flight.saturating_sub(1);
    let ended = report.accepted + report.rejected + report.failed + 1;
    *sum += result.duration_ms;
    report.mean_ms = *sum / ended;
    report.slowest_ms = report.slowest_ms.max(result.duration_ms);
    report.fastest_ms = if ended == 1 {
        result.duration_ms
    } else {
        report.fastest_ms.min(result.duration_ms)
    };
    report.would_have_been_refused += u64::from(result.aws_would_refuse);
    for packet in &result.packets {
        let server = report.per_server.entry(packet.server.clone()).or_default();
        match packet.kind {
            PacketKind::Request | PacketKind::Retransmission => server.requests += 1,
            PacketKind::Answer => {
                server.answers += 1;
                server.accepts += u64::from(packet.code == "Access-Accept");
                server.rejects += u64::from(packet.code == "Access-Reject");
            }
            PacketKind::BadAnswer | PacketKind::Refused | PacketKind::Unresolvable => {}
        }
    }
    if result.failed_over {
        report.failed_over += 1;
        if report.fail_overs.len() < KEPT {
            report.fail_overs.push(fail_over(login, at_ms, &result));
        }
    }
    let kept = match result.outcome {
        Outcome::Accept => {
            report.accepted += 1;
            return;
        }
        Outcome::Reject | Outcome::Challenge => {
            report.rejected += 1;
            &mut report.rejections
        }
        Outcome::Timeout | Outcome::NotConfigured | Outcome::Error => {
            report.failed += 1;
            &mut report.failures
        }
    };
    if kept.len() < KEPT {
        kept.push(result);
    }
}

fn fail_over(login: u64, at_ms: u64, result: &LoginResult) -> FailOver {
    let mut from: Vec<String> = result
        .packets
        .iter()
        .filter(|packet| packet.kind == PacketKind::Request && Some(&packet.server) != result.server.as_ref())
        .map(|packet| packet.server.clone())
        .collect();
    from.dedup();
    FailOver {
        login,
        at_ms,
        from,
        to: result.server.clone(),
        duration_ms: result.duration_ms,
    }
}
