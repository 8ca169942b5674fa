//! Access tokens of a service app.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proxy_core::factor::{Credential, Factor, RefusalReason};
use radius_proxy::provider::Finding;
use serde_json::Value;

use crate::harness::{Asked, OAUTH, approved, code, except, granted, reason, well};
use crate::stub::{Call, Okta, Reply, fail, with};

/// A service app's key: in PEM, and its public half.
pub fn app_key() -> (String, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
}

fn form(call: &Call, name: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(call.body.as_bytes());
    pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn claims(jwt: &str) -> Value {
    let part = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn an_access_token_is_fetched_once_for_many_logins_and_anew_when_it_is_refused() {
    let okta = Okta::start(well).await;
    let (pem, public) = app_key();
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &pem);
    let logins: Vec<_> = (0..20)
        .map(|_| tokio::spawn(asked.ask(asked.request(code("123456")))))
        .collect();
    for login in logins {
        assert_eq!(approved(login.await.unwrap()).0, Factor::Passcode);
    }
    let tokens = okta.of("token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(form(&tokens[0], "grant_type"), "client_credentials");
    assert_eq!(form(&tokens[0], "scope"), "okta.users.read okta.users.manage");
    let assertion = form(&tokens[0], "client_assertion");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    key.verify(signed.as_bytes(), &signature).unwrap();
    let url = format!("https://localhost:{}/oauth2/v1/token", okta.address.port());
    assert_eq!(claims(&assertion)["aud"], Value::from(url));
    assert!(
        okta.of("user")
            .iter()
            .all(|call| call.header("authorization") == "Bearer access0")
    );

    okta.answers(|call, before| match call.header("authorization") {
        "Bearer access0" => fail(401, "E0000011"),
        _ => well(call, before),
    });
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    assert_eq!(okta.of("token").len(), 2);
}

#[tokio::test]
async fn a_proof_of_possession_is_made_where_it_is_demanded() {
    let okta = Okta::start(|call, before| {
        let refuse = |error: &str| Reply::Answer(400, Vec::new(), format!(r#"{{"error":"{error}"}}"#));
        match call.operation() {
            "token" if call.header("dpop").is_empty() => refuse("invalid_dpop_proof"),
            "token" if claims(call.header("dpop"))["nonce"] != "n1" => {
                with(refuse("use_dpop_nonce"), "dpop-nonce", "n1")
            }
            "token" => granted("bound", "DPoP"),
            _ if call.header("authorization") != "DPoP bound" => fail(401, "E0000011"),
            _ => {
                let proof = claims(call.header("dpop"));
                let (method, path) = call.what.split_once(' ').unwrap();
                assert_eq!(proof["htm"], method);
                assert!(proof["htu"].as_str().unwrap().ends_with(path));
                assert!(proof["ath"].is_string());
                well(call, before)
            }
        }
    })
    .await;
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &app_key().0);
    assert_eq!(approved(asked.login(Credential::Default).await).0, Factor::Push);
    assert_eq!(okta.of("token").len(), 3);
}

#[tokio::test]
async fn a_wrong_clock_is_put_right_and_a_refused_app_is_told_once_to_all_who_wait() {
    let ahead = SystemTime::now() + Duration::from_secs(4000);
    let date = httpdate(ahead);
    let refuse = with(
        Reply::Answer(
            401,
            Vec::new(),
            r#"{"error":"invalid_client","error_description":"expired"}"#.to_owned(),
        ),
        "date",
        &date,
    );
    let refused = refuse.clone();
    let okta = Okta::start(move |call, before| match (call.operation(), before) {
        ("token", 0) => refused.clone(),
        _ => well(call, before),
    })
    .await;
    let (pem, _) = app_key();
    let asked = Asked::with_key(&okta.config(OAUTH, ""), &pem);
    assert_eq!(approved(asked.login(code("123456")).await).0, Factor::Passcode);
    let tokens = okta.of("token");
    let issued = |call: &Call| claims(&form(call, "client_assertion"))["iat"].as_i64().unwrap();
    assert!(issued(&tokens[1]) - issued(&tokens[0]) > 3900);

    let okta = Okta::start(except("token", refuse)).await;
    let asked = Asked::with_key(&okta.config(OAUTH, "fail_mode = \"safe\""), &pem);
    assert_eq!(
        reason(asked.login(code("123456")).await),
        RefusalReason::ProviderCredentials
    );
    let findings = Arc::clone(&asked.provider).rehearse().await;
    let told = matches!(&findings[..], [Finding::Problem(text)] if text.contains("invalid_client") && text.contains("scopes"));
    assert!(told, "{findings:?}");
}

fn httpdate(time: SystemTime) -> String {
    let seconds = i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let time = jiff::Timestamp::from_second(seconds).unwrap();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
