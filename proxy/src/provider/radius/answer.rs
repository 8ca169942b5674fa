//! What an upstream server has answered, and whether it was that server.

use md5::{Digest as _, Md5};
use radius::core::code::Code;
use radius::core::{rfc2865, rfc2869};
use subtle::ConstantTimeEq as _;

use super::packet::{HEADER, Key, LONGEST, MICROSOFT, microsoft};

const AUTHENTICATOR: usize = 4;
const MS_CHAP2_SUCCESS: u8 = 26;

/// A verified answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: AnswerCode,
    /// Type and value, in the order of the packet.
    pub(super) attributes: Vec<(u8, Vec<u8>)>,
    /// Whether it was signed by Message-Authenticator.
    pub(super) signed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerCode {
    Accept,
    Reject,
    Challenge,
}

/// What is wrong with an answer. It is discarded, as if it had not come; but somebody should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Lengths that do not add up, or an attribute that may stand once stands twice.
    Malformed,
    /// No answer to an Access-Request.
    Code,
    /// Signed with another secret, or changed on its way.
    Signature,
    /// Message-Authenticator is demanded and absent (CVE-2024-3596).
    Unsigned,
    /// It holds Proxy-State, and none was sent: the published forgery of CVE-2024-3596 leaves one. Another could do without
    /// it, so this replaces no Message-Authenticator.
    ProxyState,
}

impl Flaw {
    /// Found behind a right signature: the server's own, which will say the same again. The others may be anybody's.
    pub(super) const fn is_the_servers(self) -> bool {
        matches!(self, Self::Code | Self::Unsigned | Self::ProxyState)
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Malformed => "an answer is malformed",
            Self::Code => "an answer has a code that answers no Access-Request",
            Self::Signature => {
                "an answer is signed with another shared secret; compare it with the server's entry for this client"
            }
            Self::Unsigned => {
                "an answer has no Message-Authenticator; update the server, or set require_message_authenticator = false"
            }
            Self::ProxyState => "an answer holds a Proxy-State that nobody sent",
        }
    }
}

impl Key {
    /// Verifies an answer to the request with this authenticator.
    ///
    /// # Errors
    /// Why it must be discarded.
    pub(super) fn verify(
        &self,
        datagram: &[u8],
        authenticator: &[u8; 16],
        demand: bool,
    ) -> Result<Answer, Flaw> {
        let bytes = whole(datagram).ok_or(Flaw::Malformed)?;
        let (start, rest) = bytes.split_at_checked(AUTHENTICATOR).ok_or(Flaw::Malformed)?;
        let (claimed, body) = rest.split_first_chunk::<16>().ok_or(Flaw::Malformed)?;
        let mut md5 = Md5::new();
        for part in [start, authenticator, body, self.secret()] {
            md5.update(part);
        }
        if !bool::from(md5.finalize().ct_eq(claimed)) {
            return Err(Flaw::Signature);
        }
        let code = match start.first().copied().map(Code::from) {
            Some(Code::AccessAccept) => AnswerCode::Accept,
            Some(Code::AccessReject) => AnswerCode::Reject,
            Some(Code::AccessChallenge) => AnswerCode::Challenge,
            _ => return Err(Flaw::Code),
        };
        let attributes = attributes(body).ok_or(Flaw::Malformed)?;
        let signed = self.signed(start, authenticator, body, &attributes)?;
        if demand && !signed {
            return Err(Flaw::Unsigned);
        }
        if attributes
            .iter()
            .any(|(_, typ, _)| *typ == rfc2865::PROXY_STATE_TYPE)
        {
            return Err(Flaw::ProxyState);
        }
        Ok(Answer {
            code,
            attributes: attributes
                .into_iter()
                .map(|(_, typ, value)| (typ, value.to_vec()))
                .collect(),
            signed,
        })
    }

    /// Whether there is a Message-Authenticator, which is then right (RFC 3579 section 3.2).
    fn signed(
        &self,
        start: &[u8],
        authenticator: &[u8; 16],
        body: &[u8],
        attributes: &[(usize, u8, &[u8])],
    ) -> Result<bool, Flaw> {
        let mut found = attributes
            .iter()
            .filter(|(_, typ, _)| *typ == rfc2869::MESSAGE_AUTHENTICATOR_TYPE);
        let Some((offset, _, claimed)) = found.next() else {
            return Ok(false);
        };
        if found.next().is_some() || claimed.len() != 16 {
            return Err(Flaw::Malformed);
        }
        let before = body.get(..*offset).ok_or(Flaw::Malformed)?;
        let after = body.get(offset + 16..).ok_or(Flaw::Malformed)?;
        let computed = self.hmac(&[start, authenticator, before, &[0; 16], after]);
        if bool::from(computed.ct_eq(claimed)) {
            Ok(true)
        } else {
            Err(Flaw::Signature)
        }
    }
}

impl Answer {
    /// Its Reply-Messages as one text: what was cut at an attribute's end is put together again.
    pub(super) fn message(&self) -> Option<String> {
        let mut text: Vec<u8> = Vec::new();
        let mut full = true;
        for (_, value) in self
            .attributes
            .iter()
            .filter(|(typ, _)| *typ == rfc2865::REPLY_MESSAGE_TYPE)
        {
            if !full {
                text.push(b' ');
            }
            text.extend_from_slice(value);
            full = value.len() == 253;
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// The State of a challenge.
    pub(super) fn state(&self) -> Option<&[u8]> {
        self.attributes
            .iter()
            .find_map(|(typ, value)| (*typ == rfc2865::STATE_TYPE).then_some(value.as_slice()))
    }
}

/// MS-CHAP2-Success (RFC 2548 section 2.3.3), without which no client takes an MS-CHAPv2 Accept, as a Vendor-Specific
/// of its own. What stands beside it is left: MS-MPPE keys are hidden under a secret that the client does not have.
pub(super) fn success(typ: u8, value: &[u8]) -> Option<Vec<u8>> {
    let rest = value.strip_prefix(&MICROSOFT.to_be_bytes());
    let parts = attributes(rest.filter(|_| typ == rfc2865::VENDOR_SPECIFIC_TYPE)?)?;
    let (_, _, text) = parts.into_iter().find(|(_, typ, _)| *typ == MS_CHAP2_SUCCESS)?;
    Some(microsoft(MS_CHAP2_SUCCESS, text)?.encode_bytes())
}

/// The packet in a datagram, without padding behind it.
fn whole(datagram: &[u8]) -> Option<&[u8]> {
    let &[_, _, high, low] = datagram.first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = datagram.get(..length)?;
    (HEADER..=LONGEST).contains(&length).then_some(bytes)
}

/// Where each value begins in `body`, its type and itself; `None` when lengths do not add up.
pub(super) fn attributes(body: &[u8]) -> Option<Vec<(usize, u8, &[u8])>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let &[typ, length] = body.get(at..)?.first_chunk::<2>()?;
        let end = at + usize::from(length);
        found.push((at + 2, typ, body.get(at + 2..end)?));
        at = end;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proxy_config::SharedSecret;

    use super::*;

    fn key(secret: &str) -> Key {
        Key::new(SharedSecret::parse(secret.as_bytes()).unwrap()).unwrap()
    }

    /// An answer with a Response Authenticator, and with a Message-Authenticator where `attributes` has a zero one.
    fn answer(code: u8, attributes: &[u8], secret: &str) -> Vec<u8> {
        let key = key(secret);
        let length = u16::try_from(20 + attributes.len()).unwrap().to_be_bytes();
        let start = [code, 7, length[0], length[1]];
        let mut body = attributes.to_vec();
        if let Some((offset, ..)) = super::attributes(attributes).and_then(|found| {
            found
                .into_iter()
                .find(|(_, typ, value)| *typ == 80 && value.len() == 16)
        }) {
            let mac = key.hmac(&[&start, &[9; 16], attributes]);
            body[offset..offset + 16].copy_from_slice(&mac);
        }
        let mut md5 = Md5::new();
        for part in [&start[..], &[9; 16], &body, secret.as_bytes()] {
            md5.update(part);
        }
        [&start[..], &md5.finalize(), &body].concat()
    }

    const SIGNED: [u8; 18] = [80, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn only_what_was_signed_with_the_secret_is_an_answer() {
        let key = key("testing123");
        let good = answer(2, &SIGNED, "testing123");
        let verified = key.verify(&good, &[9; 16], true).unwrap();
        assert_eq!((verified.code, verified.signed), (AnswerCode::Accept, true));
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            // The identifier is signed, too: it finds the request, and is compared with nothing else.
            assert!(key.verify(&changed, &[9; 16], true).is_err(), "byte {at}");
        }
        assert_eq!(key.verify(&good, &[8; 16], true), Err(Flaw::Signature));
        let other = answer(2, &SIGNED, "another secret");
        assert_eq!(key.verify(&other, &[9; 16], true), Err(Flaw::Signature));
    }

    #[test]
    fn an_answer_without_message_authenticator_counts_only_where_it_is_not_demanded() {
        let key = key("testing123");
        let bare = answer(3, &[18, 4, b'n', b'o'], "testing123");
        assert_eq!(key.verify(&bare, &[9; 16], true), Err(Flaw::Unsigned));
        let verified = key.verify(&bare, &[9; 16], false).unwrap();
        assert_eq!(verified.message().as_deref(), Some("no"));
        // The shape of the published forgery of CVE-2024-3596.
        let forged = answer(2, &[33, 4, 1, 2], "testing123");
        assert_eq!(key.verify(&forged, &[9; 16], false), Err(Flaw::ProxyState));
    }

    #[test]
    fn a_wrong_message_authenticator_is_refused_even_where_none_is_demanded() {
        let key = key("testing123");
        let mut wrong = SIGNED;
        wrong[17] = 1;
        let mut body = wrong.to_vec();
        // A Response Authenticator over a wrong Message-Authenticator.
        let start = [2, 7, 0, 38];
        let mut md5 = Md5::new();
        for part in [&start[..], &[9; 16], &body, b"testing123"] {
            md5.update(part);
        }
        let datagram = [&start[..], &md5.finalize(), &body].concat();
        assert_eq!(key.verify(&datagram, &[9; 16], false), Err(Flaw::Signature));
        body.extend_from_slice(&SIGNED);
        assert_eq!(
            key.verify(&answer(2, &body, "testing123"), &[9; 16], false),
            Err(Flaw::Malformed)
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let key = key("testing123");
        for length in 0..64_usize {
            for fill in [0, 1, 2, 20, 80, 255] {
                let mut bytes = vec![fill; length];
                if length >= 4 {
                    bytes[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
                }
                assert!(key.verify(&bytes, &[9; 16], false).is_err());
            }
        }
        for bad in [&[1][..], &[1, 0], &[1, 1], &[1, 4, 0], &[255, 255, 0]] {
            assert_eq!(
                key.verify(&answer(2, bad, "testing123"), &[9; 16], false),
                Err(Flaw::Malformed)
            );
        }
    }

    #[test]
    fn the_success_of_ms_chap_v2_goes_on_without_what_stands_beside_it() {
        let both = [0, 0, 1, 55, 16, 4, 7, 7, 26, 5, 1, b'S', b'='];
        assert_eq!(success(26, &both).unwrap(), [0, 0, 1, 55, 26, 5, 1, b'S', b'=']);
        assert_eq!(success(26, &both[..8]), None);
        assert_eq!(success(25, &both), None);
        assert_eq!(success(26, &[0, 0, 0, 9, 26, 3, 1]), None);
    }

    #[test]
    fn long_messages_are_put_together_and_short_ones_kept_apart() {
        let mut attributes = vec![
            (18, vec![b'a'; 253]),
            (18, b"b".to_vec()),
            (25, vec![1]),
            (18, b"c".to_vec()),
        ];
        let answer = |attributes| Answer {
            code: AnswerCode::Reject,
            attributes,
            signed: true,
        };
        let text = answer(attributes.clone()).message().unwrap();
        assert!(text.ends_with("ab c") && text.len() == 256);
        attributes.clear();
        assert_eq!(answer(attributes).message(), None);
    }

    #[test]
    fn no_fuzz_makes_it_panic_or_believe_what_was_not_signed() {
        let key = key("testing123");
        bolero::check!()
            .with_type::<(Vec<u8>, u8, u16, u8)>()
            .for_each(|(body, code, at, with)| {
                assert!(key.verify(body, &[9; 16], false).is_err(), "random bytes");
                let _ = success(26, body);
                let body = [&SIGNED[..], &body[..body.len().min(4000)]].concat();
                let mut bytes = answer(*code, &body, "testing123");
                if let Ok(answer) = key.verify(&bytes, &[9; 16], true) {
                    assert!(answer.signed && (2..=11).contains(code));
                    let _ = (answer.message(), answer.state());
                }
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= with;
                assert!(*with == 0 || key.verify(&bytes, &[9; 16], true).is_err());
            });
    }
}
