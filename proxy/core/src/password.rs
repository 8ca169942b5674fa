//! How a password is carried: PAP, CHAP, MS-CHAPv1, MS-CHAPv2.

use std::sync::Arc;

use crate::packet::Avp;
use proxy_config::Secret;
use radius::core::rfc2865;

use crate::counters::DropReason;
use crate::factor::{Forwarded, ResponseCheck};
use crate::packet::Request;
use crate::random::Unguessable;
use crate::record::Method;

mod candidates;
mod chap;
mod mschap;
mod mschapv1;
mod mschapv2;
pub(crate) mod pap;

pub(crate) use candidates::Candidates;
pub(crate) use chap::Chap;
pub(crate) use mschap::is_success;
pub(crate) use mschapv1::MsChapV1;
pub(crate) use mschapv2::MsChapV2;

/// The password of a request.
#[derive(Clone)]
pub(crate) enum Password {
    Pap(Secret),
    Chap(Arc<Chap>),
    MsChapV1(Arc<MsChapV1>),
    MsChapV2(Arc<MsChapV2>),
    None,
}

/// What an answer must know of the method. It outlives the request, and holds no text.
#[derive(Clone)]
pub(crate) enum Carrier {
    Pap,
    Chap,
    /// With the identifier of the response.
    MsChapV1(u8),
    MsChapV2(Arc<MsChapV2>),
    None,
}

impl Carrier {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Pap => Method::Pap,
            Self::Chap => Method::Chap,
            Self::MsChapV1(_) => Method::MsChapV1,
            Self::MsChapV2(_) => Method::MsChapV2,
            Self::None => Method::None,
        }
    }

    /// MS-CHAP-Error for a Reject, where the method has it. Its challenge is for a retry that `R=0` rules out; clients
    /// want it all the same, and a fresh one gives nothing away.
    pub(crate) fn error(&self, random: &mut Unguessable) -> Option<Avp> {
        match self {
            Self::MsChapV1(identifier) => Some(mschap::error(*identifier, &random.next()[..8], 2)),
            Self::MsChapV2(v2) => Some(mschap::error(v2.identifier, &random.next(), 3)),
            Self::Pap | Self::Chap | Self::None => None,
        }
    }
}

impl Password {
    /// Reads the password attributes; `pap` is what the verification made of User-Password, `user` the name as it was
    /// sent.
    pub(crate) fn read(request: &Request<'_>, pap: Option<Secret>, user: &[u8]) -> Result<Self, DropReason> {
        let chap = request.value(rfc2865::CHAP_PASSWORD_TYPE);
        let microsoft = mschap::read(request, user)?;
        match (pap, chap, microsoft) {
            (Some(text), None, None) => Ok(Self::Pap(text)),
            (None, Some(value), None) => {
                let challenge = request
                    .value(rfc2865::CHAP_CHALLENGE_TYPE)
                    .unwrap_or(&request.authenticator)
                    .to_vec();
                let chap = Chap::new(value, challenge).ok_or(DropReason::BadAttribute)?;
                Ok(Self::Chap(Arc::new(chap)))
            }
            (None, None, Some(microsoft)) => Ok(microsoft),
            (None, None, None) => Ok(Self::None),
            // RFC 2865 section 4.1: an Access-Request must not have both of them.
            _ => Err(DropReason::BadAttribute),
        }
    }

    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Pap(_) => Carrier::Pap,
            Self::Chap(_) => Carrier::Chap,
            Self::MsChapV1(v1) => Carrier::MsChapV1(v1.identifier),
            Self::MsChapV2(v2) => Carrier::MsChapV2(Arc::clone(v2)),
            Self::None => Carrier::None,
        }
    }

    /// What guesses are tried against; `None` where the text can be read, or is missing.
    pub(crate) fn response(&self) -> Option<Arc<dyn ResponseCheck>> {
        match self {
            Self::Chap(chap) => Some(Arc::clone(chap) as Arc<dyn ResponseCheck>),
            Self::MsChapV1(v1) => Some(Arc::clone(v1) as Arc<dyn ResponseCheck>),
            Self::MsChapV2(v2) => Some(Arc::clone(v2) as Arc<dyn ResponseCheck>),
            Self::Pap(_) | Self::None => None,
        }
    }

    /// Method, challenge and the whole response: who sends all of them again sends what was sent before.
    pub(crate) fn response_parts(&self) -> Option<[&[u8]; 3]> {
        match self {
            Self::Chap(chap) => Some(chap.parts()),
            Self::MsChapV1(v1) => Some(v1.parts()),
            Self::MsChapV2(v2) => Some(v2.parts()),
            Self::Pap(_) | Self::None => None,
        }
    }

    /// The attributes for an upstream server.
    pub(crate) fn forwarded(&self, request: &Request<'_>) -> Option<Forwarded> {
        match self {
            Self::Pap(text) => Some(Forwarded::Pap(text.clone())),
            Self::Chap(chap) => Some(chap.forwarded()),
            Self::MsChapV1(_) | Self::MsChapV2(_) => Some(Forwarded::MsChap(mschap::forwarded(request))),
            Self::None => None,
        }
    }
}
