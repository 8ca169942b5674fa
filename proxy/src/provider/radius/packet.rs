//! Packets to an upstream server: RFC 2865, RFC 3579 section 3.2 (Message-Authenticator), RFC 5997
//! (Status-Server). Nothing here waits or knows the time.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use proxy_config::{Secret, SharedSecret};
use proxy_core::factor::Forwarded;
use radius::core::avp::AVP;
use radius::core::code::Code;
use radius::core::packet::Packet;
use radius::core::{rfc2865, rfc2869};

pub(super) const HEADER: usize = 20;
/// No packet is longer (RFC 2865 section 3).
pub(super) const LONGEST: usize = 4096;
/// Message-Authenticator is the first attribute: its value begins after the header, a type and a length.
const MESSAGE_AUTHENTICATOR: usize = HEADER + 2;
/// Microsoft's number among the vendors (RFC 2548).
pub(super) const MICROSOFT: u32 = 311;
/// What the proxy calls itself where no client is meant (RFC 5997 section 3 lets a Status-Server name its sender).
const OWN_NAME: &str = "radius-proxy";

/// What one login asks, whichever server is asked.
pub(super) struct Question {
    /// User-Name as the client sent it: MS-CHAPv2 hashes it.
    pub(super) user: String,
    /// The password attributes.
    pub(super) password: Forwarded,
    /// Forwarded attributes: type and value.
    pub(super) attributes: Vec<(u8, Vec<u8>)>,
    /// NAS-Identifier, unless the forwarded attributes name the NAS.
    pub(super) client: String,
    /// The State of the server's challenge, when this answers one.
    pub(super) state: Option<Vec<u8>>,
}

/// A shared secret, ready to sign and to verify.
pub(super) struct Key {
    secret: SharedSecret,
    mac: Hmac<Md5>,
}

/// A request's header: what its answer is told by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) identifier: u8,
    pub(super) authenticator: [u8; 16],
}

impl Key {
    /// `None` never happens: HMAC takes a key of any length (RFC 2104 section 2).
    pub(super) fn new(secret: SharedSecret) -> Option<Self> {
        let mac = Hmac::new_from_slice(secret.expose()).ok()?;
        Some(Self { secret, mac })
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.expose()
    }

    /// An Access-Request; `None` when it would be longer than a packet can be.
    pub(super) fn access_request(&self, header: Header, question: &Question) -> Option<Vec<u8>> {
        let mut attributes = vec![AVP::from_string(rfc2865::USER_NAME_TYPE, &question.user)];
        match &question.password {
            Forwarded::Pap(text) => {
                let hidden = self.hide(text, &header.authenticator)?;
                attributes.push(AVP::from_bytes(rfc2865::USER_PASSWORD_TYPE, &hidden));
            }
            Forwarded::Chap { password, challenge } => {
                attributes.push(AVP::from_bytes(rfc2865::CHAP_PASSWORD_TYPE, password.expose()));
                // The client's challenge may have been its Request Authenticator, and this packet has its own.
                attributes.push(AVP::from_bytes(rfc2865::CHAP_CHALLENGE_TYPE, challenge));
            }
            Forwarded::MsChap(parts) => {
                for (typ, value) in parts {
                    attributes.push(microsoft(*typ, value.expose())?);
                }
            }
        }
        let named = question.attributes.iter().any(|(typ, _)| names_the_nas(*typ));
        if !named {
            // RFC 2865 section 4.1: a request MUST say which NAS it is from.
            attributes.push(AVP::from_string(rfc2865::NAS_IDENTIFIER_TYPE, &question.client));
        }
        let others = question
            .attributes
            .iter()
            .filter(|(typ, _)| *typ != rfc2865::USER_NAME_TYPE);
        attributes.extend(others.map(|(typ, value)| AVP::from_bytes(*typ, value)));
        attributes.extend(
            question
                .state
                .iter()
                .map(|state| AVP::from_bytes(rfc2865::STATE_TYPE, state)),
        );
        self.sign(Code::AccessRequest, header, attributes)
    }

    /// A Status-Server (RFC 5997 section 3).
    pub(super) fn status_server(&self, header: Header) -> Option<Vec<u8>> {
        let name = AVP::from_string(rfc2865::NAS_IDENTIFIER_TYPE, OWN_NAME);
        self.sign(Code::StatusServer, header, vec![name])
    }

    /// Message-Authenticator first (draft-ietf-radext-deprecating-radius), then `attributes`.
    fn sign(&self, code: Code, header: Header, attributes: Vec<AVP>) -> Option<Vec<u8>> {
        let values: Vec<usize> = attributes.iter().map(|avp| avp.encode_bytes().len()).collect();
        let size = HEADER + 18 + values.iter().map(|length| length + 2).sum::<usize>();
        // An attribute holds 253 bytes; the crate would cut the length of a longer one and not its value.
        if size > LONGEST || values.iter().any(|length| *length > 253) {
            return None;
        }
        let mut start = vec![code as u8, header.identifier, 0, 20];
        start.extend_from_slice(&header.authenticator);
        // The crate's constructors would draw an authenticator of their own. It is given no secret: it would keep a
        // copy in memory that is not zeroed.
        let mut packet = Packet::decode(&start, &[]).ok()?;
        packet.add(AVP::from_bytes(rfc2869::MESSAGE_AUTHENTICATOR_TYPE, &[0; 16]));
        packet.extend(attributes);
        let mut bytes = packet.encode().ok()?;
        let mac = self.hmac(&[&bytes]);
        bytes
            .get_mut(MESSAGE_AUTHENTICATOR..MESSAGE_AUTHENTICATOR + 16)?
            .copy_from_slice(&mac);
        Some(bytes)
    }

    /// User-Password (RFC 2865 section 5.2); `None` for more than 128 bytes.
    fn hide(&self, text: &Secret, authenticator: &[u8; 16]) -> Option<Vec<u8>> {
        let text = text.expose();
        if text.len() > 128 {
            return None;
        }
        let mut hidden: Vec<u8> = Vec::with_capacity(128);
        let mut previous = *authenticator;
        for block in 0..text.len().div_ceil(16).max(1) {
            let mut md5 = Md5::new();
            md5.update(self.secret.expose());
            md5.update(previous);
            previous = md5.finalize().into();
            let clear = text.get(block * 16..).unwrap_or_default();
            for (byte, clear) in previous.iter_mut().zip(clear) {
                *byte ^= clear;
            }
            hidden.extend_from_slice(&previous);
        }
        Some(hidden)
    }

    pub(super) fn hmac(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

fn names_the_nas(typ: u8) -> bool {
    // 95: NAS-IPv6-Address (RFC 3162).
    matches!(
        typ,
        rfc2865::NAS_IP_ADDRESS_TYPE | rfc2865::NAS_IDENTIFIER_TYPE | 95
    )
}

pub(super) fn microsoft(typ: u8, value: &[u8]) -> Option<AVP> {
    let mut bytes = MICROSOFT.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[typ, u8::try_from(value.len() + 2).ok()?]);
    bytes.extend_from_slice(value);
    Some(AVP::from_bytes(rfc2865::VENDOR_SPECIFIC_TYPE, &bytes))
}

#[cfg(test)]
mod tests {
    use super::super::answer::attributes;
    use super::*;

    const HEADER_7: Header = Header {
        identifier: 7,
        authenticator: [9; 16],
    };

    fn key(secret: &str) -> Key {
        Key::new(SharedSecret::parse(secret.as_bytes()).unwrap()).unwrap()
    }

    fn question(password: Forwarded) -> Question {
        Question {
            user: "jane".into(),
            password,
            attributes: Vec::new(),
            client: "lab".into(),
            state: None,
        }
    }

    #[test]
    fn a_password_is_hidden_as_in_the_example_of_rfc_2865() {
        // Section 7.1: nemo, arctangent, xyzzy5461.
        let authenticator = hex::decode("0f403f9473978057bd83d5cb98f4227a")
            .unwrap()
            .try_into()
            .unwrap();
        let hidden = key("xyzzy5461")
            .hide(&Secret::new(b"arctangent".to_vec()), &authenticator)
            .unwrap();
        assert_eq!(hex::encode(hidden), "0dbe708d93d413ce3196e43f782a0aee");
        let longest = key("xyzzy5461")
            .hide(&Secret::new(vec![b'x'; 128]), &authenticator)
            .unwrap();
        assert_eq!(longest.len(), 128);
        assert!(
            key("xyzzy5461")
                .hide(&Secret::new(vec![b'x'; 129]), &authenticator)
                .is_none()
        );
    }

    #[test]
    fn message_authenticator_stands_first_and_is_that_of_rfc_5997() {
        // Section 6.1, without the NAS-Identifier that is ours: the same header and secret give the same signature.
        let authenticator = hex::decode("8a54f4686fb394c52866e302185d0623")
            .unwrap()
            .try_into()
            .unwrap();
        let header = Header {
            identifier: 218,
            authenticator,
        };
        let bytes = key("xyzzy5461")
            .sign(Code::StatusServer, header, Vec::new())
            .unwrap();
        let expected = "0cda00268a54f4686fb394c52866e302185d062350125a665e2e1e8411f3e243822097c84fa3";
        assert_eq!(hex::encode(bytes), expected);
    }

    #[test]
    fn a_request_names_its_nas_once_and_never_holds_a_second_user_name() {
        let mut question = question(Forwarded::Pap(Secret::new(b"secret text".to_vec())));
        let types = |question: &Question| -> Vec<u8> {
            let bytes = key("testing123").access_request(HEADER_7, question).unwrap();
            attributes(&bytes[20..])
                .unwrap()
                .iter()
                .map(|(_, typ, _)| *typ)
                .collect()
        };
        assert_eq!(types(&question), [80, 1, 2, 32]);
        question.attributes = vec![
            (4, vec![192, 0, 2, 1]),
            (1, b"joe".to_vec()),
            (31, b"192.0.2.9".to_vec()),
        ];
        question.state = Some(vec![1, 2]);
        assert_eq!(types(&question), [80, 1, 2, 4, 31, 24]);
    }

    #[test]
    fn chap_and_ms_chap_go_on_as_they_came() {
        let chap = question(Forwarded::Chap {
            password: Secret::new(vec![3; 17]),
            challenge: vec![4; 16],
        });
        let bytes = key("testing123").access_request(HEADER_7, &chap).unwrap();
        let found = attributes(&bytes[20..]).unwrap();
        assert!(found.iter().any(|(_, typ, value)| *typ == 3 && *value == [3; 17]));
        assert!(
            found
                .iter()
                .any(|(_, typ, value)| *typ == 60 && *value == [4; 16])
        );
        let parts = vec![(11, Secret::new(vec![5; 16])), (25, Secret::new(vec![6; 50]))];
        let bytes = key("testing123")
            .access_request(HEADER_7, &question(Forwarded::MsChap(parts)))
            .unwrap();
        let vendors: Vec<_> = attributes(&bytes[20..])
            .unwrap()
            .into_iter()
            .filter(|(_, typ, _)| *typ == 26)
            .collect();
        assert_eq!(vendors.len(), 2);
        assert_eq!(vendors[1].2[..6], [0, 0, 1, 55, 25, 52]);
    }

    #[test]
    fn what_does_not_fit_into_a_packet_is_no_request() {
        let mut question = question(Forwarded::Pap(Secret::new(Vec::new())));
        question.attributes = vec![(31, vec![b'x'; 253]); 15];
        assert!(key("testing123").access_request(HEADER_7, &question).is_some());
        question.attributes.push((31, vec![b'x'; 253]));
        assert!(key("testing123").access_request(HEADER_7, &question).is_none());
    }
}
