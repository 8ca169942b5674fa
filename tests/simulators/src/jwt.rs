//! Signed JSON web tokens (RFC 7519), RS256 only.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

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

    /// Whether a key (JWK, RSA) signed it.
    pub(crate) fn verified_by(&self, jwk: &Value) -> bool {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        let (Some(n), Some(e)) = (part("n"), part("e")) else {
            return false;
        };
        self.header.get("alg").and_then(Value::as_str) == Some("RS256")
            && RsaPublicKeyComponents { n, e }
                .verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    self.signed.as_bytes(),
                    &self.signature,
                )
                .is_ok()
    }
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
