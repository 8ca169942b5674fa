//! Bad input: each shows as a condition with its own reason and a next step, and heals when the cause is gone.

use serde_json::{Value, json};

use crate::world::{BOB, World, world};

const NS: &str = "bad";

/// A grant for a directory.
pub fn grant(name: &str, namespace: &str, directory: &str) -> String {
    format!(
        "apiVersion: radius-mfa.dev/v1alpha1\nkind: DirectoryGrant\nmetadata: {{name: {name}}}\nspec:\n  \
         namespaces: [{namespace}]\n  directoryIds: [{directory}]\n  region: eu-central-1\n"
    )
}

/// A small RadiusProxy with TOTP; its seeds are bob's, in a Secret of its own.
pub fn totp_proxy(name: &str, namespace: &str, directory: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-seeds, namespace: {namespace}}}\nstringData:\n  \
         bob: {BOB}\n---\napiVersion: radius-mfa.dev/v1alpha1\nkind: RadiusProxy\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  replicas: 1\n  directory:\n    id: {directory}\n    region: eu-central-1\n    \
         timeoutSeconds: 5\n    retries: 1\n  provider:\n    totp:\n      seedsSecretRef: {{name: {name}-seeds}}\n"
    )
}

fn directory(world: &World, id: &str, kind: &str) {
    let spec =
        json!({"type": kind, "name": "bad.example.com", "static_controllers": [{"address": "10.9.9.9"}]});
    world.simulators.directory().put_directory(id, &spec).unwrap();
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

/// Removes a RadiusProxy that a test made.
fn remove(world: &World, name: &str) {
    world
        .kubectl
        .run(&["-n", NS, "delete", "rp", name, "--timeout=120s"])
        .unwrap();
}

#[test]
fn a_namespace_without_a_grant_is_told_whom_to_ask_and_heals() {
    let world = world();
    world.kubectl.ensure_namespace(NS).unwrap();
    directory(world, "d-90670000b1", "MicrosoftAD");
    world
        .kubectl
        .apply(&totp_proxy("nogrant", NS, "d-90670000b1"))
        .unwrap();
    let message = world.reason(NS, "nogrant", "Accepted", "False", "NoGrant");
    assert!(
        message.contains("DirectoryGrant") && message.contains(NS) && message.contains("d-90670000b1"),
        "{message}"
    );
    world
        .kubectl
        .apply(&grant("nogrant", NS, "d-90670000b1"))
        .unwrap();
    world.ready(NS, "nogrant").unwrap();
    remove(world, "nogrant");
}

#[test]
fn a_missing_secret_a_missing_key_and_a_short_secret_are_named_and_heal() {
    let world = world();
    world.kubectl.ensure_namespace(NS).unwrap();
    directory(world, "d-90670000b2", "MicrosoftAD");
    world
        .kubectl
        .apply(&grant("secrets", NS, "d-90670000b2"))
        .unwrap();
    let manifest = totp_proxy("secrets", NS, "d-90670000b2").replace(
        "  provider:\n",
        "  sharedSecretRef: {name: own-secret, key: radius}\n  provider:\n",
    );
    world.kubectl.apply(&manifest).unwrap();
    let message = world.reason(NS, "secrets", "SecretsReady", "False", "SecretMissing");
    assert!(message.contains("own-secret"), "{message}");
    let secret = |key: &str, value: &str| {
        world
            .kubectl
            .apply(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: own-secret, namespace: {NS}}}\nstringData: {{{key}: \
                 \"{value}\"}}\n"
            ))
            .unwrap();
    };
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
    remove(world, "secrets");
}

#[test]
fn a_directory_that_is_not_there_or_has_no_radius_is_told() {
    let world = world();
    world.kubectl.ensure_namespace(NS).unwrap();
    world.kubectl.apply(&grant("nodir", NS, "d-90670000b3")).unwrap();
    world
        .kubectl
        .apply(&totp_proxy("nodir", NS, "d-90670000b3"))
        .unwrap();
    let message = world.reason(NS, "nodir", "Accepted", "False", "DirectoryNotFound");
    assert!(
        message.contains("d-90670000b3") && message.contains("eu-central-1"),
        "{message}"
    );
    directory(world, "d-90670000b3", "SimpleAD");
    let message = world.reason(NS, "nodir", "Accepted", "False", "DirectoryTypeUnsupported");
    assert!(message.contains("SimpleAD"), "{message}");
    directory(world, "d-90670000b3", "MicrosoftAD");
    world.ready(NS, "nodir").unwrap();
    remove(world, "nodir");
}

#[test]
fn what_aws_refuses_is_told_and_heals() {
    let world = world();
    world.kubectl.ensure_namespace(NS).unwrap();
    let id = "d-90670000b4";
    directory(world, id, "MicrosoftAD");
    world.kubectl.apply(&grant("refused", NS, id)).unwrap();
    let fault =
        |code: &str| json!([{"operation": "EnableRadius", "directory": id, "kind": "error", "code": code}]);
    let faults = Faults::set(world, &fault("AccessDeniedException"));
    world.kubectl.apply(&totp_proxy("refused", NS, id)).unwrap();
    let message = world.reason(NS, "refused", "Registered", "False", "AwsAccessDenied");
    assert!(message.contains("ds:EnableRadius"), "{message}");
    faults.change(&fault("ThrottlingException"));
    world.reason(NS, "refused", "Registered", "False", "AwsThrottled");
    drop(faults);
    world.ready(NS, "refused").unwrap();
    remove(world, "refused");
}

#[test]
fn a_malformed_seed_costs_one_user_and_is_named_without_its_text() {
    let world = world();
    world.kubectl.ensure_namespace(NS).unwrap();
    let id = "d-90670000b5";
    directory(world, id, "MicrosoftAD");
    world.kubectl.apply(&grant("seeds", NS, id)).unwrap();
    world.kubectl.apply(&totp_proxy("seeds", NS, id)).unwrap();
    world.ready(NS, "seeds").unwrap();
    let seeds = |eve: &str| {
        world
            .kubectl
            .apply(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: seeds-seeds, namespace: {NS}}}\nstringData:\n  bob: {BOB}\n  \
                 eve: \"{eve}\"\n"
            ))
            .unwrap();
    };
    seeds("otpauth://totp/eve?secret=NOT!BASE32SECRET");
    let message = world.reason(NS, "seeds", "SecretsReady", "False", "TotpSeedsMalformed");
    assert!(
        message.contains("eve") && !message.contains("BASE32SECRET"),
        "{message}"
    );
    seeds("otpauth://totp/eve?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP");
    world.ready(NS, "seeds").unwrap();
    remove(world, "seeds");
}

#[test]
fn wrong_credentials_of_the_operator_are_told_and_heal() {
    let world = world();
    world.both_ready().unwrap();
    world.kubectl.ensure_namespace(NS).unwrap();
    let id = "d-90670000b6";
    directory(world, id, "MicrosoftAD");
    world.kubectl.apply(&grant("credentials", NS, id)).unwrap();
    let fault = json!([{"operation": "*", "directory": id, "kind": "error", "code": "UnrecognizedClientException"},
        {"operation": "DescribeDirectories", "kind": "error", "code": "UnrecognizedClientException"}]);
    let faults = Faults::set(world, &fault);
    world.kubectl.apply(&totp_proxy("credentials", NS, id)).unwrap();
    let message = world.reason(NS, "credentials", "Accepted", "Unknown", "AwsCredentialsInvalid");
    assert!(message.to_lowercase().contains("credentials"), "{message}");
    // Those that are registered stay so: their proxies go on answering.
    assert_eq!(world.login("dc-0", "alice", "push").outcome, "accept");
    drop(faults);
    world.ready(NS, "credentials").unwrap();
    remove(world, "credentials");
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
