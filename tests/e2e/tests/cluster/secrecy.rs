//! Secrets are nowhere but in Secrets.

use e2e::{DuoProxy, NAMESPACE, OPERATOR_NAMESPACE};

use crate::world::{unused_code, world};

/// Runs after some logins and looks everywhere that somebody without rights on Secrets could.
#[test]
fn no_secret_is_in_a_log_an_event_a_status_a_metric_or_a_config_map() {
    let world = world();
    world.both_ready().unwrap();
    let typed = "My-Directory-Password-9!";
    world.login("dc-0", "alice", typed);
    world.login("dc-0", "mallory", typed);
    let code = unused_code();
    world.login("connector-0", "bob", &code);

    let shared = world
        .kubectl
        .get(&["-n", NAMESPACE, "secret", DuoProxy::SHARED_SECRET])
        .map(|s| s["data"]["secret"].as_str().unwrap().to_owned())
        .unwrap();
    let mut secrets = vec![
        typed.to_owned(),
        format!("\"{code}\""),
        "simulatorsimulatorsimulator".to_owned(),
        "GEZDGNBVGY3TQOJQ".to_owned(),
        "simulated-secret-key".to_owned(),
        "first-shared-secret-of-the-tests".to_owned(),
        "second-shared-secret-of-the-tests".to_owned(),
        shared,
    ];
    secrets.retain(|s| !s.is_empty());

    let run = |args: &[&str]| world.kubectl.run(args).unwrap();
    let mut places = vec![
        ("events", run(&["get", "events", "-A", "-o", "json"])),
        (
            "resources",
            run(&["get", "rp,directorygrants", "-A", "-o", "json"]),
        ),
        (
            "objects",
            run(&[
                "-n",
                NAMESPACE,
                "get",
                "statefulsets,services,configmaps,pods,leases,networkpolicies,roles",
                "-o",
                "json",
            ]),
        ),
        (
            "the operator's log",
            run(&[
                "-n",
                OPERATOR_NAMESPACE,
                "logs",
                "-l",
                "app.kubernetes.io/name=radius-mfa-operator",
                "--tail=-1",
            ]),
        ),
        ("the Duo proxies' logs", world.proxy_logs(DuoProxy::NAME)),
        ("the TOTP proxies' logs", world.proxy_logs(e2e::TotpProxy::NAME)),
    ];
    for pod in ["workspaces-0", "workspaces-1", "vpn-0", "vpn-1"] {
        places.push(("metrics", world.metrics(NAMESPACE, pod)));
    }
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty: nothing was looked at");
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret:?} is in {place}");
        }
    }
}
