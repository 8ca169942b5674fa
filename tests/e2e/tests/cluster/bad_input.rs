//! Bad input: each shows as a condition with its own reason and a next step, and heals when the cause is gone.

use serde_json::{Value, json};

use crate::site::{Site, secret};
use crate::world::{BOB, World, world};

const NS: &str = "bad";

/// A small RadiusProxy with TOTP; its seeds are bob's, in a Secret of its own.
pub fn totp_proxy(name: &str, namespace: &str, directory: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-seeds, namespace: {namespace}}}\nstringData:\n  \
         bob: {BOB}\n---\napiVersion: radius-mfa.dev/v1alpha1\nkind: RadiusProxy\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  replicas: 1\n  directory:\n    id: {directory}\n    region: eu-central-1\n    \
         timeoutSeconds: 5\n    retries: 1\n  provider:\n    totp:\n      seedsSecretRef: {{name: {name}-seeds}}\n"
    )
}

/// What a test here begins with: an id without a directory, and the namespace.
fn site(directory: &'static str) -> Site {
    let site = Site::new(directory);
    site.world.kubectl.ensure_namespace(NS).unwrap();
    site
}

/// With the directory there, and granted.
fn granted(directory: &'static str, grant: &str) -> Site {
    let site = site(directory);
    site.directory_of_type("MicrosoftAD");
    site.grant(grant, NS);
    site
}

/// Faults of the simulated AWS, gone when this goes, also when a test fails: the next one shall not suffer from it.
pub struct Faults<'a>(&'a World);

impl<'a> Faults<'a> {
    pub fn set(world: &'a World, faults: &Value) -> Self {
        let set = Self(world);
        set.change(faults);
        set
    }

    pub fn change(&self, faults: &Value) {
        self.0.simulators.directory().set_faults(faults).unwrap();
    }
}

impl Drop for Faults<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.simulators.directory().set_faults(&json!([])) {
            eprintln!("the faults are still there: {error:#}");
        }
    }
}

#[test]
fn a_namespace_without_a_grant_is_told_whom_to_ask_and_heals() {
    let id = "d-90670000b1";
    let site = site(id);
    site.directory_of_type("MicrosoftAD");
    site.apply(NS, &totp_proxy("nogrant", NS, id));
    let message = site.world.reason(NS, "nogrant", "Accepted", "False", "NoGrant");
    assert!(
        message.contains("DirectoryGrant") && message.contains(NS) && message.contains(id),
        "{message}"
    );
    site.grant("nogrant", NS);
    site.world.ready(NS, "nogrant").unwrap();
}

#[test]
fn a_missing_secret_a_missing_key_and_a_short_secret_are_named_and_heal() {
    let id = "d-90670000b2";
    let site = granted(id, "secrets");
    let world = site.world;
    let manifest = totp_proxy("secrets", NS, id).replace(
        "  provider:\n",
        "  sharedSecretRef: {name: own-secret, key: radius}\n  provider:\n",
    );
    site.apply(NS, &manifest);
    let message = world.reason(NS, "secrets", "SecretsReady", "False", "SecretMissing");
    assert!(message.contains("own-secret"), "{message}");
    let secret = |key: &str, value: &str| site.apply(NS, &secret("own-secret", NS, &json!({ key: value })));
    secret("other", "a long enough secret");
    let message = world.reason(NS, "secrets", "SecretsReady", "False", "SecretKeyMissing");
    assert!(
        message.contains("own-secret") && message.contains("radius"),
        "{message}"
    );
    secret("radius", "");
    world.reason(NS, "secrets", "SecretsReady", "False", "SharedSecretInvalid");
    secret("radius", "short7!");
    let message = world.reason(NS, "secrets", "SecretsReady", "False", "SharedSecretInvalid");
    assert!(
        message.contains("8 to 512") && !message.contains("short7!"),
        "{message}"
    );
    secret("radius", "a long enough secret");
    world.ready(NS, "secrets").unwrap();
}

#[test]
fn a_directory_that_is_not_there_or_has_no_radius_is_told() {
    let id = "d-90670000b3";
    let site = site(id);
    let world = site.world;
    site.grant("nodir", NS);
    site.apply(NS, &totp_proxy("nodir", NS, id));
    let message = world.reason(NS, "nodir", "Accepted", "False", "DirectoryNotFound");
    assert!(
        message.contains(id) && message.contains("eu-central-1"),
        "{message}"
    );
    site.directory_of_type("SimpleAD");
    let message = world.reason(NS, "nodir", "Accepted", "False", "DirectoryTypeUnsupported");
    assert!(message.contains("SimpleAD"), "{message}");
    site.directory_of_type("MicrosoftAD");
    world.ready(NS, "nodir").unwrap();
}

#[test]
fn what_aws_refuses_is_told_and_heals() {
    let id = "d-90670000b4";
    let site = granted(id, "refused");
    let world = site.world;
    let fault =
        |code: &str| json!([{"operation": "EnableRadius", "directory": id, "kind": "error", "code": code}]);
    let faults = Faults::set(world, &fault("AccessDeniedException"));
    site.apply(NS, &totp_proxy("refused", NS, id));
    let message = world.reason(NS, "refused", "Registered", "False", "AwsAccessDenied");
    assert!(message.contains("ds:EnableRadius"), "{message}");
    faults.change(&fault("ThrottlingException"));
    world.reason(NS, "refused", "Registered", "False", "AwsThrottled");
    drop(faults);
    world.ready(NS, "refused").unwrap();
}

#[test]
fn a_malformed_seed_costs_one_user_and_is_named_without_its_text() {
    let id = "d-90670000b5";
    let site = granted(id, "seeds");
    let world = site.world;
    site.apply(NS, &totp_proxy("seeds", NS, id));
    world.ready(NS, "seeds").unwrap();
    let seeds = |eve: &str| site.apply(NS, &secret("seeds-seeds", NS, &json!({"bob": BOB, "eve": eve})));
    seeds("otpauth://totp/eve?secret=NOT!BASE32SECRET");
    let message = world.reason(NS, "seeds", "SecretsReady", "False", "TotpSeedsMalformed");
    assert!(
        message.contains("eve") && !message.contains("BASE32SECRET"),
        "{message}"
    );
    seeds("otpauth://totp/eve?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP");
    world.ready(NS, "seeds").unwrap();
}

#[test]
fn wrong_credentials_of_the_operator_are_told_and_heal() {
    let id = "d-90670000b6";
    let site = granted(id, "credentials");
    let world = site.world;
    world.both_ready().unwrap();
    let fault = json!([{"operation": "*", "directory": id, "kind": "error", "code": "UnrecognizedClientException"},
        {"operation": "DescribeDirectories", "kind": "error", "code": "UnrecognizedClientException"}]);
    let faults = Faults::set(world, &fault);
    site.apply(NS, &totp_proxy("credentials", NS, id));
    let message = world.reason(NS, "credentials", "Accepted", "Unknown", "AwsCredentialsInvalid");
    assert!(message.to_lowercase().contains("credentials"), "{message}");
    // Those that are registered stay so: their proxies go on answering.
    assert_eq!(world.login("dc-0", "alice", "push").outcome, "accept");
    drop(faults);
    world.ready(NS, "credentials").unwrap();
}

#[test]
fn wrong_duo_keys_refuse_logins_with_a_reason_and_heal() {
    let world = world();
    world.both_ready().unwrap();
    let (ikey, right) = e2e::DuoProxy::KEYS;
    let keys = |skey: &str| {
        let secret = e2e::DuoProxy::keys((ikey, skey));
        world.kubectl.apply(&secret).unwrap();
    };
    keys("wrongwrongwrongwrongwrongwrongwrongwrong");
    // Before anybody logs in.
    let message = world.reason(
        e2e::NAMESPACE,
        "workspaces",
        "SecretsReady",
        "False",
        "ProviderCredentialsRefused",
    );
    assert!(message.contains("Secret duo"), "{message}");
    e2e::until(
        "logins to be refused for the keys",
        crate::world::PATIENCE,
        || {
            let login = world.login("dc-0", "user3", "push");
            let logs = world.proxy_logs(e2e::DuoProxy::NAME);
            let told = logs.contains("\"reason\":\"provider_credentials\"");
            Ok(if login.outcome == "reject" && told {
                Ok(())
            } else {
                Err(login.outcome)
            })
        },
    )
    .unwrap();
    keys(right);
    e2e::until("logins to work again", crate::world::PATIENCE, || {
        let login = world.login("dc-0", "user4", "push");
        Ok(if login.outcome == "accept" {
            Ok(())
        } else {
            Err(login.outcome)
        })
    })
    .unwrap();
    world.both_ready().unwrap();
}
