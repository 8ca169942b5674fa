//! Keys of Secrets that the spec chooses.

use proxy_config::Secret;
use serde_json::{Value, json};

use super::world::{World, data};

/// A world with a provider and further Secrets, once it is ready.
fn ready(provider: &Value, secrets: &[(&str, &[(&str, &str)])]) -> World {
    let mut world = World::with(&json!({
        "directory": {"id": "d-1234567890", "region": "eu-central-1"},
        "sharedSecretRef": {"name": "ours", "key": "radius.secret"},
        "provider": provider,
    }));
    world.secrets = secrets
        .iter()
        .map(|(name, pairs)| ((*name).to_owned(), data(pairs)))
        .collect();
    world
        .secrets
        .insert("ours".to_owned(), data(&[("radius.secret", "the first secret")]));
    world.run_until(World::is_ready);
    world
}

fn file(world: &World, secret: &str, name: &str) -> String {
    let object = &world.objects[&("Secret".to_owned(), secret.to_owned())];
    let content: k8s_openapi::ByteString = serde_json::from_value(object["data"][name].clone()).unwrap();
    Secret::new(content.0).expose_str().unwrap().to_owned()
}

#[test]
fn duos_keys_and_those_of_its_http_proxy_can_be_chosen() {
    let provider = json!({"duo": {
        "apiHost": "api-1.duosecurity.com",
        "credentialsSecretRef": {"name": "duo", "keys": {"ikey": "client-id", "skey": "client-secret"}},
        "httpProxy": "http://proxy.example:3128",
        "httpProxySecretRef": {"name": "proxy", "keys": {"username": "login"}},
    }});
    let world = ready(
        &provider,
        &[
            (
                "duo",
                &[("client-id", "DI1"), ("client-secret", "k"), ("ikey", "another")],
            ),
            ("proxy", &[("login", "radius"), ("password", "p")]),
        ],
    );
    let of = |name| file(&world, "mfa-radius-provider", name);
    assert_eq!((of("ikey"), of("skey")), ("DI1".to_owned(), "k".to_owned()));
    assert_eq!(
        (of("http-proxy-username"), of("http-proxy-password")),
        ("radius".to_owned(), "p".to_owned())
    );
}

#[test]
fn oktas_key_can_be_chosen() {
    let provider = json!({"okta": {
        "orgUrl": "https://x.okta.com", "credentials": "Token", "credentialsSecretRef": {"name": "okta", "key": "api-token"},
    }});
    let world = ready(&provider, &[("okta", &[("api-token", "00a")])]);
    assert_eq!(file(&world, "mfa-radius-provider", "token"), "00a");
}

#[test]
fn a_password_of_the_store_of_used_codes_is_at_its_own_default_key_and_seeds_are_at_the_keys_that_are_named()
{
    let provider = json!({"totp": {
        "seedsSecretRef": {"name": "seeds", "keys": ["users.txt"]},
        "usedCodes": {"redis": {"address": "valkey:6379", "passwordSecretRef": {"name": "valkey"}}},
    }});
    let seeds: &[(&str, &str)] = &[
        ("users.txt", "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXP"),
        ("readme", "no seed"),
    ];
    let mut world = ready(&provider, &[("seeds", seeds), ("valkey", &[("password", "p")])]);
    assert_eq!(file(&world, "mfa-radius-provider", "redis-password"), "p");
    let stored = &world.objects[&("Secret".to_owned(), "mfa-radius-seeds".to_owned())]["data"];
    assert_eq!(stored.as_object().unwrap().len(), 1);
    world
        .secrets
        .insert("seeds".to_owned(), data(&[("readme", "no seed")]));
    world.wake();
    world.run_until(|w| w.condition("SecretsReady").1 == "SecretKeyMissing");
    assert!(world.condition("SecretsReady").2.contains("no key \"users.txt\""));
}
