use proxy_config::SharedSecret;
use serde_json::json;

use super::problems::spec_fields_in;
use super::*;

fn spec(provider: &serde_json::Value, more: &serde_json::Value) -> RadiusProxySpec {
    let mut spec = json!({
        "directory": {"id": "d-1234567890", "region": "eu-central-1", "displayLabel": "DUO"},
        "provider": provider,
    });
    let more = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(more);
    serde_json::from_value(spec).unwrap()
}

fn duo() -> serde_json::Value {
    json!({"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}, "factors": ["Push"]}})
}

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Secret::new(text.as_bytes().to_vec())))
        .collect()
}

fn rendered(spec: &RadiusProxySpec, sources: &ResolvedSecrets) -> Result<Rendered, ConfigProblem> {
    let secret = |text: &str| SharedSecret::parse(text.as_bytes()).unwrap();
    render(&ConfigInput {
        spec,
        name: "mfa",
        directory_clients: &["10.0.0.10".parse().unwrap()].into(),
        sources,
        pair: Some(&SecretPair {
            current: secret("the new secret"),
            previous: Some(secret("the old secret")),
        }),
        digest_key: &Secret::new(b"0011\n".to_vec()),
        provider_host_suffixes: None,
    })
}

fn sources() -> ResolvedSecrets {
    ResolvedSecrets {
        provider: files(&[("ikey", "DI1"), ("skey", "hunter2")]),
        ..ResolvedSecrets::default()
    }
}

#[test]
fn what_is_rendered_is_what_the_proxy_reads() {
    let rendered = rendered(&spec(&duo(), &json!({})), &sources()).unwrap();
    let file = ConfigFile::parse(&rendered.text).unwrap();
    assert_eq!(file.server.listen, ["[::]:1812"]);
    let peers = file.server.peers.as_ref().unwrap();
    assert_eq!(
        (peers.listen.as_str(), peers.addresses_file.as_deref()),
        ("[::]:1814", Some("/etc/radius-proxy/config/peers"))
    );
    assert_eq!(rendered.radius[PEER_KEY].expose().len(), 64);
    assert_eq!(file.server.application.as_deref(), Some("DUO (d-1234567890)"));
    assert_eq!(file.server.drain_seconds, 100);
    assert_eq!(file.clients[0].networks, ["10.0.0.10"]);
    assert_eq!(
        file.clients[0].secret_files,
        [
            "/etc/radius-proxy/radius/directory",
            "/etc/radius-proxy/radius/directory-previous"
        ]
    );
    assert!(file.clients[0].directory);
    assert!(!rendered.text.contains("hunter2") && !rendered.text.contains("the new secret"));
}

#[test]
fn every_provider_can_be_rendered() {
    let okta = json!({"okta": {"orgUrl": "https://example.okta.com", "clientId": "c", "credentialsSecretRef": {"name": "o"}}});
    let totp = json!({"totp": {"seedsSecretRef": {"name": "s"}}});
    let radius = json!({"radius": {"servers": [{"address": "10.0.0.5:1812", "secretRef": {"name": "r"}}]}});
    let seeds = files(&[("bob", "otpauth://totp/bob?secret=JBSWY3DPEHPK3PXP")]);
    for (provider, files) in [
        (okta, files(&[("privateKey", "-----BEGIN")])),
        (totp, Files::new()),
        (radius, files(&[("server-10.0.0.5_1812", "upstream secret")])),
    ] {
        let sources = ResolvedSecrets {
            provider: files,
            seeds: seeds.clone(),
            ..ResolvedSecrets::default()
        };
        let rendered = rendered(&spec(&provider, &json!({})), &sources);
        assert!(rendered.is_ok(), "{rendered:?}");
    }
}

#[test]
fn a_user_name_and_a_password_for_the_http_proxy_are_files_of_the_provider() {
    let login = [
        ("http-proxy-username", "radius"),
        ("http-proxy-password", "hunter2"),
    ];
    let duo = json!({"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}});
    let okta = json!({"orgUrl": "https://x.okta.com", "credentials": "Token", "credentialsSecretRef": {"name": "okta"}});
    for (name, mut provider) in [("duo", duo), ("okta", okta)] {
        provider["httpProxy"] = json!("http://proxy.example:3128");
        provider["httpProxySecretRef"] = json!({"name": "proxy"});
        let spec = spec(&json!({name: provider}), &json!({}));
        assert!(crate::secrets::named_by(&spec).contains("proxy"));
        let mut sources = sources();
        sources.provider.extend(files(&[("token", "x")]));
        sources.provider.extend(files(&login));
        let text = rendered(&spec, &sources).unwrap().text;
        for (file, _) in login {
            assert!(
                text.contains(&format!("\"/etc/radius-proxy/provider/{file}\"")),
                "{text}"
            );
        }
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn the_digest_follows_contents_and_not_its_own_key_file() {
    let plain = spec(&duo(), &json!({}));
    let one = rendered(&plain, &sources()).unwrap().digest;
    assert_eq!(one, rendered(&plain, &sources()).unwrap().digest);
    let mut other = sources();
    other.provider = files(&[("ikey", "DI1"), ("skey", "hunter3")]);
    assert_ne!(one, rendered(&plain, &other).unwrap().digest);
    // What no path names does not count.
    let mut more = sources();
    more.seeds = files(&[("left", "over")]);
    assert_eq!(one, rendered(&plain, &more).unwrap().digest);
}

#[test]
fn a_client_has_its_own_limit_only_where_the_spec_gives_it_one() {
    let more = json!({"clients": [
        {"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": "vpn"}, "requestsPerSecond": 50},
    ]});
    let mut sources = sources();
    let secret = SharedSecret::parse(b"a long enough secret").unwrap();
    sources.clients.insert("vpn".to_owned(), secret);
    let rendered = rendered(&spec(&duo(), &more), &sources).unwrap();
    let file = ConfigFile::parse(&rendered.text).unwrap();
    let limits: Vec<_> = file
        .clients
        .iter()
        .map(|client| client.requests_per_second)
        .collect();
    assert_eq!(limits, [None, Some(50)]);
}

#[test]
fn problems_are_told_by_the_fields_of_the_spec() {
    let more = json!({"clients": [
        {"name": "vpn", "networks": ["10.1.0.0/24"], "secretRef": {"name": "vpn"}},
        {"name": "wlan", "networks": ["10.1.0.0/24"], "secretRef": {"name": "vpn"}},
    ]});
    let mut sources = sources();
    for name in ["vpn", "wlan"] {
        let secret = SharedSecret::parse(b"a long enough secret").unwrap();
        sources.clients.insert(name.to_owned(), secret);
    }
    let problem = rendered(&spec(&duo(), &more), &sources).unwrap_err();
    assert_eq!(problem.reason, Reason::ConfigInvalid);
    assert!(
        problem
            .message
            .starts_with("spec.clients[1].networks: 10.1.0.0/24"),
        "{}",
        problem.message
    );
    let elsewhere = json!({"duo": {"apiHost": "169.254.169.254", "credentialsSecretRef": {"name": "duo"}}});
    let problem = rendered(&spec(&elsewhere, &json!({})), &self::sources()).unwrap_err();
    assert_eq!(problem.reason, Reason::ProviderConfigInvalid);
    assert!(
        problem.message.contains("spec.provider.duo.apiHost"),
        "{}",
        problem.message
    );
}

#[test]
fn messages_name_the_policys_fields_as_the_spec_does() {
    let message = "is \"a\", which policy.user_names makes \"b\" of and policy.exempt_users has";
    let told = spec_fields_in(message);
    assert!(
        told.contains("spec.policy.userNames makes") && told.ends_with("spec.policy.exemptUsers has"),
        "{told}"
    );
}
