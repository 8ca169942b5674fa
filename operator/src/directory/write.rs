//! A write to AWS: what it needs before it is noted as pending, and the one call.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_directory::config::Config;
use aws_sdk_directory::config::http::{HttpRequest, HttpResponse};
use aws_sdk_directory::config::retry::RetryConfig;
use aws_sdk_directory::config::timeout::TimeoutConfig;
use aws_sdk_directory::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_directory::operation::RequestId;
use operator_core::aws::{AwsFailure, AwsOperation};
use operator_core::registration::{DirectoryCall, RadiusSettings};
use serde_json::Value;

use super::calls::{Calls, in_time};
use super::session::Session;
use super::{convert, failure};
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
        let operation = call.operation();
        let sent = calls.counted(operation, None, self.call(call, deadline));
        // The SDK's own deadline covers an attempt only, without the lookup of credentials.
        in_time(operation, deadline, sent).await
    }

    async fn call(&self, call: &DirectoryCall, deadline: Duration) -> Result<Option<String>, AwsFailure> {
        let (client, operation, once) = (&self.session.client, call.operation(), once(deadline));
        match call {
            DirectoryCall::Enable(settings) => {
                let request = client
                    .enable_radius()
                    .directory_id(&self.directory_id)
                    .radius_settings(convert::settings(settings));
                let custom = request.customize().config_override(once);
                let answer = custom.mutate_request(every_member(settings)).send().await;
                request_id(operation, Some(settings), answer)
            }
            DirectoryCall::Update(settings) => {
                let request = client
                    .update_radius()
                    .directory_id(&self.directory_id)
                    .radius_settings(convert::settings(settings));
                let custom = request.customize().config_override(once);
                let answer = custom.mutate_request(every_member(settings)).send().await;
                request_id(operation, Some(settings), answer)
            }
            DirectoryCall::Disable => {
                let request = client.disable_radius().directory_id(&self.directory_id);
                let answer = request.customize().config_override(once).send().await;
                request_id(operation, None, answer)
            }
        }
    }
}

fn request_id<T, E>(
    operation: AwsOperation,
    settings: Option<&RadiusSettings>,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Option<String>, AwsFailure>
where
    T: RequestId,
    E: ProvideErrorMetadata + RequestId + Error + 'static,
{
    let secret = settings.map(|settings| settings.secret.expose_str());
    answer
        .map(|answer| answer.request_id().map(str::to_owned))
        .map_err(|error| failure::from_sdk_without(secret, operation, &error))
}

/// The SDK doesn't retry writes: a second EnableRadius can be refused because the first one succeeded, and each accepted
/// write blocks logins again.
fn once(deadline: Duration) -> aws_sdk_directory::config::Builder {
    Config::builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(deadline)
                .operation_timeout(deadline)
                .build(),
        )
}

/// The SDK omits RadiusRetries if it is 0, and UseSameUsername if it is false. AWS doesn't document that a missing member
/// has that value when settings are replaced, so both are always sent.
fn every_member(settings: &RadiusSettings) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    let (retries, same) = (settings.shown.retries, settings.shown.use_same_username);
    move |request| {
        let Some(mut body) = request
            .body()
            .bytes()
            .and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok())
        else {
            return;
        };
        let Some(members) = body.get_mut("RadiusSettings").and_then(Value::as_object_mut) else {
            return;
        };
        members.insert("RadiusRetries".to_owned(), retries.into());
        members.insert("UseSameUsername".to_owned(), same.into());
        let bytes = body.to_string().into_bytes();
        request
            .headers_mut()
            .insert("content-length", bytes.len().to_string());
        *request.body_mut() = bytes.into();
    }
}
