//! Logins through the registered servers.

use e2e::{DuoProxy, NAMESPACE, TotpProxy, until};

use crate::world::{PATIENCE, unused_code, world};

#[test]
fn a_push_that_is_approved_is_a_login_and_one_push() {
    let world = world();
    world.both_ready().unwrap();
    let before = world.simulators.duo().pushes("alice").unwrap();
    let login = world.login("dc-0", "CORP\\Alice", "a-directory-password");
    assert_eq!(login.outcome, "accept", "{login:?}");
    assert_eq!(login.message_authenticator, "verified");
    assert_eq!(world.simulators.duo().pushes("alice").unwrap(), before + 1);
}

#[test]
fn the_push_shows_what_is_being_approved_and_never_what_was_typed() {
    let world = world();
    world.both_ready().unwrap();
    let login = world.login("dc-1", "alice@corp.example.com", "typed-directory-password");
    assert_eq!(login.outcome, "accept", "{login:?}");
    let entries = world.simulators.duo().journal("alice").unwrap();
    let push = entries
        .iter()
        .rfind(|e| e["endpoint"].as_str().is_some_and(|p| p.ends_with("auth")))
        .unwrap();
    assert!(push["pushinfo"].to_string().contains("DUO"), "{push}");
    assert!(
        !serde_json::to_string(&entries)
            .unwrap()
            .contains("typed-directory-password")
    );
}

#[test]
fn a_denied_push_and_an_unknown_user_are_refused() {
    let world = world();
    world.both_ready().unwrap();
    assert_eq!(world.login("dc-0", "mallory", "push").outcome, "reject");
    let unknown = world.login("dc-0", "nobody-knows-me", "push");
    assert_eq!(unknown.outcome, "reject", "{unknown:?}");
    assert_eq!(world.simulators.duo().pushes("nobody-knows-me").unwrap(), 0);
}

#[test]
fn a_typed_passcode_goes_to_duo_and_starts_no_push() {
    let world = world();
    world.both_ready().unwrap();
    let before = world.simulators.duo().pushes("alice").unwrap();
    assert_eq!(world.login("dc-0", "alice", "424242").outcome, "accept");
    assert_eq!(world.login("dc-0", "alice", "424242").outcome, "reject");
    assert_eq!(world.simulators.duo().pushes("alice").unwrap(), before);
}

#[test]
fn a_code_of_the_authenticator_app_works_once() {
    let world = world();
    world.both_ready().unwrap();
    let code = unused_code();
    assert_eq!(world.login("connector-0", "bob", &code).outcome, "accept");
    assert_eq!(world.login("connector-0", "OFFICE\\bob", &code).outcome, "reject");
    assert_eq!(world.login("connector-1", "bob", "000000").outcome, "reject");
    assert_eq!(world.login("connector-1", "carol", &code).outcome, "reject");
}

#[test]
fn every_login_is_one_record_with_who_from_where_and_why() {
    let world = world();
    world.both_ready().unwrap();
    // A user of its own: a user who denied a push is sent none for a while.
    world
        .simulators
        .duo()
        .put_user("denier", &serde_json::json!({"answer": "deny"}))
        .unwrap();
    world.login("dc-0", "denier", "typed-by-the-denier");
    let record = until("the denier's record", PATIENCE, || {
        let logs = world.proxy_logs(DuoProxy::NAME);
        let found = logs
            .lines()
            .rfind(|l| l.contains("\"user\":\"denier\""))
            .map(str::to_owned);
        Ok(found.ok_or_else(|| "no record".to_owned()))
    })
    .unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["provider"], "duo");
    assert_eq!(record["factor"], "push");
    assert_eq!(record["result"], "reject");
    assert_eq!(record["reason"], "denied");
    assert_eq!(record["client"], "directory");
    for field in ["time", "source", "duration_ms"] {
        assert!(!record[field].is_null(), "{field} is missing in {record}");
    }
}

#[test]
fn a_new_seed_is_live_without_a_restart() {
    let world = world();
    world.both_ready().unwrap();
    let pods = || world.pods(TotpProxy::NAME).unwrap();
    let uids = |list: &serde_json::Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["metadata"]["uid"].to_string())
            .collect()
    };
    let before = uids(&pods());
    let uri = "otpauth://totp/Test:dora?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Test";
    let seeds = [("bob", crate::world::BOB), ("dora", uri)];
    world.kubectl.apply(&TotpProxy::secrets(&seeds)).unwrap();
    let seed = e2e::Seed::from_uri(uri).unwrap();
    until("dora to log in", PATIENCE, || {
        let login = world.login("connector-0", "dora", &e2e::fresh_code(&seed)?.1);
        Ok(if login.outcome == "accept" {
            Ok(())
        } else {
            Err(login.outcome)
        })
    })
    .unwrap();
    let after = pods();
    assert_eq!(uids(&after), before);
    let restarts = after["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["status"]["containerStatuses"][0]["restartCount"]);
    assert!(restarts.into_iter().all(|n| n == 0));
}

#[test]
fn used_codes_are_remembered_in_the_cluster_and_by_no_proxy_alone() {
    let world = world();
    world.both_ready().unwrap();
    let login = world.login("connector-0", "bob", &unused_code());
    assert_eq!(login.outcome, "accept", "{login:?}");
    let maps = world
        .kubectl
        .get(&[
            "-n",
            NAMESPACE,
            "configmaps",
            "-l",
            "radius-mfa.dev/proxy=vpn,radius-mfa.dev/written-by=proxies",
        ])
        .unwrap();
    let maps = maps["items"].as_array().unwrap();
    assert_eq!(maps.len(), 8);
    let texts: String = maps
        .iter()
        .filter_map(|map| map["data"]["used"].as_str())
        .collect();
    assert!(!texts.is_empty() && !texts.contains("bob"), "{texts}");
    for pod in ["vpn-0", "vpn-1"] {
        let alone = ["event=\"once_per_pod\""];
        assert!(
            world.metric(NAMESPACE, pod, "radius_proxy_events_total", &alone) < 0.5,
            "{pod}"
        );
    }
}

#[test]
fn a_seed_in_a_secret_of_its_own_is_found_by_its_label() {
    let world = world();
    world.both_ready().unwrap();
    let uri = "otpauth://totp/Test:erin?secret=KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU&issuer=Test";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: totp-erin, namespace: {NAMESPACE}, labels: {{e2e: totp}}}}\n\
         stringData:\n  seed: {uri}\n"
    );
    world.kubectl.apply(&secret).unwrap();
    let select = |selector: &str| {
        let patch = format!(r#"{{"spec":{{"provider":{{"totp":{{"seedsSelector":{selector}}}}}}}}}"#);
        world.patch(TotpProxy::NAME, &patch).unwrap();
    };
    select(r#"{"matchLabels":{"e2e":"totp"}}"#);
    let seed = e2e::Seed::from_uri(uri).unwrap();
    until("erin to log in", PATIENCE, || {
        let login = world.login("connector-0", "erin", &e2e::fresh_code(&seed)?.1);
        Ok(if login.outcome == "accept" {
            Ok(())
        } else {
            Err(login.outcome)
        })
    })
    .unwrap();
    select("null");
    until("erin to be unknown", PATIENCE, || {
        // A right code by now: who is unknown is told the same as who mistypes.
        let login = world.login("connector-0", "erin", &e2e::fresh_code(&seed)?.1);
        let told = login.reply_message.unwrap_or_default();
        Ok(if told.contains("The name or the code is wrong") {
            Ok(())
        } else {
            Err(told)
        })
    })
    .unwrap();
    world
        .kubectl
        .run(&["-n", NAMESPACE, "delete", "secret", "totp-erin"])
        .unwrap();
    world.both_ready().unwrap();
}

#[test]
fn random_bytes_are_counted_and_dropped() {
    let world = world();
    world.both_ready().unwrap();
    let pod = format!("{}-0", DuoProxy::NAME);
    let object = world.kubectl.get(&["-n", NAMESPACE, "pod", &pod]).unwrap();
    let address = format!("{}:1812", object["status"]["podIP"].as_str().unwrap());
    let dropped = || world.metric(NAMESPACE, &pod, "radius_proxy_drops_total", &[]);
    let before = dropped();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 1..=200_usize {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(length * 7)
        .collect();
        socket.send_to(&bytes, &address).unwrap();
    }
    until("200 drops", PATIENCE, || {
        let now = dropped();
        Ok(if now >= before + 200.0 {
            Ok(())
        } else {
            Err(format!("{before} became {now}"))
        })
    })
    .unwrap();
    assert_eq!(world.login("dc-0", "alice", "push").outcome, "accept");
}
