//! Seeds of one-time passwords, and where their used codes are remembered.

use serde_json::json;

use super::world::{World, data};

fn uri(user: &str) -> String {
    format!("otpauth://totp/{user}?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
}

fn other_uri(user: &str) -> String {
    format!("otpauth://totp/{user}?secret=KRSXG5CTMVRXEZLU")
}

fn by_label() -> World {
    let mut world = World::new();
    world.proxy.spec.provider = serde_json::from_value(json!({
        "totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}
    }))
    .unwrap();
    for user in ["jane", "joe"] {
        let seed = data(&[("seed", &uri(user))]);
        world.seeds_by_label.insert(user.to_owned(), seed);
    }
    world
}

/// The users whose seeds the pods can mount.
fn users(world: &World) -> Vec<String> {
    let mut users: Vec<String> = world
        .mountable()
        .iter()
        .filter(|(path, _)| path.starts_with("/etc/radius-proxy/seeds-by-label/"))
        .flat_map(|(_, text)| text.expose_str().unwrap().lines().map(str::to_owned))
        .collect();
    users.sort();
    users
}

#[test]
fn seeds_of_many_secrets_come_to_the_pods_and_go_with_their_secret() {
    let mut world = by_label();
    world.run_until(World::is_ready);
    assert_eq!(users(&world), [uri("jane"), uri("joe")]);
    world.seeds_by_label.remove("jane");
    world.wake();
    world.run_until(|world| users(world).len() == 1 && world.is_ready());
    // The pods keep their names and addresses: the template does not know how many there are.
    assert_eq!(world.aws.writes.len(), 1);
    world.edit(|proxy| {
        proxy.spec.provider =
            serde_json::from_value(json!({"totp": {"seedsSecretRef": {"name": "all"}}})).unwrap();
    });
    world
        .secrets
        .insert("all".to_owned(), data(&[("a", &uri("ann"))]));
    world.wake();
    world.run_until(|world| users(world).is_empty() && world.is_ready());
}

#[test]
fn a_user_in_two_secrets_is_told_once_with_their_names_and_without_a_seed() {
    let mut world = by_label();
    world
        .seeds_by_label
        .insert("extra".to_owned(), data(&[("seed", &other_uri("CORP%5CJane"))]));
    world.run_until(|world| world.condition("Registered").0 == "True");
    let (_, reason, message) = world.condition("SecretsReady");
    assert_eq!(reason, "DuplicateTotpSeed");
    assert!(
        message.contains("user \"jane\" has 2 seeds, in Secret extra and Secret jane")
            && !message.contains("JBSW")
            && !message.contains("KRSX"),
        "{message}"
    );
    let told = |world: &World| {
        world
            .events
            .iter()
            .filter(|event| *event == "DuplicateTotpSeed")
            .count()
    };
    assert_eq!(told(&world), 1);
    world
        .seeds_by_label
        .insert("more".to_owned(), data(&[("seed", &other_uri("joe"))]));
    world.wake();
    world.run_until(|world| world.condition("SecretsReady").2.contains("joe"));
    assert_eq!(told(&world), 2);
    world.seeds_by_label.remove("extra");
    world.seeds_by_label.remove("more");
    world.wake();
    world.run_until(World::is_ready);
}

#[test]
fn nobody_with_the_labels_is_told() {
    let mut world = by_label();
    world.seeds_by_label.clear();
    world.run_until(|world| world.condition("SecretsReady").0 == "False");
    let message = world.condition("SecretsReady").2;
    assert!(message.contains("no Secret has the labels mfa=totp"), "{message}");
}

#[test]
fn the_store_of_used_codes_is_there_before_the_pods_and_theirs_alone() {
    let mut world = by_label();
    world.run_until(World::is_ready);
    let map = &world.objects[&("ConfigMap".to_owned(), "mfa-radius-used-7".to_owned())];
    assert!(map.get("data").is_none(), "{map}");
    let rules = &world.objects[&("Role".to_owned(), "mfa".to_owned())]["rules"];
    assert_eq!(rules[1]["resources"], json!(["configmaps"]));
    assert_eq!(rules[1]["verbs"], json!(["get", "patch"]));
    assert_eq!(rules[1]["resourceNames"].as_array().unwrap().len(), 8);
    let config =
        world.objects[&("ConfigMap".to_owned(), "mfa-radius-config".to_owned())]["data"]["radius-proxy.toml"]
            .as_str()
            .unwrap()
            .to_owned();
    assert!(config.contains("mfa-radius-used-7"), "{config}");
    world.edit(|proxy| {
        let totp = proxy.spec.provider.totp.as_mut().unwrap();
        totp.used_codes = serde_json::from_value(json!({
            "whenUnavailable": "Deny",
            "redis": {"address": "valkey:6379", "passwordSecretRef": {"name": "valkey", "key": "password"}},
        }))
        .unwrap();
    });
    world.run_until(|world| world.condition("SecretsReady").1 == "SecretMissing");
    world
        .secrets
        .insert("valkey".to_owned(), data(&[("password", "hunter2\n")]));
    world.wake();
    world.run_until(World::is_ready);
    let rules = &world.objects[&("Role".to_owned(), "mfa".to_owned())]["rules"];
    assert_eq!(rules.as_array().unwrap().len(), 1);
    let password = "/etc/radius-proxy/provider/redis-password";
    assert_eq!(world.mountable()[password].expose(), b"hunter2");
}

#[test]
fn radius_is_switched_on_once_a_user_has_a_seed() {
    let mut world = by_label();
    let seeds = std::mem::take(&mut world.seeds_by_label);
    world.run_for(std::time::Duration::from_secs(300));
    assert_eq!(world.aws.writes.len(), 0);
    assert_eq!(world.condition("Registered").1, "Blocked");
    let (_, reason, message) = world.condition("SecretsReady");
    assert_eq!(reason, "TotpSeedsMalformed");
    assert!(message.contains("No user can log in"), "{message}");
    world.seeds_by_label = seeds;
    world.wake();
    world.run_until(|world| world.aws.writes.len() == 1);
}
