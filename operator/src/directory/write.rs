//! A write to AWS: what it needs before it is noted as pending, and the one call.

use std::sync::Arc;
use std::time::Duration;

use operator_core::aws::AwsFailure;
use operator_core::plan::DirectoryCall;

use super::calls::Calls;
use super::session::Session;
use crate::metrics::Metrics;

/// A plan that waited longer than this for credentials is outdated: a write counts from when it is sent.
pub(super) const MAX_PREPARATION: Duration = Duration::from_secs(1);

/// Whether a write may be sent.
#[derive(Debug)]
pub(crate) enum WriteTurn {
    /// Now.
    Now(Box<WritePermit>),
    /// Plan again after this.
    Later(Duration),
}

/// Credentials and a turn within the rate limit, for one write.
#[derive(Debug)]
pub(crate) struct WritePermit {
    session: Arc<Session>,
    metrics: Metrics,
    directory_id: String,
}

impl WritePermit {
    pub(super) const fn new(session: Arc<Session>, metrics: Metrics, directory_id: String) -> Self {
        Self {
            session,
            metrics,
            directory_id,
        }
    }

    /// Sends the write once, without any wait of the operator's own: `deadline` counts from now. Returns AWS's request id.
    pub(crate) async fn send(
        self,
        call: &DirectoryCall,
        deadline: Duration,
    ) -> Result<Option<String>, AwsFailure> {
        let calls = Calls {
            session: &self.session,
            metrics: &self.metrics,
        };
        calls.write(&self.directory_id, call, deadline).await
    }
}
