//! One round of a group: who may ask, what is told at once, whose details are asked for after that.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use operator_core::aws::{AwsFailure, AwsOperation};
use operator_core::input::Directory;

use super::super::Surroundings;
use super::super::calls::Calls;
use super::super::convert::{self, Described};
use super::super::round::{self, Due, Known};
use super::super::session::{Session, Sessions};
use super::{Asked, Group};

/// Credentials that are taken at once.
const CREDENTIALS_AT_ONCE: usize = 8;

/// What one round is about.
struct Round<'a> {
    group: &'a Group,
    around: &'a Surroundings,
    /// When the first call was sent, or could have been.
    sent: Instant,
    /// How often details are asked for.
    interval: Duration,
}

/// A directory whose details are asked for after all were described.
pub(super) struct Detailed<'a> {
    pub(super) due: Due,
    pub(super) asked: &'a Asked,
    session: &'a Session,
    described: &'a Described,
}

/// Describes all of `batch`, tells what it can, and then asks for the details that are due.
pub(super) async fn ask(group: &Group, sessions: &Sessions, around: &Surroundings, batch: Vec<Asked>) {
    let round = Round {
        group,
        around,
        sent: Instant::now(),
        interval: round::detail_interval(around.detail_interval, group.size(), sessions.calls_per_second),
    };
    let ready = round.with_credentials(sessions, batch).await;
    let Some((_, first)) = ready.first() else {
        return;
    };
    let calls = Calls {
        session: first,
        metrics: &around.metrics,
    };
    let mut ids: Vec<String> = ready
        .iter()
        .map(|(asked, _)| asked.watch.directory.clone())
        .collect();
    ids.sort();
    ids.dedup();
    let failed: BTreeSet<&str> = ready
        .iter()
        .filter(|(asked, _)| asked.failed)
        .map(|(asked, _)| asked.watch.directory.as_str())
        .collect();
    let answers = round::describe(calls, &ids, &|id| failed.contains(id)).await;
    let detailed = round.described(&ready, &answers);
    group.round_ended.notify_waiters();
    round.details(&detailed).await;
}

impl Round<'_> {
    /// Those who may ask, each with its own session. Credentials of many end together, and each may take a while.
    async fn with_credentials(&self, sessions: &Sessions, batch: Vec<Asked>) -> Vec<(Asked, Arc<Session>)> {
        let all = stream::iter(batch).map(|asked| async move {
            let session = sessions.of(&asked.account).await;
            let credentials = session.ready(AwsOperation::DescribeDirectories).await;
            (asked, session, credentials)
        });
        all.buffer_unordered(CREDENTIALS_AT_ONCE)
            .filter_map(async |(asked, session, credentials)| match credentials {
                Ok(()) => Some((asked, session)),
                Err(failure) => {
                    self.tell(&asked, None, Instant::now(), Err(failure));
                    None
                }
            })
            .collect()
            .await
    }

    /// Tells at once what is known without more calls. Gives those back whose details are due: first those that nothing
    /// can be told of before, then those that waited longest.
    fn described<'a>(
        &self,
        ready: &'a [(Asked, Arc<Session>)],
        answers: &'a HashMap<String, Result<Described, AwsFailure>>,
    ) -> Vec<Detailed<'a>> {
        let now = Instant::now();
        let mut detailed = Vec::new();
        for (asked, session) in ready {
            let described = match answers.get(&asked.watch.directory) {
                None => continue,
                Some(Err(failure)) => {
                    self.tell(asked, None, now, Err(failure.clone()));
                    continue;
                }
                Some(Ok(described)) => described,
            };
            let due = asked.known.due(&described.description, now, self.interval);
            if due != Due::First {
                let directory = convert::directory(described, &asked.known.details);
                self.tell(asked, None, described.ended, Ok(directory));
            }
            if due != Due::Nothing {
                detailed.push(Detailed {
                    due,
                    asked,
                    session,
                    described,
                });
            }
        }
        detailed.sort_by_key(|each| (each.due != Due::First, each.asked.known.controllers_at()));
        detailed
    }

    /// Asks for details, one directory after the other, until something else is due: each takes a call or two at the pace
    /// of the region and role, and who waits for a write must not wait for all of them. The next round goes on here.
    async fn details(&self, detailed: &[Detailed<'_>]) {
        for (done, each) in detailed.iter().enumerate() {
            let rest = detailed.get(done..).unwrap_or_default();
            if done > 0 && self.group.is_awaited(Instant::now(), rest) {
                return;
            }
            let calls = Calls {
                session: each.session,
                metrics: &self.around.metrics,
            };
            // Tags may have been written since the round began.
            let mut known = self.group.known(&each.asked.watch).unwrap_or_default();
            let (described, now) = (each.described, Instant::now());
            let answer = round::details(calls, &described.description, &mut known, now, self.interval)
                .await
                .map(|()| convert::directory(described, &known.details));
            self.tell(each.asked, Some(known), described.ended, answer);
            self.group.round_ended.notify_waiters();
        }
    }

    fn tell(
        &self,
        asked: &Asked,
        known: Option<Known>,
        ended: Instant,
        answer: Result<Directory, AwsFailure>,
    ) {
        self.group
            .tell(self.around, &asked.watch, (self.sent, ended), known, answer);
    }
}
