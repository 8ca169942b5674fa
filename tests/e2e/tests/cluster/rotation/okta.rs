//! What the proxies prove themselves by to Okta: an API token, or the key of a service app.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::NAMESPACE;
use serde_json::{Value, json};

use super::{pods, until_run};
use crate::site::{Site, radius_proxy, secret};
use crate::traffic::{assert_nobody_noticed, with_logins_at};
use crate::world::{World, world};

const FIRST: &str = "simulator-okta-token";
const SECOND: &str = "another-token-of-the-organisation";
const DOMAIN: &str = "okta.example.com";

/// What Okta takes; as it was at first when this goes, also when a test fails.
struct Organisation(&'static World);

impl Organisation {
    fn takes(settings: &Value) -> Self {
        let organisation = Self(world());
        organisation.now_takes(settings);
        organisation
    }

    fn now_takes(&self, settings: &Value) {
        self.0.simulators.okta().set_settings(settings).unwrap();
    }

    /// Calls that Okta refused for that reason.
    fn refusals(&self, code: &str) -> u64 {
        self.0.simulators.okta().refusals(code).unwrap()
    }
}

impl Drop for Organisation {
    fn drop(&mut self) {
        let usual = json!({"api_token": FIRST, "api_tokens": [], "client_jwks": {"keys": []}});
        if let Err(error) = self.0.simulators.okta().set_settings(&usual) {
            eprintln!("Okta takes other credentials than at first: {error:#}");
        }
    }
}

/// A RadiusProxy that asks Okta, with a directory whose people have Okta Verify.
struct Proxy {
    site: Site,
    name: &'static str,
    controllers: [&'static str; 2],
    /// Writes to AWS, and pods, before anything is changed.
    before: (u64, Vec<String>),
}

impl Proxy {
    fn ready(
        name: &'static str,
        directory: &'static str,
        controllers: [&'static str; 2],
        credentials: Value,
        secrets: &str,
    ) -> Self {
        let site = Site::new(directory);
        let (world, okta) = (site.world, site.world.simulators.okta());
        okta.generate_users("user", DOMAIN, 200, 300).unwrap();
        let mut provider = json!({
            "orgUrl": format!("https://{}:8445", world.simulators.okta_host()),
            "factors": ["Push"],
            "loginSuffix": format!("@{DOMAIN}"),
            "caBundle": okta.ca().unwrap(),
        });
        let Value::Object(credentials) = credentials else {
            panic!("{credentials} is no object")
        };
        provider.as_object_mut().unwrap().extend(credentials);
        site.directory(&json!({"type": "MicrosoftAD", "name": "okta.example.com"}));
        site.domain_controllers(&format!("{name}-dc"));
        site.grant(name, NAMESPACE);
        site.apply(NAMESPACE, secrets);
        let provider = json!({ "okta": provider });
        site.apply(NAMESPACE, &radius_proxy(name, NAMESPACE, directory, &provider));
        world.ready(NAMESPACE, name).unwrap();
        let before = (
            world.simulators.directory().last_write().unwrap(),
            pods(world, name),
        );
        Self {
            site,
            name,
            controllers,
            before,
        }
    }

    /// Both pods run what is changed by this, and nobody who logs in meanwhile notices.
    fn changed_under_logins(&self, change: impl FnOnce() -> anyhow::Result<()>) {
        let world = self.site.world;
        let ((), reports) = with_logins_at(world, self.controllers, || {
            until_run(world, self.name, change).unwrap();
        });
        assert_nobody_noticed(&reports);
    }

    /// People log in, no pod has restarted, and AWS was told nothing.
    fn goes_on(&self) {
        let world = self.site.world;
        let ((), reports) = with_logins_at(world, self.controllers, || ());
        assert_nobody_noticed(&reports);
        let directory = world.simulators.directory();
        let writes = directory
            .settings_writes(self.before.0, self.site.directory)
            .unwrap();
        assert!(writes.is_empty(), "{writes:?}");
        assert_eq!(pods(world, self.name), self.before.1);
    }

    /// With the credentials that are there now nobody gets in, and the status says so.
    fn is_refused(&self) {
        let world = self.site.world;
        world.reason(
            NAMESPACE,
            self.name,
            "SecretsReady",
            "False",
            "ProviderCredentialsRefused",
        );
        let login = world.login(self.controllers[0], "user1", "push");
        assert_eq!(login.outcome, "reject", "{login:?}");
    }
}

#[test]
fn oktas_api_token_is_replaced_without_a_write_a_restart_or_a_login_lost() {
    let name = "okta-token";
    let token = |token: &str| secret(name, NAMESPACE, &json!({ "token": token }));
    let organisation = Organisation::takes(&json!({"api_token": FIRST, "api_tokens": [SECOND]}));
    let proxy = Proxy::ready(
        name,
        "d-90670000c1",
        ["okta-token-dc-0", "okta-token-dc-1"],
        json!({"credentials": "Token", "credentialsSecretRef": {"name": name}}),
        &token(FIRST),
    );
    let kubectl = &proxy.site.world.kubectl;
    let refused = organisation.refusals("E0000011");
    proxy.changed_under_logins(|| kubectl.apply(&token(SECOND)).map(drop));
    // Who logged in with the first one has ended.
    organisation.now_takes(&json!({"api_token": SECOND, "api_tokens": []}));
    proxy.goes_on();
    assert_eq!(organisation.refusals("E0000011"), refused, "Okta refused calls");
    until_run(proxy.site.world, name, || kubectl.apply(&token(FIRST)).map(drop)).unwrap();
    proxy.is_refused();
}

/// A new RSA key: in PEM, and its public half as JWK.
fn key(id: &str) -> (String, Value) {
    let openssl = |args: &[&str], stdin: &str| {
        let mut command = Command::new("openssl");
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {}", args.join(" "));
        String::from_utf8(output.stdout).unwrap()
    };
    let pem = openssl(
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "",
    );
    let shown = openssl(&["rsa", "-noout", "-modulus"], &pem);
    let digits = shown.trim().strip_prefix("Modulus=").unwrap();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    let n = URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": id, "e": "AQAB", "n": n});
    (pem, jwk)
}

#[test]
fn the_key_of_oktas_service_app_is_replaced_without_a_write_a_restart_or_a_login_lost() {
    let name = "okta-app";
    let [(first, first_jwk), (second, second_jwk)] = ["first", "second"].map(key);
    let organisation = Organisation::takes(&json!({"client_jwks": {"keys": [first_jwk, second_jwk]}}));
    let secrets = [("okta-app-first", &first), ("okta-app-second", &second)]
        .map(|(name, pem)| secret(name, NAMESPACE, &json!({ "privateKey": pem })));
    let key_named =
        |id: &str| json!({"keyId": id, "credentialsSecretRef": {"name": format!("okta-app-{id}")}});
    let mut credentials = key_named("first");
    credentials["credentials"] = json!("OAuth");
    credentials["clientId"] = json!("0oaSIMULATOR0000001");
    let proxy = Proxy::ready(
        name,
        "d-90670000c2",
        ["okta-app-dc-0", "okta-app-dc-1"],
        credentials,
        &secrets.join("\n---\n"),
    );
    let world = proxy.site.world;
    // The key and its id are one change, and so is a Secret with another name.
    let take = |id: &str| {
        let patch = json!({"spec": {"provider": {"okta": key_named(id)}}});
        world.patch_in(NAMESPACE, name, &patch.to_string())
    };
    let refused = organisation.refusals("invalid_client");
    proxy.changed_under_logins(|| take("second"));
    organisation.now_takes(&json!({"client_jwks": {"keys": [second_jwk]}}));
    // Each proxy has to prove itself again.
    world.simulators.okta().revoke().unwrap();
    proxy.goes_on();
    assert_eq!(
        organisation.refusals("invalid_client"),
        refused,
        "Okta refused proofs"
    );
    until_run(world, name, || take("first")).unwrap();
    proxy.is_refused();
}
