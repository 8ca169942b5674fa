//! The manifest of Secrets with seeds.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proxy_config::Secret;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Enrolled;
use crate::cli::EnrolArgs;
use crate::error::Error;

/// The longest name of a Secret.
const MAX_NAME: usize = 253;
/// What a Secret may hold, with room for its metadata (1 MiB).
const MAX_SECRET: usize = 1_000_000;

/// A Secret, as the Kubernetes API takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    #[serde(rename = "type")]
    kind_of_secret: &'static str,
    data: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

/// One Secret with everybody's lines, or one for each user.
///
/// # Errors
/// Names that Kubernetes does not take, or more users than one Secret holds.
pub(super) fn write(name: &str, args: &EnrolArgs, enrolled: &[Enrolled]) -> Result<Secret, Error> {
    if !is_dns_name(name) || !args.namespace.as_deref().is_none_or(is_dns_name) {
        return Err(Error::Enrol(
            "--secret-name and --namespace must be names that Kubernetes takes: a-z, 0-9, '-' and '.', beginning and \
             ending with a letter or digit, at most 253"
                .to_owned(),
        ));
    }
    let mut yaml = String::new();
    if args.per_user {
        let mut names = BTreeSet::new();
        for each in enrolled {
            let own = own_name(name, &each.user);
            if !names.insert(own.clone()) {
                return Err(Error::Enrol(format!("two users would share Secret {own}")));
            }
            if !yaml.is_empty() {
                yaml.push_str("---\n");
            }
            secret(&mut yaml, &own, args, "seed", std::slice::from_ref(each))?;
        }
    } else {
        let key = match (enrolled, &args.user) {
            ([each], Some(_)) => file_name(&each.user),
            _ => "users".to_owned(),
        };
        secret(&mut yaml, name, args, &key, enrolled)?;
    }
    Ok(Secret::new(yaml.into_bytes()))
}

fn secret(
    yaml: &mut String,
    name: &str,
    args: &EnrolArgs,
    key: &str,
    enrolled: &[Enrolled],
) -> Result<(), Error> {
    let mut lines = String::new();
    for line in enrolled.iter().flat_map(Enrolled::lines) {
        lines.push_str(line);
        lines.push('\n');
    }
    if lines.len() > MAX_SECRET {
        return Err(Error::Enrol(format!(
            "{} users make a Secret of {} bytes, and 1,000,000 fit beside its metadata into the 1 MiB that Kubernetes takes: give a shorter list, or use --per-user",
            enrolled.len(),
            lines.len()
        )));
    }
    let manifest = Manifest {
        api_version: "v1",
        kind: "Secret",
        metadata: Metadata {
            name,
            namespace: args.namespace.as_deref(),
            labels: args
                .label
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        },
        kind_of_secret: "Opaque",
        data: [(key, BASE64.encode(&lines))].into(),
    };
    // Every string that YAML could take for something else is quoted, also by the rules of YAML 1.1, which kubectl has.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&manifest, options)
        .map_err(|error| Error::Enrol(format!("the manifest cannot be written: {error}")))?;
    yaml.push_str(&Zeroizing::new(text));
    Ok(())
}

/// What a key of a Secret may hold, and no dot at its beginning (such files are passed over).
fn file_name(user: &str) -> String {
    let name: String = user
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect();
    format!("user-{name}")
}

/// `NAME-user`. A user whose name Kubernetes does not take as it is gets a digest of it behind, the same each time: so a
/// new key replaces the old one.
fn own_name(name: &str, user: &str) -> String {
    let own = format!("{name}-{user}");
    if is_dns_name(&own) {
        return own;
    }
    let safe: String = user
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let digest = hex::encode(Sha256::digest(user.to_lowercase()));
    let digest = digest.get(..8).unwrap_or_default();
    let head: String = name.chars().take(MAX_NAME - 60).collect();
    format!("{head}-{}-{digest}", safe.trim_matches('-'))
}

fn is_dns_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_NAME).contains(&name.len())
        && name.split('.').all(|part| {
            part.bytes().all(|b| good(b) || b == b'-')
                && part.bytes().next().is_some_and(good)
                && part.bytes().last().is_some_and(good)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Qr;
    use crate::provider::totp::{Algorithm, Digits};

    fn args(user: Option<&str>) -> EnrolArgs {
        EnrolArgs {
            user: user.map(str::to_owned),
            csv: None,
            issuer: "Corp".to_owned(),
            digits: Digits::SIX,
            period: 30,
            algorithm: Algorithm::Sha1,
            secret_name: Some("seeds".to_owned()),
            namespace: Some("mfa".to_owned()),
            per_user: user.is_none(),
            label: vec![("mfa.example.com/totp".to_owned(), "yes".to_owned())],
            scratch: 0,
            qr: Qr::Auto,
        }
    }

    fn enrolled(user: &str) -> Enrolled {
        Enrolled {
            user: user.to_owned(),
            uri: Secret::new(format!("otpauth://totp/{user}?secret=GEZDGNBVGY3TQOJQ").into_bytes()),
            scratch: Some(Secret::new(b"scratch:x:1234567890".to_vec())),
        }
    }

    fn yaml(args: &EnrolArgs, users: &[&str]) -> String {
        let enrolled: Vec<Enrolled> = users.iter().map(|user| enrolled(user)).collect();
        let yaml = write("seeds", args, &enrolled).unwrap();
        yaml.expose_str().unwrap().to_owned()
    }

    #[test]
    fn the_manifest_holds_the_lines_of_the_seed_file() {
        let yaml = yaml(&args(Some("CORP\\Jane")), &["CORP\\Jane"]);
        let lines = "otpauth://totp/CORP\\Jane?secret=GEZDGNBVGY3TQOJQ\nscratch:x:1234567890\n";
        assert!(
            yaml.contains(&format!("  user-CORP_Jane: {}\n", BASE64.encode(lines))),
            "{yaml}"
        );
        assert!(yaml.starts_with("apiVersion: v1\nkind: Secret\n"), "{yaml}");
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(
            read["metadata"],
            serde_json::json!({"name": "seeds", "namespace": "mfa", "labels": {"mfa.example.com/totp": "yes"}})
        );
        assert!(write("No Good", &args(None), &[]).is_err());
    }

    #[test]
    fn what_yaml_could_take_for_something_else_stays_a_string() {
        let words = [
            "no",
            "yes",
            "on",
            "off",
            "y",
            "n",
            "true",
            "null",
            "2024",
            "007",
            "0o7",
            "0x1f",
            "1e3",
            "1.5",
            "1_000",
            "12e03",
            "2024-01-01",
            "0b1",
            "0.1e1",
        ];
        for word in words {
            let args = EnrolArgs {
                namespace: is_dns_name(word).then(|| word.to_owned()),
                label: vec![(word.to_owned(), word.to_owned())],
                per_user: false,
                ..args(None)
            };
            let name = if is_dns_name(word) { word } else { "seeds" };
            let yaml = write(name, &args, &[enrolled("jane")]).unwrap();
            let yaml = yaml.expose_str().unwrap();
            let quoted = |text: &str| text.starts_with('"') || text.starts_with('\'');
            for line in yaml.lines().skip_while(|line| *line != "metadata:").skip(1) {
                let (key, value) = line.trim().split_once(':').unwrap();
                if line.starts_with("    ") {
                    assert!(quoted(key) && quoted(value.trim()), "{yaml}");
                } else if value.trim() != "seeds" && ["name", "namespace"].contains(&key) {
                    assert!(quoted(value.trim()), "{yaml}");
                }
            }
            let read: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(
                (&read["metadata"]["name"], &read["metadata"]["labels"][word]),
                (&name.into(), &word.into())
            );
        }
    }

    #[test]
    fn each_user_can_have_a_secret_of_a_name_that_stays() {
        let yaml = yaml(&args(None), &["joe", "CORP\\Jane", "jane@corp.example"]);
        let names: Vec<&str> = yaml
            .lines()
            .filter_map(|line| line.strip_prefix("  name: "))
            .collect();
        assert_eq!((names.len(), names[0]), (3, "seeds-joe"));
        assert!(
            names[1].starts_with("seeds-corp-jane-") && names.iter().all(|name| is_dns_name(name)),
            "{names:?}"
        );
        assert_eq!(own_name("seeds", "CORP\\Jane"), names[1]);
        assert_eq!(yaml.matches("---\n").count(), 2);
    }

    #[test]
    fn more_than_a_secret_holds_is_refused_with_the_way_out() {
        let many: Vec<Enrolled> = (0..20_000).map(|i| enrolled(&format!("user{i}"))).collect();
        let error = write(
            "seeds",
            &EnrolArgs {
                per_user: false,
                ..args(None)
            },
            &many,
        )
        .unwrap_err();
        assert!(error.to_string().contains("--per-user"), "{error}");
    }
}
