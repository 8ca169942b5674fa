//! A domain controller or connector: it has an address, tries RADIUS servers out, and logs users in.

mod admin;
mod runs;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use self::runs::Run;
pub use self::runs::{FailOver, PerServer, Report, RunRequest};
use crate::{
    ask,
    directory::{
        ControllerView, MessageAuthenticator, Poll, PollAnswer, ProbeOrder, ProbeOutcome, ProbeReport,
        RadiusClient, RadiusStatus, WhileChanging,
    },
    error::Error,
    names::Names,
    radius::{self, LoginResult, Outcome, Plan, Protocol, Successor},
    secret::Secret,
    serve::{self, Running, until_told},
};

/// AWS's own default for RadiusTimeout is nowhere written; this stands in when the member is absent.
const TIMEOUT_S: u32 = 20;

/// How a controller is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory simulator's admin API, `http://HOST:PORT`.
    pub directory_url: String,
    /// Its directory.
    pub directory_id: String,
    /// Its name; empty: its first address.
    pub name: String,
    /// Empty: the directory's primary region.
    pub region: String,
    /// What the directory shows.
    pub advertise: Vec<IpAddr>,
    /// Where packets leave from; empty: `advertise`.
    pub sources: Vec<IpAddr>,
    /// Where the admin API answers.
    pub admin: SocketAddr,
}

/// A login to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginRequest {
    /// Who.
    pub username: String,
    /// What they typed.
    pub password: Secret,
    /// What is registered, unless given.
    pub protocol: Option<Protocol>,
    /// Calling-Station-Id.
    pub calling_station_id: Option<String>,
    /// RadiusTimeout.
    pub timeout_s: Option<f64>,
    /// RadiusRetries.
    pub retries: Option<u32>,
    /// RadiusServers.
    pub servers: Option<Vec<String>>,
    /// RadiusPort.
    pub port: Option<u16>,
    /// SharedSecret.
    pub shared_secret: Option<Secret>,
    /// How RADIUS is spoken, whatever the directory's settings say.
    pub radius_client: Option<RadiusClient>,
}

/// A controller, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Controller {
    options: Options,
    /// Where the admin API answers.
    admin: SocketAddr,
    names: Names,
    /// What the directory last said.
    heard: watch::Sender<Option<PollAnswer>>,
    /// Whether the last poll was answered.
    registered: watch::Sender<bool>,
    /// Counts changes of settings, so that a login notices one that came and went.
    changes: AtomicU64,
    turn: AtomicU64,
    runs: Mutex<BTreeMap<u64, Arc<Run>>>,
}

/// Starts a controller. It is ready before its directory is: it asks until the directory answers.
///
/// # Errors
/// When the admin address is taken or a source address is not this host's.
pub async fn start(mut options: Options) -> Result<Running, Error> {
    if options.sources.is_empty() {
        options.sources.clone_from(&options.advertise);
    }
    for source in &options.sources {
        let failed = |error| Error::UseSource {
            address: *source,
            source: error,
        };
        UdpSocket::bind((*source, 0)).await.map_err(failed)?;
    }
    if options.name.is_empty() {
        options.name = options
            .advertise
            .first()
            .map_or_else(|| "controller".to_owned(), ToString::to_string);
    }
    let (listener, admin) = serve::bind(options.admin).await?;
    let controller = Arc::new(Controller {
        options,
        admin,
        names: Names::of_the_system(),
        heard: watch::channel(None).0,
        registered: watch::channel(false).0,
        changes: AtomicU64::new(0),
        turn: AtomicU64::new(0),
        runs: Mutex::new(BTreeMap::new()),
    });
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve::admin(
        listener,
        admin::router(Arc::clone(&controller)),
        stopped.clone(),
    ));
    info!(%admin, name = controller.options.name, directory = controller.options.directory_id, "controller started");
    tasks.spawn(controller.follow(stopped));
    Ok(Running {
        listen: admin,
        admin,
        ca_pem: String::new(),
        stop,
        tasks,
    })
}

impl Controller {
    /// Polls the directory until `stop`, and tries out what it is told to.
    async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (reports, mut reported) = mpsc::channel::<ProbeReport>(16);
        let (mut serial, mut probing, mut failures) = (0, 0, 0_u32);
        let mut probes = JoinSet::new();
        // Kept until the directory has answered to it.
        let mut report: Option<ProbeReport> = None;
        loop {
            let poll = self.poll(if report.is_some() { 0 } else { serial }, probing, report.clone());
            let answer = tokio::select! {
                () = until_told(&mut stop) => return,
                // The poll that is held is given up for one that brings the report.
                Some(news) = reported.recv() => {
                    report = Some(news);
                    continue;
                }
                answer = self.ask(&poll) => answer,
            };
            match answer {
                Ok(answer) => {
                    (failures, report) = (0, None);
                    serial = answer.serial;
                    if let Some(order) = answer.probe.clone().filter(|order| order.generation != probing) {
                        probing = order.generation;
                        let (controller, reports) = (Arc::clone(&self), reports.clone());
                        let view = answer.radius.clone();
                        probes.spawn(async move {
                            let report = controller.try_out(&order, view).await;
                            let _ = reports.send(report).await;
                        });
                    }
                    self.take(answer);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        warn!(%error, "directory does not answer");
                    }
                    self.registered.send_replace(false);
                    tokio::select! {
                        () = until_told(&mut stop) => return,
                        () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    }
                    // A directory that comes back may have forgotten what it was told.
                    while probes.try_join_next().is_some() {}
                    let told_nothing = probes.is_empty() && report.is_none() && reported.is_empty();
                    (serial, probing) = (0, if told_nothing { 0 } else { probing });
                }
            }
            while probes.try_join_next().is_some() {}
        }
    }

    fn poll(&self, serial: u64, probing: u64, report: Option<ProbeReport>) -> Poll {
        Poll {
            directory_id: self.options.directory_id.clone(),
            name: self.options.name.clone(),
            region: self.options.region.clone(),
            addresses: self.options.advertise.clone(),
            admin_port: self.admin.port(),
            serial,
            probing,
            report,
        }
    }

    async fn ask(&self, poll: &Poll) -> Result<PollAnswer, Error> {
        let url = format!("{}/poll", self.options.directory_url.trim_end_matches('/'));
        ask::post(&self.names, &url, poll).await
    }

    fn take(&self, answer: PollAnswer) {
        let before = self.heard.borrow().as_ref().and_then(generation_and_status);
        if before != generation_and_status(&answer) {
            self.changes.fetch_add(1, Ordering::SeqCst);
            let status = answer.radius.as_ref().map(|radius| radius.status);
            let servers = answer
                .radius
                .as_ref()
                .map(|radius| radius.settings.servers().cloned().collect::<Vec<_>>());
            info!(?status, ?servers, "RADIUS settings");
        }
        self.heard.send_replace(Some(answer));
        self.registered.send_replace(true);
    }

    fn view(&self) -> Option<ControllerView> {
        self.heard
            .borrow()
            .as_ref()
            .and_then(|answer| answer.radius.clone())
    }

    fn is_changing(&self) -> bool {
        self.view()
            .is_some_and(|view| view.status == RadiusStatus::Creating)
    }

    /// Tries every server of new settings, all at once.
    async fn try_out(&self, order: &ProbeOrder, view: Option<ControllerView>) -> ProbeReport {
        let rules = &order.rules;
        tokio::time::sleep(Duration::from_millis(rules.delay_ms)).await;
        let servers = view
            .as_ref()
            .map(|view| view.settings.servers().cloned().collect())
            .unwrap_or_default();
        let base = view.and_then(|view| self.plan(&LoginRequest::default(), Some(view)).ok());
        let found = match base {
            Some(mut plan) => {
                if rules.timeout_ms > 0 {
                    plan.timeout = Duration::from_millis(rules.timeout_ms);
                }
                plan.retries = u32::try_from(rules.retries).unwrap_or(plan.retries);
                let password = Secret::new(rules.password.clone());
                self.probe(&plan, servers, &rules.user_name, &password).await
            }
            None => Vec::new(),
        };
        info!(generation = order.generation, outcomes = ?found, "tried servers out");
        ProbeReport {
            controller: self.options.name.clone(),
            generation: order.generation,
            servers: found,
        }
    }

    async fn probe(
        &self,
        plan: &Plan,
        servers: Vec<String>,
        user: &str,
        password: &Secret,
    ) -> Vec<ProbeOutcome> {
        let each = servers.into_iter().map(|server| async {
            let mut plan = Plan {
                servers: vec![server.clone()],
                successor: Successor::Nobody,
                ..plan.clone()
            };
            if plan.client.message_authenticator == MessageAuthenticator::ProbeOnly {
                plan.client.message_authenticator = MessageAuthenticator::Send;
            }
            let result = radius::login(&plan, &self.names, user, password).await;
            let duration_ms = result.duration_ms;
            ProbeOutcome {
                server,
                outcome: outcome_word(&result),
                duration_ms,
            }
        });
        futures::future::join_all(each).await
    }

    /// What a login needs, from what is registered and what the request overrides.
    fn plan(&self, asked: &LoginRequest, view: Option<ControllerView>) -> Result<Plan, &'static str> {
        let client = match &asked.radius_client {
            Some(client) => client.clone(),
            None => self
                .heard
                .borrow()
                .as_ref()
                .map(|answer| answer.client.clone())
                .unwrap_or_default(),
        };
        let settings = view.map(
            |view| match (client.settings_while_changing, view.status, view.previous) {
                (WhileChanging::Old, RadiusStatus::Creating, Some(previous)) => previous,
                _ => view.settings,
            },
        );
        let registered = settings.unwrap_or_default();
        let secret = asked
            .shared_secret
            .clone()
            .unwrap_or(registered.shared_secret.clone());
        let servers = asked
            .servers
            .clone()
            .unwrap_or_else(|| registered.servers().cloned().collect());
        if servers.is_empty() || secret.is_empty() {
            return Err("RADIUS is not configured");
        }
        let mut client = client;
        if let Some(station) = &asked.calling_station_id {
            client.calling_station_id.clone_from(station);
        }
        let seconds = asked
            .timeout_s
            .unwrap_or_else(|| f64::from(registered.radius_timeout.unwrap_or(TIMEOUT_S)));
        Ok(Plan {
            servers,
            port: asked.port.or(registered.radius_port).unwrap_or(1812),
            timeout: Duration::try_from_secs_f64(seconds).map_err(|_| "timeout_s is no duration")?,
            retries: asked.retries.or(registered.radius_retries).unwrap_or(0).min(100),
            secret,
            protocol: asked
                .protocol
                .or(registered.authentication_protocol)
                .unwrap_or(Protocol::Pap),
            client,
            successor: self.successor(),
            sources: self.options.sources.clone(),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Who continues a login that is taken over: another controller of the directory, otherwise a second address of this one.
    fn successor(&self) -> Successor {
        let heard = self.heard.borrow();
        let other = heard.as_ref().and_then(|answer| answer.others.first());
        match (other, self.options.sources.as_slice()) {
            (Some(other), _) => Successor::Controller(*other),
            (None, [first, rest @ ..]) => rest
                .iter()
                .find(|source| source.is_ipv6() == first.is_ipv6())
                .map_or(Successor::Nobody, |source| Successor::Source(*source)),
            (None, []) => Successor::Nobody,
        }
    }

    /// Logs a user in as a directory would.
    async fn login(&self, asked: &LoginRequest) -> LoginResult {
        let before = (self.changes.load(Ordering::SeqCst), self.is_changing());
        let mut result = match self.plan(asked, self.view()) {
            Ok(plan) => radius::login(&plan, &self.names, &asked.username, &asked.password).await,
            Err(why) => LoginResult {
                outcome: Outcome::NotConfigured,
                username: asked.username.clone(),
                started: crate::clock::rfc3339(jiff::Timestamp::now()),
                message_authenticator: "none".to_owned(),
                error: Some(why.to_owned()),
                ..LoginResult::default()
            },
        };
        let changed = self.changes.load(Ordering::SeqCst) != before.0;
        result.aws_would_refuse = before.1 || self.is_changing() || changed;
        result
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn generation_and_status(answer: &PollAnswer) -> Option<(u64, RadiusStatus)> {
    answer
        .radius
        .as_ref()
        .map(|radius| (radius.generation, radius.status))
}

/// The word for a probe's end.
fn outcome_word(result: &LoginResult) -> String {
    let unresolvable = result.attempts == 0
        && result
            .packets
            .iter()
            .any(|packet| packet.kind == radius::PacketKind::Unresolvable);
    match result.outcome {
        _ if unresolvable => "unresolvable",
        Outcome::Accept => "accept",
        Outcome::Reject => "reject",
        Outcome::Challenge => "challenge",
        Outcome::Timeout => "timeout",
        // It did answer, and proved the secret; what was wrong with MS-CHAPv2's success is not the server's reachability.
        Outcome::Error => "error",
        Outcome::NotConfigured => "not-configured",
    }
    .to_owned()
}
