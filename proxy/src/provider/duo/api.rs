//! Duo's Auth API v2, as much of it as a login needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proxy_config::{ApiHost, Secret, SignatureVersion};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;

use super::answer::{BAD_TIME, Outcome, Preauth, PreauthResponse, Time, Transaction, understand};
use super::sign::{Parameter, Unsigned, authorization};
use crate::metrics::ProviderMetrics;
use crate::provider::back_off::BackOff;
use crate::provider::fault::{Fault, FaultClass, Step};
use crate::provider::http::{Deadline, Transport, wiped};
use crate::provider::last_success::LastSuccess;

/// One application at Duo.
pub(super) struct Api {
    /// Where it is.
    pub host: ApiHost,
    /// Its integration key.
    pub integration_key: Secret,
    /// Its secret key.
    pub secret_key: Secret,
    /// How requests are signed.
    pub version: SignatureVersion,
    /// Connections.
    pub transport: Arc<Transport>,
    /// When Duo last answered.
    pub last_success: Arc<LastSuccess>,
    /// Counters.
    pub metrics: ProviderMetrics,
    /// Seconds to add to the own clock to have Duo's. Duo refuses what is more than 300 s off.
    pub clock_offset: AtomicI64,
}

/// One endpoint.
struct Endpoint {
    step: Step,
    method: &'static str,
    path: &'static str,
    signed: bool,
    /// Whether a lost answer may be asked for again: false for what starts a push.
    repeatable: bool,
}

const PING: Endpoint = Endpoint {
    step: Step::Check,
    method: "GET",
    path: "/auth/v2/ping",
    signed: false,
    repeatable: true,
};
const CHECK: Endpoint = Endpoint {
    path: "/auth/v2/check",
    signed: true,
    ..PING
};
const PREAUTH: Endpoint = Endpoint {
    step: Step::Preauth,
    method: "POST",
    path: "/auth/v2/preauth",
    signed: true,
    repeatable: true,
};
const AUTH: Endpoint = Endpoint {
    step: Step::Auth,
    path: "/auth/v2/auth",
    repeatable: false,
    ..PREAUTH
};
const AUTH_STATUS: Endpoint = Endpoint {
    step: Step::Status,
    method: "GET",
    path: "/auth/v2/auth_status",
    ..PREAUTH
};

impl Api {
    /// Duo's clock minus ours, in seconds. It asks without a signature, and proves that the host is reached.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn clock_difference(&self, deadline: Deadline) -> Result<i64, Fault> {
        let time: Time = self.once(&PING, &[], deadline).await?;
        Ok(time.time.saturating_sub(unix_now()))
    }

    /// Proves that the keys are right.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn check(&self, deadline: Deadline) -> Result<(), Fault> {
        let _: Time = self.call(&CHECK, &[], deadline).await?;
        Ok(())
    }

    /// Asks what a user has to do.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn preauth(
        &self,
        parameters: &[Parameter<'_>],
        deadline: Deadline,
    ) -> Result<Preauth, Fault> {
        let answer: PreauthResponse = self.call(&PREAUTH, parameters, deadline).await?;
        match answer.result.as_str() {
            "auth" => Ok(Preauth::Auth(answer.devices)),
            "allow" => Ok(Preauth::Allow(answer.status_msg)),
            "deny" => Ok(Preauth::Deny(answer.status_msg)),
            "enroll" => Ok(Preauth::Enroll(answer.status_msg)),
            // Duo is there and has said something: no absence that `fail_mode = "safe"` may open for.
            _ => Err(Fault::after_sending(
                FaultClass::ClientError,
                "preauth has an unknown result",
            )),
        }
    }

    /// Authenticates and waits for the end: passcodes and SMS, which end at once.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn auth(
        &self,
        parameters: &[Parameter<'_>],
        deadline: Deadline,
    ) -> Result<Outcome, Fault> {
        self.call(&AUTH, parameters, deadline).await
    }

    /// Starts an authentication, and gives the transaction to follow.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn auth_async(
        &self,
        parameters: &[Parameter<'_>],
        deadline: Deadline,
    ) -> Result<String, Fault> {
        let transaction: Transaction = self.call(&AUTH, parameters, deadline).await?;
        Ok(transaction.txid)
    }

    /// Waits for the next change of a transaction.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn status(&self, txid: &str, deadline: Deadline) -> Result<Outcome, Fault> {
        self.call(&AUTH_STATUS, &[("txid", txid)], deadline).await
    }

    /// A call with what can be put right: a clock that is off, a rate limit, a connection that was not made or (where
    /// that starts nothing twice) an answer that was lost.
    async fn call<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        parameters: &[Parameter<'_>],
        deadline: Deadline,
    ) -> Result<T, Fault> {
        let mut back_off = BackOff::new();
        let mut clock_set = false;
        let mut repeated = false;
        loop {
            let fault = match self.once(endpoint, parameters, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Credentials if fault.code == Some(BAD_TIME) && !clock_set => {
                    clock_set = true;
                    let Ok(difference) = self.clock_difference(deadline).await else {
                        return Err(fault);
                    };
                    tracing::warn!(
                        seconds = difference,
                        "this host's clock differs from Duo's; correcting for it"
                    );
                    self.clock_offset.store(difference, Ordering::Relaxed);
                }
                FaultClass::Throttled => {
                    if !back_off.wait(&fault, deadline.send_by()).await {
                        return Err(fault);
                    }
                }
                FaultClass::Connect if !repeated && (endpoint.repeatable || !fault.may_have_arrived) => {
                    repeated = true;
                }
                _ => return Err(fault),
            }
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        parameters: &[Parameter<'_>],
        deadline: Deadline,
    ) -> Result<T, Fault> {
        let begun = Instant::now();
        let result = match self.request(endpoint, parameters) {
            Ok(request) => {
                let answer = if endpoint.step == Step::Status {
                    self.transport.poll(request, deadline).await
                } else {
                    self.transport.call(request, deadline).await
                };
                answer.and_then(|answer| understand(&answer))
            }
            Err(fault) => Err(fault),
        };
        if result.is_ok() {
            self.last_success.record();
        }
        let class = result.as_ref().err().map(|fault| match fault.code {
            // It says nothing about the keys, and is put right.
            Some(BAD_TIME) => FaultClass::ClientError,
            _ => fault.class,
        });
        self.metrics.called("duo", endpoint.step, class, begun.elapsed());
        result
    }

    fn request(&self, endpoint: &Endpoint, parameters: &[Parameter<'_>]) -> Result<Box<Request>, Fault> {
        let unusable = |what: &str| {
            let detail = format!("the request cannot be made: {what}");
            Fault::before_sending(FaultClass::ClientError, detail)
        };
        let time = unix_now().saturating_add(self.clock_offset.load(Ordering::Relaxed));
        let date = rfc_2822(time).ok_or_else(|| unusable("date"))?;
        let signed = Unsigned {
            date: &date,
            method: endpoint.method,
            host: self.host.host(),
            path: endpoint.path,
            parameters,
        }
        .sign(self.version, &self.secret_key);
        let mut url = Url::parse(&self.host.origin()).map_err(|_| unusable("host"))?;
        url.set_path(endpoint.path);
        if !signed.query.is_empty() {
            url.set_query(Some(signed.query.as_str()));
        }
        let method = if endpoint.method == "POST" {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = Box::new(Request::new(method, url));
        let headers = request.headers_mut();
        headers.insert(DATE, HeaderValue::from_str(&date).map_err(|_| unusable("date"))?);
        if endpoint.signed {
            let credentials = authorization(&self.integration_key, &signed.signature);
            let mut value = HeaderValue::from_bytes(credentials.expose()).map_err(|_| unusable("keys"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if !signed.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(signed.content_type));
            *request.body_mut() = Some(wiped(signed.body));
        }
        Ok(request)
    }
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn rfc_2822(unix: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(unix).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S -0000").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_duo_reads_them() {
        assert_eq!(
            rfc_2822(1_345_570_158).unwrap(),
            "Tue, 21 Aug 2012 17:29:18 -0000"
        );
    }
}
