//! The four ways of sending a password.

use des::{
    Des,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use md4::Md4;
use md5::{Digest, Md5};
use sha1::Sha1;

/// Hides a password (RFC 2865 section 5.2): blocks of 16 octets, each XORed with MD5(secret + the block before).
pub(super) fn hide(password: &[u8], secret: &[u8], authenticator: &[u8; 16]) -> Vec<u8> {
    let mut padded = password
        .get(..password.len().min(128))
        .unwrap_or_default()
        .to_vec();
    padded.resize(padded.len().div_ceil(16).max(1) * 16, 0);
    let mut hidden: Vec<u8> = Vec::with_capacity(padded.len());
    let mut before = authenticator.to_vec();
    for block in padded.chunks(16) {
        let mask = Md5::new().chain_update(secret).chain_update(&before).finalize();
        before = block.iter().zip(mask).map(|(plain, mask)| plain ^ mask).collect();
        hidden.extend_from_slice(&before);
    }
    hidden
}

/// CHAP-Password (RFC 2865 section 5.3): the identifier and MD5(identifier + password + challenge).
pub(super) fn chap(identifier: u8, password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let digest = Md5::new()
        .chain_update([identifier])
        .chain_update(password)
        .chain_update(challenge)
        .finalize();
    [&[identifier], digest.as_slice()].concat()
}

/// NtPasswordHash (RFC 2759 section 8.3).
fn nt_hash(password: &str) -> [u8; 16] {
    let utf16: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    Md4::digest(utf16).into()
}

/// ChallengeResponse (RFC 2759 section 8.5).
fn challenge_response(challenge: &[u8; 8], hash: &[u8; 16]) -> [u8; 24] {
    let mut keys = [0; 21];
    keys.iter_mut().zip(hash).for_each(|(key, hash)| *key = *hash);
    let mut response = [0; 24];
    for (key, part) in keys.chunks_exact(7).zip(response.chunks_exact_mut(8)) {
        let Ok(cipher) = Des::new_from_slice(&with_parity(key)) else {
            continue;
        };
        let mut block = (*challenge).into();
        cipher.encrypt_block(&mut block);
        part.copy_from_slice(&block);
    }
    response
}

/// Spreads 56 bits over eight octets; DES ignores the parity bit.
fn with_parity(key: &[u8]) -> [u8; 8] {
    let bits = key.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut spread = [0; 8];
    for (index, byte) in spread.iter_mut().enumerate() {
        let [.., low] = (bits >> (49 - 7 * index)).to_be_bytes();
        *byte = low << 1;
    }
    spread
}

/// MS-CHAP-Response (RFC 2548 section 2.1.3) with the NT response only.
pub(super) fn ms_chap(identifier: u8, password: &str, challenge: &[u8; 8]) -> Vec<u8> {
    let nt = challenge_response(challenge, &nt_hash(password));
    [&[identifier, 1][..], &[0; 24], &nt].concat()
}

/// MS-CHAP2-Response (RFC 2548 section 2.3.2), and what the server must answer to it.
pub(super) fn ms_chap2(
    identifier: u8,
    user: &str,
    password: &str,
    challenge: &[u8; 16],
    peer: &[u8; 16],
) -> (Vec<u8>, String) {
    let hash = nt_hash(password);
    let short = challenge_hash(peer, challenge, user);
    let nt = challenge_response(&short, &hash);
    let value = [&[identifier, 0][..], peer, &[0; 8], &nt].concat();
    (value, authenticator_response(&hash, &nt, &short))
}

/// ChallengeHash (RFC 2759 section 8.2); the user name is taken without its domain.
fn challenge_hash(peer: &[u8; 16], challenge: &[u8; 16], user: &str) -> [u8; 8] {
    let user = user.rsplit('\\').next().unwrap_or(user);
    let digest = Sha1::new()
        .chain_update(peer)
        .chain_update(challenge)
        .chain_update(user)
        .finalize();
    let mut short = [0; 8];
    short
        .iter_mut()
        .zip(digest)
        .for_each(|(short, byte)| *short = byte);
    short
}

/// GenerateAuthenticatorResponse (RFC 2759 section 8.7).
fn authenticator_response(hash: &[u8; 16], nt: &[u8; 24], short: &[u8; 8]) -> String {
    let hash_of_hash = Md4::digest(hash);
    let digest = Sha1::new()
        .chain_update(hash_of_hash)
        .chain_update(nt)
        .chain_update(b"Magic server to client signing constant")
        .finalize();
    let digest = Sha1::new()
        .chain_update(digest)
        .chain_update(short)
        .chain_update(b"Pad to make it do more than one iteration")
        .finalize();
    format!("S={}", hex::encode_upper(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn ms_chap2_is_as_in_rfc_2759_section_9_2() {
        let challenge = array("5B5D7C7D7B3F2F3E3C2C602132262628");
        let peer = array("21402324255E262A28295F2B3A337C7E");
        let (value, success) = ms_chap2(0, "User", "clientPass", &challenge, &peer);
        assert_eq!(
            hex::encode_upper(&value[26..]),
            "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"
        );
        assert_eq!(success, "S=407A5589115FD0D6209F510FE9C04566932CDA56");
    }

    #[test]
    fn the_nt_hash_is_as_in_rfc_2759() {
        assert_eq!(
            hex::encode_upper(nt_hash("clientPass")),
            "44EBBA8D5312B8D611474411F56989AE"
        );
    }

    #[test]
    fn a_hidden_password_is_as_in_rfc_2865_section_7_1() {
        let authenticator = array("0f403f9473978057bd83d5cb98f4227a");
        let hidden = hide(b"arctangent", b"xyzzy5461", &authenticator);
        assert_eq!(hex::encode(hidden), "0dbe708d93d413ce3196e43f782a0aee");
    }

    #[test]
    fn chap_is_as_in_rfc_2865_section_7_2() {
        let authenticator: [u8; 16] = array("2aee86f08d0d55969ca5978e0d3367a2");
        let value = chap(0x16, b"arctangent", &authenticator);
        assert_eq!(hex::encode(value), "16e97557c316185895f293ff6344077275");
    }

    #[test]
    fn an_empty_password_is_one_block() {
        assert_eq!(hide(b"", b"secret", &[7; 16]).len(), 16);
    }
}
