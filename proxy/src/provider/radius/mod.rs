//! Another RADIUS server decides: FreeRADIUS, NPS, a vendor's proxy.
//!
//! The password goes on encrypted anew (PAP) or as it came (CHAP, MS-CHAP). This proxy is an end of both conversations
//! and not a link in one: it adds no Proxy-State and passes none on, so that an answer that holds one answers something
//! else.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use proxy_config::FailMode;
use proxy_core::dictionary::{self, Attribute};
use proxy_core::factor::{
    Approval, Basis, Continues, Credential, Factor, FactorRequest, Forwarded, Refusal, RefusalReason,
    UserName, Verdict,
};
use radius::core::rfc2865;

use self::answer::{Answer as Reply, AnswerCode, success};
use self::challenge::{Challenge, Challenges};
use self::login::{Ends, Patience};
use self::packet::Question;
use self::server::{Pace, Place, Server};
use super::fault::{self, Fault, FaultClass, Step};
use super::http::Resolver;
use super::warnings::Warnings;
use super::{Answer, Asking, BoxFuture, Finding, Provider, Shared, refused};
use crate::error::Error;
use crate::locks::lock;
use crate::metrics::ProviderMetrics;

mod answer;
mod challenge;
mod health;
mod lane;
mod login;
mod packet;
mod peer;
mod retransmit;
mod server;
#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;

/// A message is cut here: Access-Reject carries no more of it.
const LONGEST_MESSAGE: usize = 1000;

/// The upstream servers in use and their unanswered challenges, which a reload keeps.
#[derive(Default)]
pub struct Upstreams {
    known: Mutex<Vec<Weak<Server>>>,
    challenges: Arc<Challenges>,
}

impl Upstreams {
    /// The server in use, with its sockets and what is known of its health, or a new one.
    fn obtain(
        &self,
        place: Place,
        resolver: &Resolver,
        metrics: &ProviderMetrics,
        pace: Pace,
    ) -> Option<Arc<Server>> {
        let mut known = lock(&self.known);
        known.retain(|server| server.strong_count() > 0);
        if let Some(server) = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|server| server.place == place)
        {
            server.count_with(metrics);
            return Some(server);
        }
        let server = Arc::new(Server::new(place, resolver.clone(), metrics.clone(), pace)?);
        known.push(Arc::downgrade(&server));
        Some(server)
    }
}

/// The provider of `[provider.radius]`.
pub struct Upstream {
    servers: Vec<Arc<Server>>,
    challenges: Arc<Challenges>,
    patience: Patience,
    returned: Vec<Attribute>,
    warnings: Arc<Warnings>,
}

/// Whose login it is, and by which password method.
struct Asker {
    user: UserName,
    source: IpAddr,
    is_pap: bool,
    is_ms_chap: bool,
}

impl Upstream {
    /// Makes the provider; nothing is sent yet.
    ///
    /// # Errors
    /// A secret that no key can be made of.
    pub fn new(config: &proxy_config::Upstream, shared: &Shared) -> Result<Self, Error> {
        Self::paced(config, shared, Pace::default())
    }

    fn paced(config: &proxy_config::Upstream, shared: &Shared, pace: Pace) -> Result<Self, Error> {
        let resolver = shared.transports.resolver();
        let mut servers = Vec::with_capacity(config.servers.len());
        for server in &config.servers {
            let place = Place {
                host: server.host.clone(),
                port: server.port,
                secret: server.secret.clone(),
                demand_message_authenticator: config.require_message_authenticator,
                status_server: config.status_server,
            };
            let server = shared
                .upstreams
                .obtain(place, &resolver, &shared.metrics, pace)
                .ok_or(Error::NoConnection)?;
            servers.push(server);
        }
        // Begun now where a runtime is at hand, else with the first login: an idle primary that is dead should be
        // known before somebody waits for it.
        if tokio::runtime::Handle::try_current().is_ok() {
            servers.iter().for_each(Server::watch);
        }
        Ok(Self {
            servers,
            challenges: Arc::clone(&shared.upstreams.challenges),
            warnings: Arc::clone(&shared.warnings),
            patience: Patience {
                timeout: config.timeout,
                tries: config.tries,
            },
            // `Settings::check` has refused every other name.
            returned: config
                .return_attributes
                .iter()
                .filter_map(|name| dictionary::lookup(name).ok())
                .collect(),
        })
    }

    async fn login(&self, request: FactorRequest) -> Verdict {
        let begun = Instant::now();
        let Credential::Forward(password) = request.credential else {
            return refused(
                None,
                RefusalReason::MethodCannotCarry,
                "This password method cannot be passed on.",
            );
        };
        self.servers.iter().for_each(Server::watch);
        let is_pap = matches!(password, Forwarded::Pap(_));
        let is_ms_chap = matches!(password, Forwarded::MsChap(_));
        // A client that has challenges of its own says by its State which login answers one; for the others it is the
        // next one.
        let answers = is_pap && request.continues != Continues::Nothing;
        let challenge = answers
            .then(|| self.challenges.take(&request.user, request.source, begun))
            .flatten();
        let (servers, state) = match challenge {
            Some(Challenge { server, state }) => (vec![server], Some(state)),
            None => (self.servers.clone(), None),
        };
        let question = Question {
            user: request.user_as_sent,
            password,
            attributes: request.attributes,
            client: request.client.as_str().to_owned(),
            state,
        };
        let ends = Ends {
            answer: begun + request.answer_within,
            of_use: begun + request.of_use,
        };
        match login::ask(&servers, &request.user, &question, self.patience, ends).await {
            Ok((server, reply)) => {
                let asker = Asker {
                    user: request.user,
                    source: request.source,
                    is_pap,
                    is_ms_chap,
                };
                self.verdict(asker, server, &reply)
            }
            Err(fault) => {
                self.warnings.failed("radius", Step::Auth, &fault);
                // There is no first step that could fail open: the only question is the password.
                fault::verdict(Step::Auth, fault.class, FailMode::Secure)
            }
        }
    }

    fn verdict(&self, asker: Asker, server: Arc<Server>, reply: &Reply) -> Verdict {
        let message = reply.message().map(cut);
        match reply.code {
            AnswerCode::Accept => Verdict::Approved(Approval {
                factor: Factor::Upstream,
                basis: Basis::Factor,
                message,
                found_text: None,
                attributes: self.returned(reply, asker.is_ms_chap),
            }),
            AnswerCode::Reject => refusal(RefusalReason::Denied, message),
            AnswerCode::Challenge if asker.is_pap => {
                // Without a State the answer is a login like any other (RFC 2865 section 4.4).
                if let Some(state) = reply.state().filter(|state| !state.is_empty()) {
                    let now = Instant::now();
                    self.challenges
                        .keep(asker.user, asker.source, server, state.to_vec(), now);
                }
                let ask = "The RADIUS server asks for more: log in again with the code that it sent.";
                refusal(RefusalReason::CodesSent, message.or_else(|| Some(ask.to_owned())))
            }
            AnswerCode::Challenge => {
                let told = "The RADIUS server asks for more, which only PAP can answer.";
                refusal(RefusalReason::MethodCannotCarry, Some(told.to_owned()))
            }
        }
    }

    /// What goes back to the client: what the configuration names, and what makes an MS-CHAPv2 Accept one.
    fn returned(&self, reply: &Reply, is_ms_chap: bool) -> Vec<(u8, Vec<u8>)> {
        let mut attributes = Vec::new();
        for (typ, value) in &reply.attributes {
            if is_ms_chap && let Some(success) = success(*typ, value) {
                attributes.push((rfc2865::VENDOR_SPECIFIC_TYPE, success));
                continue;
            }
            // Reply-Message goes back as the message.
            let named = self.returned.iter().any(|attribute| attribute.is(*typ, value));
            if named && *typ != rfc2865::REPLY_MESSAGE_TYPE {
                attributes.push((*typ, value.clone()));
            }
        }
        attributes
    }
}

impl Provider for Upstream {
    fn ask(self: Arc<Self>, request: FactorRequest, _: Asking) -> Answer {
        Answer::Later(Box::pin(async move { self.login(request).await }))
    }

    fn rehearse(self: Arc<Self>) -> BoxFuture<Vec<Finding>> {
        Box::pin(async move {
            let mut findings = Vec::new();
            for server in &self.servers {
                findings.push(rehearse(server).await);
            }
            findings
        })
    }
}

async fn rehearse(server: &Server) -> Finding {
    let name = server.peer.name();
    if !server.place.status_server {
        return Finding::Good(format!(
            "radius: {name} is not asked, since status_server is off; try a login to see whether it answers"
        ));
    }
    match server.status().await {
        Ok((took, signed)) => {
            // An old server signs neither; a new one both. RFC 5997 demands it of no answer to Status-Server.
            let doubt = if server.place.demand_message_authenticator && !signed {
                ". That answer has no Message-Authenticator: if the answers to logins have none either, logins are \
                 refused; try one"
            } else {
                ""
            };
            Finding::Good(format!(
                "radius: {name} answers Status-Server after {:.1} ms, and the shared secret is right{doubt}",
                took.as_secs_f64() * 1000.0
            ))
        }
        Err(fault) => Finding::Problem(problem(name, &fault)),
    }
}

fn problem(name: &str, fault: &Fault) -> String {
    let advice = match fault.class {
        FaultClass::Dns => "; check provider.radius.servers and this host's name servers",
        FaultClass::Timeout => {
            "; check the address, that UDP to that port is allowed, that the server knows this host as a client with \
             this shared secret (a server drops what is signed with another one), and that it answers Status-Server \
             (else set provider.radius.status_server = false)"
        }
        FaultClass::Connect => "; nothing listens there, or the network is not reached",
        // The detail says what to do.
        _ => "",
    };
    format!("radius: {name}: {fault}{advice}")
}

fn refusal(reason: RefusalReason, message: Option<String>) -> Verdict {
    Verdict::Refused(Refusal {
        factor: Some(Factor::Upstream),
        reason,
        message,
    })
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    message
}
