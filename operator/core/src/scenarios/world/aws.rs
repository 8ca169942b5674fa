//! AWS Directory Service, as far as the plans see it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::{THEIR_SECRET, World};
use crate::api::RegisteredSettings;
use crate::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use crate::observed::{Directory, DirectoryKind, NetworkType, RadiusStatus};
use crate::registration::DirectoryCall;

/// How long AWS works on a write.
const CREATING: Duration = Duration::from_secs(20);

/// How long the operator relies on tags that it has read.
const TAGS_ARE_READ_EVERY: Duration = Duration::from_secs(300);

/// How AWS answers the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scenarios) enum Answer {
    Error(AwsErrorClass),
    /// Done, but the answer is lost.
    Lost,
    /// Done, and ends in Failed.
    Fails,
    /// Done, and stays Creating.
    Sticks,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scenarios) struct Written {
    pub(in crate::scenarios) at: Timestamp,
    pub(in crate::scenarios) operation: AwsOperation,
    pub(in crate::scenarios) servers: Vec<String>,
    /// It changed nothing, and nothing was wrong.
    pub(in crate::scenarios) needless: bool,
}

#[derive(Debug, Clone, Default)]
pub(in crate::scenarios) struct Aws {
    pub(in crate::scenarios) status: Option<RadiusStatus>,
    pub(in crate::scenarios) settings: Option<RegisteredSettings>,
    pub(in crate::scenarios) secret: Vec<u8>,
    pub(super) old_secret: Option<Vec<u8>>,
    pub(super) old_servers: Option<Vec<String>>,
    /// When every domain controller has the present list; unset while AWS is at work.
    pub(super) old_until: Option<Timestamp>,
    pub(in crate::scenarios) tags: BTreeMap<String, String>,
    /// Whether tags can't be read.
    pub(in crate::scenarios) hides_tags: bool,
    /// The tags as they were read last.
    pub(super) read_tags: Option<(Timestamp, BTreeMap<String, String>)>,
    pub(in crate::scenarios) clients: BTreeSet<IpAddr>,
    pub(in crate::scenarios) kind: Option<DirectoryKind>,
    pub(in crate::scenarios) owner_account: Option<String>,
    pub(in crate::scenarios) stage: Option<String>,
    pub(in crate::scenarios) network: NetworkType,
    pub(super) done_at: Option<(Timestamp, RadiusStatus)>,
    pub(in crate::scenarios) answers: VecDeque<Answer>,
    /// How DescribeDirectories fails.
    pub(in crate::scenarios) blind: Option<AwsErrorClass>,
    /// How long DescribeDirectories takes.
    pub(in crate::scenarios) slow: Duration,
    /// How long DescribeDirectories goes on describing what was there before the last write.
    pub(in crate::scenarios) lag: Duration,
    /// For how long after a write every other description is the one from before it.
    pub(in crate::scenarios) alternates: Duration,
    pub(super) described: u32,
    /// What was there before the last write, and when that was.
    pub(super) before: Option<(Timestamp, Option<RadiusStatus>, Option<RegisteredSettings>)>,
    /// Whether writes are refused while the stage is another than Active.
    pub(in crate::scenarios) refuses_stage: bool,
    /// Writes that AWS was asked for, refused ones too.
    pub(in crate::scenarios) asked: usize,
    pub(in crate::scenarios) writes: Vec<Written>,
}

impl World {
    /// RADIUS is on, by somebody else's doing.
    pub(in crate::scenarios) fn somebody_elses(&mut self) {
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
    pub(in crate::scenarios) fn switch_off(&mut self) {
        self.aws.status = None;
        self.aws.settings = None;
        self.aws.done_at = None;
    }

    /// Asks AWS, which looks at once and answers when it does.
    pub(in crate::scenarios) fn describe(&mut self) {
        if self.aws.blind.is_some() {
            return;
        }
        self.aws.described += 1;
        let odd = self.aws.described % 2 == 1;
        let within = |at: &Timestamp, time| self.now < at.saturating_add(time).unwrap();
        let lags = |at: &Timestamp| within(at, self.aws.lag) || (odd && within(at, self.aws.alternates));
        let old = |read: &(Timestamp, _)| !within(&read.0, TAGS_ARE_READ_EVERY);
        if self.aws.read_tags.as_ref().is_none_or(old) || std::mem::take(&mut self.read_tags) {
            self.aws.read_tags = Some((self.clock(), self.aws.tags.clone()));
        }
        let (tags_as_of, tags) = self.aws.read_tags.clone().unwrap();
        let (radius_status, radius_settings) = match &self.aws.before {
            Some((at, status, settings)) if lags(at) => (*status, settings.clone()),
            _ => (self.aws.status, self.aws.settings.clone()),
        };
        self.asking = Some(Directory {
            kind: self.aws.kind.clone().unwrap_or(DirectoryKind::MicrosoftAd),
            stage: self.aws.stage.clone().unwrap_or_else(|| "Active".to_owned()),
            stage_reason: None,
            network: self.aws.network,
            radius_status,
            radius_settings: radius_settings.map(|mut settings| {
                // As AWS might write it.
                for server in &mut settings.servers_ipv6 {
                    *server = server.to_uppercase();
                }
                settings
            }),
            client_addresses: self.aws.clients.clone(),
            owner_account: self.aws.owner_account.clone(),
            tags: (!self.aws.hides_tags).then_some(tags),
            tags_as_of,
            as_of: self.clock(),
            answered: self.clock().saturating_add(self.aws.slow).unwrap(),
        });
    }

    pub(super) fn call_aws(&mut self, call: &DirectoryCall) -> Result<Option<String>, AwsFailure> {
        let operation = call.operation();
        let answer = self.aws.answers.pop_front();
        if let Some(Answer::Error(class)) = answer {
            return Err(failure(operation, class));
        }
        let aws = &mut self.aws;
        aws.asked += 1;
        if aws.refuses_stage && aws.stage.is_some() {
            return Err(failure(operation, AwsErrorClass::Refused));
        }
        let before = (self.now, aws.status, aws.settings.clone());
        match (call, aws.status) {
            (DirectoryCall::Enable(_), Some(RadiusStatus::Completed)) => {
                return Err(failure(operation, AwsErrorClass::AlreadyExists));
            }
            (DirectoryCall::Update(_), None) => return Err(failure(operation, AwsErrorClass::NotFound)),
            (_, Some(RadiusStatus::Creating)) => panic!("written while AWS was at work"),
            (DirectoryCall::Disable, _) => {
                aws.status = None;
                aws.settings = None;
                aws.writes.push(Written {
                    at: self.now,
                    operation,
                    servers: Vec::new(),
                    needless: false,
                });
            }
            (DirectoryCall::Enable(settings) | DirectoryCall::Update(settings), _) => {
                let servers = settings.shown.servers.clone();
                let some = !(servers.is_empty() && settings.shown.servers_ipv6.is_empty());
                assert!(some, "an empty list was written");
                let secret = settings.secret.expose().to_vec();
                let equal = aws
                    .settings
                    .as_ref()
                    .is_some_and(|have| crate::registration::same(have, &settings.shown));
                let needless = equal && secret == aws.secret && aws.status == Some(RadiusStatus::Completed);
                aws.writes.push(Written {
                    at: self.now,
                    operation,
                    servers,
                    needless,
                });
                aws.old_secret = (!aws.secret.is_empty()).then(|| aws.secret.clone());
                aws.old_servers = aws.settings.as_ref().map(|settings| settings.servers.clone());
                aws.old_until = None;
                aws.secret = secret;
                aws.settings = Some(settings.shown.clone());
                aws.status = Some(RadiusStatus::Creating);
                let end = if answer == Some(Answer::Fails) {
                    RadiusStatus::Failed
                } else {
                    RadiusStatus::Completed
                };
                aws.done_at = (answer != Some(Answer::Sticks))
                    .then(|| (self.now.saturating_add(CREATING).unwrap(), end));
            }
        }
        aws.before = Some(before);
        if answer == Some(Answer::Lost) {
            return Err(failure(operation, AwsErrorClass::Unreachable));
        }
        Ok(Some("request-1".to_owned()))
    }
}

pub(in crate::scenarios) fn failure(operation: AwsOperation, class: AwsErrorClass) -> AwsFailure {
    AwsFailure {
        operation,
        class,
        message: "no".to_owned(),
        request_id: Some("r-1".to_owned()),
    }
}
