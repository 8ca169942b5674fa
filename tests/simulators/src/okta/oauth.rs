//! `POST /oauth2/v1/token`: client_credentials with private_key_jwt (RFC 7523), bound to a key by DPoP (RFC 9449) on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{failure::Failure, settings::Settings};
use crate::jwt::{self, Jwt};

/// Access tokens and proof ids that are remembered.
const REMEMBERED: usize = 10_000;
/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Clone, Debug)]
struct Token {
    scopes: Vec<String>,
    expires: i64,
    /// Thumbprint of the client's key, for DPoP.
    bound_to: Option<String>,
}

#[derive(Debug, Default)]
struct Issued {
    tokens: BTreeMap<String, Token>,
    seen: BTreeSet<String>,
}

/// What the token endpoint issued.
#[derive(Debug)]
pub(super) struct Tokens {
    issued: Mutex<Issued>,
    nonce: String,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issued: Mutex::default(),
            nonce: hex::encode(rand::random::<[u8; 16]>()),
        }
    }
}

/// A request as far as DPoP covers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    /// Without query.
    pub(super) url: &'a str,
    pub(super) authorization: &'a str,
    pub(super) proof: &'a str,
}

/// RFC 9449 section 4.3: addresses are compared after normalisation (`%40` and `@` are the same).
fn normal(url: &str) -> String {
    percent_encoding::percent_decode_str(url)
        .decode_utf8_lossy()
        .into_owned()
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode([rand::random::<[u8; 16]>(), rand::random()].concat())
}

impl Tokens {
    fn issued(&self) -> std::sync::MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all tokens, as if they had been revoked.
    pub(super) fn revoke_all(&self) {
        self.issued().tokens.clear();
    }

    /// Answers a token request.
    pub(super) fn issue(
        &self,
        form: &BTreeMap<String, String>,
        asked: Asked<'_>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let get = |name: &str| form.get(name).map_or("", String::as_str);
        if get("grant_type") != "client_credentials" {
            return Err(Failure::oauth(
                "unsupported_grant_type",
                "Only client_credentials is supported.",
            ));
        }
        self.check_client(
            get("client_assertion_type"),
            get("client_assertion"),
            asked.url,
            settings,
            now,
        )?;
        let scopes: Vec<String> = get("scope").split_whitespace().map(str::to_owned).collect();
        let unknown = scopes.iter().find(|scope| !settings.scopes.contains(scope));
        if scopes.is_empty() || unknown.is_some() {
            let what = "One or more scopes are not configured for the authorization server resource.";
            return Err(Failure::oauth("invalid_scope", what));
        }
        let bound_to = match (asked.proof, settings.dpop_required) {
            ("", false) => None,
            ("", true) => {
                return Err(Failure::oauth(
                    "invalid_dpop_proof",
                    "The DPoP proof JWT header is missing.",
                ));
            }
            _ => Some(self.check_proof(asked, None, true, settings, now)?),
        };
        let kind = if bound_to.is_some() { "DPoP" } else { "Bearer" };
        let token = random();
        let seconds = i64::try_from(settings.token_seconds).unwrap_or(3600);
        let expires = now.as_second() + seconds;
        let mut issued = self.issued();
        issued.tokens.retain(|_, token| token.expires > now.as_second());
        if issued.tokens.len() >= REMEMBERED {
            issued.tokens.pop_first();
        }
        issued.tokens.insert(
            token.clone(),
            Token {
                scopes: scopes.clone(),
                expires,
                bound_to,
            },
        );
        Ok(
            json!({"token_type": kind, "expires_in": seconds, "access_token": token, "scope": scopes.join(" ")}),
        )
    }

    fn check_client(
        &self,
        kind: &str,
        assertion: &str,
        url: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let invalid = |what: &str| Failure::oauth("invalid_client", what);
        if kind != ASSERTION_TYPE {
            return Err(invalid(
                "Client authentication failed. A client_assertion_type of jwt-bearer is needed.",
            ));
        }
        let token = Jwt::parse(assertion).ok_or_else(|| invalid("The client_assertion is not a JWT."))?;
        let (issuer, subject) = (token.text("iss"), token.text("sub"));
        if issuer != Some(&settings.client_id) || subject != Some(&settings.client_id) {
            return Err(invalid(
                "The issuer and subject of the client_assertion must be the client's id.",
            ));
        }
        if !token.audience().iter().any(|audience| audience == url) {
            return Err(invalid(
                "The audience claim for client_assertion must be the endpoint invoked for the request.",
            ));
        }
        let end = token.number("exp").unwrap_or(0);
        let skew = settings.clock_skew_seconds;
        if end + skew < now.as_second() {
            return Err(invalid("The client_assertion token is expired."));
        }
        if end > now.as_second() + 3600 + skew {
            return Err(invalid(
                "The client_assertion token has an expiration too far into the future.",
            ));
        }
        if !jwt::verified_by_any(&token, &settings.client_jwks.to_string()) {
            return Err(invalid("The client_assertion signature is invalid."));
        }
        match token.text("jti") {
            Some(id) if !self.is_new(id) => Err(invalid("The client_assertion token has already been used.")),
            _ => Ok(()),
        }
    }

    /// Remembers an id; false when it was seen before.
    fn is_new(&self, id: &str) -> bool {
        let mut issued = self.issued();
        if issued.seen.len() >= REMEMBERED {
            issued.seen.pop_first();
        }
        issued.seen.insert(id.chars().take(200).collect())
    }

    /// Checks a proof of possession and gives its key's thumbprint.
    fn check_proof(
        &self,
        asked: Asked<'_>,
        access_token: Option<&str>,
        needs_nonce: bool,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let invalid = |what: &str| Failure::oauth("invalid_dpop_proof", what);
        let proof = Jwt::parse(asked.proof).ok_or_else(|| invalid("The DPoP proof is not a JWT."))?;
        let key = proof.header.get("jwk").cloned().unwrap_or_default();
        let is_proof = proof.header.get("typ").and_then(Value::as_str) == Some("dpop+jwt");
        if !is_proof || key.get("d").is_some() || !proof.verified_by(&key) {
            return Err(invalid("The DPoP proof's type, key or signature is invalid."));
        }
        let same_url = proof
            .text("htu")
            .is_some_and(|url| normal(url) == normal(asked.url));
        if proof.text("htm") != Some(asked.method) || !same_url {
            return Err(invalid("The DPoP proof is for another request."));
        }
        let issued = proof.number("iat").unwrap_or(0);
        if (now.as_second() - issued).abs() > settings.clock_skew_seconds {
            return Err(invalid("The DPoP proof is too old or from the future."));
        }
        if needs_nonce && proof.text("nonce") != Some(&self.nonce) {
            return Err(Failure::OAuth {
                error: "use_dpop_nonce",
                description: "Authorization server requires nonce in DPoP proof.".to_owned(),
                nonce: Some(self.nonce.clone()),
            });
        }
        if let Some(token) = access_token
            && proof.text("ath") != Some(&URL_SAFE_NO_PAD.encode(Sha256::digest(token)))
        {
            return Err(invalid("The DPoP proof is for another access token."));
        }
        match proof.text("jti") {
            Some(id) if self.is_new(id) => {
                jwt::thumbprint(&key).ok_or_else(|| invalid("The DPoP key is of no known type."))
            }
            _ => Err(invalid("The DPoP proof has no jti, or was used before.")),
        }
    }

    /// Whether an API call is authorised for a scope.
    pub(super) fn authorise(
        &self,
        asked: Asked<'_>,
        scope: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let invalid = || Failure::api("E0000011");
        if let Some(token) = asked.authorization.strip_prefix("SSWS ") {
            let token = crate::secret::Secret::new(token);
            let mut known = settings.api_tokens.iter().chain([&settings.api_token]);
            let is_one = known.any(|known| !known.is_empty() && token == *known);
            return if is_one { Ok(()) } else { Err(invalid()) };
        }
        let (kind, token) = asked.authorization.split_once(' ').ok_or_else(invalid)?;
        let known = self.issued().tokens.get(token).cloned().ok_or_else(invalid)?;
        if known.expires <= now.as_second() {
            return Err(invalid());
        }
        match (&known.bound_to, kind) {
            (None, "Bearer") => {}
            (Some(bound_to), "DPoP") => {
                let thumbprint = self.check_proof(asked, Some(token), false, settings, now)?;
                if thumbprint != *bound_to {
                    return Err(Failure::oauth(
                        "invalid_dpop_proof",
                        "The access token is bound to another key.",
                    ));
                }
            }
            _ => return Err(invalid()),
        }
        // Manage includes read.
        let enough = known
            .scopes
            .iter()
            .any(|had| had == scope || had == "okta.users.manage");
        if enough {
            Ok(())
        } else {
            Err(Failure::api("E0000006"))
        }
    }
}
