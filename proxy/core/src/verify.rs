//! From a request to a verified one: which secret it proves, and how.

use std::sync::Arc;

use proxy_config::{MessageAuthenticatorPolicy, Secret};
use radius::core::{rfc2865, rfc2869};

use crate::addresses::Known;
use crate::clients::Client;
use crate::counters::DropReason;
use crate::message_authenticator::SecretKey;
use crate::packet::{Request, RequestKind};
use crate::password::pap::{self, Evidence};

/// A packet that passed [`signature`] and [`verify`]: nothing later takes one that did not.
pub(crate) struct Verified<P> {
    packet: P,
    proof: Proof,
    secret: Arc<SecretKey>,
    pap: Option<Secret>,
}

/// What shows that the sender knows the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A valid Message-Authenticator.
    MessageAuthenticator,
    /// A User-Password that is text under the secret.
    Pap,
    /// Nothing: CHAP, MS-CHAP and an empty User-Password don't depend on the secret, and a wrong secret could have produced
    /// some texts, too.
    None,
}

impl<P> Verified<P> {
    pub(crate) fn packet(&self) -> &P {
        &self.packet
    }

    pub(crate) fn proof(&self) -> Proof {
        self.proof
    }

    /// The secret that the answer is signed with.
    pub(crate) fn secret(&self) -> &Arc<SecretKey> {
        &self.secret
    }

    /// The text of User-Password, until it is taken.
    pub(crate) fn pap(&self) -> Option<&[u8]> {
        self.pap.as_ref().map(Secret::expose)
    }

    /// The text of User-Password, once.
    pub(crate) fn take_pap(&mut self) -> Option<Secret> {
        self.pap.take()
    }
}

/// How far a request is verified by itself.
pub(crate) enum Signed<'a> {
    /// Its Message-Authenticator proves a secret.
    Proved(Verified<Request<'a>>),
    /// It has none: what it shows depends on what is known of its address.
    Not(Request<'a>),
}

/// Verifies a request of `client`, as far as that goes without knowing its address: the Message-Authenticator tells which
/// of two secrets it is.
pub(crate) fn signature<'a>(request: Request<'a>, client: &Client) -> Result<Signed<'a>, DropReason> {
    let password = request.value(rfc2865::USER_PASSWORD_TYPE);
    // Some clients leave the padding out. Only in a signed request nothing hangs on it.
    let is_possible = |value: &[u8]| match request.message_authenticator {
        Some(_) => value.len() <= pap::LONGEST,
        None => value.is_empty() || pap::is_possible(value),
    };
    if !password.is_none_or(is_possible) {
        return Err(DropReason::BadAttribute);
    }
    let Some(offset) = request.message_authenticator else {
        return Ok(Signed::Not(request));
    };
    let secret = client
        .secrets
        .iter()
        .find(|secret| secret.proves(request.bytes(), offset))
        .ok_or(DropReason::BadMessageAuthenticator)?;
    Ok(Signed::Proved(Verified {
        pap: password.map(|value| pap::decrypt(value, secret, &request.authenticator)),
        secret: Arc::clone(secret),
        proof: Proof::MessageAuthenticator,
        packet: request,
    }))
}

/// Verifies the rest, from an address of which `known` is known.
///
/// Which of two secrets: the one that the PAP padding and text prove; else the one under which they are text; of several,
/// and without PAP, the one last proved for the address.
pub(crate) fn verify<'a>(
    signed: Signed<'a>,
    client: &Client,
    known: Option<Known>,
) -> Result<Verified<Request<'a>>, DropReason> {
    let request = match signed {
        Signed::Proved(verified) => return Ok(verified),
        Signed::Not(request) => request,
    };
    demand(&request, client, known)?;
    let last = last_proved(client, known).ok_or(DropReason::BadSecret)?;
    let others = client.secrets.iter().filter(|secret| !Arc::ptr_eq(secret, last));
    let (secret, proof, pap) = match request.value(rfc2865::USER_PASSWORD_TYPE) {
        None => (last, Proof::None, None),
        // Some clients send an empty password as no octets instead of a block of padding.
        Some([]) => (last, Proof::None, Some(Secret::new(Vec::new()))),
        Some(password) => {
            let mut read = None;
            for secret in std::iter::once(last).chain(others) {
                match pap::read(password, secret, &request.authenticator) {
                    Some((Evidence::Proof, text)) => {
                        read = Some((secret, Proof::Pap, Some(text)));
                        break;
                    }
                    Some((Evidence::Text, text)) => {
                        read.get_or_insert((secret, Proof::None, Some(text)));
                    }
                    None => {}
                }
            }
            read.ok_or(DropReason::BadSecret)?
        }
    };
    Ok(Verified {
        secret: Arc::clone(secret),
        proof,
        pap,
        packet: request,
    })
}

/// Whether a request without Message-Authenticator is let through.
fn demand(request: &Request<'_>, client: &Client, known: Option<Known>) -> Result<(), DropReason> {
    // RFC 5997 section 3 and RFC 3579 section 3.1: a Status-Server, and what holds an EAP-Message, are silently discarded
    // without it.
    let demanded = request.kind == RequestKind::Status
        || request.has(rfc2869::EAP_MESSAGE_TYPE)
        || match client.config.message_authenticator {
            MessageAuthenticatorPolicy::Always => true,
            MessageAuthenticatorPolicy::Auto => known.is_some_and(|known| known.signs),
            MessageAuthenticatorPolicy::Never => false,
        };
    if demanded {
        return Err(DropReason::NoMessageAuthenticator);
    }
    // A directory is no proxy. Another client may be an old one, if Proxy-State is in the first request of its address.
    let unsigned_proxy =
        !client.config.directory && known.and_then(|known| known.unsigned_proxy) != Some(false);
    if request.has(rfc2865::PROXY_STATE_TYPE) && !unsigned_proxy {
        return Err(DropReason::UnprovenProxyState);
    }
    Ok(())
}

/// The secret that the address proved last, else the secret of now.
fn last_proved(client: &Client, known: Option<Known>) -> Option<&Arc<SecretKey>> {
    let proved = known.and_then(|known| known.secret);
    client
        .secrets
        .iter()
        .find(|secret| Some(secret.fingerprint()) == proved)
        .or(client.secrets.first())
}

/// What a verified request shows of its address; nothing when it proves no secret.
///
/// Whether the address signs and whether it is an old proxy show in a *login* only, a request with a password: what must
/// be signed anyway (Status-Server, EAP, a request without a password) says nothing about the others. A directory shows it
/// by a signed login of a user whom the provider knows ([`crate::addresses::Addresses::signs`]), since it may sign its
/// probes alone, and under a name that the policy lacks.
pub(crate) fn shown(verified: &Verified<Request<'_>>, client: &Client, is_login: bool) -> Option<Known> {
    let signed = verified.proof == Proof::MessageAuthenticator;
    (verified.proof != Proof::None).then(|| Known {
        signs: signed && is_login && !client.config.directory,
        unsigned_proxy: is_login.then(|| !signed && verified.packet.has(rfc2865::PROXY_STATE_TYPE)),
        secret: Some(verified.secret.fingerprint()),
    })
}
