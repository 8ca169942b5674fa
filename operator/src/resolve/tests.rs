//! The background with a DNS of the test's own.

use std::net::IpAddr;

use futures::stream::{BoxStream, StreamExt as _};
use kube::runtime::reflector::ObjectRef;
use operator_core::api::RadiusProxy;

use super::*;

/// What DNS answers, by name; a name without an answer is never answered.
#[derive(Debug, Clone, Default)]
struct Zone(Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>);

impl Zone {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

impl Lookup for Zone {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer> {
        let found = self.0.lock().unwrap().get(name).cloned();
        Box::pin(async move {
            let Some(found) = found else {
                return std::future::pending().await;
            };
            Answer {
                v4: Ok(found.into_iter().collect()),
                v6: Ok(BTreeSet::new()),
            }
        })
    }
}

struct Harness {
    zone: Zone,
    names: Arc<Names>,
    requests: BoxStream<'static, ObjectRef<RadiusProxy>>,
    stop: CancellationToken,
}

impl Harness {
    fn new(interval: Duration) -> Self {
        let (queue, stop, zone) = (WorkQueue::new(), CancellationToken::new(), Zone::default());
        let deps = Deps {
            queue: queue.clone(),
            metrics: Metrics::new(),
            stop: stop.clone(),
            interval,
        };
        let names = Arc::new(Names::new(zone.clone(), deps));
        tokio::spawn(Arc::clone(&names).run());
        Self {
            zone,
            names,
            requests: queue.requests(),
            stop,
        }
    }

    /// Waits until a RadiusProxy is enqueued.
    async fn enqueued(&mut self) -> RadiusProxyKey {
        RadiusProxyKey::from(&self.requests.next().await.unwrap())
    }

    fn present(&self, key: &RadiusProxyKey, name: &str) -> Vec<String> {
        let hosts = self.names.observe(key, &[name.to_owned()]);
        let all = hosts.iter().flat_map(|host| &host.addresses);
        all.filter(|each| each.absent.is_none())
            .map(|each| each.address.to_string())
            .collect()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_name_is_known_soon_and_those_who_asked_are_enqueued_when_it_changes() {
    let mut harness = Harness::new(Duration::from_millis(50));
    let (a, b) = (RadiusProxyKey::new("mfa", "a"), RadiusProxyKey::new("mfa", "b"));
    harness.zone.set("lb.example.com", &["10.0.0.1"]);
    assert!(harness.present(&a, "LB.example.com.").is_empty());
    assert_eq!(harness.enqueued().await, a);
    assert_eq!(harness.present(&a, "lb.example.com"), ["10.0.0.1"]);
    assert_eq!(harness.present(&b, "lb.example.com"), ["10.0.0.1"]);
    harness.zone.set("lb.example.com", &["10.0.0.2"]);
    while harness.present(&a, "lb.example.com") != ["10.0.0.2"] {
        harness.enqueued().await;
    }
    // Who wants to know no more is forgotten, and the name with the last.
    harness.names.observe(&a, &[]);
    assert_eq!(harness.names.lock().len(), 1);
    harness.names.observe(&b, &["other.example.com".to_owned()]);
    let left: Vec<String> = harness.names.lock().keys().cloned().collect();
    assert_eq!(left, ["other.example.com"]);
}

#[tokio::test]
async fn names_that_nobody_answers_hold_up_no_other() {
    let mut harness = Harness::new(Duration::from_secs(60));
    let (slow, quick) = (
        RadiusProxyKey::new("mfa", "slow"),
        RadiusProxyKey::new("mfa", "quick"),
    );
    for proxy in 0..6 {
        let silent: Vec<String> = (0..MOST_NAMES).map(|n| format!("silent-{proxy}-{n}")).collect();
        harness
            .names
            .observe(&RadiusProxyKey::new("mfa", &format!("slow-{proxy}")), &silent);
    }
    harness.names.observe(&slow, &["silent".to_owned()]);
    harness.zone.set("lb.example.com", &["10.0.0.1"]);
    harness.present(&quick, "lb.example.com");
    assert_eq!(harness.enqueued().await, quick);
    assert_eq!(harness.present(&quick, "lb.example.com"), ["10.0.0.1"]);
}

#[tokio::test]
async fn every_name_has_its_turn_when_more_are_due_than_are_looked_up_at_once() {
    let harness = Harness::new(Duration::from_secs(60));
    harness.stop.cancel();
    let names = Names::new(harness.zone.clone(), harness.names.deps.clone());
    let silent = (0..LOOKS_AT_ONCE).map(|n| format!("silent-{n}"));
    for (n, name) in silent.chain(["the-last-one".to_owned()]).enumerate() {
        names.observe(&RadiusProxyKey::new("mfa", &format!("rp-{n}")), &[name]);
    }
    let under_way = || {
        let all = names.lock();
        let names = all.iter().filter(|(_, watched)| watched.under_way);
        names.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    // So late that each is due again as soon as it was answered.
    let late = Instant::now() + Duration::from_secs(3600);
    let mut looks = JoinSet::new();
    names.begin(&mut looks, late);
    let first = under_way();
    assert_eq!(first.len(), LOOKS_AT_ONCE);
    assert!(!first.contains(&"the-last-one".to_owned()));
    names.begin(&mut looks, late);
    assert_eq!(under_way(), first, "there is no room");
    let nothing = Answer {
        v4: Err(NoAddress::NoAnswer),
        v6: Err(NoAddress::NoAnswer),
    };
    for name in first {
        names.take(&name, &nothing, Timestamp::now());
    }
    names.begin(&mut JoinSet::new(), late);
    assert!(under_way().contains(&"the-last-one".to_owned()));
}

#[tokio::test]
async fn a_service_has_so_many_names_and_no_more() {
    let harness = Harness::new(Duration::from_secs(60));
    let names: Vec<String> = (0..100).map(|n| format!("lb-{n:03}")).collect();
    let key = RadiusProxyKey::new("mfa", "a");
    assert_eq!(harness.names.observe(&key, &names).len(), MOST_NAMES);
    assert_eq!(harness.names.lock().len(), MOST_NAMES);
}
