//! The report to Kubernetes: which configuration this pod runs and what it has observed of the directory, as annotations
//! of one Lease that only it may change.
//!
//! The operator makes the Lease and reads it; the pod needs the right to patch that one object. An API server that is
//! away disturbs nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_config::ConfigDigest;
use proxy_config::observed::{MAX_BYTES, Observed};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kubernetes::ApiServer;
use crate::provider::fault::{Fault, FaultClass};

/// Annotation: the digest of the running configuration.
const DIGEST: &str = "radius-mfa.dev/config-digest";
/// Annotation: the program's version.
const VERSION: &str = "radius-mfa.dev/version";
/// Annotation: what an administrator has to mend, of a closed set of words; absent when there is nothing.
const PROBLEM: &str = "radius-mfa.dev/problem";
/// The provider refuses the proxy's own credentials.
const PROVIDER_CREDENTIALS: &str = "provider_credentials";
/// Annotation: which pod of that name it was.
const POD_UID: &str = "radius-mfa.dev/pod-uid";
/// Annotation: what was observed of the directory as a RADIUS client.
const OBSERVED: &str = "radius-mfa.dev/observed";
const AGAIN_EVERY: Duration = Duration::from_secs(600);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two reports of what was observed, unless it is notable.
const OBSERVED_EVERY: Duration = Duration::from_secs(60);
/// Reports of notable observations that may follow each other at once. Each comes back after [`OBSERVED_EVERY`], so
/// that forged packets between good ones make no more than a write a minute.
const NOTABLE_BURST: u32 = 6;

/// What was observed of the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) observed: Observed,
    /// How many notable changes led to it.
    pub(super) notable: u64,
}

/// What is reported.
pub(super) struct Sources {
    pub(super) digests: watch::Receiver<ConfigDigest>,
    /// Whether the provider refuses the proxy's credentials.
    pub(super) refused: watch::Receiver<bool>,
    pub(super) observed: watch::Receiver<Observation>,
}

/// Where to report.
pub(super) struct Report {
    api: ApiServer,
    lease: String,
    pod: String,
    /// The pod's UID: a successor of the same name is told apart.
    holder: Option<String>,
}

impl Report {
    /// From `POD_NAME`, `REPORT_LEASE` (its name), `POD_UID` and what [`ApiServer::from_environment`] needs; `None`
    /// outside Kubernetes.
    pub(super) fn from_environment() -> Option<Self> {
        let of = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        Some(Self {
            pod: of("POD_NAME")?,
            lease: of("REPORT_LEASE")?,
            holder: of("POD_UID"),
            api: ApiServer::from_environment()?,
        })
    }

    /// Reports each digest, whether the provider refuses the proxy's credentials, and what was observed of the
    /// directory, again every ten minutes, and retries until it succeeds.
    pub(super) async fn run(self, sources: Sources) {
        let this = &self;
        let send = |digest: ConfigDigest, is_refused, observed: Observed| async move {
            this.send(&digest, is_refused, &observed).await?;
            tracing::debug!(pod = %this.pod, config_digest = %digest, "reported");
            Ok(())
        };
        report(sources, send).await;
    }

    async fn send(&self, digest: &ConfigDigest, is_refused: bool, observed: &Observed) -> Result<(), Fault> {
        let holder = self.holder.as_deref();
        let patch = patch(digest, is_refused, observed, holder, SystemTime::now());
        let group = ["apis", "coordination.k8s.io", "v1"];
        match self
            .api
            .patch(&group, "leases", &self.lease, patch, TIMEOUT)
            .await?
        {
            Some(_) => Ok(()),
            None => Err(Fault::after_sending(
                FaultClass::ClientError,
                "the API server answered 409",
            )),
        }
    }
}

/// Sends a report at the beginning, with every change of digest or credentials, when an observation is due, and every
/// ten minutes.
async fn report<F: Future<Output = Result<(), Fault>>>(
    mut sources: Sources,
    send: impl Fn(ConfigDigest, bool, Observed) -> F,
) {
    let mut back_off = FIRST_BACK_OFF;
    let mut pace = Pace::new(Instant::now());
    loop {
        let digest = sources.digests.borrow_and_update().clone();
        let is_refused = *sources.refused.borrow_and_update();
        let observation = sources.observed.borrow_and_update().clone();
        let wait = match send(digest, is_refused, observation.observed.clone()).await {
            Ok(()) => {
                back_off = FIRST_BACK_OFF;
                pace.reported(Instant::now(), observation);
                AGAIN_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, again_in = ?back_off, "the running configuration could not be reported");
                pace.failed(Instant::now() + back_off);
                let wait = back_off;
                back_off = back_off.saturating_mul(2).min(LONGEST_BACK_OFF);
                wait
            }
        };
        if !sources.next(&pace, Instant::now() + wait).await {
            return;
        }
    }
}

impl Sources {
    /// Waits until there is something to report, at the latest until `again`; `false` when there never will be.
    async fn next(&mut self, pace: &Pace, again: Instant) -> bool {
        loop {
            let due = pace.due(&self.observed.borrow_and_update());
            let until = due.map_or(again, |due| due.min(again));
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                changed = self.digests.changed() => return changed.is_ok(),
                changed = self.refused.changed() => return changed.is_ok(),
                changed = self.observed.changed() => if changed.is_err() { return false },
            }
        }
    }
}

/// When an observation is due.
struct Pace {
    last: Observation,
    /// When one may be reported, notable or not.
    at: Instant,
    /// When a notable one may be.
    notable_at: Instant,
    /// When as many notable ones as ever may follow each other again.
    full_at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            last: Observation::default(),
            at: now,
            notable_at: now,
            full_at: now,
        }
    }

    /// When `observation` is to be reported; `None` when it was.
    fn due(&self, observation: &Observation) -> Option<Instant> {
        let is_notable = observation.notable != self.last.notable;
        let at = if is_notable {
            self.at.min(self.notable_at)
        } else {
            self.at
        };
        (observation.observed != self.last.observed).then_some(at)
    }

    /// A report with `observation` was sent.
    fn reported(&mut self, now: Instant, observation: Observation) {
        if observation.notable != self.last.notable {
            self.full_at = self.full_at.max(now) + OBSERVED_EVERY;
        }
        self.last = observation;
        self.at = now + OBSERVED_EVERY;
        let burst = OBSERVED_EVERY * (NOTABLE_BURST - 1);
        self.notable_at = self.full_at.checked_sub(burst).map_or(now, |at| at.max(now));
    }

    /// A report failed: what was observed waits for the next, too.
    fn failed(&mut self, again: Instant) {
        self.at = again;
        self.notable_at = again;
    }
}

/// As JSON of [`MAX_BYTES`] at most: the addresses that asked longest ago are left out. `None` when there is nothing.
fn observed_json(observed: &Observed) -> Option<String> {
    let mut observed = observed.clone();
    loop {
        if observed.is_empty() {
            return None;
        }
        let json = serde_json::to_string(&observed).ok()?;
        if json.len() <= MAX_BYTES {
            return Some(json);
        }
        let oldest = observed
            .addresses
            .iter()
            .min_by_key(|(_, address)| address.last_request)
            .map(|(address, _)| *address);
        match oldest {
            Some(oldest) => observed.addresses.remove(&oldest),
            None => return None,
        };
    }
}

fn patch(
    digest: &ConfigDigest,
    is_refused: bool,
    observed: &Observed,
    holder: Option<&str>,
    now: SystemTime,
) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let renewed = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    // Null takes an annotation away (RFC 7396).
    let problem = is_refused.then_some(PROVIDER_CREDENTIALS);
    let mut annotations = json!({
        DIGEST: digest.as_str(),
        VERSION: env!("CARGO_PKG_VERSION"),
        PROBLEM: problem,
        OBSERVED: observed_json(observed),
    });
    let mut spec = json!({"renewTime": renewed});
    if let (Some(holder), Some(annotations), Some(spec)) =
        (holder, annotations.as_object_mut(), spec.as_object_mut())
    {
        annotations.insert(POD_UID.to_owned(), json!(holder));
        spec.insert("holderIdentity".to_owned(), json!(holder));
    }
    json!({"metadata": {"annotations": annotations}, "spec": spec}).to_string()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proxy_config::observed::ObservedAddress;

    use super::*;

    #[test]
    fn a_patch_says_what_runs_who_runs_it_and_when() {
        let digest = ConfigDigest::from_reported("abc");
        let time = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        let patch: serde_json::Value =
            serde_json::from_str(&patch(&digest, false, &Observed::default(), Some("uid-1"), time)).unwrap();
        assert_eq!(
            patch["metadata"]["annotations"]["radius-mfa.dev/config-digest"],
            "abc"
        );
        assert_eq!(
            patch["metadata"]["annotations"]["radius-mfa.dev/pod-uid"],
            "uid-1"
        );
        assert_eq!(patch["spec"]["holderIdentity"], "uid-1");
        assert_eq!(patch["spec"]["renewTime"], "2024-02-29T12:34:56.000000Z");
    }

    #[test]
    fn refused_credentials_are_a_word_that_goes_away_with_them() {
        let digest = ConfigDigest::from_reported("abc");
        let problem = |is_refused| {
            let patch: serde_json::Value = serde_json::from_str(&patch(
                &digest,
                is_refused,
                &Observed::default(),
                None,
                UNIX_EPOCH,
            ))
            .unwrap();
            patch["metadata"]["annotations"].get(PROBLEM).cloned()
        };
        assert_eq!(problem(true), Some(json!("provider_credentials")));
        assert_eq!(problem(false), Some(serde_json::Value::Null));
    }

    fn observation(addresses: u8, notable: u64) -> Observation {
        let observed = Observed {
            addresses: (1..=addresses)
                .map(|i| (IpAddr::from([10, 0, 0, i]), ObservedAddress::default()))
                .collect(),
            ..Observed::default()
        };
        Observation { observed, notable }
    }

    #[test]
    fn what_was_observed_is_json_in_an_annotation_and_nothing_takes_it_away() {
        let digest = ConfigDigest::from_reported("abc");
        let annotation = |observed: &Observed| {
            let patch: serde_json::Value =
                serde_json::from_str(&patch(&digest, false, observed, None, UNIX_EPOCH)).unwrap();
            patch["metadata"]["annotations"].get(OBSERVED).cloned().unwrap()
        };
        assert_eq!(annotation(&Observed::default()), serde_json::Value::Null);
        let observed = observation(2, 1).observed;
        let json = annotation(&observed);
        assert_eq!(
            json,
            json!(r#"{"addresses":{"10.0.0.1":{"lastRequest":0},"10.0.0.2":{"lastRequest":0}}}"#)
        );
        assert_eq!(
            serde_json::from_str::<Observed>(json.as_str().unwrap()).unwrap(),
            observed
        );
    }

    #[test]
    fn a_report_has_its_bound_and_keeps_the_addresses_that_asked_last() {
        let full = |i: u8| ObservedAddress {
            last_request: u64::MAX - u64::from(i),
            last_authenticated: Some(u64::MAX),
            failing_since: Some(u64::MAX),
            last_failed: Some(u64::MAX),
            failed: u32::MAX,
            signed: u32::MAX,
            unsigned: u32::MAX,
            same_packet: u32::MAX,
            new_authenticator: u32::MAX,
            new_identifier: u32::MAX,
            retry_interval_ms: Some(u32::MAX),
        };
        let observed = Observed {
            addresses: (0..64)
                .map(|i| (IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 6, u16::from(i)]), full(i)))
                .collect(),
            moved: u32::MAX,
            longest_wait_ms: Some(u32::MAX),
            probes: (0..16).map(|i| (format!("{i:>0253}"), u64::MAX)).collect(),
        };
        let json = observed_json(&observed).unwrap();
        assert!(
            (MAX_BYTES / 2..=MAX_BYTES).contains(&json.len()),
            "{}",
            json.len()
        );
        let kept: Observed = serde_json::from_str(&json).unwrap();
        assert!(
            kept.addresses
                .values()
                .any(|address| address.last_request == u64::MAX)
        );
        assert!(
            kept.addresses
                .values()
                .all(|address| address.last_request != u64::MAX - 63)
        );
        assert_eq!(kept.probes.len(), 16);
    }

    #[test]
    fn an_ordinary_observation_waits_for_its_minute_and_a_notable_one_does_not() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(start);
        assert_eq!(pace.due(&Observation::default()), None);
        assert_eq!(pace.due(&observation(1, 1)), Some(start));
        pace.reported(start, observation(1, 1));
        assert_eq!(pace.due(&observation(1, 1)), None);
        assert_eq!(pace.due(&observation(2, 1)), Some(after(60)));
        assert!(pace.due(&observation(2, 2)).unwrap() <= after(1));
        pace.failed(after(10));
        assert_eq!(pace.due(&observation(2, 2)), Some(after(10)));
    }

    #[test]
    fn a_flood_that_makes_every_second_notable_writes_once_a_minute() {
        let start = Instant::now();
        let (mut pace, mut writes) = (Pace::new(start), 0);
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            let seen = observation(u8::try_from(second % 200 + 1).unwrap(), second + 1);
            if pace.due(&seen).is_some_and(|due| due <= now) {
                pace.reported(now, seen);
                writes += 1;
            }
        }
        assert!((60..=66).contains(&writes), "{writes}");
    }

    #[tokio::test]
    async fn a_notable_observation_is_sent_at_once_and_a_failure_is_retried() {
        let (_digest, digests) = watch::channel(ConfigDigest::from_reported("abc"));
        let (_refused, refused) = watch::channel(false);
        let (see, observed) = watch::channel(Observation::default());
        let sources = Sources {
            digests,
            refused,
            observed,
        };
        let (sent, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let fails = std::sync::atomic::AtomicBool::new(false);
        let fails = std::sync::Arc::new(fails);
        let failing = std::sync::Arc::clone(&fails);
        let task = tokio::spawn(async move {
            let send = |_, _, observed| {
                let _ = sent.send(observed);
                let fails = failing.swap(false, std::sync::atomic::Ordering::Relaxed);
                std::future::ready(if fails {
                    Err(Fault::before_sending(FaultClass::Connect, "away"))
                } else {
                    Ok(())
                })
            };
            report(sources, send).await;
        });
        assert_eq!(arrived.recv().await, Some(Observed::default()));
        fails.store(true, std::sync::atomic::Ordering::Relaxed);
        see.send_replace(observation(1, 1));
        for _ in 0..2 {
            assert_eq!(arrived.recv().await, Some(observation(1, 1).observed));
        }
        see.send_replace(observation(2, 2));
        assert_eq!(arrived.recv().await, Some(observation(2, 2).observed));
        drop(see);
        task.await.unwrap();
    }
}
