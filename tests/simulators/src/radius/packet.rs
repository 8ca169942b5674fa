//! Requests out, answers in.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::{Protocol, password};

const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const CHAP_PASSWORD: u8 = 3;
const NAS_IP_ADDRESS: u8 = 4;
const REPLY_MESSAGE: u8 = 18;
const VENDOR_SPECIFIC: u8 = 26;
const CALLING_STATION_ID: u8 = 31;
const NAS_IDENTIFIER: u8 = 32;
const PROXY_STATE: u8 = 33;
const CHAP_CHALLENGE: u8 = 60;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const NAS_IPV6_ADDRESS: u8 = 95;

/// RFC 2548: Microsoft's attributes.
const MICROSOFT: u32 = 311;
const MS_CHAP_RESPONSE: u8 = 1;
const MS_CHAP_ERROR: u8 = 2;
const MS_CHAP_CHALLENGE: u8 = 11;
const MS_CHAP2_RESPONSE: u8 = 25;
const MS_CHAP2_SUCCESS: u8 = 26;

/// What goes into a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) protocol: Protocol,
    pub(super) secret: &'a str,
    pub(super) nas: Option<std::net::IpAddr>,
    pub(super) nas_identifier: &'a str,
    pub(super) calling_station_id: &'a str,
    pub(super) proxy_state: &'a [u8],
    pub(super) message_authenticator: bool,
}

/// A request that was sent, as far as its answer must fit it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: u8,
    authenticator: [u8; 16],
    pub(super) bytes: Vec<u8>,
    /// What MS-CHAP2-Success must say.
    success: Option<String>,
}

/// An answer that is proved to come from who has the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u8,
    pub(super) reply_message: Option<String>,
    pub(super) message_authenticator: bool,
    pub(super) ms_chap_error: Option<String>,
    /// `None`: not asked for; else whether MS-CHAP2-Success is right.
    pub(super) success: Option<bool>,
}

/// Why an answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untrue {
    Malformed,
    OtherId,
    ResponseAuthenticator,
    MessageAuthenticator,
    NoMessageAuthenticator,
}

impl Untrue {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherId => "another identifier",
            Self::ResponseAuthenticator => "wrong Response Authenticator",
            Self::MessageAuthenticator => "wrong Message-Authenticator",
            Self::NoMessageAuthenticator => "no Message-Authenticator",
        }
    }
}

fn attribute(into: &mut Vec<u8>, kind: u8, value: &[u8]) {
    // A value that is too long for one attribute is cut: nothing here may be longer.
    let value = value.get(..value.len().min(253)).unwrap_or_default();
    let length = u8::try_from(value.len() + 2).unwrap_or(u8::MAX);
    into.extend_from_slice(&[kind, length]);
    into.extend_from_slice(value);
}

fn microsoft(into: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let mut inner = MICROSOFT.to_be_bytes().to_vec();
    attribute(&mut inner, kind, value);
    attribute(into, VENDOR_SPECIFIC, &inner);
}

impl Request {
    /// Makes a request with fresh randomness.
    pub(super) fn new(id: u8, content: &Content<'_>) -> Self {
        let authenticator: [u8; 16] = rand::random();
        let mut attributes = Vec::new();
        if content.message_authenticator {
            attribute(&mut attributes, MESSAGE_AUTHENTICATOR, &[0; 16]);
        }
        attribute(&mut attributes, USER_NAME, content.user.as_bytes());
        let success = Self::password(&mut attributes, id, &authenticator, content);
        match content.nas {
            Some(std::net::IpAddr::V4(four)) => attribute(&mut attributes, NAS_IP_ADDRESS, &four.octets()),
            Some(std::net::IpAddr::V6(six)) => attribute(&mut attributes, NAS_IPV6_ADDRESS, &six.octets()),
            None => {}
        }
        for (kind, value) in [
            (NAS_IDENTIFIER, content.nas_identifier.as_bytes()),
            (CALLING_STATION_ID, content.calling_station_id.as_bytes()),
            (PROXY_STATE, content.proxy_state),
        ] {
            if !value.is_empty() {
                attribute(&mut attributes, kind, value);
            }
        }
        let length = u16::try_from(attributes.len() + 20).unwrap_or(u16::MAX);
        let mut bytes = vec![1, id];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&authenticator);
        bytes.extend_from_slice(&attributes);
        if content.message_authenticator {
            let code = hmac_md5(content.secret, &[&bytes]);
            // The attribute is the first one: header 20, type and length 2.
            if let Some(place) = bytes.get_mut(22..38) {
                place.copy_from_slice(&code);
            }
        }
        Self {
            id,
            authenticator,
            bytes,
            success,
        }
    }

    fn password(
        attributes: &mut Vec<u8>,
        id: u8,
        authenticator: &[u8; 16],
        content: &Content<'_>,
    ) -> Option<String> {
        let Content { user, password, .. } = content;
        match content.protocol {
            Protocol::Pap => {
                let hidden = password::hide(password.as_bytes(), content.secret.as_bytes(), authenticator);
                attribute(attributes, USER_PASSWORD, &hidden);
                None
            }
            Protocol::Chap => {
                let challenge: [u8; 16] = rand::random();
                attribute(
                    attributes,
                    CHAP_PASSWORD,
                    &password::chap(id, password.as_bytes(), &challenge),
                );
                attribute(attributes, CHAP_CHALLENGE, &challenge);
                None
            }
            Protocol::MsChapV1 => {
                let challenge: [u8; 8] = rand::random();
                microsoft(attributes, MS_CHAP_CHALLENGE, &challenge);
                microsoft(
                    attributes,
                    MS_CHAP_RESPONSE,
                    &password::ms_chap(id, password, &challenge),
                );
                None
            }
            Protocol::MsChapV2 => {
                let (challenge, peer) = (rand::random(), rand::random());
                let (value, success) = password::ms_chap2(id, user, password, &challenge, &peer);
                microsoft(attributes, MS_CHAP_CHALLENGE, &challenge);
                microsoft(attributes, MS_CHAP2_RESPONSE, &value);
                Some(success)
            }
        }
    }

    /// Proves an answer (RFC 2865 section 3, RFC 3579 section 3.2) and reads it.
    pub(super) fn read(&self, datagram: &[u8], secret: &str, demand: bool) -> Result<Answer, Untrue> {
        let header: [u8; 20] = datagram
            .get(..20)
            .and_then(|header| header.try_into().ok())
            .ok_or(Untrue::Malformed)?;
        let [code, id, high, low, given @ ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let attributes = datagram.get(20..length).ok_or(Untrue::Malformed)?;
        if id != self.id {
            return Err(Untrue::OtherId);
        }
        let start = [code, id, high, low];
        let expected = Md5::new()
            .chain_update(start)
            .chain_update(self.authenticator)
            .chain_update(attributes)
            .chain_update(secret)
            .finalize();
        if !bool::from(expected.as_slice().ct_eq(&given)) {
            return Err(Untrue::ResponseAuthenticator);
        }
        let all = split(attributes).ok_or(Untrue::Malformed)?;
        let message_authenticator = self.check_message_authenticator(&start, attributes, &all, secret)?;
        if demand && !message_authenticator {
            return Err(Untrue::NoMessageAuthenticator);
        }
        Ok(self.answer(code, &all, message_authenticator))
    }

    fn check_message_authenticator(
        &self,
        start: &[u8; 4],
        attributes: &[u8],
        all: &[(u8, usize, &[u8])],
        secret: &str,
    ) -> Result<bool, Untrue> {
        let Some((_, at, given)) = all.iter().find(|(kind, ..)| *kind == MESSAGE_AUTHENTICATOR) else {
            return Ok(false);
        };
        let mut blank = attributes.to_vec();
        blank.get_mut(*at..*at + given.len()).unwrap_or_default().fill(0);
        let expected = hmac_md5(secret, &[start, &self.authenticator, &blank]);
        match bool::from(expected.as_slice().ct_eq(given)) {
            true => Ok(true),
            false => Err(Untrue::MessageAuthenticator),
        }
    }

    fn answer(&self, code: u8, all: &[(u8, usize, &[u8])], message_authenticator: bool) -> Answer {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let said: Vec<String> = all
            .iter()
            .filter(|(kind, ..)| *kind == REPLY_MESSAGE)
            .map(|(_, _, value)| text(value))
            .collect();
        let microsoft: Vec<(u8, &[u8])> = all
            .iter()
            .filter(|(kind, ..)| *kind == VENDOR_SPECIFIC)
            .filter_map(|(_, _, value)| value.strip_prefix(&MICROSOFT.to_be_bytes()))
            .filter_map(split)
            .flatten()
            .map(|(kind, _, value)| (kind, value))
            .collect();
        let find = |kind: u8| {
            microsoft
                .iter()
                .find(|(found, _)| *found == kind)
                .map(|(_, value)| *value)
        };
        let success = self.success.as_ref().filter(|_| code == 2).map(|expected| {
            // One octet of identifier, then S= and 40 digits.
            find(MS_CHAP2_SUCCESS)
                .and_then(|value| value.get(1..43))
                .is_some_and(|value| value == expected.as_bytes())
        });
        Answer {
            code,
            reply_message: (!said.is_empty()).then(|| said.concat()),
            message_authenticator,
            ms_chap_error: find(MS_CHAP_ERROR).and_then(|value| value.get(1..)).map(text),
            success,
        }
    }
}

/// Type, place of the value, value.
fn split(attributes: &[u8]) -> Option<Vec<(u8, usize, &[u8])>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < attributes.len() {
        let (kind, length) = (*attributes.get(at)?, usize::from(*attributes.get(at + 1)?));
        let value = attributes
            .get(at + 2..at.checked_add(length.max(2))?)
            .filter(|_| length >= 2)?;
        all.push((kind, at + 2, value));
        at += length;
    }
    Some(all)
}

fn hmac_md5(secret: &str, parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(secret.as_bytes()) else {
        return [0; 16];
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// What a code is called.
pub(super) fn name(code: u8) -> String {
    match code {
        1 => "Access-Request".to_owned(),
        2 => "Access-Accept".to_owned(),
        3 => "Access-Reject".to_owned(),
        11 => "Access-Challenge".to_owned(),
        other => format!("code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content<'static> = Content {
        user: "nemo",
        password: "arctangent",
        protocol: Protocol::Pap,
        secret: "xyzzy5461",
        nas: None,
        nas_identifier: "",
        calling_station_id: "",
        proxy_state: b"",
        message_authenticator: true,
    };

    fn answer_to(request: &Request, code: u8, attributes: &[u8], secret: &str) -> Vec<u8> {
        let length = u16::try_from(attributes.len() + 20).unwrap().to_be_bytes();
        let start = [code, request.id, length[0], length[1]];
        let authenticator = Md5::new()
            .chain_update(start)
            .chain_update(request.authenticator)
            .chain_update(attributes)
            .chain_update(secret)
            .finalize();
        [&start[..], &authenticator, attributes].concat()
    }

    #[test]
    fn the_answer_of_rfc_2865_section_7_1_is_true() {
        let request = Request {
            id: 0,
            authenticator: hex::decode("0f403f9473978057bd83d5cb98f4227a")
                .unwrap()
                .try_into()
                .unwrap(),
            bytes: Vec::new(),
            success: None,
        };
        let accept =
            hex::decode("0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f06000000000e06c0a80103")
                .unwrap();
        assert_eq!(request.read(&accept, "xyzzy5461", false).unwrap().code, 2);
        assert_eq!(
            request.read(&accept, "xyzzy5462", false),
            Err(Untrue::ResponseAuthenticator)
        );
        assert_eq!(
            request.read(&accept, "xyzzy5461", true),
            Err(Untrue::NoMessageAuthenticator)
        );
    }

    #[test]
    fn a_forged_message_authenticator_is_not_taken() {
        let request = Request::new(9, &CONTENT);
        let mut attributes = Vec::new();
        attribute(&mut attributes, MESSAGE_AUTHENTICATOR, &[1; 16]);
        let forged = answer_to(&request, 2, &attributes, CONTENT.secret);
        assert_eq!(
            request.read(&forged, CONTENT.secret, false),
            Err(Untrue::MessageAuthenticator)
        );
    }

    #[test]
    fn broken_answers_are_malformed_and_never_a_panic() {
        let request = Request::new(9, &CONTENT);
        for length in 0..40 {
            let _ = request.read(&vec![9; length], CONTENT.secret, false);
        }
        let bad = answer_to(&request, 2, &[18, 1, 0], CONTENT.secret);
        assert_eq!(request.read(&bad, CONTENT.secret, false), Err(Untrue::Malformed));
    }

    #[test]
    fn every_method_makes_a_packet_of_its_stated_length() {
        for protocol in [
            Protocol::Pap,
            Protocol::Chap,
            Protocol::MsChapV1,
            Protocol::MsChapV2,
        ] {
            let request = Request::new(1, &Content { protocol, ..CONTENT });
            let stated = u16::from_be_bytes([request.bytes[2], request.bytes[3]]);
            assert_eq!(usize::from(stated), request.bytes.len());
            assert!(split(&request.bytes[20..]).is_some());
        }
    }
}
