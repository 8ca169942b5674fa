//! A RADIUS client of its own, so that the proxy is not judged by its own code (RFC 2865, 2869, 3579, 2433, 2548, 2759).

mod exchange;
mod packet;
mod password;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::exchange::{LoginResult, Outcome, PacketKind, PacketRecord};
pub(crate) use self::exchange::{Plan, Successor, login};

/// How the password is sent, in AWS's words.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Protocol {
    /// User-Password (RFC 2865 section 5.2).
    #[serde(rename = "PAP")]
    Pap,
    /// CHAP-Password (RFC 2865 section 5.3).
    #[serde(rename = "CHAP")]
    Chap,
    /// MS-CHAP-Response (RFC 2548 section 2.1.3).
    #[serde(rename = "MS-CHAPv1")]
    MsChapV1,
    /// MS-CHAP2-Response (RFC 2548 section 2.3.2).
    #[serde(rename = "MS-CHAPv2")]
    MsChapV2,
}

impl Protocol {
    /// The service's words for them.
    pub const NAMES: [&'static str; 4] = ["PAP", "CHAP", "MS-CHAPv1", "MS-CHAPv2"];

    /// The protocol of a name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "PAP" => Some(Self::Pap),
            "CHAP" => Some(Self::Chap),
            "MS-CHAPv1" => Some(Self::MsChapV1),
            "MS-CHAPv2" => Some(Self::MsChapV2),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Pap => "PAP",
            Self::Chap => "CHAP",
            Self::MsChapV1 => "MS-CHAPv1",
            Self::MsChapV2 => "MS-CHAPv2",
        };
        f.write_str(name)
    }
}
