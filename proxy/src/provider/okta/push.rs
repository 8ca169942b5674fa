//! A push on somebody's phone: started, followed to its end, or taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_config::FailMode;
use proxy_core::factor::{Factor, RefusalReason, Verdict};
use reqwest::Url;

use super::api::{Api, Problem, Transaction};
use super::meaning::Meaning;
use super::rate::Limit;
use super::{Deadline, Okta, approved};
use crate::provider::fault::{self, Fault, FaultClass, Step};
use crate::provider::{Asking, Released, refused, strange_handle};

/// Between two questions after a failed one, while a push is on somebody's phone.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// Refusals in a row that end the following of a push.
const STATUS_REFUSALS: u32 = 3;

/// So long before an end is asked once more, however long the pause would be.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// When a login ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Its client has its answer.
    pub(super) answer: Instant,
    /// An approval is of no use any more.
    pub(super) of_use: Instant,
}

impl Ends {
    /// A pause that is not slept through the last moment at which an approval can still be told.
    fn clamp(self, pause: Duration, now: Instant) -> Duration {
        [self.answer, self.of_use]
            .into_iter()
            .filter_map(|end| end.checked_duration_since(now)?.checked_sub(LAST_LOOK))
            .filter(|left| !left.is_zero())
            .fold(pause, Duration::min)
    }
}

/// A push on somebody's phone. Dropped before its end, it is taken back: the login was given up, and an approval would
/// be of use to nobody. Unless another proxy follows it.
struct Pushed {
    api: Arc<Api>,
    cancel: Option<Url>,
    released: Arc<Released>,
}

impl Pushed {
    fn end(mut self) {
        self.cancel = None;
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        if self.released.is_released() {
            return;
        }
        if let (Some(url), Ok(runtime)) = (self.cancel.take(), tokio::runtime::Handle::try_current()) {
            let api = Arc::clone(&self.api);
            runtime.spawn(async move { api.cancel(url).await });
        }
    }
}

impl Okta {
    pub(super) async fn push(&self, id: &str, push: &str, asking: &Asking, ends: Ends) -> Verdict {
        let (transaction, limit) = match self.api.verify(id, push, None, Deadline::at(ends.of_use)).await {
            Ok(started) => started,
            Err(problem) => return self.failed(Step::Auth, Some(Factor::Push), problem),
        };
        let pushed = Pushed {
            api: Arc::clone(&self.api),
            cancel: self.api.cancel_link(&transaction),
            released: asking.released(),
        };
        if let Some(verdict) = end(&transaction) {
            // A number challenge goes on without us, and is taken back.
            if !transaction.is_number_challenge() {
                pushed.end();
            }
            return verdict;
        }
        let Some(poll) = self.api.poll_link(&transaction) else {
            let text = "the push has no poll link, or one of another origin";
            let fault = Fault::after_sending(FaultClass::Malformed, text);
            return self.failed(Step::Auth, Some(Factor::Push), Problem::Fault(fault));
        };
        asking.announce(handle(&poll, pushed.cancel.as_ref()));
        self.follow(&poll, pushed, limit, ends).await
    }

    /// Follows a push that another proxy has started. Its links are checked here as they were there: they are called
    /// with the organisation's token.
    pub(super) async fn follow_handle(&self, handle: &str, asking: &Asking, ends: Ends) -> Verdict {
        let (poll, cancel) = handle.split_once(' ').unwrap_or((handle, ""));
        let Some(poll) = self.api.own_link(poll) else {
            return strange_handle();
        };
        let pushed = Pushed {
            api: Arc::clone(&self.api),
            cancel: self.api.own_link(cancel),
            released: asking.released(),
        };
        self.follow(&poll, pushed, Limit::default(), ends).await
    }

    /// Follows a push to its end. A call that fails is made again while there is time: the push is on a phone, and its
    /// owner is about to answer it.
    async fn follow(&self, poll: &Url, pushed: Pushed, mut limit: Limit, ends: Ends) -> Verdict {
        let begun = Instant::now();
        let mut refusals = 0;
        let mut pause = limit.pause(Duration::ZERO);
        let deadline = ends.of_use;
        loop {
            pause = ends.clamp(pause, Instant::now());
            if pause >= deadline.saturating_duration_since(Instant::now()) {
                return timed_out();
            }
            tokio::time::sleep(pause).await;
            match self.api.poll(poll, Deadline::at(deadline)).await {
                Ok((transaction, now)) => {
                    if let Some(verdict) = end(&transaction) {
                        if !transaction.is_number_challenge() {
                            pushed.end();
                        }
                        return verdict;
                    }
                    refusals = 0;
                    limit = now;
                    pause = limit.pause(begun.elapsed());
                }
                Err(Problem::Said(Meaning::NotFound, _)) => {
                    pushed.end();
                    return timed_out();
                }
                Err(problem) => {
                    let refuses = matches!(
                        &problem,
                        Problem::Said(..)
                            | Problem::Fault(Fault {
                                class: FaultClass::ClientError | FaultClass::Credentials,
                                ..
                            })
                    );
                    refusals += u32::from(refuses);
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left <= STATUS_PAUSE || refusals >= STATUS_REFUSALS {
                        return self.failed(Step::Status, Some(Factor::Push), problem);
                    }
                    pause = STATUS_PAUSE;
                }
            }
        }
    }
}

/// How other proxies follow a push: its poll link, and its cancel link if it has one. Neither has a space in it.
fn handle(poll: &Url, cancel: Option<&Url>) -> String {
    cancel.map_or_else(|| poll.to_string(), |cancel| format!("{poll} {cancel}"))
}

/// The end that a transaction has come to; `None` while it waits.
fn end(transaction: &Transaction) -> Option<Verdict> {
    let factor = Some(Factor::Push);
    if transaction.is_number_challenge() {
        let message =
            "Okta asks to compare a number, which cannot be shown here. Type the code of your app instead.";
        return Some(refused(factor, RefusalReason::NumberChallenge, message));
    }
    match transaction.result.as_str() {
        "WAITING" => None,
        "SUCCESS" => Some(approved(Factor::Push)),
        "REJECTED" | "CANCELLED" => Some(refused(factor, RefusalReason::Denied, "The login was denied.")),
        "TIMEOUT" | "EXPIRED" | "TIME_WINDOW_EXCEEDED" => Some(timed_out()),
        "FAILED" | "ERROR" => Some(fault::verdict(
            Step::Auth,
            FaultClass::ServerError,
            FailMode::Secure,
        )),
        other => {
            tracing::warn!(provider = "okta", result = %other.escape_debug(), "a push has ended in an unknown way");
            Some(fault::verdict(
                Step::Auth,
                FaultClass::Malformed,
                FailMode::Secure,
            ))
        }
    }
}

fn timed_out() -> Verdict {
    refused(
        Some(Factor::Push),
        RefusalReason::TimedOut,
        "Nobody answered in time.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_ends_shortly_before_the_client_is_answered_and_before_nobody_wants_the_answer() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let ends = Ends {
            answer: begun + second * 40,
            of_use: begun + second * 70,
        };
        for (at, pause, clamped) in [
            (0, 2, 2),
            (0, 120, 39),
            (30, 60, 9),
            (39, 60, 30),
            (40, 60, 29),
            (50, 10, 10),
            (69, 60, 60),
            (80, 60, 60),
        ] {
            assert_eq!(
                ends.clamp(second * pause, begun + second * at),
                second * clamped,
                "{at} s"
            );
        }
    }
}
