//! A push, call or passcode under way: what auth_status says of it, and when.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    account::Account,
    settings::{Behaviour, PushDelivery},
};

/// What auth_status says.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub(super) struct State {
    pub(super) result: &'static str,
    pub(super) status: &'static str,
    pub(super) status_msg: &'static str,
}

impl State {
    const fn new(result: &'static str, status: &'static str, status_msg: &'static str) -> Self {
        Self {
            result,
            status,
            status_msg,
        }
    }

    pub(super) fn is_final(self) -> bool {
        self.result != "waiting"
    }
}

pub(super) const PUSHED: State = State::new("waiting", "pushed", "Pushed a login request to your device...");
const PUSH_FAILED: State = State::new(
    "waiting",
    "push_failed",
    "We were unable to send a push notification to your device. Please try again or use another method.",
);
const CALLING: State = State::new("waiting", "calling", "Dialing your phone...");
const ANSWERED: State = State::new(
    "waiting",
    "answered",
    "Please answer the call and press any key to log in.",
);
pub(super) const ALLOW: State = State::new("allow", "allow", "Success. Logging you in...");
pub(super) const BYPASS: State = State::new("allow", "bypass", "Valid user: bypass");
pub(super) const DENY: State = State::new("deny", "deny", "Login request denied.");
const FRAUD: State = State::new("deny", "fraud", "Login request reported as fraudulent.");
const TIMEOUT: State = State::new("deny", "timeout", "Login timed out.");
pub(super) const SENT: State = State::new("deny", "sent", "New SMS passcodes sent.");
pub(super) const WRONG: State = State::new("deny", "deny", "Incorrect passcode. Please try again.");
pub(super) const USED: State = State::new(
    "deny",
    "deny",
    "This passcode has already been used. Please generate a new passcode and try again.",
);
pub(super) const LOCKED_OUT: State = State::new(
    "deny",
    "locked_out",
    "Your account is disabled and cannot access this application. Please contact your administrator.",
);

/// States by the time they begin at, since the transaction began.
pub(super) type Timeline = Vec<(Duration, State)>;

/// What a phone's owner makes of a push.
pub(super) fn push(
    answer: Behaviour,
    delay: Duration,
    timeout: Duration,
    delivery: PushDelivery,
) -> Timeline {
    match delivery {
        PushDelivery::PushFailed => vec![(Duration::ZERO, PUSH_FAILED), (timeout, TIMEOUT)],
        PushDelivery::Ok => [vec![(Duration::ZERO, PUSHED)], end(answer, delay, timeout)].concat(),
    }
}

/// What a phone's owner makes of a call.
pub(super) fn call(answer: Behaviour, delay: Duration, timeout: Duration) -> Timeline {
    let picked_up = match answer {
        Behaviour::Ignore | Behaviour::Manual => Vec::new(),
        _ => vec![(delay / 2, ANSWERED)],
    };
    [
        vec![(Duration::ZERO, CALLING)],
        picked_up,
        end(answer, delay, timeout),
    ]
    .concat()
}

fn end(answer: Behaviour, delay: Duration, timeout: Duration) -> Timeline {
    let late = || vec![(timeout, TIMEOUT)];
    match answer {
        _ if delay >= timeout => late(),
        Behaviour::Approve => vec![(delay, ALLOW)],
        Behaviour::Deny => vec![(delay, DENY)],
        Behaviour::Fraud => vec![(delay, FRAUD)],
        Behaviour::Ignore | Behaviour::Manual => late(),
    }
}

/// A transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) txid: String,
    pub(super) account: Arc<Account>,
    pub(super) about: About,
    pub(super) began: Instant,
    progress: Mutex<Progress>,
    changed: Notify,
}

/// What the admin API tells of a transaction.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct About {
    /// The application that began it.
    pub(super) ikey: String,
    pub(super) user: String,
    pub(super) device: String,
    pub(super) factor: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) display_username: String,
    pub(super) pushinfo: String,
    pub(super) ipaddr: String,
    pub(super) hostname: String,
}

#[derive(Debug)]
struct Progress {
    timeline: Timeline,
    told: Option<State>,
    ended: bool,
}

impl Transaction {
    pub(super) fn new(txid: String, account: Arc<Account>, about: About, timeline: Timeline) -> Self {
        let progress = Mutex::new(Progress {
            timeline,
            told: None,
            ended: false,
        });
        Self {
            txid,
            account,
            about,
            began: Instant::now(),
            progress,
            changed: Notify::new(),
        }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state now, and when the next one begins.
    fn now(&self, progress: &Progress) -> (State, Option<Instant>) {
        let elapsed = self.began.elapsed();
        let begun = progress.timeline.iter().rev().find(|(at, _)| *at <= elapsed);
        let next = progress
            .timeline
            .iter()
            .find(|(at, _)| *at > elapsed)
            .map(|(at, _)| self.began + *at);
        (begun.map_or(TIMEOUT, |(_, state)| *state), next)
    }

    pub(super) fn state(&self) -> State {
        self.now(&self.progress()).0
    }

    /// The person decides now (`POST /pushes/{txid}`); false when it is too late.
    pub(super) fn decide(&self, answer: Behaviour) -> bool {
        let mut progress = self.progress();
        if self.now(&progress).0.is_final() {
            return false;
        }
        let elapsed = self.began.elapsed();
        progress.timeline.retain(|(at, _)| *at <= elapsed);
        progress.timeline.extend(end(answer, elapsed, Duration::MAX));
        drop(progress);
        self.changed.notify_waiters();
        true
    }

    /// The next state that was not told yet; `None` when nothing changes until `until`. A final state is told again and again.
    pub(super) async fn news(&self, until: Instant) -> Option<State> {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut progress = self.progress();
                let (state, next) = self.now(&progress);
                if progress.told != Some(state) || state.is_final() {
                    progress.told = Some(state);
                    self.account_for(&mut progress, state);
                    return Some(state);
                }
                next
            };
            let wake = next.map_or(until, |next| next.min(until));
            let _ = timeout_at(wake, changed).await;
            if Instant::now() >= until {
                let state = self.state();
                if Some(state) == self.progress().told && !state.is_final() {
                    return None;
                }
            }
        }
    }

    /// The end, as a synchronous auth call waits for it.
    pub(super) async fn end(&self) -> State {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut progress = self.progress();
                let (state, next) = self.now(&progress);
                if state.is_final() {
                    self.account_for(&mut progress, state);
                    return state;
                }
                next
            };
            match next {
                Some(next) => {
                    let _ = timeout_at(next, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn account_for(&self, progress: &mut Progress, state: State) {
        if state.is_final() && !progress.ended {
            progress.ended = true;
            self.account.ended(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duo::settings::User;

    fn transaction(timeline: Timeline) -> Transaction {
        let account = Arc::new(Account::new(User::default()));
        Transaction::new("t".into(), account, About::default(), timeline)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_push_is_told_at_once_and_its_approval_when_it_comes() {
        let began = Instant::now();
        let push = transaction(push(
            Behaviour::Approve,
            Duration::from_secs(5),
            MINUTE,
            PushDelivery::Ok,
        ));
        assert_eq!(push.news(began + MINUTE).await, Some(PUSHED));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(push.news(began + MINUTE).await, Some(ALLOW));
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(push.news(began + MINUTE).await, Some(ALLOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_without_news_ends_without_a_state() {
        let push = transaction(push(Behaviour::Ignore, Duration::ZERO, MINUTE, PushDelivery::Ok));
        let until = Instant::now() + Duration::from_secs(30);
        assert_eq!(push.news(until).await, Some(PUSHED));
        assert_eq!(push.news(until).await, None);
        assert_eq!(push.end().await, TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_decides_once() {
        let push = transaction(push(Behaviour::Manual, Duration::ZERO, MINUTE, PushDelivery::Ok));
        assert!(push.decide(Behaviour::Fraud));
        assert!(!push.decide(Behaviour::Approve));
        assert_eq!(push.end().await, FRAUD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_rings_is_answered_and_ends() {
        let began = Instant::now();
        let call = transaction(call(Behaviour::Deny, Duration::from_secs(4), MINUTE));
        let until = began + MINUTE;
        assert_eq!(call.news(until).await, Some(CALLING));
        assert_eq!(call.news(until).await, Some(ANSWERED));
        assert_eq!(call.news(until).await, Some(DENY));
        assert_eq!(began.elapsed().as_secs(), 4);
    }
}
