//! How the steps of the last reconciliation failed, as an input of the next plan.
//!
//! All steps of a plan are tried. One that fails stops only the steps that depend on it ([`Outcomes::allow`]), and the
//! next plan shows it in the refuser's words.

mod refusal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::conditions::Reason;
use crate::names::{CONFIG_SUFFIX, PEERS_SUFFIX, RADIUS_SECRET_SUFFIX};
use crate::time;

/// The most failures that are kept; a plan has fewer steps.
const MAX_FAILURES: usize = 256;
/// The most failures that a condition names.
const MAX_SHOWN: usize = 3;
/// How long the API server may fail before a condition reports it: its restarts and elections take less.
const TRANSIENT_FOR: Duration = Duration::from_secs(60);
/// The first and the last delay after a reconciliation in which a step failed; delays double in between. The operator notices
/// within the last one that a policy was lifted.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(45);

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The finalizer of the RadiusProxy.
    Finalizer,
    /// Takes over an object that a restore left without its owner.
    Adopt(&'static str, String),
    /// Applies the object of this kind and name.
    Apply(&'static str, String),
    /// Labels and annotations of this pod.
    PodMetadata(String),
    /// The image of running pods, to the one of this revision.
    PodImage(String),
    /// The readiness gate of this pod.
    PodGate(String),
    /// The StatefulSet controller's own step: it creates the pods.
    CreatePods,
    /// The status of the RadiusProxy.
    Status,
    /// Deletes the object of this kind and name.
    Delete(&'static str, String),
}

impl Step {
    /// Whether a failure is kept until the step is retried: the plan leaves the step out because of it.
    const fn is_left_out_once_failed(&self) -> bool {
        matches!(self, Self::PodImage(_))
    }

    /// Whether a failure is shown by [`Outcomes::shown`]. The others show elsewhere: a refused image makes a surge,
    /// and a status that can't be written can't say so.
    const fn is_shown(&self) -> bool {
        !matches!(self, Self::PodImage(_) | Self::Status)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finalizer => f.write_str("the finalizer of the RadiusProxy"),
            Self::Adopt(kind, name) => write!(f, "the new owner of {kind}/{name}"),
            Self::Apply(kind, name) => write!(f, "{kind}/{name}"),
            Self::PodMetadata(pod) => write!(f, "labels and annotations of Pod/{pod}"),
            Self::PodImage(revision) => write!(f, "the image of revision {revision} in running pods"),
            Self::PodGate(pod) => write!(f, "the readiness gate of Pod/{pod}"),
            Self::CreatePods => f.write_str("new pods"),
            Self::Status => f.write_str("the status of the RadiusProxy"),
            Self::Delete(kind, name) => write!(f, "the deletion of {kind}/{name}"),
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The API server, or an admission policy, doesn't take it, however often it is tried.
    Refused {
        /// The HTTP status, 400 to 499; 0 where none is known.
        code: u16,
        /// The refuser's words; never the content of a Secret.
        message: String,
    },
    /// The API server failed, or didn't answer in time.
    Transient {
        /// What it said.
        message: String,
    },
}

/// A failure, and since when it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    failure: Failure,
    since: Timestamp,
}

/// A failure that goes on: reconciliations of a DirectoryRegistration fail at the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastingFailure {
    /// When the first of the failed reconciliations ended.
    pub since: Timestamp,
    /// How the latest of them failed; never the content of a Secret.
    pub message: String,
}

impl LastingFailure {
    /// From when on a condition shows it.
    pub(crate) fn shown_from(&self) -> Timestamp {
        time::later(self.since, TRANSIENT_FOR)
    }
}

/// The failures of a reconciliation by step. A step without an entry succeeded or wasn't tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    failures: BTreeMap<Step, Entry>,
    /// Steps that weren't tried, because one that they depend on failed.
    left_out: BTreeSet<Step>,
}

impl Outcomes {
    /// Records a failure, up to a bound.
    pub fn record(&mut self, step: Step, failure: Failure, now: Timestamp) {
        if self.failures.len() < MAX_FAILURES || self.failures.contains_key(&step) {
            self.failures.insert(step, Entry { failure, since: now });
        }
    }

    /// Whether nothing failed that has to be retried soon.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.keys().all(Step::is_left_out_once_failed)
    }

    /// Whether this step failed.
    #[must_use]
    pub fn failed(&self, step: &Step) -> bool {
        self.failures.contains_key(step)
    }

    /// Whether this step failed, and the plan didn't know that it would.
    #[must_use]
    pub fn failed_newly(&self, step: &Step, before: &Self) -> bool {
        self.failed(step) && !before.failed(step)
    }

    /// The status is written: its failure is over, and deletions are tried now.
    pub fn status_written(&mut self) {
        let later = |step: &Step| matches!(step, Step::Status | Step::Delete(..));
        self.failures.retain(|step, _| !later(step));
    }

    /// The outcomes before the status is written, with the remaining ones of the reconciliation before: the failures of later
    /// steps, of steps that were left out, and of changes in place unless these were tried (`images`).
    #[must_use]
    pub fn keeping(mut self, before: &Self, images: bool) -> Self {
        for (step, old) in &before.failures {
            let stays = match step {
                Step::PodImage(_) => !images,
                Step::Status | Step::Delete(..) => true,
                _ => self.left_out.contains(step),
            };
            if stays {
                self.failures.entry(step.clone()).or_insert_with(|| old.clone());
            }
        }
        self.lasting(before)
    }

    /// These outcomes, where a failure that lasts has the time of its beginning.
    #[must_use]
    pub fn lasting(mut self, before: &Self) -> Self {
        for (step, entry) in &mut self.failures {
            if let Some(old) = before.failures.get(step) {
                entry.since = old.since;
            }
        }
        self
    }

    /// Whether other steps failed than before, so that the next plan may be another one.
    #[must_use]
    pub fn differ_from(&self, before: &Self) -> bool {
        !self.failures.keys().eq(before.failures.keys())
    }

    /// Whether an object may be applied after what failed before it in the reconciliation, and after what was left out because
    /// of that: the configuration names files in Secrets, and the pods mount both. `planned` are the outcomes that the plan
    /// was made with.
    #[must_use]
    pub fn allow(&mut self, planned: &Self, step: &Step) -> bool {
        let Step::Apply(kind, name) = step else {
            return true;
        };
        let stops = |before: &Step| match (before, *kind) {
            // A plan that is made after that keeps the shared secret.
            (Step::Apply("DirectoryRegistration", _), _) if planned.failed(before) => false,
            (Step::Adopt(other, orphan), _) if other == kind && orphan == name => true,
            // AWS could get a shared secret that the proxies no longer accept.
            (Step::Apply("DirectoryRegistration", _), "Secret") => name.ends_with(RADIUS_SECRET_SUFFIX),
            (Step::Apply("DirectoryRegistration", _), "ConfigMap") => is_configuration(name),
            (Step::Apply("Secret", _), "ConfigMap") => is_configuration(name),
            (Step::Apply("Secret", _), "StatefulSet") => true,
            (Step::Apply("ConfigMap", map), "StatefulSet") => is_configuration(map) || is_peers(map),
            _ => false,
        };
        let allowed = !self.failures.keys().chain(&self.left_out).any(stops);
        if !allowed {
            self.left_out.insert(step.clone());
        }
        allowed
    }

    /// Whether the registration doesn't know yet what is wanted of it.
    pub(crate) fn registration_failed(&self) -> bool {
        let is = |step: &Step| matches!(step, Step::Apply("DirectoryRegistration", _));
        self.failures.keys().any(is)
    }

    /// Whether the NetworkPolicy couldn't be applied.
    pub(crate) fn network_policy_failed(&self) -> bool {
        let is = |step: &Step| matches!(step, Step::Apply("NetworkPolicy", _));
        self.failures.keys().any(is)
    }

    /// Whether the configuration of the last plan didn't reach the pods' volumes as a whole.
    pub(crate) fn configuration_failed(&self) -> bool {
        let is = |step: &Step| match step {
            Step::Apply("Secret", _) => true,
            Step::Apply("ConfigMap", name) => is_configuration(name),
            _ => false,
        };
        self.failures.keys().any(is)
    }

    /// Whether an image change in place was refused for this revision.
    pub(crate) fn refuse_in_place(&self, revision: &str) -> bool {
        self.failed(&Step::PodImage(revision.to_owned()))
    }

    /// What people have to know now: the reason, and the refusers' words with the next step.
    pub(crate) fn shown(&self, now: Timestamp) -> Option<(Reason, String)> {
        let shown = self.failures.iter().filter(|(step, _)| step.is_shown());
        let (refused, transient): (Vec<_>, Vec<_>) =
            shown.partition(|(_, entry)| matches!(entry.failure, Failure::Refused { .. }));
        if !refused.is_empty() {
            let only_pods = refused.iter().all(|(step, _)| **step == Step::CreatePods);
            let reason = if only_pods {
                Reason::PodsRefused
            } else {
                Reason::ObjectRefused
            };
            return Some((reason, sentences(&refused)));
        }
        let lasting: Vec<_> = transient
            .into_iter()
            .filter(|(_, entry)| time::until(entry.since, now) >= TRANSIENT_FOR)
            .collect();
        (!lasting.is_empty()).then(|| (Reason::ApiServerErrors, sentences(&lasting)))
    }

    /// The note of a status that can't be written.
    pub(crate) fn status_note(&self) -> Option<String> {
        let entry = self.failures.get(&Step::Status)?;
        Some(sentence(&Step::Status, entry))
    }
}

/// The delay after this number of failed reconciliations in a row.
#[must_use]
pub fn retry_after(failed: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.min(LAST_RETRY)
}

/// Whether a refusal says that a field can't change.
#[must_use]
pub fn is_immutable(code: u16, message: &str) -> bool {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let fixed = [
        "field is immutable",
        "may not change once set",
        "cannot change roleRef",
    ];
    code == 422 && !says(&refusal::POLICY) && says(&fixed)
}

fn is_configuration(map: &str) -> bool {
    map.ends_with(CONFIG_SUFFIX)
}

fn is_peers(map: &str) -> bool {
    map.ends_with(PEERS_SUFFIX)
}

fn sentences(failures: &[(&Step, &Entry)]) -> String {
    let mut told: Vec<String> = failures
        .iter()
        .take(MAX_SHOWN)
        .map(|(step, entry)| sentence(step, entry))
        .collect();
    if failures.len() > MAX_SHOWN {
        let others = failures.iter().skip(MAX_SHOWN).map(|(step, _)| step.to_string());
        told.push(format!(
            "The same applies to {}.",
            others.collect::<Vec<_>>().join(", ")
        ));
    }
    told.push("The operator retries at least once a minute.".to_owned());
    told.join(" ")
}

fn sentence(step: &Step, entry: &Entry) -> String {
    match &entry.failure {
        Failure::Refused { code, message } => refusal::sentence(step, *code, message),
        Failure::Transient { message } => {
            format!(
                "The API server has not accepted {step} since {}: {}.",
                time::clock(entry.since),
                message.trim_end_matches('.')
            )
        }
    }
}
