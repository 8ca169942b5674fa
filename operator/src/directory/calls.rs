//! The calls themselves. Each is rate-limited, bounded in time, counted and classified.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_directory::config::http::HttpResponse;
use aws_sdk_directory::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_directory::operation::RequestId;
use aws_sdk_directory::types::{DirectoryDescription, DomainController, Tag};
use futures::future::{Either, select};
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::registration::LONGEST_ANSWER;

use super::failure;
use super::session::Session;
use crate::metrics::Metrics;

/// The most pages of one answer. A directory has few of anything.
const MAX_PAGES: usize = 50;

/// A read that isn't answered within this time is sent a second time.
const HEDGE_AFTER: Duration = Duration::from_secs(10);

/// The items of one page, and where the next one begins.
type Page<T> = (Option<Vec<T>>, Option<String>);

/// A session and the counters that its calls are counted in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls<'a> {
    pub(super) session: &'a Session,
    pub(super) metrics: &'a Metrics,
}

impl Calls<'_> {
    /// DescribeDirectories for these ids. An answer that takes longer than [`LONGEST_ANSWER`] is too old to decide a write.
    pub(super) async fn describe(&self, ids: &[String]) -> Result<Vec<DirectoryDescription>, AwsFailure> {
        let client = &self.session.client;
        let operation = AwsOperation::DescribeDirectories;
        let described = self.pages(operation, |token| {
            let request = client.describe_directories();
            let ids = request.set_directory_ids(Some(ids.to_vec()));
            let sent = ids.set_next_token(token).send();
            async {
                sent.await
                    .map(|page| (page.directory_descriptions, page.next_token))
            }
        });
        in_time(operation, LONGEST_ANSWER, described).await
    }

    /// DescribeDomainControllers, within a deadline.
    pub(super) async fn controllers(
        &self,
        id: &str,
        deadline: Duration,
    ) -> Result<Vec<DomainController>, AwsFailure> {
        let client = &self.session.client;
        let operation = AwsOperation::DescribeDomainControllers;
        let found = self.pages(operation, |token| {
            let request = client.describe_domain_controllers().directory_id(id);
            let sent = request.set_next_token(token).send();
            async { sent.await.map(|page| (page.domain_controllers, page.next_token)) }
        });
        in_time(operation, deadline, found).await
    }

    /// ListTagsForResource, within a deadline.
    pub(super) async fn tags(
        &self,
        id: &str,
        deadline: Duration,
    ) -> Result<BTreeMap<String, String>, AwsFailure> {
        let client = &self.session.client;
        let operation = AwsOperation::ListTagsForResource;
        let found = self.pages(operation, |token| {
            let request = client.list_tags_for_resource().resource_id(id);
            let sent = request.set_next_token(token).send();
            async { sent.await.map(|page| (page.tags, page.next_token)) }
        });
        let tags = in_time(operation, deadline, found).await?;
        Ok(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    /// Reads all pages of a list.
    async fn pages<T, E, F>(
        &self,
        operation: AwsOperation,
        page: impl Fn(Option<String>) -> F,
    ) -> Result<Vec<T>, AwsFailure>
    where
        F: Future<Output = Result<Page<T>, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let (items, next) = self.read(operation, HEDGE_AFTER, || page(token.clone())).await?;
            found.extend(items.unwrap_or_default());
            token = next.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(failure::own(
            operation,
            AwsErrorClass::Service,
            "the answer has no last page",
        ))
    }

    /// AddTagsToResource. `limit` bounds the wait for the call's turn, and then the call.
    pub(super) async fn add_tags(
        &self,
        id: &str,
        tags: &[(String, String)],
        limit: Duration,
    ) -> Result<(), AwsFailure> {
        let operation = AwsOperation::AddTagsToResource;
        let mut list = Vec::with_capacity(tags.len());
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            list.push(tag.map_err(|error| {
                failure::own(operation, AwsErrorClass::InvalidParameter, error.to_string())
            })?);
        }
        let request = self
            .session
            .client
            .add_tags_to_resource()
            .resource_id(id)
            .set_tags(Some(list));
        self.session.ready(operation).await?;
        let turn = self.session.limits.writes.try_reserve(Instant::now(), limit);
        let turn = turn.ok_or_else(|| {
            let message = format!("the rate limit left no room for it within {} s", limit.as_secs());
            failure::own(operation, AwsErrorClass::NotSent, message)
        })?;
        tokio::time::sleep_until(turn.into()).await;
        let sent = async {
            let done = request.send().await;
            done.map(drop)
                .map_err(|error| failure::from_sdk(operation, &error))
        };
        in_time(operation, limit, self.counted(operation, None, sent)).await
    }

    /// One read, hedged after `hedge_after` without an answer.
    pub(super) async fn read<T, E, F>(
        &self,
        operation: AwsOperation,
        hedge_after: Duration,
        send: impl Fn() -> F,
    ) -> Result<T, AwsFailure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        // In a box: the SDK's futures are large, and each one around them would have room for two.
        let ask = || {
            let sent = Box::pin(send());
            async move { sent.await.map_err(|error| failure::from_sdk(operation, &error)) }
        };
        let answered = AtomicBool::new(false);
        // The time counts from when the read is sent, not while it waits for credentials or for its turn.
        self.allowed(operation).await?;
        let first = async {
            let answer = self.counted(operation, None, ask()).await;
            answered.store(answer.is_ok(), Ordering::Relaxed);
            answer
        };
        let again = async {
            self.allowed(operation).await?;
            self.counted(operation, Some(&answered), ask()).await
        };
        hedged(hedge_after, first, again).await
    }

    /// Waits for credentials, and for a read's turn.
    async fn allowed(&self, operation: AwsOperation) -> Result<(), AwsFailure> {
        self.session.ready(operation).await?;
        self.session.limits.reads.wait().await;
        Ok(())
    }

    pub(super) async fn counted<T>(
        &self,
        operation: AwsOperation,
        needless: Option<&AtomicBool>,
        sent: impl Future<Output = Result<T, AwsFailure>>,
    ) -> Result<T, AwsFailure> {
        let mut count = Count {
            metrics: self.metrics,
            operation,
            sent: Instant::now(),
            outcome: AwsErrorClass::Unreachable.as_str(),
            needless,
        };
        let result = sent.await;
        count.outcome = result
            .as_ref()
            .map_or_else(|failed| failed.class.as_str(), |_| "ok");
        count.needless = None;
        drop(count);
        self.session.ended(result).await
    }
}

/// Counts a call that was sent, when it ends or when it is dropped: a deadline drops it before AWS has answered.
struct Count<'a> {
    metrics: &'a Metrics,
    operation: AwsOperation,
    sent: Instant,
    outcome: &'static str,
    /// Set once the other one of two hedged calls is answered: if this one is dropped then, it says nothing about AWS.
    needless: Option<&'a AtomicBool>,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        if !self
            .needless
            .is_some_and(|needless| needless.load(Ordering::Relaxed))
        {
            self.metrics
                .aws_call(self.operation.as_str(), self.outcome, self.sent.elapsed());
        }
    }
}

/// Sends a read, and after `hedge_after` without an answer a second one: the first may be on a dead connection, or AWS may
/// be slow. The first good answer counts. The other read is dropped, and its connection (HTTP/1.1) is closed with it.
async fn hedged<T>(
    hedge_after: Duration,
    first: impl Future<Output = Result<T, AwsFailure>>,
    again: impl Future<Output = Result<T, AwsFailure>>,
) -> Result<T, AwsFailure> {
    let mut first = pin!(first);
    if let Ok(answer) = tokio::time::timeout(hedge_after, &mut first).await {
        return answer;
    }
    match select(first, pin!(again)).await {
        Either::Left((Err(_), again)) => again.await,
        Either::Right((Err(_), first)) => first.await,
        Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
    }
}

pub(super) async fn in_time<T>(
    operation: AwsOperation,
    deadline: Duration,
    call: impl Future<Output = Result<T, AwsFailure>>,
) -> Result<T, AwsFailure> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(failure::own(
            operation,
            AwsErrorClass::Unreachable,
            format!("no answer within {} s", deadline.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::{pending, ready};

    use super::*;

    type Answer = futures::future::BoxFuture<'static, Result<u8, AwsFailure>>;

    async fn ask(first: Answer, second: Answer) -> Result<u8, AwsFailure> {
        hedged(Duration::ZERO, first, second).await
    }

    fn refused() -> Answer {
        let failure = failure::own(
            AwsOperation::DescribeDirectories,
            AwsErrorClass::Unreachable,
            "no",
        );
        ready(Err(failure)).boxed()
    }

    #[tokio::test]
    async fn a_read_without_an_answer_is_sent_again_and_either_answer_counts() {
        let late = || {
            async { tokio::task::yield_now().await }
                .then(|()| ready(Ok(1)))
                .boxed()
        };
        assert_eq!(ask(pending().boxed(), ready(Ok(2)).boxed()).await.unwrap(), 2);
        assert_eq!(ask(late(), pending().boxed()).await.unwrap(), 1);
        assert_eq!(ask(late(), refused()).await.unwrap(), 1);
    }

    #[test]
    fn a_call_that_is_given_up_counts_as_one_without_an_answer_unless_another_has_it() {
        let metrics = Metrics::new();
        let count = |needless| Count {
            metrics: &metrics,
            operation: AwsOperation::DescribeDirectories,
            sent: Instant::now(),
            outcome: AwsErrorClass::Unreachable.as_str(),
            needless,
        };
        let (open, answered) = (AtomicBool::new(false), AtomicBool::new(true));
        for needless in [None, Some(&open), Some(&answered)] {
            drop(count(needless));
        }
        let line = "aws_calls_total{operation=\"DescribeDirectories\",result=\"unreachable\"} 2\n";
        assert!(metrics.encode().contains(line), "{}", metrics.encode());
    }

    #[tokio::test]
    async fn a_read_that_is_answered_in_time_is_not_sent_again() {
        assert_eq!(ask(ready(Ok(1)).boxed(), pending().boxed()).await.unwrap(), 1);
        assert!(ask(refused(), pending().boxed()).await.is_err());
    }
}
