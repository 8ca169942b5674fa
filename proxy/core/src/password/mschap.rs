//! What MS-CHAPv1 and MS-CHAPv2 share: Microsoft's attributes (RFC 2548 section 2.1) and the DES response (RFC 2433
//! appendix A).

use std::sync::Arc;

use crate::packet::Avp;
use des::Des;
use des::cipher::{Block, BlockCipherEncrypt as _, KeyInit as _};
use md4::{Digest as _, Md4};
use proxy_config::Secret;
use radius::core::rfc2865;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{MsChapV1, MsChapV2, Password};
use crate::counters::DropReason;
use crate::dictionary::vendor_specific;
use crate::packet::Request;

/// Microsoft's number among the vendors.
const MICROSOFT: u32 = 311;
const RESPONSE: u8 = 1;
const ERROR: u8 = 2;
const CHALLENGE: u8 = 11;
const RESPONSE2: u8 = 25;
const SUCCESS2: u8 = 26;

/// Response of 50 bytes: identifier, flags, and 48 that differ between the versions.
pub(super) const RESPONSE_LENGTH: usize = 50;

/// Reads MS-CHAP-Challenge with MS-CHAP-Response or MS-CHAP2-Response; `None` when neither response is there.
pub(super) fn read(request: &Request<'_>, user: &[u8]) -> Result<Option<Password>, DropReason> {
    let (mut challenge, mut v1, mut v2) = (None, None, None);
    for (typ, value) in attributes(request) {
        let place = match typ {
            CHALLENGE => &mut challenge,
            RESPONSE => &mut v1,
            RESPONSE2 => &mut v2,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(DropReason::BadAttribute);
        }
    }
    let password = match (v1, v2) {
        (None, None) => return Ok(None),
        (Some(response), None) => challenge
            .and_then(|challenge| MsChapV1::new(response, challenge))
            .map(|v1| Password::MsChapV1(Arc::new(v1))),
        (None, Some(response)) => challenge
            .and_then(|challenge| MsChapV2::new(response, challenge, user))
            .map(|v2| Password::MsChapV2(Arc::new(v2))),
        (Some(_), Some(_)) => None,
    };
    password.map(Some).ok_or(DropReason::BadAttribute)
}

/// The password attributes as they came, for an upstream server.
pub(super) fn forwarded(request: &Request<'_>) -> Vec<(u8, Secret)> {
    attributes(request)
        .filter(|(typ, _)| [CHALLENGE, RESPONSE, RESPONSE2].contains(typ))
        .map(|(typ, value)| (typ, Secret::new(value.to_vec())))
        .collect()
}

/// Microsoft's attributes. One Vendor-Specific may hold several (RFC 2865 section 5.26); what does not add up is
/// passed over, like an attribute of a vendor that nobody knows.
fn attributes<'a>(request: &Request<'a>) -> impl Iterator<Item = (u8, &'a [u8])> {
    request
        .attributes()
        .filter(|raw| raw.typ == rfc2865::VENDOR_SPECIFIC_TYPE)
        .filter_map(|raw| raw.value.strip_prefix(&MICROSOFT.to_be_bytes()))
        .flat_map(sub_attributes)
}

/// MS-CHAP-Error (RFC 2548 section 2.1.5): authentication failure, no retry, a fresh challenge as a client's parser
/// wants one, and the version of password changes that goes with the method.
pub(super) fn error(identifier: u8, challenge: &[u8], version: u8) -> Avp {
    let challenge: String = challenge.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut value = vec![identifier];
    value.extend_from_slice(format!("E=691 R=0 C={challenge} V={version}").as_bytes());
    vendor_specific(MICROSOFT, ERROR, &value)
}

/// MS-CHAP2-Success (RFC 2548 section 2.3.3) with a text of `S=` and 40 digits.
pub(super) fn success(identifier: u8, text: &str) -> Avp {
    let mut value = vec![identifier];
    value.extend_from_slice(text.as_bytes());
    vendor_specific(MICROSOFT, SUCCESS2, &value)
}

/// Whether the value of a Vendor-Specific holds the MS-CHAP2-Success of the response with this identifier.
pub(crate) fn is_success(value: &[u8], identifier: u8) -> bool {
    value.strip_prefix(&MICROSOFT.to_be_bytes()).is_some_and(|rest| {
        sub_attributes(rest).any(|(typ, value)| typ == SUCCESS2 && value.first() == Some(&identifier))
    })
}

/// The (type, value) pairs inside a Vendor-Specific, after the vendor's number.
fn sub_attributes(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[typ, length], _) = rest.split_first_chunk::<2>()?;
        let (one, others) = rest.split_at_checked(usize::from(length))?;
        rest = others;
        Some((typ, one.get(2..)?))
    })
}

/// NtPasswordHash: MD4 of the text in UTF-16, little endian. A text that is not UTF-8 has none.
pub(super) fn nt_hash(text: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut md4 = Md4::new();
    for unit in text.encode_utf16() {
        md4.update(unit.to_le_bytes());
    }
    Some(Zeroizing::new(md4.finalize().into()))
}

/// Whether `response` is ChallengeResponse (RFC 2433 appendix A.5) of the challenge under the hash: the hash, filled
/// with five zeros, is three DES keys. The first block is compared first, since nearly every guess is wrong.
pub(super) fn matches(challenge: [u8; 8], hash: &[u8; 16], response: &[u8; 24]) -> bool {
    let mut keys = Zeroizing::new([0; 21]);
    for (to, from) in keys.iter_mut().zip(hash) {
        *to = *from;
    }
    let (keys, _) = keys.as_chunks::<7>();
    let (blocks, _) = response.as_chunks::<8>();
    keys.iter().zip(blocks).all(|(key, block)| {
        let mut computed = Block::<Des>::from(challenge);
        Des::new(&Block::<Des>::from(spread(*key))).encrypt_block(&mut computed);
        computed.ct_eq(block).into()
    })
}

/// 56 bits to the upper seven of each of eight bytes; the lowest is DES's parity, which is not looked at.
fn spread(key: [u8; 7]) -> [u8; 8] {
    let [a, b, c, d, e, f, g] = key;
    let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    let mut spread = [0; 8];
    for (i, byte) in spread.iter_mut().enumerate() {
        let seven = (bits >> (49 - 7 * i)) & 0x7f;
        *byte = u8::try_from(seven << 1).unwrap_or_default();
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_rfc_2759_and_rfc_2433() {
        for (text, hash) in [
            ("clientPass", "44ebba8d5312b8d611474411f56989ae"),
            ("MyPw", "fc156af7edcd6c0edde3337d427f4eac"),
            ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ] {
            assert_eq!(hex::encode(*nt_hash(text.as_bytes()).unwrap()), hash);
        }
        assert!(nt_hash(b"\xff").is_none());
    }

    #[test]
    fn sub_attributes_that_do_not_add_up_are_passed_over() {
        let found: Vec<_> = sub_attributes(&[1, 3, 9, 2, 2, 3, 200, 0]).collect();
        assert_eq!(found, [(1, &[9][..]), (2, &[])]);
        assert_eq!(sub_attributes(&[1, 0, 0]).count(), 0);
        assert_eq!(sub_attributes(&[1, 1, 0]).count(), 0);
    }

    #[test]
    fn no_fuzz_makes_it_panic() {
        bolero::check!().for_each(|bytes| {
            let total: usize = sub_attributes(bytes).map(|(_, value)| value.len() + 2).sum();
            assert!(total <= bytes.len());
            let _ = nt_hash(bytes);
        });
    }
}
