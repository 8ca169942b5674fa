//! From bytes to a request, as far as that goes without a secret.

use radius::core::avp::AVPType;
use radius::core::code::Code;
use radius::core::{rfc2865, rfc2869};

use crate::counters::DropReason;

pub(crate) const HEADER: usize = 20;
pub(crate) const LONGEST: usize = 4096;
/// More attributes than this and the packet is dropped, as FreeRADIUS does by default: each is looked at several times.
const MAX_ATTRIBUTES: usize = 200;
/// Offset of the Request Authenticator.
pub(crate) const AUTHENTICATOR: usize = 4;

/// A well-formed Access-Request or Status-Server of which nothing is proved yet.
///
/// Attributes are read where they stand, since their order counts, how often one stands, and where
/// Message-Authenticator is. Codes, types and the attributes of answers are the `radius` crate's. Its `Packet` copies
/// each attribute into memory of its own, and would copy the secret into memory that is not zeroed; it knows no
/// Message-Authenticator, and cuts a password at its first NUL without looking at the padding.
pub(crate) struct Request<'a> {
    bytes: &'a [u8],
    pub(crate) kind: RequestKind,
    pub(crate) identifier: u8,
    pub(crate) authenticator: [u8; 16],
    /// Where the 16 bytes of Message-Authenticator begin.
    pub(crate) message_authenticator: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Access,
    Status,
}

/// An attribute in the bytes of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) typ: AVPType,
    pub(crate) value: &'a [u8],
    /// Where the value begins in the packet.
    pub(crate) offset: usize,
}

/// An attribute of an answer. Of the crate's own (`AVP`) only the crate can read the type, so only its `Packet` can
/// write it, which also computes an MD5 that the Message-Authenticator makes worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Avp {
    pub(crate) typ: AVPType,
    pub(crate) value: Vec<u8>,
}

impl Avp {
    pub(crate) fn new(typ: AVPType, value: &[u8]) -> Self {
        Self {
            typ,
            value: value.to_vec(),
        }
    }

    /// Its length in a packet.
    pub(crate) fn size(&self) -> usize {
        self.value.len() + 2
    }
}

impl<'a> Request<'a> {
    /// Parses a datagram. Every length is checked here.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let (bytes, code, identifier, authenticator) = header(datagram).ok_or(DropReason::Malformed)?;
        let kind = match Code::from(code) {
            Code::AccessRequest => RequestKind::Access,
            Code::StatusServer => RequestKind::Status,
            _ => return Err(DropReason::UnexpectedCode),
        };
        let mut message_authenticator = None;
        let mut once = [false; 256];
        let mut attributes = Attributes { bytes, at: HEADER };
        for (i, raw) in attributes.by_ref().enumerate() {
            if i >= MAX_ATTRIBUTES {
                return Err(DropReason::TooManyAttributes);
            }
            let seen = once
                .get_mut(usize::from(raw.typ))
                .is_some_and(|seen| std::mem::replace(seen, true));
            if seen && at_most_once(raw.typ) {
                return Err(DropReason::BadAttribute);
            }
            if raw.typ == rfc2869::MESSAGE_AUTHENTICATOR_TYPE {
                if raw.value.len() != 16 {
                    return Err(DropReason::BadAttribute);
                }
                message_authenticator = Some(raw.offset);
            }
        }
        if attributes.at != bytes.len() {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            bytes,
            kind,
            identifier,
            authenticator,
            message_authenticator,
        })
    }

    /// The packet as it was sent, without what followed it in the datagram.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Every attribute in the order of the packet, those without a name here among them.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes {
            bytes: self.bytes,
            at: HEADER,
        }
    }

    pub(crate) fn has(&self, typ: AVPType) -> bool {
        self.value(typ).is_some()
    }

    /// The value of the first attribute of a type.
    pub(crate) fn value(&self, typ: AVPType) -> Option<&'a [u8]> {
        self.attributes().find(|raw| raw.typ == typ).map(|raw| raw.value)
    }

    pub(crate) fn proxy_states(&self) -> Vec<Avp> {
        self.attributes()
            .filter(|raw| raw.typ == rfc2865::PROXY_STATE_TYPE)
            .map(|raw| Avp::new(raw.typ, raw.value))
            .collect()
    }
}

/// Length outside 20 to 4096: dropped. Bytes beyond Length: padding, not looked at. Fewer: dropped (RFC 2865 section 3).
fn header(datagram: &[u8]) -> Option<(&[u8], u8, u8, [u8; 16])> {
    let (header, _) = datagram.split_first_chunk::<HEADER>()?;
    let [code, identifier, high, low, authenticator @ ..] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(HEADER..=LONGEST).contains(&length) {
        return None;
    }
    Some((datagram.get(..length)?, code, identifier, authenticator))
}

/// What the table of RFC 2865 section 5.44 and RFC 3579 section 3.3 allow at most once, of what is looked at here.
fn at_most_once(typ: AVPType) -> bool {
    matches!(
        typ,
        rfc2865::USER_NAME_TYPE
            | rfc2865::USER_PASSWORD_TYPE
            | rfc2865::CHAP_PASSWORD_TYPE
            | rfc2865::CHAP_CHALLENGE_TYPE
            | rfc2865::STATE_TYPE
            | rfc2869::MESSAGE_AUTHENTICATOR_TYPE
    )
}

/// Walks attributes; ends early, short of the packet's end, where a length cannot be right.
#[derive(Clone)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let (&[typ, length], _) = rest.split_first_chunk::<2>()?;
        let value = rest.get(2..usize::from(length))?;
        let offset = self.at + 2;
        self.at += usize::from(length);
        Some(Raw { typ, value, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 7, 0, 0];
        bytes.extend([9; 16]);
        bytes.extend(attributes);
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        bytes
    }

    #[test]
    fn padding_after_the_packet_is_ignored_and_a_short_packet_dropped() {
        let whole = packet(&[1, 5, b'b', b'o', b'b']);
        let mut padded = whole.clone();
        padded.extend([0xff; 9]);
        let request = Request::parse(&padded).ok().unwrap();
        assert_eq!(request.bytes(), whole);
        assert_eq!(request.value(rfc2865::USER_NAME_TYPE), Some(b"bob".as_slice()));
        for end in 0..whole.len() {
            assert_eq!(Request::parse(&whole[..end]).err(), Some(DropReason::Malformed));
        }
    }

    #[test]
    fn attributes_that_do_not_add_up_are_dropped() {
        for bad in [
            &[1][..],
            &[1, 0],
            &[1, 1],
            &[1, 4, 0],
            &[1, 3, 0, 1],
            &[255, 255, 0],
        ] {
            assert_eq!(
                Request::parse(&packet(bad)).err(),
                Some(DropReason::Malformed),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn unknown_extended_and_empty_attributes_are_passed_over_in_order() {
        // 241: extended (RFC 6929); 192: experimental; 26 of a vendor nobody knows; 0: reserved; 33: empty.
        let bytes = packet(&[241, 4, 1, 2, 192, 2, 26, 7, 0, 0, 9, 9, 1, 0, 3, 5, 33, 2]);
        let request = Request::parse(&bytes).ok().unwrap();
        let types: Vec<u8> = request.attributes().map(|raw| raw.typ).collect();
        assert_eq!(types, [241, 192, 26, 0, 33]);
    }

    #[test]
    fn what_may_stand_once_stands_once() {
        for twice in [
            &[1, 3, b'a', 1, 3, b'b'][..],
            &[24, 3, 0, 24, 3, 0],
            &[3, 2, 3, 2],
        ] {
            assert_eq!(
                Request::parse(&packet(twice)).err(),
                Some(DropReason::BadAttribute)
            );
        }
        assert!(Request::parse(&packet(&[33, 3, 0, 33, 3, 0])).is_ok());
        assert_eq!(
            Request::parse(&packet(&[80, 3, 0])).err(),
            Some(DropReason::BadAttribute)
        );
    }

    #[test]
    fn other_codes_are_dropped() {
        for code in (0..=255).filter(|code| ![1, 12].contains(code)) {
            let mut bytes = packet(&[]);
            bytes[0] = code;
            assert_eq!(Request::parse(&bytes).err(), Some(DropReason::UnexpectedCode));
        }
    }

    #[test]
    fn no_fuzz_makes_it_panic() {
        bolero::check!().for_each(|bytes| {
            if let Ok(request) = Request::parse(bytes) {
                assert!((HEADER..=LONGEST).contains(&request.bytes().len()));
                assert!(
                    request.attributes().map(|raw| raw.value.len() + 2).sum::<usize>() + HEADER
                        == request.bytes().len()
                );
                let _ = request.proxy_states();
            }
        });
    }
}
