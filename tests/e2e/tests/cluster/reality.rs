//! What AWS documents nowhere: a sample of its values on the cluster. proxy-core tries all of them in virtual time, and the
//! simulators with the shipped proxies over real sockets.

use e2e::{DuoProxy, Login, LoginRequest, MICROSOFT_DIRECTORY, NAMESPACE, until};
use serde_json::{Value, json};

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::world::{PATIENCE, World, code_of_now, world};

/// Settings of the simulated AWS, as they were when this goes, also when a test fails.
struct Settings<'a>(&'a World, Value);

impl<'a> Settings<'a> {
    fn set(world: &'a World, settings: &Value, usual: Value) -> Self {
        world.simulators.directory().set_settings(settings).unwrap();
        Self(world, usual)
    }
}

impl Drop for Settings<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.simulators.directory().set_settings(&self.1) {
            eprintln!("the simulated AWS has a test's settings still: {error:#}");
        }
    }
}

fn login(controller: &str, user: &str, typed: &str, client: &Value) -> Login {
    let request = LoginRequest {
        username: user.to_owned(),
        password: typed.to_owned(),
        radius_client: Some(client.clone()),
        ..LoginRequest::default()
    };
    world().simulators.controller(controller).login(&request).unwrap()
}

/// A push that is approved after the first retry, a push approved before it, and a code, all by this client; with how many
/// pushes at most.
fn lets_people_in(name: &str, client: &Value, pushes: std::ops::RangeInclusive<u64>) -> Login {
    let world = world();
    world.both_ready().unwrap();
    let duo = world.simulators.duo();
    let (quick, slow) = (format!("{name}-quick"), format!("{name}-slow"));
    let user = |delay_ms: u32| json!({"answer": "approve", "delay_ms": delay_ms, "passcodes": ["271828"]});
    duo.put_user(&quick, &user(300)).unwrap();
    duo.put_user(&slow, &user(7_000)).unwrap();
    let first = login("dc-0", &quick, "push", client);
    assert_eq!(first.outcome, "accept", "{first:?}");
    let code = login("dc-0", &quick, "271828", client);
    assert_eq!(code.outcome, "accept", "{code:?}");
    let late = login("dc-0", &slow, "push", client);
    assert_eq!(late.outcome, "accept", "{late:?}");
    for user in [&quick, &slow] {
        let started = duo.pushes(user).unwrap();
        assert!(pushes.contains(&started), "{started} pushes for {user}");
    }
    let totp = login("connector-0", "bob", &code_of_now(), client);
    assert_eq!(totp.outcome, "accept", "{totp:?}");
    late
}

#[test]
fn retries_with_new_identifiers_after_95_percent_in_random_order_are_one_login() {
    let client =
        json!({"retransmission": "new-port", "retry_interval_percent": 95, "server_order": "random"});
    let late = lets_people_in("random", &client, 1..=1);
    assert!(
        late.packets
            .iter()
            .any(|packet| packet.kind != "answer" && packet.offset_ms >= 4_750),
        "no retry: {late:?}"
    );
}

#[test]
fn all_servers_at_once_are_one_login_with_a_push_from_each_at_most() {
    let client = json!({"retransmission": "new-port", "server_order": "all-at-once"});
    let late = lets_people_in("at-once", &client, 1..=2);
    let first = late.packets.iter().filter(|packet| packet.offset_ms < 4_000);
    let servers: std::collections::BTreeSet<&str> = first.map(|packet| packet.server.as_str()).collect();
    assert_eq!(servers.len(), 2, "{late:?}");
}

#[test]
fn another_domain_controller_continues_a_login_with_the_second_try() {
    let client = json!({"retransmission": "new-port", "takeover_after_ms": 5_000});
    let late = lets_people_in("taken-over", &client, 1..=1);
    assert!(late.taken_over_by.is_some(), "{late:?}");
}

#[test]
fn a_directory_that_never_signs_lets_people_in() {
    let client = json!({"retransmission": "new-port", "message_authenticator": "none"});
    let late = lets_people_in("unsigned", &client, 1..=1);
    assert_eq!(
        late.message_authenticator, "verified",
        "the answer is signed: {late:?}"
    );
}

#[test]
fn an_impaired_directory_is_written_to_and_a_refusal_ends_with_the_stage() {
    let id = "d-90670000e1";
    let site = Site::new(id);
    let world = site.world;
    let directory = world.simulators.directory();
    let of_stage = |stage: &str| {
        site.directory(&json!({
            "type": "MicrosoftAD", "name": "own.example.com", "stage": stage, "static_controllers": [{"address": "10.9.9.9"}],
        }));
    };
    let usual = json!({"radius_when_impaired": "ClientException"});
    let settings = Settings::set(world, &usual, usual.clone());
    let before = directory.last_write().unwrap();
    of_stage("Impaired");
    site.grant("impaired", NAMESPACE);
    site.apply(NAMESPACE, &totp_proxy("impaired", NAMESPACE, id));
    let refusal = until("AWS to refuse a write", PATIENCE, || {
        let refused = directory.unmade_writes(before, id)?;
        Ok(refused
            .first()
            .map(|write| write.result.clone())
            .ok_or("no write".to_owned()))
    })
    .unwrap();
    assert_eq!(refusal, "ClientException");
    let message = world.reason(NAMESPACE, "impaired", "Registered", "False", "AwsRefused");
    assert!(message.contains("Impaired"), "{message}");
    of_stage("Active");
    world.ready(NAMESPACE, "impaired").unwrap();

    // A change is written while the directory is Impaired, where AWS accepts it.
    drop(settings);
    let _settings = Settings::set(world, &json!({"radius_when_impaired": "accept"}), usual);
    of_stage("Impaired");
    let before = directory.last_write().unwrap();
    world
        .patch("impaired", r#"{"spec":{"directory":{"timeoutSeconds":7}}}"#)
        .unwrap();
    until("the change to be written", PATIENCE, || {
        let writes = directory.settings_writes(before, id)?;
        Ok(if writes.len() == 1 {
            Ok(())
        } else {
            Err(format!("{writes:?}"))
        })
    })
    .unwrap();
    assert_eq!(site.settings("eu-central-1")["radius_timeout"], 7);
    world.ready(NAMESPACE, "impaired").unwrap();
}

#[test]
fn a_description_that_is_one_write_old_is_no_foreign_change() {
    described_late("lagging", "d-90670000e2", false);
}

#[test]
fn descriptions_that_are_old_and_new_in_turn_are_no_foreign_change() {
    described_late("alternating", "d-90670000e9", true);
}

fn described_late(name: &str, id: &'static str, alternates: bool) {
    let site = Site::new(id);
    let world = site.world;
    let directory = world.simulators.directory();
    let usual = json!({"description_lag_ms": 0, "description_alternates": false});
    let late = json!({"description_lag_ms": 15_000, "description_alternates": alternates});
    let _settings = Settings::set(world, &late, usual);
    site.directory_of_type("MicrosoftAD");
    site.grant(name, NAMESPACE);
    let before = directory.last_write().unwrap();
    site.apply(NAMESPACE, &totp_proxy(name, NAMESPACE, id));
    world.ready(NAMESPACE, name).unwrap();
    world
        .patch(name, r#"{"spec":{"directory":{"timeoutSeconds":7}}}"#)
        .unwrap();
    until("the change to be described", PATIENCE, || {
        let timeout = site.settings("eu-central-1")["radius_timeout"].clone();
        Ok(if timeout == 7 {
            Ok(())
        } else {
            Err(timeout.to_string())
        })
    })
    .unwrap();
    world.ready(NAMESPACE, name).unwrap();
    // The operator has looked often enough for what it takes for drift to be repaired.
    let looked = directory.calls("DescribeDirectories").unwrap();
    until("the operator to look again and again", PATIENCE, || {
        let calls = directory.calls("DescribeDirectories")? - looked;
        Ok(if calls >= 3 {
            Ok(())
        } else {
            Err(format!("{calls} calls"))
        })
    })
    .unwrap();
    let writes = directory.settings_writes(before, id).unwrap();
    assert_eq!(writes.len(), 2, "{writes:?}");
    let condition = world.condition(NAMESPACE, name, "Registered");
    assert_eq!(condition["status"], "True", "{condition}");
}

#[test]
fn a_directory_for_which_a_reject_is_dead_ends_in_failed_and_says_so() {
    let world = world();
    world.both_ready().unwrap();
    let directory = world.simulators.directory();
    let usual = json!({"probe": {"answers": "any"}});
    let settings = Settings::set(world, &json!({"probe": {"answers": "accept"}}), usual);
    let patch = |label: &str| {
        let patch = format!(r#"{{"spec":{{"directory":{{"displayLabel":"{label}"}}}}}}"#);
        world.patch(DuoProxy::NAME, &patch).unwrap();
    };
    patch("DEAD");
    world.reason(NAMESPACE, DuoProxy::NAME, "Registered", "False", "RadiusFailed");
    // The pods report the probe a moment later.
    until("the condition to name the probe's Reject", PATIENCE, || {
        let condition = world.condition(NAMESPACE, DuoProxy::NAME, "Registered");
        let message = condition["message"].as_str().unwrap_or_default();
        Ok(
            if message.contains("the probe's Access-Reject as a server that is dead") {
                Ok(())
            } else {
                Err(condition.to_string())
            },
        )
    })
    .unwrap();
    let status = directory.radius_status(MICROSOFT_DIRECTORY).unwrap();
    assert_eq!(status.as_deref(), Some("Failed"));
    // The probe was rejected, and asked nobody.
    assert_eq!(world.simulators.duo().pushes("fakeusername").unwrap(), 0);
    drop(settings);
    patch("DUO");
    world.both_ready().unwrap();
}
