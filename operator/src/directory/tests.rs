//! The real client against a small server that answers as the API's documentation says.

use std::sync::Mutex;
use std::time::Duration;

use aws_credential_types::Credentials;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use futures::StreamExt as _;
use operator_core::api::RegisteredSettings;
use operator_core::aws::AwsErrorClass;
use operator_core::observed::{Directory, RadiusStatus};
use operator_core::registration::{DirectoryCall, RadiusSettings};
use proxy_config::SharedSecret;
use serde_json::{Value, json};

use super::*;

mod silence;

type Answer = (u16, Value);
type Answers = Box<dyn Fn(&str, &Value) -> Answer + Send + Sync>;

struct Aws {
    calls: Mutex<Vec<(String, Value)>>,
    answers: Answers,
}

impl Aws {
    fn count(&self, operation: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(name, _)| name == operation).count()
    }
}

async fn handle(State(aws): State<Arc<Aws>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    aws.calls.lock().unwrap().push((operation.clone(), body.clone()));
    let (status, answer) = (aws.answers)(&operation, &body);
    (
        StatusCode::from_u16(status).unwrap(),
        [
            ("x-amzn-requestid", "r-1"),
            ("content-type", "application/x-amz-json-1.1"),
        ],
        answer.to_string(),
    )
}

struct Harness {
    aws: Arc<Aws>,
    directories: Directories,
    queue: RegistrationQueue,
}

/// Observes a directory until the answer is there.
async fn observe(
    directories: &Directories,
    key: &RegistrationKey,
    access: &DirectoryAccess,
    allowed: Duration,
) -> DirectoryObservation {
    loop {
        let observed = directories.observe(key, &holder(), access, allowed);
        if observed.awaited.is_none() {
            return observed.observation;
        }
        tokio::task::yield_now().await;
    }
}

/// Sends a write that doesn't have to wait for its turn.
async fn write(
    directories: &Directories,
    call: &DirectoryCall,
    deadline: Duration,
) -> Result<Option<String>, AwsFailure> {
    let (key, access) = (key("a"), access("d-0000000001"));
    match directories
        .prepare_write(&key, &access, call.operation())
        .await
        .unwrap()
    {
        WriteTurn::Now(permit) => permit.send(call, deadline).await,
        WriteTurn::Later(wait) => panic!("waits {wait:?}"),
    }
}

async fn harness(answers: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Harness {
    paced_harness(50, answers).await
}

async fn paced_harness(
    calls_per_second: u32,
    answers: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static,
) -> Harness {
    let aws = Arc::new(Aws {
        calls: Mutex::default(),
        answers: Box::new(answers),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new()
        .route("/", post(handle))
        .with_state(Arc::clone(&aws));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut sessions = Sessions::new(calls_per_second);
    sessions.endpoint = Some((url, Credentials::new("id", "key", None, None, "test")));
    let queue = RegistrationQueue::new();
    let deps = Deps {
        queue: queue.clone(),
        metrics: Metrics::new(),
        stop: CancellationToken::new(),
        detail_interval: Duration::from_secs(300),
    };
    Harness {
        aws,
        directories: Directories::with(sessions, deps),
        queue,
    }
}

fn access(id: &str) -> DirectoryAccess {
    DirectoryAccess {
        directory_id: id.to_owned(),
        region: "eu-central-1".to_owned(),
        role: None,
    }
}

fn holder() -> RadiusProxyKey {
    RadiusProxyKey::new("mfa", "workspaces")
}

fn key(name: &str) -> RegistrationKey {
    RegistrationKey::new(name)
}

fn description(id: &str) -> Value {
    json!({"DirectoryId": id, "Type": "MicrosoftAD", "Stage": "Active", "DnsIpAddrs": ["10.0.0.1", "10.0.0.2"],
           "DesiredNumberOfDomainControllers": 2, "RadiusStatus": "Completed",
           "RadiusSettings": {"RadiusServers": ["10.1.0.1"], "RadiusPort": 1812, "RadiusTimeout": 20,
                              "RadiusRetries": 4, "SharedSecret": "********", "AuthenticationProtocol": "PAP",
                              "DisplayLabel": "MFA", "UseSameUsername": true}})
}

/// Answers as an account with every directory but `d-00000000ff`.
fn well(operation: &str, body: &Value) -> Answer {
    match operation {
        "DescribeDirectories" => {
            let ids: Vec<&str> = body["DirectoryIds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap())
                .collect();
            if ids.contains(&"d-00000000ff") {
                return (
                    400,
                    json!({"__type": "EntityDoesNotExistException", "Message": "no such directory"}),
                );
            }
            let all: Vec<Value> = ids.iter().map(|id| description(id)).collect();
            (200, json!({"DirectoryDescriptions": all}))
        }
        "DescribeDomainControllers" => (
            200,
            json!({"DomainControllers": [
                {"DnsIpAddr": "10.0.0.1", "Status": "Active"}, {"DnsIpAddr": "10.0.0.3", "Status": "Active"}]}),
        ),
        "ListTagsForResource" => (200, json!({"Tags": [{"Key": "team", "Value": "identity"}]})),
        _ => (200, json!({})),
    }
}

fn described(observation: DirectoryObservation) -> Directory {
    match observation {
        DirectoryObservation::Described(directory) => *directory,
        other => panic!("{other:?}"),
    }
}

fn failed(observation: DirectoryObservation) -> AwsFailure {
    match observation {
        DirectoryObservation::Failed { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_directory_is_described_with_all_its_domain_controllers_and_tags() {
    let harness = harness(well).await;
    let found = described(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(found.radius_status, Some(RadiusStatus::Completed));
    assert_eq!(found.radius_settings.unwrap().servers, ["10.1.0.1"]);
    let clients: Vec<String> = found.client_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(found.tags.unwrap()["team"], "identity");
}

#[tokio::test]
async fn many_directories_are_asked_about_in_one_call_and_kept() {
    let harness = harness(well).await;
    let ids: Vec<String> = (0..40).map(|n| format!("d-00000000{n:02}")).collect();
    let looks = ids.iter().map(|id| {
        let directories = &harness.directories;
        async move { observe(directories, &key(id), &access(id), LONG).await }
    });
    for observation in futures::future::join_all(looks).await {
        described(observation);
    }
    let asked = harness.aws.count("DescribeDirectories");
    assert!(asked <= 3, "{asked} calls");
    described(observe(&harness.directories, &key("again"), &access(&ids[0]), LONG).await);
    assert_eq!(harness.aws.count("DescribeDirectories"), asked);
}

#[tokio::test]
async fn an_unknown_directory_spoils_the_answer_for_nobody_else() {
    let harness = harness(well).await;
    let (good, bad) = (access("d-0000000001"), access("d-00000000ff"));
    let (a, b) = (key("a"), key("b"));
    let (good, bad) = tokio::join!(
        observe(&harness.directories, &a, &good, LONG),
        observe(&harness.directories, &b, &bad, LONG),
    );
    described(good);
    let failure = failed(bad);
    assert_eq!(
        (failure.class, failure.request_id.as_deref()),
        (AwsErrorClass::NotFound, Some("r-1"))
    );
}

#[tokio::test]
async fn a_refresh_is_answered_by_a_later_call_only() {
    let harness = harness(well).await;
    let before = described(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    harness.directories.refresh(&key("a"));
    let after = described(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert!(after.as_of > before.as_of);
    assert_eq!(harness.aws.count("DescribeDirectories"), 2);
    // Nothing points to a change, so the rest is not asked for again.
    assert_eq!(harness.aws.count("DescribeDomainControllers"), 1);
}

#[tokio::test]
async fn who_waits_for_one_directory_does_not_wait_for_the_details_of_all_the_others() {
    let harness = paced_harness(4, well).await;
    let first = "d-00000000aa";
    described(observe(&harness.directories, &key("a"), &access(first), LONG).await);
    let others: Vec<String> = (0..20).map(|n| format!("d-00000000{n:02}")).collect();
    let looks = futures::future::join_all(others.iter().map(|id| {
        let directories = &harness.directories;
        async move { observe(directories, &key(id), &access(id), LONG).await }
    }));
    let wait = async {
        while harness.aws.count("DescribeDirectories") < 2 {
            tokio::task::yield_now().await;
        }
        harness.directories.refresh(&key("a"));
        described(observe(&harness.directories, &key("a"), &access(first), LONG).await);
        harness.aws.count("DescribeDomainControllers")
    };
    let (asked, answered) = tokio::join!(wait, looks);
    assert!(asked < 20, "{asked} were asked for first");
    // And nobody was forgotten.
    for observation in answered {
        described(observation);
    }
}

#[tokio::test]
async fn news_enqueues_those_who_asked() {
    let harness = harness(well).await;
    let mut requests = harness.queue.requests();
    described(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(requests.next().await, Some(key("a").into()));
}

#[tokio::test]
async fn an_awaited_answer_enqueues_those_who_wait_though_nothing_changed() {
    let harness = harness(well).await;
    let (key, access) = (key("a"), access("d-0000000001"));
    let mut requests = harness.queue.requests();
    described(observe(&harness.directories, &key, &access, LONG).await);
    assert_eq!(requests.next().await, Some(key.clone().into()));
    harness.directories.refresh(&key);
    assert!(
        harness
            .directories
            .observe(&key, &holder(), &access, LONG)
            .awaited
            .is_some()
    );
    let enqueued = tokio::time::timeout(DEADLINE, requests.next()).await;
    assert_eq!(enqueued, Ok(Some(key.clone().into())));
    assert!(
        harness
            .directories
            .observe(&key, &holder(), &access, LONG)
            .awaited
            .is_none()
    );
}

#[tokio::test]
async fn what_is_denied_is_said_to_be_and_not_asked_on_and_on() {
    let harness = harness(|_, _| {
        (
            400,
            json!({"__type": "AccessDeniedException", "Message": "not you"}),
        )
    })
    .await;
    let first = failed(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(first.class, AwsErrorClass::AccessDenied);
    assert_eq!(first.message, "AccessDeniedException: not you");
    failed(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(harness.aws.count("DescribeDirectories"), 1);
}

#[tokio::test]
async fn domain_controllers_that_were_never_known_are_a_failure() {
    let harness = harness(|operation, body| match operation {
        "DescribeDomainControllers" => (400, json!({"__type": "AccessDeniedException", "Message": "no"})),
        _ => well(operation, body),
    })
    .await;
    let failure = failed(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(failure.operation, AwsOperation::DescribeDomainControllers);
}

#[tokio::test]
async fn tags_that_cannot_be_read_are_no_failure() {
    let harness = harness(|operation, body| match operation {
        "ListTagsForResource" => (400, json!({"__type": "AccessDeniedException", "Message": "no"})),
        _ => well(operation, body),
    })
    .await;
    let found = described(observe(&harness.directories, &key("a"), &access("d-0000000001"), LONG).await);
    assert_eq!(found.tags, None);
}

fn settings() -> Box<RadiusSettings> {
    Box::new(RadiusSettings {
        shown: RegisteredSettings {
            servers: vec!["10.1.0.1".to_owned()],
            port: 1812,
            timeout_seconds: 20,
            retries: 0,
            protocol: "PAP".to_owned(),
            display_label: "MFA".to_owned(),
            use_same_username: false,
            ..RegisteredSettings::default()
        },
        secret: SharedSecret::parse(b"a very secret secret").unwrap(),
    })
}

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_write_that_waits_for_its_turn_is_not_sent_and_keeps_its_turn() {
    let harness = paced_harness(1, well).await;
    let (key, access) = (key("a"), access("d-0000000001"));
    harness.directories.observe(&key, &holder(), &access, LONG);
    let prepare = || {
        harness
            .directories
            .prepare_write(&key, &access, AwsOperation::DisableRadius)
    };
    for _ in 0..5 {
        assert!(matches!(prepare().await, Ok(WriteTurn::Now(_))));
    }
    let waits = async || match prepare().await {
        Ok(WriteTurn::Later(wait)) => wait,
        other => panic!("{other:?}"),
    };
    let first = waits().await;
    assert!(first <= Duration::from_secs(1), "{first:?}");
    // The same turn, and not one behind it.
    assert!(waits().await <= first);
    assert_eq!(harness.aws.count("DisableRadius"), 0);
}

#[tokio::test]
async fn writes_do_not_queue_behind_reads() {
    let harness = paced_harness(1, well).await;
    let session = harness
        .directories
        .sessions
        .of(&Account::of(&access("d-0000000001")))
        .await;
    for _ in 0..100 {
        session.limits.reads.reserve(Instant::now());
    }
    write(&harness.directories, &DirectoryCall::Disable, DEADLINE)
        .await
        .unwrap();
}

#[tokio::test]
async fn tags_that_wait_for_their_turn_were_not_sent() {
    let harness = paced_harness(1, well).await;
    let access = access("d-0000000001");
    let session = harness.directories.sessions.of(&Account::of(&access)).await;
    for _ in 0..10 {
        session.limits.writes.reserve(Instant::now());
    }
    let (tags, limit) = (
        [("key".to_owned(), "value".to_owned())],
        Duration::from_millis(10),
    );
    let added = harness
        .directories
        .add_tags(&key("a"), &access, &tags, limit)
        .await;
    assert_eq!(added.unwrap_err().class, AwsErrorClass::NotSent);
    assert_eq!(harness.aws.count("AddTagsToResource"), 0);
}

#[tokio::test]
async fn a_write_sends_every_member_and_brings_the_request_id() {
    let harness = harness(well).await;
    let call = DirectoryCall::Enable(settings());
    let id = write(&harness.directories, &call, DEADLINE).await.unwrap();
    assert_eq!(id.as_deref(), Some("r-1"));
    let calls = harness.aws.calls.lock().unwrap();
    let sent = &calls[0].1;
    assert_eq!(
        *sent,
        json!({"DirectoryId": "d-0000000001", "RadiusSettings": {
            "RadiusServers": ["10.1.0.1"], "RadiusPort": 1812, "RadiusTimeout": 20, "RadiusRetries": 0,
            "SharedSecret": "a very secret secret", "AuthenticationProtocol": "PAP", "DisplayLabel": "MFA",
            "UseSameUsername": false}})
    );
}

#[tokio::test]
async fn a_write_is_not_repeated_and_does_not_repeat_the_secret() {
    let harness = harness(|_, body| {
        let quoted = body["RadiusSettings"]["SharedSecret"].as_str().unwrap();
        (
            500,
            json!({"__type": "ServiceException", "Message": format!("cannot store '{quoted}'")}),
        )
    })
    .await;
    let call = DirectoryCall::Update(settings());
    let failure = write(&harness.directories, &call, DEADLINE).await.unwrap_err();
    assert_eq!(failure.class, AwsErrorClass::Service);
    assert_eq!(failure.message, "ServiceException: cannot store '[redacted]'");
    assert_eq!(harness.aws.count("UpdateRadius"), 1);
}

/// What the model declares for these calls, and what comes from AWS's front end.
const ERRORS: [(&str, u16, AwsErrorClass); 11] = [
    ("EntityAlreadyExistsException", 400, AwsErrorClass::AlreadyExists),
    ("EntityDoesNotExistException", 400, AwsErrorClass::NotFound),
    ("InvalidParameterException", 400, AwsErrorClass::InvalidParameter),
    ("ClientException", 400, AwsErrorClass::Refused),
    ("ServiceException", 500, AwsErrorClass::Service),
    ("AccessDeniedException", 400, AwsErrorClass::AccessDenied),
    ("ThrottlingException", 400, AwsErrorClass::Throttled),
    ("ValidationException", 400, AwsErrorClass::InvalidParameter),
    (
        "UnrecognizedClientException",
        400,
        AwsErrorClass::InvalidCredentials,
    ),
    ("ServiceUnavailable", 503, AwsErrorClass::Service),
    ("SomethingNewException", 400, AwsErrorClass::Refused),
];

#[tokio::test]
async fn every_error_of_a_write_is_told_by_its_class_and_no_write_is_repeated() {
    for (name, status, class) in ERRORS {
        let harness = harness(move |_, _| (status, json!({"__type": name, "Message": "no"}))).await;
        for call in [
            DirectoryCall::Enable(settings()),
            DirectoryCall::Update(settings()),
            DirectoryCall::Disable,
        ] {
            let failure = write(&harness.directories, &call, DEADLINE).await.unwrap_err();
            assert_eq!(failure.class, class, "{name}");
            assert_eq!(failure.message, format!("{name}: no"));
            assert_eq!(harness.aws.count(call.operation().as_str()), 1, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_another_one_leaves_is_not_closed_under_a_new_subscription() {
    let harness = Arc::new(harness(well).await);
    let other = Arc::clone(&harness);
    let leaves = tokio::spawn(async move {
        for _ in 0..2000 {
            other
                .directories
                .observe(&key("b"), &holder(), &access("d-0000000002"), LONG);
            other.directories.forget(&key("b"));
        }
    });
    for _ in 0..2000 {
        harness
            .directories
            .observe(&key("a"), &holder(), &access("d-0000000001"), LONG);
        let (group, directory) = lock(&harness.directories.state).subscription(&key("a")).unwrap();
        let observed = group.observe(&directory, Instant::now());
        assert!(observed.awaited.is_some() || observed.observation != DirectoryObservation::Unasked);
        harness.directories.forget(&key("a"));
    }
    leaves.await.unwrap();
}
