//! Signed statements: the client assertion of an OAuth service app (RFC 7523) and proofs of possession (DPoP, RFC
//! 9449).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proxy_config::Secret;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How long an assertion is good for; Okta takes an hour at most.
const ASSERTION_SECONDS: i64 = 300;

/// Why a text is no private key of a service app. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("holds no private key in PEM; copy it from Okta as PEM, not as JSON")]
    NotPem,
    #[error("holds no RSA key of 2048 bits or more")]
    NotRsa,
}

/// The private key of a service app.
pub(super) struct AppKey {
    pair: RsaKeyPair,
    key_id: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

impl AppKey {
    /// Reads PKCS #8 or PKCS #1 in PEM.
    pub(super) fn new(pem: &Secret, key_id: Option<String>) -> Result<Self, KeyError> {
        let pair = match PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_| KeyError::NotPem)? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::NotRsa),
        };
        let pair = pair.map_err(|_| KeyError::NotRsa)?;
        Ok(Self { pair, key_id })
    }

    /// The assertion that `client` asks `token_url` for a token at `now` (Unix seconds).
    pub(super) fn assertion(&self, client: &str, token_url: &str, now: i64) -> Option<String> {
        let header = Header {
            alg: "RS256",
            kid: self.key_id.as_deref(),
        };
        let claims = json!({
            "iss": client,
            "sub": client,
            "aud": token_url,
            "iat": now,
            "exp": now.saturating_add(ASSERTION_SECONDS),
            "jti": unique()?,
        });
        let text = unsigned(&header, &claims)?;
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(joined(text, &signature))
    }
}

/// A key that tokens are bound to, made anew with the program.
pub(super) struct ProofKey {
    pair: EcdsaKeyPair,
    jwk: serde_json::Value,
}

impl ProofKey {
    /// A new key; `None` when the system has no randomness.
    pub(super) fn generate() -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        // An uncompressed point (SEC 1 section 2.3.3): 4, x, y.
        let (x, y) = pair
            .public_key()
            .as_ref()
            .strip_prefix(&[4])?
            .split_at_checked(32)?;
        let jwk = json!({
            "kty": "EC",
            "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        });
        Some(Self { pair, jwk })
    }

    /// A proof for one call (RFC 9449 section 4.2): with the server's nonce at the token endpoint, with the token
    /// elsewhere. `url` is without query.
    pub(super) fn proof(
        &self,
        method: &str,
        url: &str,
        nonce: Option<&str>,
        token: Option<&Secret>,
        now: i64,
    ) -> Option<String> {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk });
        let mut claims = json!({ "htm": method, "htu": url, "iat": now, "jti": unique()? });
        let object = claims.as_object_mut()?;
        if let Some(nonce) = nonce {
            object.insert("nonce".to_owned(), nonce.into());
        }
        if let Some(token) = token {
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose()));
            object.insert("ath".to_owned(), hash.into());
        }
        let text = unsigned(&header, &claims)?;
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        Some(joined(text, signature.as_ref()))
    }
}

fn unsigned(header: &impl Serialize, claims: &impl Serialize) -> Option<String> {
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let header = part(serde_json::to_vec(header).ok()?);
    let claims = part(serde_json::to_vec(claims).ok()?);
    Some(format!("{header}.{claims}"))
}

fn joined(unsigned: String, signature: &[u8]) -> String {
    let mut text = unsigned;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    text
}

fn unique() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
    };
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    fn key() -> (Secret, RsaKeyPair) {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        (Secret::new(pem.into_bytes()), pair)
    }

    fn read(text: &str, algorithm: &'static dyn VerificationAlgorithm, public: &[u8]) -> (Value, Value) {
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(algorithm, public)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (json(header), json(claims))
    }

    #[test]
    fn an_assertion_is_signed_and_says_who_asks_whom_until_when() {
        let (pem, pair) = key();
        let key = AppKey::new(&pem, Some("k1".into())).unwrap();
        let text = key
            .assertion("0oa1", "https://x.okta.com/oauth2/v1/token", 1000)
            .unwrap();
        let (header, claims) = read(&text, &RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        assert_eq!(header, json!({ "alg": "RS256", "kid": "k1" }));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("0oa1"), &json!("0oa1")));
        assert_eq!(claims["aud"], "https://x.okta.com/oauth2/v1/token");
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1000), &json!(1300)));
        let again = key
            .assertion("0oa1", "https://x.okta.com/oauth2/v1/token", 1000)
            .unwrap();
        assert_ne!(text, again);
    }

    #[test]
    fn a_proof_is_of_one_call_and_one_token() {
        let key = ProofKey::generate().unwrap();
        let public = key.pair.public_key().as_ref().to_vec();
        let token = Secret::new(b"token".to_vec());
        let text = key
            .proof("GET", "https://x.okta.com/api/v1/users/a", None, Some(&token), 7)
            .unwrap();
        let (header, claims) = read(&text, &ECDSA_P256_SHA256_FIXED, &public);
        assert_eq!(
            (&header["typ"], &header["alg"]),
            (&json!("dpop+jwt"), &json!("ES256"))
        );
        assert_eq!(header["jwk"]["crv"], "P-256");
        assert_eq!((&claims["htm"], &claims["iat"]), (&json!("GET"), &json!(7)));
        // SHA-256("token"), computed with another program.
        assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
        let (_, claims) = read(
            &key.proof("POST", "https://x", Some("n"), None, 7).unwrap(),
            &ECDSA_P256_SHA256_FIXED,
            &public,
        );
        assert_eq!((&claims["nonce"], claims.get("ath")), (&json!("n"), None));
    }

    #[test]
    fn what_is_no_rsa_key_in_pem_is_refused_without_being_shown() {
        let bad = |text: &str| AppKey::new(&Secret::new(text.as_bytes().to_vec()), None).err();
        assert_eq!(bad(r#"{"kty":"RSA","d":"secret"}"#), Some(KeyError::NotPem));
        let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(bad(pem), Some(KeyError::NotRsa));
        let pem = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(bad(pem), Some(KeyError::NotRsa));
    }
}
