//! Second factors. A provider sees a [`FactorRequest`] and gives a [`Verdict`], never a RADIUS byte.
//!
//! To add one: a file here that implements [`Provider`], and its line in [`build`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use proxy_config::{Config, Provider as ProviderConfig};
use proxy_core::factor::{Factor, FactorRequest, LoginId, Refusal, RefusalReason, Verdict};
use proxy_core::peers::PushHandle;

use crate::error::Error;
use crate::metrics::ProviderMetrics;

pub mod duo;
pub mod fault;
pub mod http;
pub mod okta;
pub mod radius;
pub mod totp;
pub mod warnings;

mod back_off;
mod last_success;
mod recent;
mod resolver;
#[cfg(test)]
mod testing;
mod unknown;

/// What is boxed wherever a provider has to wait.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something that proves a second factor.
pub trait Provider: Send + Sync + 'static {
    /// Answers a login. All other logins wait meanwhile: what has to wait itself, be it for a microsecond of disk or
    /// network, goes into [`Answer::Later`].
    fn ask(self: Arc<Self>, request: FactorRequest, asking: Asking) -> Answer;

    /// Tries what a login would need, without logging anybody in: for `radius-proxy check`.
    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>>;

    /// What an administrator should be told about the provider's own data after it was loaded: users that were left
    /// out, for example. One sentence each, without secrets, at most [`MAX_COMPLAINTS`].
    fn complaints(&self) -> &[String] {
        &[]
    }
}

/// At most so many complaints are kept and logged of one load.
pub const MAX_COMPLAINTS: usize = 100;

/// What a provider has beside the request.
pub struct Asking {
    /// The wall clock, for factors that are made from it.
    pub now: SystemTime,
    login: LoginId,
    engine: Arc<dyn Pushed>,
    released: Arc<Released>,
}

/// Who is told that a push was started.
pub trait Pushed: Send + Sync {
    /// A push, call or SMS was started for a login.
    fn pushed(&self, login: LoginId);

    /// The push of a login is on its way, and anybody with the same credentials can follow it by `handle`.
    fn announce(&self, login: LoginId, handle: PushHandle);
}

/// Whether a login was given up here because another proxy follows its push: then it must not be taken back.
#[derive(Debug, Default)]
pub struct Released(AtomicBool);

impl Released {
    /// From now on another proxy follows it.
    pub fn release(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether another proxy follows it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Asking {
    /// For one login.
    #[must_use]
    pub fn new(now: SystemTime, login: LoginId, engine: Arc<dyn Pushed>) -> Self {
        Self {
            now,
            login,
            engine,
            released: Arc::default(),
        }
    }

    /// The mark by which a provider sees, when its future is dropped, that its push is another proxy's now.
    #[must_use]
    pub fn released(&self) -> Arc<Released> {
        Arc::clone(&self.released)
    }

    /// To be called when a push or call can be followed by its handle: the other proxies are told. A handle that is too
    /// long for a datagram is not.
    pub fn announce(&self, handle: String) {
        if let Some(handle) = PushHandle::new(handle) {
            self.engine.announce(self.login, handle);
        }
    }

    /// To be called before a push, call or SMS is started: it counts against the user's limit.
    pub fn pushed(&self) {
        self.engine.pushed(self.login);
    }
}

/// A provider's answer.
pub enum Answer {
    /// Known on the spot.
    Now(Verdict),
    /// Known when the future is done. It is dropped when the login is given up; a provider that must tell the other
    /// side then holds a guard in it whose `Drop` does so.
    Later(BoxFuture<Verdict>),
}

/// One line of `radius-proxy check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something that works.
    Good(String),
    /// Something that may be as it should, and may not.
    Note(String),
    /// Something that does not, with what to do.
    Problem(String),
}

/// What outlives one configuration: a reload hands it to the providers built next.
pub struct Shared {
    /// Counters of calls.
    pub metrics: ProviderMetrics,
    /// HTTP connections, kept while host, proxy and trusted certificates stay.
    pub transports: http::Transports,
    /// For whom Okta has sent codes.
    pub sent_codes: Arc<okta::Sent>,
    /// Upstream servers, kept while address, secret and rules stay.
    pub upstreams: radius::Upstreams,
    /// Which TOTP codes this process has seen.
    pub used_codes: Arc<totp::UsedCodes>,
    /// Which TOTP codes all proxies have seen.
    pub code_stores: totp::store::Stores,
    /// Who typed wrong TOTP codes.
    pub failures: Arc<totp::Failures>,
    /// Which failed calls are in the log already.
    pub warnings: Arc<warnings::Warnings>,
}

impl Shared {
    /// What a program starts with.
    #[must_use]
    pub fn new(metrics: ProviderMetrics) -> Self {
        Self {
            metrics,
            transports: http::Transports::default(),
            sent_codes: Arc::default(),
            upstreams: radius::Upstreams::default(),
            used_codes: Arc::default(),
            code_stores: totp::store::Stores::default(),
            failures: Arc::default(),
            warnings: Arc::default(),
        }
    }
}

/// Builds the provider that a configuration names.
///
/// # Errors
/// A key, trusted certificates or a proxy address that cannot be used.
pub fn build(config: &Config, shared: &Shared) -> Result<Arc<dyn Provider>, Error> {
    match &config.provider {
        ProviderConfig::Duo(duo) => Ok(Arc::new(duo::Duo::new(duo, config.application.clone(), shared)?)),
        ProviderConfig::Totp(totp) => {
            let (names, key) = (config.policy.user_names, config.digest_key.as_ref());
            Ok(Arc::new(totp::Totp::new(totp, names, key, shared)))
        }
        ProviderConfig::Radius(upstream) => Ok(Arc::new(radius::Upstream::new(upstream, shared)?)),
        ProviderConfig::Okta(okta) => Ok(Arc::new(okta::Okta::new(okta, shared)?)),
    }
}

/// What a handle of another proxy is refused with that this provider cannot have given out: the proxies of a group do not
/// all have the same configuration.
#[must_use]
pub fn strange_handle() -> Verdict {
    tracing::warn!("another proxy's push cannot be followed: is its configuration the same?");
    refused(
        None,
        RefusalReason::ProviderMalformed,
        "The login cannot be completed here. Please log in again.",
    )
}

/// A refusal with what the user is told.
#[must_use]
pub fn refused(factor: Option<Factor>, reason: RefusalReason, message: impl Into<String>) -> Verdict {
    Verdict::Refused(Refusal {
        factor,
        reason,
        message: Some(message.into()),
    })
}

/// A limit or a cool-down keeps pushes back; a typed passcode would work.
fn no_push_now(factor: Factor) -> Verdict {
    let message = "No push can be sent now. Type a passcode, or try again in a minute.";
    refused(Some(factor), RefusalReason::Throttled, message)
}

/// The password method gives no text that could be sent to the provider of that name.
fn no_passcode(provider: &str) -> Verdict {
    let message =
        format!("This password method cannot carry a passcode to {provider}. Type push, or use PAP.");
    refused(None, RefusalReason::MethodCannotCarry, message)
}

/// A provider's clock, in the words of a finding.
#[derive(Debug, Clone, Copy)]
struct TheirClock {
    provider: &'static str,
    whose: &'static str,
    refuses: &'static str,
}

/// What is said of this host's clock: `difference` is the provider's minus ours in seconds. Logins correct for it, but
/// everything else on the host does not.
fn clock_finding(their: TheirClock, difference: i64) -> Finding {
    let TheirClock {
        provider,
        whose,
        refuses,
    } = their;
    let seconds = difference.unsigned_abs();
    let which = if difference < 0 { "ahead of" } else { "behind" };
    match seconds {
        0..=4 => Finding::Good(format!(
            "{provider}: this host's clock is right ({seconds} s {which} {whose})"
        )),
        5..=299 => Finding::Good(format!(
            "{provider}: this host's clock is {seconds} s {which} {whose}; set it by NTP before it reaches 300 s"
        )),
        _ => Finding::Problem(format!(
            "{provider}: this host's clock is {seconds} s {which} {whose}, and {refuses}. Set it by NTP (chrony, \
             systemd-timesyncd); logins correct for it meanwhile"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_before_it_matters() {
        let their = TheirClock {
            provider: "duo",
            whose: "Duo's",
            refuses: "Duo refuses more than 300 s",
        };
        let clock = |difference| clock_finding(their, difference);
        assert!(matches!(clock(-3), Finding::Good(_)));
        assert!(matches!(clock(120), Finding::Good(text) if text.contains("120 s behind")));
        assert!(
            matches!(clock(-301), Finding::Problem(text) if text.contains("301 s ahead of") && text.contains("NTP"))
        );
    }
}
