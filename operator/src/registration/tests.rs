//! Reconciliations against an API server of the test's own.

use std::sync::Arc;

use operator_core::api::DirectoryRegistration;
use operator_core::names::FINALIZER;

use super::*;
use crate::fake_api::{Call, FakeApi, refused};
use crate::queue::{Queue, WorkQueue};
use crate::watch::Cluster;

fn registration(finalizers: &[&str]) -> serde_json::Value {
    json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryRegistration",
        "metadata": {"name": "d-0000000001.eu-central-1", "uid": "r", "resourceVersion": "7",
            "finalizers": finalizers},
        "spec": {"directoryId": "d-0000000001", "region": "eu-central-1",
            "claimedBy": {"namespace": "b", "name": "p", "uid": "u"},
            "desired": {"holderUid": "u", "settings": {"port": 1812, "timeoutSeconds": 20, "retries": 4},
                "sharedSecret": {"secretName": "p-radius-secrets", "digest": "d"}}}})
}

fn holder() -> serde_json::Value {
    json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
        "metadata": {"name": "p", "namespace": "b", "uid": "u"},
        "spec": {"directory": {"id": "d-0000000001", "region": "eu-central-1"}, "provider": {}}})
}

/// An API server with this registration, where the rest is answered by `answer`.
fn api_of(
    finalizers: &[&str],
    answer: impl Fn(&Call) -> Option<(u16, serde_json::Value)> + Send + Sync + 'static,
) -> (FakeApi, Context, crate::leader::LeaseGuard) {
    let registration = registration(finalizers);
    let api = FakeApi::new(move |call: &Call| {
        answer(call).or_else(|| {
            let mut answer = registration.clone();
            if call.method == "DELETE" {
                answer["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            if let Some(status) = call.body.get("status") {
                answer["status"] = status.clone();
            }
            Some((200, answer))
        })
    });
    let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
    let (ctx, lease) = Context::for_test(api.client.clone(), cluster);
    (api, ctx, lease)
}

fn key() -> RegistrationKey {
    RegistrationKey::new("d-0000000001.eu-central-1")
}

fn without_holder(call: &Call) -> Option<(u16, serde_json::Value)> {
    if call.uri.contains("/secrets/") {
        Some(refused(403, "Forbidden"))
    } else if call.uri.contains("/radiusproxies/") {
        Some(refused(404, "NotFound"))
    } else {
        None
    }
}

fn with_holder(call: &Call) -> Option<(u16, serde_json::Value)> {
    if call.uri.contains("/secrets/") {
        Some(refused(404, "NotFound"))
    } else {
        call.uri.contains("/radiusproxies/").then(|| (200, holder()))
    }
}

#[tokio::test]
async fn a_registration_ends_with_its_holder_though_the_namespace_is_out_of_reach() {
    for scope in [None, Some("elsewhere".to_owned())] {
        let (api, mut ctx, _lease) = api_of(&[FINALIZER], without_holder);
        ctx.scopes = vec![scope];
        assert_eq!(run(&ctx, &key()).await.unwrap(), Next::Gone);
        assert_eq!(api.calls(1, |call| call.method == "DELETE").await.len(), 1);
        let freed = |call: &Call| call.method == "PATCH" && call.body["metadata"]["finalizers"] == json!([]);
        assert_eq!(api.calls(1, freed).await.len(), 1);
    }
}

#[tokio::test]
async fn a_registration_ends_without_a_change_to_the_finalizers_of_others() {
    let (api, ctx, _lease) = api_of(&["example.com/backup", FINALIZER], without_holder);
    run(&ctx, &key()).await.unwrap();
    let freed = |call: &Call| call.body["metadata"]["finalizers"].is_array();
    let patches = api.calls(1, freed).await;
    assert_eq!(
        patches[0].body["metadata"]["finalizers"],
        json!(["example.com/backup"])
    );
    let registration: DirectoryRegistration =
        serde_json::from_value(registration(&["example.com/backup"])).unwrap();
    apply::finalizer(&ctx.registration_api(), &registration, true)
        .await
        .unwrap();
    assert_eq!(
        api.calls(2, freed).await[1].body["metadata"]["finalizers"],
        json!(["example.com/backup", FINALIZER])
    );
}

#[tokio::test]
async fn nothing_more_is_done_for_a_registration_that_only_others_keep() {
    let (api, ctx, _lease) = api_of(&[], |call| {
        let mut kept = registration(&["example.com/backup"]);
        kept["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let is_read = call.method == "GET" && call.uri.contains("/directoryregistrations/");
        if is_read {
            Some((200, kept))
        } else {
            without_holder(call)
        }
    });
    assert_eq!(run(&ctx, &key()).await.unwrap(), Next::Gone);
    assert_eq!(api.calls(1, |_| true).await.len(), 1);
}

#[tokio::test]
async fn a_directory_is_held_for_a_holder_in_a_namespace_that_is_not_watched() {
    let (api, mut ctx, _lease) = api_of(&[FINALIZER], with_holder);
    ctx.scopes = vec![Some("elsewhere".to_owned())];
    assert_eq!(
        run(&ctx, &key()).await.unwrap(),
        Next::After(Duration::from_secs(300))
    );
    let written = api.calls(1, |call| call.method == "PATCH").await;
    let hold = &written[0].body["status"]["hold"];
    assert_eq!(hold["name"], "HolderNotWatched");
    assert!(
        hold["message"].as_str().unwrap().contains("namespace b"),
        "{hold}"
    );
}

#[tokio::test]
async fn a_round_that_fails_is_remembered_until_one_succeeds() {
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_refusing = Arc::clone(&refuses);
    let (_api, ctx, _lease) = api_of(&[FINALIZER], move |call| {
        let refuses = is_refusing.load(std::sync::atomic::Ordering::Relaxed);
        if refuses && call.method == "PATCH" {
            return Some(refused(403, "Forbidden"));
        }
        with_holder(call)
    });
    assert_eq!(ctx.registration_states.failure(&key()), None);
    run(&ctx, &key()).await.unwrap_err();
    let first = ctx.registration_states.failure(&key()).unwrap();
    assert!(first.message.contains("says Forbidden"), "{first:?}");
    run(&ctx, &key()).await.unwrap_err();
    assert_eq!(
        ctx.registration_states.failure(&key()).unwrap().since,
        first.since
    );
    refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    run(&ctx, &key()).await.unwrap();
    assert_eq!(ctx.registration_states.failure(&key()), None);
}

/// A plan that was made of this registration.
async fn planned(ctx: &Context) -> (Gathered, RegistrationPlan) {
    let registration = serde_json::from_value(registration(&[FINALIZER])).unwrap();
    let gathered = observe(ctx, &key(), registration).await.unwrap().unwrap();
    let plan = plan(&gathered.input, Timestamp::now());
    (gathered, plan)
}

#[tokio::test]
async fn a_hand_over_is_an_event_at_both_holders() {
    let (api, ctx, _lease) = api_of(&[FINALIZER], with_holder);
    let (gathered, mut plan) = planned(&ctx).await;
    plan.claim = Some(DirectoryClaim {
        namespace: "new".to_owned(),
        name: "q".to_owned(),
        uid: "v".to_owned(),
    });
    plan.events = vec![operator_core::events::Event {
        warning: false,
        reason: "DirectoryHandedOver",
        action: "Claim",
        note: "n".to_owned(),
    }];
    execute(&ctx, &key(), &gathered, &plan, None).await.unwrap();
    let events = api.calls(2, |call| call.method == "POST").await;
    let about: Vec<&serde_json::Value> = events
        .iter()
        .map(|call| &call.body["regarding"]["name"])
        .collect();
    assert_eq!(about, [&json!("p"), &json!("q")]);
}

#[tokio::test]
async fn a_write_that_cannot_be_noted_in_time_is_not_sent() {
    let (_api, ctx, _lease) = api_of(&[FINALIZER], with_holder);
    let (gathered, mut plan) = planned(&ctx).await;
    plan.write = Some(DirectoryWrite {
        id: "w".to_owned(),
        directory_id: "d-0000000001".to_owned(),
        call: operator_core::registration::DirectoryCall::Disable,
        reason: operator_core::registration::WriteReason::Deletion,
        message: "m".to_owned(),
    });
    let silent = FakeApi::new(|_| None);
    let ctx = Context {
        client: silent.client.clone(),
        ..ctx
    };
    let started = Instant::now();
    let failed = execute(&ctx, &key(), &gathered, &plan, None).await;
    assert!(matches!(failed, Err(Error::Slow { .. })), "{failed:?}");
    assert!(started.elapsed() < 2 * NOTING_LIMIT);
    let outcome = ctx
        .registration_states
        .with(&key(), |state| state.outcome.clone());
    let outcome = outcome.unwrap();
    assert_eq!(outcome.id, "w");
    assert_eq!(outcome.result.unwrap_err().class, AwsErrorClass::NotSent);
}
