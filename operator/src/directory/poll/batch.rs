//! One batch of a group: obtains credentials, describes all directories, then reads the details that are due.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use operator_core::aws::{AwsFailure, AwsOperation};
use operator_core::observed::Directory;

use super::super::Deps;
use super::super::calls::Calls;
use super::super::convert::{self, Described};
use super::super::describe::{self, CachedDetails, Due};
use super::super::session::{Session, Sessions};
use super::{Group, Request};

/// How many sessions obtain credentials at the same time.
const CONCURRENT_CREDENTIALS: usize = 8;

/// What all steps of a batch need.
struct BatchContext<'a> {
    group: &'a Group,
    deps: &'a Deps,
    /// No call of the batch was sent before this.
    sent: Instant,
    /// How often details are read.
    interval: Duration,
}

/// A directory whose details are read once all directories are described.
pub(super) struct Detailed<'a> {
    pub(super) due: Due,
    pub(super) request: &'a Request,
    session: &'a Session,
    described: &'a Described,
}

/// Describes all of `batch`, publishes what is complete, and then reads the details that are due.
pub(super) async fn describe_batch(group: &Group, sessions: &Sessions, deps: &Deps, batch: Vec<Request>) {
    let context = BatchContext {
        group,
        deps,
        sent: Instant::now(),
        interval: describe::detail_interval(deps.detail_interval, group.size(), sessions.calls_per_second),
    };
    let ready = context.with_credentials(sessions, batch).await;
    let Some((_, first)) = ready.first() else {
        return;
    };
    let calls = Calls {
        session: first,
        metrics: &deps.metrics,
    };
    let mut ids: Vec<String> = ready
        .iter()
        .map(|(request, _)| request.directory.id.clone())
        .collect();
    ids.sort();
    ids.dedup();
    let failed: BTreeSet<&str> = ready
        .iter()
        .filter(|(request, _)| request.failed)
        .map(|(request, _)| request.directory.id.as_str())
        .collect();
    let answers = describe::describe(calls, &ids, &|id| failed.contains(id)).await;
    let detailed = context.described(&ready, &answers);
    context.details(&detailed).await;
}

impl BatchContext<'_> {
    /// The requests that have credentials, each with its own session. Many credentials expire at the same time, and each
    /// renewal may take a while.
    async fn with_credentials(
        &self,
        sessions: &Sessions,
        batch: Vec<Request>,
    ) -> Vec<(Request, Arc<Session>)> {
        let all = stream::iter(batch).map(|request| async move {
            let session = sessions.of(&request.account).await;
            let credentials = session.ready(AwsOperation::DescribeDirectories).await;
            (request, session, credentials)
        });
        all.buffer_unordered(CONCURRENT_CREDENTIALS)
            .filter_map(async |(request, session, credentials)| match credentials {
                Ok(()) => Some((request, session)),
                Err(failure) => {
                    self.publish(&request, None, Instant::now(), Err(failure));
                    None
                }
            })
            .collect()
            .await
    }

    /// Publishes what is complete without more calls. Returns the directories whose details are due: first those that
    /// can't be published without them, then those that have waited longest.
    fn described<'a>(
        &self,
        ready: &'a [(Request, Arc<Session>)],
        answers: &'a HashMap<String, Result<Described, AwsFailure>>,
    ) -> Vec<Detailed<'a>> {
        let now = Instant::now();
        let mut detailed = Vec::new();
        for (request, session) in ready {
            let described = match answers.get(&request.directory.id) {
                None => continue,
                Some(Err(failure)) => {
                    self.publish(request, None, now, Err(failure.clone()));
                    continue;
                }
                Some(Ok(described)) => described,
            };
            let due = request.details.due(&described.description, now, self.interval);
            if due != Due::First {
                let directory = convert::directory(described, &request.details.current);
                self.publish(request, None, described.ended, Ok(directory));
            }
            if due != Due::Nothing {
                detailed.push(Detailed {
                    due,
                    request,
                    session,
                    described,
                });
            }
        }
        detailed.sort_by_key(|each| (each.due != Due::First, each.request.details.controllers_at()));
        detailed
    }

    /// Reads details, one directory after the other, until another directory is due: each takes one or two calls within the
    /// rate limit, and a write must not wait for all of them. The next batch continues here.
    async fn details(&self, detailed: &[Detailed<'_>]) {
        for (done, each) in detailed.iter().enumerate() {
            let rest = detailed.get(done..).unwrap_or_default();
            if done > 0 && self.group.has_others_due(Instant::now(), rest) {
                return;
            }
            let calls = Calls {
                session: each.session,
                metrics: &self.deps.metrics,
            };
            // Tags may have been written since the batch began.
            let mut details = self.group.details(&each.request.directory).unwrap_or_default();
            let (described, now) = (each.described, Instant::now());
            let answer = describe::details(calls, &described.description, &mut details, now, self.interval)
                .await
                .map(|()| convert::directory(described, &details.current));
            self.publish(each.request, Some(details), described.ended, answer);
        }
    }

    fn publish(
        &self,
        request: &Request,
        details: Option<CachedDetails>,
        ended: Instant,
        answer: Result<Directory, AwsFailure>,
    ) {
        self.group
            .publish(self.deps, &request.directory, (self.sent, ended), details, answer);
    }
}
