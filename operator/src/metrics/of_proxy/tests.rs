//! What is shown of a RadiusProxy, by its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use operator_core::api::{Drift, LastFailure, LastWrite};
use prometheus_client::encoding::text;

use super::*;

/// The samples, without the help of each metric.
fn samples(metrics: &ProxyMetrics) -> Vec<String> {
    let (mut registry, mut out) = (Registry::default(), String::new());
    metrics.register(&mut registry);
    text::encode(&mut out, &registry).unwrap();
    let samples = out.lines().filter(|line| !line.starts_with('#'));
    samples.map(str::to_owned).collect()
}

fn full(key: &RadiusProxyKey) -> ProxyMetrics {
    let metrics = ProxyMetrics::default();
    metrics.show(key, &RadiusProxyStatus::default(), Timestamp::UNIX_EPOCH);
    for class in classes() {
        metrics.failed(key, class);
    }
    metrics
}

#[test]
fn what_is_shown_of_a_radius_proxy_goes_with_it() {
    let key = RadiusProxyKey::new("mfa", "workspaces");
    let metrics = full(&key);
    let first = "proxy_condition{namespace=\"mfa\",name=\"workspaces\"";
    assert!(samples(&metrics).iter().any(|line| line.starts_with(first)));
    metrics.forget(&key);
    assert_eq!(samples(&metrics), Vec::<String>::new());
}

#[test]
fn a_replica_that_no_longer_leads_forgets_what_was_deleted_since() {
    let key = RadiusProxyKey::new("mfa", "workspaces");
    let metrics = full(&key);
    metrics.stand_down();
    metrics.forget_unless(|_| true);
    assert!(
        samples(&metrics)
            .iter()
            .any(|line| line.contains("failures_total"))
    );
    metrics.forget_unless(|_| false);
    assert_eq!(samples(&metrics), Vec::<String>::new());
}

#[test]
fn the_last_write_is_shown_by_a_leader_that_did_not_send_it() {
    let (metrics, key) = (ProxyMetrics::default(), RadiusProxyKey::new("mfa", "workspaces"));
    let status = RadiusProxyStatus {
        last_write: Some(LastWrite {
            operation: "UpdateRadius".to_owned(),
            reason: "servers changed".to_owned(),
            time: Time(Timestamp::from_second(1_760_000_000).unwrap()),
            request_id: None,
        }),
        ..RadiusProxyStatus::default()
    };
    metrics.show(&key, &status, Timestamp::UNIX_EPOCH);
    let wanted = "proxy_last_write_timestamp_seconds{namespace=\"mfa\",name=\"workspaces\"} 1760000000";
    assert!(samples(&metrics).iter().any(|line| line.starts_with(wanted)));
}

#[test]
fn radius_that_somebody_switched_off_is_shown_until_it_is_on_again() {
    let (metrics, key) = (ProxyMetrics::default(), RadiusProxyKey::new("mfa", "workspaces"));
    let drifted = |disabled| DirectoryRegistrationStatus {
        drift: Some(Drift {
            disabled,
            ..Drift::default()
        }),
        ..DirectoryRegistrationStatus::default()
    };
    let shown = |status: &DirectoryRegistrationStatus| {
        metrics.show_registration(&key, None, status);
        metrics.switched_off.get_or_create(&of(&key)).get()
    };
    assert_eq!(shown(&drifted(true)), 1);
    assert_eq!(shown(&drifted(false)), 0);
    assert_eq!(shown(&DirectoryRegistrationStatus::default()), 0);
}

#[test]
fn a_name_without_an_address_is_shown_while_the_condition_says_so() {
    let (metrics, key) = (ProxyMetrics::default(), RadiusProxyKey::new("mfa", "workspaces"));
    let registered = |reason: &str| RadiusProxyStatus {
        conditions: vec![Condition {
            type_: "Registered".to_owned(),
            status: "True".to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }],
        ..RadiusProxyStatus::default()
    };
    let shown = |status: &RadiusProxyStatus| {
        metrics.show(&key, status, Timestamp::UNIX_EPOCH);
        metrics.name_not_resolved.get_or_create(&of(&key)).get()
    };
    assert_eq!(shown(&registered("NameNotResolved")), 1);
    assert_eq!(shown(&registered("Registered")), 0);
    assert_eq!(shown(&RadiusProxyStatus::default()), 0);
}

#[test]
fn each_time_that_aws_reports_failed_is_counted_once() {
    let (metrics, key) = (ProxyMetrics::default(), RadiusProxyKey::new("mfa", "workspaces"));
    let failed = |second| DirectoryRegistrationStatus {
        last_failure: Some(LastFailure {
            kind: "Failed".to_owned(),
            operation: None,
            message: String::new(),
            count: 1,
            time: Time(Timestamp::from_second(second).unwrap()),
            tried: String::new(),
        }),
        ..DirectoryRegistrationStatus::default()
    };
    metrics.show_registration(&key, None, &failed(1));
    metrics.show_registration(&key, Some(&failed(1)), &failed(1));
    metrics.show_registration(&key, Some(&failed(1)), &failed(400));
    metrics.show_registration(&key, Some(&failed(400)), &DirectoryRegistrationStatus::default());
    let counter = metrics
        .failures
        .get_or_create(&failure_of(&key, RADIUS_FAILED))
        .get();
    assert_eq!(counter, 2);
}

#[test]
fn a_radius_proxy_that_gave_its_directory_up_is_not_shown_as_switched_off() {
    let (metrics, key) = (ProxyMetrics::default(), RadiusProxyKey::new("mfa", "workspaces"));
    let off = DirectoryRegistrationStatus {
        drift: Some(Drift {
            disabled: true,
            ..Drift::default()
        }),
        ..DirectoryRegistrationStatus::default()
    };
    metrics.show_registration(&key, None, &off);
    let shown = |metrics: &ProxyMetrics| {
        samples(metrics)
            .iter()
            .any(|line| line.starts_with("proxy_switched_off") && line.ends_with(" 1"))
    };
    assert!(shown(&metrics));
    metrics.show(&key, &RadiusProxyStatus::default(), Timestamp::UNIX_EPOCH);
    assert!(!shown(&metrics));
}
