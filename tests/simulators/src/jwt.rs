//! Signed JSON web tokens (RFC 7519): RS256 and ES256.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A token, taken apart but not believed.
#[derive(Debug)]
pub(crate) struct Jwt {
    signed: String,
    signature: Vec<u8>,
    pub(crate) header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Jwt {
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |part: &str| match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
            Value::Object(members) => Some(members),
            _ => None,
        };
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            signed: signed.to_owned(),
        })
    }

    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    pub(crate) fn number(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        // Some clients send fractions of a second.
        #[expect(clippy::cast_possible_truncation, reason = "times are far below 2^53")]
        value
            .as_i64()
            .or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }

    /// A text or a list of texts.
    pub(crate) fn audience(&self) -> Vec<String> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many
                .iter()
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a key (JWK, RSA or P-256) signed it.
    pub(crate) fn verified_by(&self, jwk: &Value) -> bool {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        let signed = self.signed.as_bytes();
        match self.header.get("alg").and_then(Value::as_str) {
            Some("RS256") => {
                let (Some(n), Some(e)) = (part("n"), part("e")) else {
                    return false;
                };
                RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, signed, &self.signature)
                    .is_ok()
            }
            Some("ES256") => {
                let (Some(x), Some(y)) = (part("x"), part("y")) else {
                    return false;
                };
                let point = [vec![4], x, y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, &self.signature)
                    .is_ok()
            }
            _ => false,
        }
    }
}

/// A key's thumbprint (RFC 7638).
pub(crate) fn thumbprint(jwk: &Value) -> Option<String> {
    let part = |name: &str| jwk.get(name)?.as_str();
    let canonical = match part("kty")? {
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, part("e")?, part("n")?),
        "EC" => format!(
            r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
            part("crv")?,
            part("x")?,
            part("y")?
        ),
        _ => return None,
    };
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)))
}

/// Whether any key of a set (JWKS) signed a token.
pub(crate) fn verified_by_any(token: &Jwt, jwks: &str) -> bool {
    let Ok(set) = serde_json::from_str::<Value>(jwks) else {
        return false;
    };
    set.get("keys")
        .and_then(Value::as_array)
        .is_some_and(|keys| keys.iter().any(|key| token.verified_by(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_as_in_rfc_7638_section_3_1() {
        let jwk = serde_json::json!({
            "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                  tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn\
                  1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        });
        assert_eq!(
            thumbprint(&jwk).unwrap(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "a.b", "a.b.c", "e30.e30.", "..", "bnVsbA.bnVsbA.AA"] {
            assert!(
                Jwt::parse(text).is_none_or(|token| !token.verified_by(&Value::Null)),
                "{text}"
            );
        }
    }
}
