//! The engine: every decision about a datagram, a verdict and the passing of time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proxy_config::observed::Observed;

use crate::Settings;
use crate::addresses::Addresses;
use crate::answered_codes::AnsweredCodes;
use crate::challenge::Challenges;
use crate::clients::Client;
use crate::counters::{Counters, DropReason, Event, RequestCode, Requests};
use crate::duplicates::Duplicates;
use crate::factor::{LoginId, Verdict};
use crate::known_texts::KnownTexts;
use crate::late::LateApprovals;
use crate::limits::{Bucket, Rate, UserLimits};
use crate::logins::Logins;
use crate::observed::{ObservedChanges, ObservedLogin, Observer};
use crate::opened::Opened;
use crate::outputs::{DropNotice, Outputs, SocketId};
use crate::packet::{Request, RequestKind};
use crate::password::Candidates;
use crate::peers::Instance;
use crate::random::Unguessable;
use crate::reply::ReplyTo;
use crate::settings::Checked;
use crate::shared::Pushes;
use crate::time::Now;
use crate::verify::{self, Proof, Verified};

mod access;
mod ask;
mod classify;
mod codes;
mod end;
mod handover;
mod rivals;
mod rollback;
#[cfg(test)]
mod tests;
mod verdict;

/// Notices of dropped datagrams: twenty at once, two a second after that.
const NOTICES: Rate = Rate {
    count: 20,
    period: Duration::from_secs(10),
};

/// Requests of one address within a second that prove no secret, whatever limit the client has: anybody can send them
/// from a forged address, and each is worth a few dozen guesses.
const UNAUTHENTICATED_PER_SECOND: u32 = 100;

/// A RADIUS authentication server, sans I/O.
pub struct Engine {
    settings: Settings,
    counters: Counters,
    requests: Requests,
    random: Unguessable,
    addresses: Addresses,
    duplicates: Duplicates,
    logins: Logins,
    users: UserLimits,
    late: LateApprovals,
    codes: AnsweredCodes,
    known_texts: KnownTexts,
    challenges: Challenges,
    pushes: Pushes,
    observer: Observer,
    candidates: Candidates,
    notices: Bucket,
    suppressed: u64,
    draining: bool,
}

/// A verified request, and how it came.
struct Arrival<'a> {
    now: Now,
    from: SocketAddr,
    /// The canonical address of `from`: what "client" means in limits.
    source: IpAddr,
    socket: SocketId,
    client: Arc<Client>,
    request: Verified<Request<'a>>,
    observed: Option<ObservedLogin>,
}

impl Engine {
    /// An engine that knows nothing yet. `seed` must be fresh from the system's random source: States, MS-CHAP
    /// challenges and the keys of digests in memory are made from it.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let limits = settings.checked().config.policy.limits;
        let mut random = Unguessable::new(seed);
        let instance = random
            .next()
            .first_chunk()
            .map_or(0, |half| u64::from_be_bytes(*half));
        Self {
            settings,
            counters: Counters::default(),
            requests: Requests::default(),
            random,
            pushes: Pushes::new(Instance(instance)),
            addresses: Addresses::new(),
            duplicates: Duplicates::new(),
            logins: Logins::default(),
            users: UserLimits::new(limits),
            late: LateApprovals::new(),
            codes: AnsweredCodes::new(),
            known_texts: KnownTexts::new(),
            challenges: Challenges::new(),
            observer: Observer::new(),
            candidates: Candidates::new(),
            notices: Bucket::default(),
            suppressed: 0,
            draining: false,
        }
    }

    /// Goes on with another configuration. Answers that may be asked for again, pending logins (with the secret that
    /// their request proved) and limits are kept.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.users.reconfigure(settings.checked().config.policy.limits);
        self.settings = settings;
        let Checked { clients, config, .. } = self.settings.checked();
        let is_directory = |address| {
            clients
                .find(address)
                .is_some_and(|client| client.config.directory)
        };
        self.observer
            .retain(is_directory, |name| config.policy.probe_users.contains(name));
    }

    /// Takes a datagram that came in by `socket`. An IPv4-mapped source counts as IPv4, and is answered as it came.
    pub fn receive(
        &mut self,
        now: Now,
        from: SocketAddr,
        socket: SocketId,
        datagram: &[u8],
        out: &mut Outputs,
    ) {
        let opened = self.settings.open(from, datagram);
        self.take(now, socket, opened, out);
    }

    /// The same, of a datagram that is open already. It must have been opened with the settings that the engine has now
    /// ([`Settings::is`]): a secret or client of older ones would be believed.
    pub fn take(&mut self, now: Now, socket: SocketId, opened: Opened<'_>, out: &mut Outputs) {
        self.counters.happened(Event::Received);
        let from = opened.from;
        if let Err(reason) = self.take_opened(now, socket, opened, out) {
            self.dropped(now, from, reason, out);
        }
    }

    /// Takes a provider's end of a login. For a login that ended meanwhile it does nothing, unless it is the approval
    /// of a push, which is kept for one further try of the same user for a short time.
    pub fn verdict(&mut self, now: Now, login: LoginId, verdict: Verdict, out: &mut Outputs) {
        self.take_verdict(now, login, verdict, out);
    }

    /// A provider has started a push, call or SMS for the login: counted against the user's limit.
    pub fn pushed(&mut self, now: Now, login: LoginId) {
        let Some(login) = self.logins.get_mut(login) else {
            return;
        };
        login.pushed = true;
        self.counters.happened(Event::Pushed);
        let mut evicted = false;
        self.users.pushed(&login.user, now.monotonic, &mut evicted);
        self.count_if(evicted, Event::EvictedUser);
    }

    /// Answers what has come to its deadline, and forgets what is old.
    pub fn tick(&mut self, now: Now, out: &mut Outputs) {
        while let Some(login) = self.logins.due(now.monotonic) {
            self.wake(now, login, out);
        }
        while self.pushes.wake(now.monotonic, out) {}
        self.duplicates.expire(now.monotonic);
        self.codes.expire(now.monotonic);
    }

    /// When [`Engine::tick`] has something to do, in the caller's monotonic time; `None` while nothing is waiting.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let wakes = [
            self.logins.next_wake(),
            self.duplicates.next_expiry(),
            self.pushes.next_wake(),
        ];
        wakes.into_iter().flatten().min()
    }

    /// From now on no push is started: such requests are left in silence to another pod, and Status-Server too.
    /// Passcodes are answered, and pending logins go on to their verdict or deadline, or to where their client goes. The
    /// pushes of other proxies are theirs alone from now on.
    pub fn drain(&mut self, now: Now, out: &mut Outputs) {
        self.draining = true;
        self.pushes.give_votes_away(now.monotonic, out);
    }

    /// Whether a draining caller ends, before its own deadline: no login waits for its answer, and the other proxies have
    /// confirmed what they were told, or don't answer.
    #[must_use]
    pub fn is_drained(&self, now: Now) -> bool {
        self.pending() == 0 && !self.pushes.is_unconfirmed(now.monotonic)
    }

    /// Logins that wait for their answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.logins.attempts()
    }

    /// What was counted since the engine was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was observed of the directory since the engine was made.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.observer.report()
    }

    /// How often [`Engine::observed`] has changed.
    #[must_use]
    pub fn observed_changes(&self) -> ObservedChanges {
        self.observer.changes()
    }

    /// Takes how many datagrams came from each client, by what they ask for, since this was called last.
    pub fn take_requests(&mut self, each: impl FnMut(&Arc<str>, RequestCode, u64)) {
        self.requests.take(each);
    }

    fn checked(&self) -> &Checked {
        self.settings.checked()
    }

    fn take_opened(
        &mut self,
        now: Now,
        socket: SocketId,
        opened: Opened<'_>,
        out: &mut Outputs,
    ) -> Result<(), DropReason> {
        let Opened {
            from,
            source,
            asked,
            request,
        } = opened;
        let (client, code) = asked.ok_or(DropReason::UnknownClient)?;
        self.requests.count(&client.name, code);
        let request =
            request.and_then(|request| verify::verify(request, &client, self.addresses.known(source)));
        let observed = if client.config.directory {
            let longest = self.checked().config.policy.login;
            self.observer.request(now, from, code, &request, longest)
        } else {
            None
        };
        let request = request?;
        let now_secret = client.secrets.first();
        let previous = now_secret.is_some_and(|secret| !Arc::ptr_eq(secret, request.secret()));
        self.count_if(previous, Event::PreviousSecret);
        let arrival = Arrival {
            now,
            from,
            source,
            socket,
            client,
            request,
            observed,
        };
        match arrival.request.packet().kind {
            RequestKind::Access => self.access(arrival, out),
            RequestKind::Status => self.status(&arrival, out),
        }
    }

    /// Status-Server (RFC 5997). It is answered anew each time: its answer holds nothing that could differ.
    fn status(&mut self, arrival: &Arrival<'_>, out: &mut Outputs) -> Result<(), DropReason> {
        if self.draining {
            return Err(DropReason::Draining);
        }
        if !self.within_rate(arrival) {
            return Err(DropReason::Throttled);
        }
        self.learn(arrival, false);
        self.counters.happened(Event::StatusServer);
        let reply = ReplyTo::new(&arrival.request, &arrival.client, arrival.from, arrival.socket);
        out.send(arrival.from, arrival.socket, &reply.status());
        Ok(())
    }

    /// Takes one from the rate of the request's address.
    fn within_rate(&mut self, arrival: &Arrival<'_>) -> bool {
        let everyones = self.checked().config.policy.limits.requests_per_client_per_second;
        let count = arrival.client.config.requests_per_second.unwrap_or(everyones);
        let per_second = |count| Rate {
            count,
            period: Duration::from_secs(1),
        };
        let (source, now) = (arrival.source, arrival.now.monotonic);
        let mut evicted = false;
        let granted = if arrival.request.proof() == Proof::None {
            let rate = per_second(count.min(UNAUTHENTICATED_PER_SECOND));
            self.addresses.unproved(source, now, rate, &mut evicted)
        } else {
            self.addresses
                .proved(source, now, per_second(count), &mut evicted)
        };
        self.count_if(evicted, Event::EvictedAddress);
        granted
    }

    /// Notes what the request shows of its address.
    fn learn(&mut self, arrival: &Arrival<'_>, is_login: bool) {
        if let Some(shown) = verify::shown(&arrival.request, &arrival.client, is_login) {
            self.addresses.learn(arrival.source, shown);
        }
    }

    fn dropped(&mut self, now: Now, from: SocketAddr, reason: DropReason, out: &mut Outputs) {
        self.counters.dropped(reason);
        if !reason.is_noteworthy() {
            return;
        }
        if self.notices.take(now.monotonic, NOTICES) {
            let suppressed = std::mem::take(&mut self.suppressed);
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let client = self.checked().clients.find(from.ip());
            out.notices.push(DropNotice {
                from,
                client: client.map(|client| Arc::clone(&client.name)),
                reason,
                suppressed,
            });
        } else {
            self.suppressed = self.suppressed.saturating_add(1);
        }
    }

    fn count_if(&mut self, happened: bool, event: Event) {
        if happened {
            self.counters.happened(event);
        }
    }
}
