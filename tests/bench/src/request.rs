//! Access-Requests as a directory sends them, and the check of what comes back: written here once more, so that the
//! load is also a judge.

use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};

/// The secret shared with whatever is under load.
pub(crate) const SECRET: &[u8] = b"bench-shared-secret-0123456789";

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const NAS_IP_ADDRESS: u8 = 4;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const HEADER: usize = 20;

/// Builds requests, one after the other, in one buffer.
pub(crate) struct Builder {
    state: u64,
    /// With the key already in it; `None` never happens, HMAC takes a key of any length.
    mac: Option<Hmac<Md5>>,
}

impl Builder {
    /// Another seed makes other authenticators.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed | 1,
            mac: Hmac::new_from_slice(SECRET).ok(),
        }
    }

    fn authenticator(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            // xorshift64*: unique is enough here, unguessable is the client's business.
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            half.copy_from_slice(&self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
        }
        bytes
    }

    fn hmac(&self, packet: &[u8]) -> [u8; 16] {
        self.mac.clone().map_or([0; 16], |mut mac| {
            mac.update(packet);
            mac.finalize().into_bytes().into()
        })
    }

    /// A request with User-Name, User-Password (at most 16 bytes), NAS-IP-Address, and Message-Authenticator first.
    pub(crate) fn pap(&mut self, id: u8, user: &str, password: &[u8], packet: &mut Vec<u8>) {
        let authenticator = self.authenticator();
        packet.clear();
        packet.extend([ACCESS_REQUEST, id, 0, 0]);
        packet.extend(authenticator);
        attribute(packet, MESSAGE_AUTHENTICATOR, &[0; 16]);
        attribute(packet, USER_NAME, user.as_bytes());
        attribute(packet, USER_PASSWORD, &hide(password, &authenticator));
        attribute(packet, NAS_IP_ADDRESS, &Ipv4Addr::LOCALHOST.octets());
        let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        if let Some(field) = packet.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        let proof = self.hmac(packet);
        if let Some(field) = packet.get_mut(HEADER + 2..HEADER + 18) {
            field.copy_from_slice(&proof);
        }
    }
}

/// RFC 2865 section 5.2, for one block.
fn hide(password: &[u8], authenticator: &[u8; 16]) -> [u8; 16] {
    let mut block: [u8; 16] = Md5::new()
        .chain_update(SECRET)
        .chain_update(authenticator)
        .finalize()
        .into();
    for (byte, typed) in block.iter_mut().zip(password) {
        *byte ^= typed;
    }
    block
}

fn attribute(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
    packet.push(kind);
    packet.push(u8::try_from(value.len() + 2).unwrap_or(u8::MAX));
    packet.extend(value);
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Access-Accept, its Response Authenticator verified.
    Accept,
    /// Access-Reject, verified.
    Reject,
    /// The request itself (from the echo).
    Echo,
    /// Anything else.
    Wrong,
}

/// Checks an answer against the request it is for (RFC 2865 section 3).
pub(crate) fn check(request: &[u8], answer: &[u8]) -> Answer {
    let code = match answer.first() {
        Some(&ACCESS_ACCEPT) => Answer::Accept,
        Some(&ACCESS_REJECT) => Answer::Reject,
        Some(&ACCESS_REQUEST) if answer == request => return Answer::Echo,
        _ => return Answer::Wrong,
    };
    let (Some(head), Some(proof), Some(rest), Some(authenticator)) = (
        answer.get(..4),
        answer.get(4..HEADER),
        answer.get(HEADER..),
        request.get(4..HEADER),
    ) else {
        return Answer::Wrong;
    };
    let expected = Md5::new()
        .chain_update(head)
        .chain_update(authenticator)
        .chain_update(rest)
        .chain_update(SECRET)
        .finalize();
    if expected.as_slice() == proof {
        code
    } else {
        Answer::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_only_with_its_authenticator() {
        let mut request = Vec::new();
        Builder::new(1).pap(7, "user1", b"123456", &mut request);
        assert_eq!(check(&request, &request), Answer::Echo);
        let mut answer = vec![ACCESS_ACCEPT, 7, 0, 20];
        let proof = Md5::new()
            .chain_update(&answer)
            .chain_update(&request[4..20])
            .chain_update(SECRET)
            .finalize();
        answer.extend(proof);
        assert_eq!(check(&request, &answer), Answer::Accept);
        answer[10] ^= 1;
        assert_eq!(check(&request, &answer), Answer::Wrong);
    }

    #[test]
    fn no_two_requests_are_alike() {
        let mut builder = Builder::new(1);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        builder.pap(7, "user1", b"123456", &mut one);
        builder.pap(7, "user1", b"123456", &mut two);
        assert_ne!(one[4..20], two[4..20]);
        assert_eq!(one.len(), usize::from(u16::from_be_bytes([one[2], one[3]])));
    }
}
