//! Duo's request signatures (Auth API, "Authentication"): version 5 over a JSON body, version 2 over form parameters.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proxy_config::{Secret, SignatureVersion};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// One parameter of a call.
pub(super) type Parameter<'a> = (&'static str, &'a str);

/// A call's parameters, sorted by name as both versions want them.
pub(super) type Parameters<'a> = BTreeMap<&'static str, &'a str>;

/// RFC 3986 section 2.3: everything but the unreserved characters is encoded.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What is signed besides the keys.
pub(super) struct Unsigned<'a> {
    /// RFC 2822, as the Date header has it.
    pub date: &'a str,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Lower case, without port.
    pub host: &'a str,
    /// `/auth/v2/…`
    pub path: &'static str,
    /// The parameters, in any order.
    pub parameters: &'a [Parameter<'a>],
}

/// A request as it is sent. It may hold a passcode, and is overwritten when it is dropped.
pub(super) struct Signed {
    /// Goes after `?`; may be empty.
    pub query: Zeroizing<String>,
    /// The body of a POST.
    pub body: Zeroizing<Vec<u8>>,
    /// Its Content-Type.
    pub content_type: &'static str,
    /// The hexadecimal signature.
    pub signature: String,
}

impl Unsigned<'_> {
    /// Signs with the secret key.
    #[must_use]
    pub(super) fn sign(&self, version: SignatureVersion, secret_key: &Secret) -> Signed {
        let is_post = self.method == "POST";
        let parameters: &Parameters<'_> = &self.parameters.iter().copied().collect();
        let (mut query, mut body) = (Zeroizing::default(), Zeroizing::default());
        match (is_post, version) {
            (false, _) => query = encode(parameters),
            (true, SignatureVersion::V2) => {
                body = Zeroizing::new(std::mem::take(&mut *encode(parameters)).into_bytes());
            }
            (true, SignatureVersion::V5) => body = json(parameters),
        }
        let lines = [self.date, self.method, self.host, self.path]
            .map(str::as_bytes)
            .into_iter();
        let (content_type, signature) = match version {
            SignatureVersion::V2 => {
                // Wherever they are sent, the parameters are signed.
                let parameters = if is_post {
                    body.as_slice()
                } else {
                    query.as_bytes()
                };
                (
                    "application/x-www-form-urlencoded",
                    mac(secret_key, lines.chain([parameters])),
                )
            }
            SignatureVersion::V5 => {
                let body_hash = hex::encode(Sha512::digest(&*body));
                // Of the X-Duo-* headers; none is sent.
                let header_hash = hex::encode(Sha512::digest(b""));
                let rest = [query.as_bytes(), body_hash.as_bytes(), header_hash.as_bytes()];
                ("application/json", mac(secret_key, lines.chain(rest)))
            }
        };
        Signed {
            query,
            body,
            content_type,
            signature,
        }
    }
}

/// Of the lines with a line feed between them: they are never put together, since one can hold a passcode.
fn mac<'a>(secret_key: &Secret, lines: impl Iterator<Item = &'a [u8]>) -> String {
    // HMAC takes a key of any length (RFC 2104 section 2); an impossible error is a signature that Duo refuses.
    Hmac::<Sha512>::new_from_slice(secret_key.expose()).map_or_else(
        |_| String::new(),
        |mut mac| {
            for (index, line) in lines.enumerate() {
                if index > 0 {
                    mac.update(b"\n");
                }
                mac.update(line);
            }
            hex::encode(mac.finalize().into_bytes())
        },
    )
}

/// The value of the Authorization header.
#[must_use]
pub(super) fn authorization(integration_key: &Secret, signature: &str) -> Secret {
    let mut pair = integration_key.expose().to_vec();
    pair.push(b':');
    pair.extend_from_slice(signature.as_bytes());
    Secret::new(format!("Basic {}", BASE64.encode(pair)).into_bytes())
}

/// `a=1&b=2`, sorted and percent-encoded.
#[must_use]
pub(super) fn encode(parameters: &Parameters<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(room(parameters)));
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(utf8_percent_encode(name, &RESERVED));
        text.push('=');
        text.extend(utf8_percent_encode(value, &RESERVED));
    }
    text
}

fn json(parameters: &Parameters<'_>) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(room(parameters)));
    // A map of strings has no value that JSON cannot hold.
    let _ = serde_json::to_writer(&mut *body, parameters);
    body
}

/// As much as both forms need at most, so that neither grows and leaves a copy behind: JSON writes a character of control
/// in six bytes, quotes around each text, and braces.
fn room(parameters: &Parameters<'_>) -> usize {
    let each = |(name, value): (&&str, &&str)| 6 * (name.len() + value.len() + 1);
    parameters.iter().map(each).sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Tue, 21 Aug 2012 17:29:18 -0000";
    const HOST: &str = "api-xxxxxxxx.duosecurity.com";

    fn key() -> Secret {
        Secret::new(b"Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep".to_vec())
    }

    #[test]
    fn version_2_signs_as_duos_own_client_does() {
        let parameters = [("username", "root"), ("realname", "First Last")];
        let signed = Unsigned {
            date: DATE,
            method: "POST",
            host: HOST,
            path: "/accounts/v1/account/list",
            parameters: &parameters,
        }
        .sign(SignatureVersion::V2, &key());
        assert_eq!(signed.body.as_slice(), b"realname=First%20Last&username=root");
        assert_eq!(
            signed.signature,
            "1bffb8924348f7db7da9e7d7d749ded93aafd02d8e904960da7b96c57510220185a64a2827ee8f24ac5d30802a9ee97e59de44b304b18242f0d596d15a8122af"
        );
    }

    #[test]
    fn version_5_signs_as_duos_own_client_does() {
        let parameters = [
            ("username", "jane"),
            ("factor", "push"),
            ("device", "auto"),
            ("async", "1"),
        ];
        let signed = Unsigned {
            date: DATE,
            method: "POST",
            host: HOST,
            path: "/auth/v2/auth",
            parameters: &parameters,
        }
        .sign(SignatureVersion::V5, &key());
        assert_eq!(
            signed.body.as_slice(),
            br#"{"async":"1","device":"auto","factor":"push","username":"jane"}"#
        );
        assert_eq!(signed.query.as_str(), "");
        assert_eq!(
            signed.signature,
            "7ba62abc0628f869f3c6ccbcf722c5d78106da3b90d83b94e0bfaaf8c7252ae3ab20add087c6a520897f2046a5f5ceff0f415e2da1b5bc791a950c910bc888ac"
        );
    }

    #[test]
    fn a_get_has_its_parameters_in_the_query() {
        let parameters = [("txid", "a/b c~")];
        for version in [SignatureVersion::V2, SignatureVersion::V5] {
            let signed = Unsigned {
                date: DATE,
                method: "GET",
                host: HOST,
                path: "/auth/v2/auth_status",
                parameters: &parameters,
            }
            .sign(version, &key());
            assert_eq!(
                (signed.query.as_str(), signed.body.as_slice()),
                ("txid=a%2Fb%20c~", b"".as_slice())
            );
        }
    }

    #[test]
    fn no_text_outgrows_its_room_and_leaves_a_copy_behind() {
        let parameters = Parameters::from([("passcode", "\u{1}\u{1}123456é\""), ("username", "")]);
        for written in [
            (encode(&parameters).capacity(), encode(&parameters).len()),
            (json(&parameters).capacity(), json(&parameters).len()),
        ] {
            assert!(written.1 <= room(&parameters), "{written:?}");
            assert_eq!(written.0, room(&parameters));
        }
    }

    #[test]
    fn the_header_is_basic_authentication() {
        let header = authorization(&Secret::new(b"DIWJ8X6AEYOR5OMC6TQ1".to_vec()), "abc");
        assert_eq!(header.expose(), b"Basic RElXSjhYNkFFWU9SNU9NQzZUUTE6YWJj");
    }
}
