//! What people see of a RadiusProxy: `kubectl get` and `describe`, Events, and metrics.

use std::collections::BTreeMap;

use e2e::{NAMESPACE, OPERATOR_NAMESPACE, until};
use serde_json::{Value, json};

use crate::bad_input::Faults;
use crate::site::{Site, radius_proxy, secret};
use crate::world::{BOB, PATIENCE, World};

/// Rounds of work, after which an Event that each makes would be there that often.
const ROUNDS: u32 = 5;

/// A RadiusProxy with two proxies.
fn ready(name: &'static str, directory: &'static str) -> Site {
    let site = Site::new(directory);
    site.directory_of_type("MicrosoftAD");
    site.grant(name, NAMESPACE);
    site.apply(NAMESPACE, &secret(name, NAMESPACE, &json!({ "bob": BOB })));
    let provider = json!({"totp": {"seedsSecretRef": {"name": name}}});
    site.apply(NAMESPACE, &radius_proxy(name, NAMESPACE, directory, &provider));
    site.world.ready(NAMESPACE, name).unwrap();
    site
}

fn object(world: &World, name: &str) -> Value {
    world.kubectl.get(&["-n", NAMESPACE, "rp", name]).unwrap()
}

/// What `kubectl get rp` prints of it, below each column's head.
fn columns(world: &World, name: &str, more: &[&str]) -> BTreeMap<String, String> {
    let mut args = vec!["-n", NAMESPACE, "get", "rp", name];
    args.extend(more);
    let text = world.kubectl.run(&args).unwrap();
    let (head, row) = text.trim_end().split_once('\n').unwrap();
    // Heads are parted by two spaces at least, and each value begins below its head.
    let mut starts = vec![0];
    starts.extend(head.match_indices("   ").filter_map(|(at, _)| {
        let next = head[at..].trim_start();
        let start = head.len() - next.len();
        (!next.is_empty() && head[..start].ends_with("   ")).then_some(start)
    }));
    starts.dedup();
    let cells = starts.iter().enumerate().map(|(n, start)| {
        let end = starts.get(n + 1).copied();
        let cell = |line: &str| {
            let line: Vec<char> = line.chars().collect();
            let end = end.unwrap_or(line.len()).min(line.len());
            let cell: String = line.get(*start..end).unwrap_or_default().iter().collect();
            cell.trim().to_owned()
        };
        (cell(head), cell(row))
    });
    cells.collect()
}

#[test]
fn kubectl_get_and_describe_tell_the_whole_story() {
    let (name, id) = ("shown", "d-90670000d2");
    let site = ready(name, id);
    let world = site.world;
    let short = columns(world, name, &[]);
    let heads: Vec<&str> = short.keys().map(String::as_str).collect();
    assert_eq!(
        heads,
        [
            "AGE",
            "DESIRED",
            "DIRECTORY",
            "NAME",
            "RADIUS",
            "READY",
            "REGISTERED",
            "SUSPEND"
        ]
    );
    for (head, value) in [
        ("NAME", name),
        ("READY", "True"),
        ("REGISTERED", "2"),
        ("DESIRED", "2"),
        ("DIRECTORY", id),
        ("RADIUS", "Completed"),
    ] {
        assert_eq!(short[head], value, "{short:?}");
    }
    let status = object(world, name)["status"].clone();
    let last = &status["lastWrite"];
    let wide = columns(world, name, &["-o", "wide"]);
    let message = world.condition(NAMESPACE, name, "Ready")["message"].clone();
    for (head, value) in [
        ("PROVIDER", "totp"),
        ("VERSION", env!("CARGO_PKG_VERSION")),
        ("REASON", "Ready"),
        ("SERVING", "2"),
        ("WHY", last["reason"].as_str().unwrap()),
        ("NEXT", message.as_str().unwrap()),
    ] {
        assert_eq!(wide[head], value, "{wide:?}");
    }
    assert!(
        wide["LAST WRITE"].ends_with(|c: char| "smh".contains(c)),
        "{wide:?}"
    );

    let text = described(world, name);
    let servers = status["registeredServers"].as_array().unwrap();
    let mut words = vec!["EnableRadius".to_owned()];
    for kind in ["Accepted", "SecretsReady", "Available", "Registered", "Ready"] {
        words.push(
            world.condition(NAMESPACE, name, kind)["message"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        words.push(kind.to_owned());
    }
    for server in servers {
        words.extend(
            ["address", "pod", "node", "zone"].map(|field| server[field].as_str().unwrap().to_owned()),
        );
    }
    for field in ["reason", "requestId"] {
        words.push(last[field].as_str().unwrap().to_owned());
    }
    let pods: Vec<&str> = servers
        .iter()
        .map(|server| server["pod"].as_str().unwrap())
        .collect();
    assert!(pods.contains(&"shown-0") && pods.contains(&"shown-1"), "{pods:?}");
    assert_ne!(servers[0]["zone"], servers[1]["zone"]);
    for words in words {
        assert!(text.contains(words.as_str()), "{words:?} is not in\n{text}");
    }

    let grant = until("the grant to have its user", PATIENCE, || {
        let grant = world.kubectl.get(&["directorygrant", name])?;
        let is_used = grant["status"]["userCount"] == 1;
        Ok(is_used
            .then(|| grant.clone())
            .ok_or_else(|| grant["status"].to_string()))
    })
    .unwrap();
    assert_eq!(
        grant["status"]["users"],
        json!([{"namespace": NAMESPACE, "name": name, "directoryId": id, "region": "eu-central-1"}])
    );

    // What is the matter and what to do about it is in both.
    world.kubectl.run(&["delete", "directorygrant", name]).unwrap();
    let told = world.reason(NAMESPACE, name, "Accepted", "False", "NoGrant");
    let wide = columns(world, name, &["-o", "wide"]);
    assert_eq!(
        (wide["READY"].as_str(), wide["REASON"].as_str()),
        ("False", "NoGrant")
    );
    assert_eq!(wide["NEXT"], told);
    assert!(told.contains("DirectoryGrant"), "{told}");
    assert!(described(world, name).contains(&told));
}

/// What `kubectl describe` prints, with each run of spaces as one: it breaks long texts into lines.
fn described(world: &World, name: &str) -> String {
    let text = world
        .kubectl
        .run(&["-n", NAMESPACE, "describe", "rp", name])
        .unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each Event of a RadiusProxy: its name, what it is about, and how often it was counted.
fn events(world: &World, name: &str) -> Vec<(String, String, u64)> {
    let field = format!("involvedObject.kind=RadiusProxy,involvedObject.name={name}");
    let list = world
        .kubectl
        .get(&["-n", NAMESPACE, "events", "--field-selector", &field])
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = list["items"].as_array().unwrap().iter().map(|event| {
        let series = event["series"]["count"].as_u64();
        let count = series.or_else(|| event["count"].as_u64()).unwrap_or(1);
        (
            text(&event["metadata"]["name"]),
            text(&event["reason"]),
            count.max(1),
        )
    });
    events.collect()
}

/// A metric of the leader about a RadiusProxy.
fn metric(world: &World, name: &str, metric: &str, more: &[&str]) -> f64 {
    let own = format!("name=\"{name}\"");
    let namespace = format!("namespace=\"{NAMESPACE}\"");
    let mut labels = vec![own.as_str(), namespace.as_str()];
    labels.extend(more);
    let metric = format!("radius_mfa_operator_proxy_{metric}");
    world.metric(OPERATOR_NAMESPACE, &world.leader(), &metric, &labels)
}

/// Has the operator look at a RadiusProxy so many times.
fn rounds(world: &World, name: &str, kind: &str) {
    let pod = world.leader();
    let done = || {
        world.metric(
            OPERATOR_NAMESPACE,
            &pod,
            "radius_mfa_operator_reconciles_total",
            &[],
        )
    };
    for round in 0..ROUNDS {
        let before = done();
        let touched = format!("example.com/touched={kind}-{round}");
        world
            .kubectl
            .run(&["-n", NAMESPACE, "annotate", "--overwrite", "rp", name, &touched])
            .unwrap();
        until("the operator to work", PATIENCE, || {
            let now = done();
            Ok(if now > before {
                Ok(())
            } else {
                Err(format!("{now} rounds"))
            })
        })
        .unwrap();
    }
}

#[test]
fn an_event_is_told_once_and_not_each_round() {
    let name = "told";
    let site = ready(name, "d-90670000d3");
    let world = site.world;
    let reasons = || {
        let mut reasons: Vec<String> = events(world, name).into_iter().map(|event| event.1).collect();
        reasons.sort();
        reasons
    };
    // An Event follows the status that it is about.
    until("the Event Ready", PATIENCE, || {
        let reasons = reasons();
        Ok(if reasons.contains(&"Ready".to_owned()) {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        })
    })
    .unwrap();
    for reason in ["EnableRadius", "Registered", "Ready"] {
        let times = reasons().iter().filter(|each| *each == reason).count();
        assert_eq!(times, 1, "{reason}: {:?}", events(world, name));
    }
    let before = events(world, name);
    rounds(world, name, "well");
    assert_eq!(events(world, name), before);

    world.kubectl.run(&["delete", "directorygrant", name]).unwrap();
    world.reason(NAMESPACE, name, "Accepted", "False", "NoGrant");
    until("the Event NoGrant", PATIENCE, || {
        let reasons = reasons();
        let told = reasons.iter().any(|each| each == "NoGrant");
        Ok(if told { Ok(()) } else { Err(format!("{reasons:?}")) })
    })
    .unwrap();
    // What else comes of it has come after a round more.
    rounds(world, name, "settled");
    let before = events(world, name);
    rounds(world, name, "ill");
    assert_eq!(events(world, name), before);
    let warnings = before.iter().filter(|event| event.1 == "NoGrant").count();
    assert_eq!(warnings, 1, "{before:?}");
}

#[test]
fn the_metrics_of_a_radius_proxy_are_what_its_status_says() {
    let name = "measured";
    let site = ready(name, "d-90670000d4");
    let world = site.world;
    let shows = |what: &str, labels: &[&str], value: f64| {
        until(&format!("{what}{labels:?} to be {value}"), PATIENCE, || {
            let now = metric(world, name, what, labels);
            Ok(if (now - value).abs() < 0.5 {
                Ok(())
            } else {
                Err(now.to_string())
            })
        })
        .unwrap();
    };
    shows("registered_servers", &[], 2.0);
    shows("wanted_servers", &[], 2.0);
    for kind in ["Accepted", "SecretsReady", "Available", "Registered", "Ready"] {
        shows("condition", &[&format!("condition=\"{kind}\"")], 1.0);
    }
    for (status, value) in [
        ("Completed", 1.0),
        ("Creating", 0.0),
        ("Failed", 0.0),
        ("NotConfigured", 0.0),
    ] {
        shows("radius_status", &[&format!("status=\"{status}\"")], value);
    }
    shows("switched_off", &[], 0.0);
    shows(
        "aws_writes_total",
        &["operation=\"EnableRadius\"", "reason=\"first_registration\""],
        1.0,
    );
    let directory = world.simulators.directory();
    let written = directory.settings_writes(0, site.directory).unwrap().len();
    shows("aws_writes_total", &[], written as f64);
    shows("failures_total", &["class=\"radius_failed\""], 0.0);
    let synced = metric(world, name, "last_success_timestamp_seconds", &[]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - synced)), "{} s ago", now - synced);

    // A write that AWS refuses once is a failure of its class, and is done then.
    let fault = json!([{"operation": "UpdateRadius", "directory": site.directory, "kind": "error",
        "code": "ThrottlingException", "times": 1}]);
    let faults = Faults::set(world, &fault);
    let label = json!({"spec": {"directory": {"displayLabel": "MEASURED"}}}).to_string();
    world.patch(name, &label).unwrap();
    world.ready(NAMESPACE, name).unwrap();
    drop(faults);
    shows("failures_total", &["class=\"throttled\""], 1.0);
    until("the write for the label to be counted", PATIENCE, || {
        let labels = ["operation=\"UpdateRadius\"", "reason=\"settings\""];
        let writes = metric(world, name, "aws_writes_total", &labels);
        Ok(if writes > 0.5 {
            Ok(())
        } else {
            Err(writes.to_string())
        })
    })
    .unwrap();
    assert!(metric(world, name, "last_success_timestamp_seconds", &[]) > synced);

    // Its series go with it.
    site.delete(NAMESPACE, name);
    until("its series to be gone", PATIENCE, || {
        let own = format!("name=\"{name}\"");
        let text = world.metrics(OPERATOR_NAMESPACE, &world.leader());
        let left = text.lines().filter(|line| line.contains(&own)).count();
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} series"))
        })
    })
    .unwrap();
}
