//! How a reconciliation can fail. A problem of a RadiusProxy or at AWS isn't an error, but part of the plan's input.

use std::time::Duration;

use operator_core::outcomes::{Failure, Step};

/// A failed reconciliation; it is retried with growing delays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An object could not be read.
    #[error("reading {what}: {source}")]
    Read {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// An object could not be applied.
    #[error("applying {what}: {source}")]
    Apply {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// A pod could not be patched.
    #[error("patching pod {pod}: {source}")]
    PatchPod {
        /// Its name.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// An object was not tried, since the steps before it took too long.
    #[error("not tried: the steps before took too long")]
    OutOfTime,
    /// An object of another owner has the name.
    #[error("{what} exists and has another owner, which has to delete it")]
    Foreign {
        /// Kind and name.
        what: String,
    },
    /// The finalizer could not be added or removed.
    #[error("changing the finalizer: {0}")]
    Finalizer(#[source] kube::Error),
    /// The status could not be written.
    #[error("writing the status: {0}")]
    WriteStatus(#[source] kube::Error),
    /// The API server did not keep the whole status.
    #[error(
        "the API server did not keep the whole status: the CRDs are older than the operator. Upgrade them; nothing is \
         written to AWS before"
    )]
    StatusNotKept,
    /// An object could not be deleted.
    #[error("deleting {what}: {source}")]
    Delete {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// An object could not be turned into JSON.
    #[error("encoding {what}: {source}")]
    Encode {
        /// Kind and name.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The system has no random bytes.
    #[error("taking random bytes: {0}")]
    Random(#[source] getrandom::Error),
    /// The Kubernetes API took too long.
    #[error("{step} took longer than {} s", limit.as_secs())]
    Slow {
        /// What was being done.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl Error {
    /// Every [`Error::class`].
    pub(crate) const CLASSES: [&str; 10] = [
        "kubernetes_read",
        "kubernetes_apply",
        "kubernetes_patch_pod",
        "kubernetes_finalizer",
        "kubernetes_status",
        "old_crds",
        "kubernetes_delete",
        "kubernetes_slow",
        "encode",
        "random",
    ];

    /// A metric label.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Read { .. } => "kubernetes_read",
            Self::Apply { .. } => "kubernetes_apply",
            Self::PatchPod { .. } => "kubernetes_patch_pod",
            Self::Finalizer(_) => "kubernetes_finalizer",
            Self::WriteStatus(_) => "kubernetes_status",
            Self::StatusNotKept => "old_crds",
            Self::Delete { .. } => "kubernetes_delete",
            Self::Encode { .. } => "encode",
            Self::Random(_) => "random",
            Self::Slow { .. } | Self::OutOfTime => "kubernetes_slow",
            Self::Foreign { .. } => "kubernetes_apply",
        }
    }

    /// The failure of a step, for the next plan and for people.
    pub(crate) fn failure(&self, step: &Step) -> Failure {
        let Some(kube::Error::Api(status)) = self.kubernetes() else {
            return Failure::Transient {
                message: message(self),
            };
        };
        // What is said of a Secret may quote its content.
        let message = match step {
            Step::Apply("Secret", _) | Step::Adopt("Secret", _) => status.reason.clone(),
            _ => status.message.clone(),
        };
        if self.is_refusal() {
            Failure::Refused {
                code: status.code,
                message,
            }
        } else {
            Failure::Transient { message }
        }
    }

    /// Whether the API server doesn't take it, however often it is tried.
    pub(crate) fn is_refusal(&self) -> bool {
        let Some(kube::Error::Api(status)) = self.kubernetes() else {
            return false;
        };
        (400..500).contains(&status.code) && !matches!(status.code, 409 | 429)
    }

    /// The API client's error.
    const fn kubernetes(&self) -> Option<&kube::Error> {
        match self {
            Self::Read { source, .. }
            | Self::Apply { source, .. }
            | Self::PatchPod { source, .. }
            | Self::Delete { source, .. }
            | Self::Finalizer(source)
            | Self::WriteStatus(source) => Some(source),
            Self::StatusNotKept
            | Self::Encode { .. }
            | Self::Random(_)
            | Self::Slow { .. }
            | Self::OutOfTime
            | Self::Foreign { .. } => None,
        }
    }

    /// Whether somebody else wrote in between. A retry solves that, so no one is told.
    pub(crate) fn is_conflict(&self) -> bool {
        self.kubernetes().is_some_and(|error| has_code(error, 409))
    }
}

/// An error and its sources, each once.
pub(crate) fn message(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

/// Whether the API server answered with this HTTP status.
pub(crate) fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, code: u16) -> Error {
        let status = kube::core::Status::failure("Invalid value: hunter2", "Invalid").with_code(code);
        Error::Apply {
            what: kind.to_owned(),
            source: kube::Error::Api(Box::new(status)),
        }
    }

    fn failure(kind: &'static str, code: u16) -> Failure {
        error(kind, code).failure(&Step::Apply(kind, "mfa".to_owned()))
    }

    fn refused(code: u16, message: &str) -> Failure {
        let message = message.to_owned();
        Failure::Refused { code, message }
    }

    #[test]
    fn a_refusal_has_the_words_of_the_api_server_but_for_a_secret() {
        assert_eq!(
            failure("StatefulSet", 422),
            refused(422, "Invalid value: hunter2")
        );
        assert_eq!(failure("Secret", 422), refused(422, "Invalid"));
        let adopt = Step::Adopt("Secret", "mfa".to_owned());
        assert_eq!(error("Secret", 422).failure(&adopt), refused(422, "Invalid"));
        for passing in [409, 429, 500, 503] {
            assert!(matches!(
                failure("StatefulSet", passing),
                Failure::Transient { .. }
            ));
        }
    }
}
