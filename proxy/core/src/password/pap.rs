//! User-Password (RFC 2865 section 5.2).

use md5::{Digest as _, Md5};
use proxy_config::Secret;

use crate::message_authenticator::SecretKey;

/// Whether a value can be a User-Password: 16 to 128 bytes in blocks of 16.
pub(crate) fn is_possible(value: &[u8]) -> bool {
    (16..=128).contains(&value.len()) && value.len().is_multiple_of(16)
}

/// The text under a secret that is proved otherwise: everything before the NULs at the end.
pub(crate) fn decrypt(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Secret {
    let mut text = xor(value, secret, authenticator);
    text.truncate(text_length(&text));
    Secret::new(text)
}

/// The text, if it is one under this secret. With a wrong secret the bytes are random, and random bytes pass once in
/// some ten thousand times.
pub(crate) fn plausible(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Option<Secret> {
    let mut text = xor(value, secret, authenticator);
    let length = text_length(&text);
    // Padding fills the last block and no more; an empty password is one block of it.
    let padded = value.len() - length < 16 || (length == 0 && value.len() == 16);
    text.truncate(length);
    let text = Secret::new(text);
    (padded && is_text(text.expose())).then_some(text)
}

/// UTF-8 without control characters; or, since old clients send eight-bit character sets, ASCII with a few other bytes.
fn is_text(bytes: &[u8]) -> bool {
    if bytes.iter().any(u8::is_ascii_control) {
        return false;
    }
    let foreign = bytes.iter().filter(|byte| !byte.is_ascii()).count();
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
        || foreign * 8 <= bytes.len()
}

fn text_length(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// c(i) xor MD5(secret + c(i-1)), with the Request Authenticator as c(0).
fn xor(value: &[u8], secret: &SecretKey, authenticator: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut previous: &[u8] = authenticator;
    for block in value.chunks(16) {
        let mut md5 = Md5::new();
        md5.update(secret.expose());
        md5.update(previous);
        text.extend(block.iter().zip(md5.finalize()).map(|(cipher, key)| cipher ^ key));
        previous = block;
    }
    text
}

#[cfg(test)]
mod tests {
    use proxy_config::SharedSecret;
    use radius::core::avp::AVP;

    use super::*;

    fn key(secret: &str) -> SecretKey {
        SecretKey::new(SharedSecret::parse(secret.as_bytes()).unwrap()).unwrap()
    }

    fn encrypted(text: &[u8], secret: &str) -> Vec<u8> {
        AVP::from_user_password(2, text, secret.as_bytes(), &[7; 16])
            .unwrap()
            .encode_bytes()
    }

    #[test]
    fn the_example_of_rfc_2865_is_read() {
        // Section 7.1: nemo, arctangent, xyzzy5461.
        let value = hex::decode("0dbe708d93d413ce3196e43f782a0aee").unwrap();
        let authenticator: [u8; 16] = hex::decode("0f403f9473978057bd83d5cb98f4227a")
            .unwrap()
            .try_into()
            .unwrap();
        let key = key("xyzzy5461");
        assert_eq!(decrypt(&value, &key, &authenticator).expose(), b"arctangent");
        assert_eq!(
            plausible(&value, &key, &authenticator).unwrap().expose(),
            b"arctangent"
        );
    }

    #[test]
    fn texts_of_every_length_come_back() {
        let key = key("testing123");
        for length in 0..=128 {
            let text = vec![b'x'; length];
            let value = encrypted(&text, "testing123");
            assert!(is_possible(&value));
            assert_eq!(plausible(&value, &key, &[7; 16]).unwrap().expose(), text);
        }
        for length in [0, 1, 15, 17, 127, 129, 144] {
            assert!(!is_possible(&vec![0; length]), "{length}");
        }
    }

    #[test]
    fn old_character_sets_are_text_and_binary_is_not() {
        let key = key("testing123");
        let plausible = |text: &[u8]| plausible(&encrypted(text, "testing123"), &key, &[7; 16]).is_some();
        assert!(plausible("pässwörd-日本語".as_bytes()));
        assert!(plausible(b"p\xe4ssword-2026"));
        assert!(!plausible(b"\xe4\xf6\xfc\xdf"));
        assert!(!plausible(b"bell\x07"));
        assert!(!plausible(b"nul\0inside"));
    }

    #[test]
    fn a_wrong_secret_is_all_but_never_plausible() {
        let wrong = key("wrong secret");
        let passed = (0u32..20_000)
            .filter(|i| {
                let value = encrypted(&i.to_be_bytes().repeat(4), "testing123");
                plausible(&value, &wrong, &[7; 16]).is_some()
            })
            .count();
        assert!(passed <= 10, "{passed} of 20000");
    }

    #[test]
    fn no_fuzz_makes_it_panic() {
        let key = key("testing123");
        bolero::check!().for_each(|bytes| {
            let _ = decrypt(bytes, &key, &[1; 16]);
            if is_possible(bytes) {
                let _ = plausible(bytes, &key, &[1; 16]);
            }
        });
    }
}
