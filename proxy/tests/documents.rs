//! What the documentation and the examples show is what the program takes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where it finds something wrong"
)]

use std::fs;
use std::path::Path;

use proxy_config::file::{ConfigFile, NamedFile};
use proxy_config::{Config, Secret};
use proxy_core::Settings;
use proxy_core::counters::{DropReason, Event};
use proxy_core::factor::RefusalReason;
use proxy_core::record::Reason;

fn check(name: &str, text: &str) {
    let file = ConfigFile::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let contents = file
        .named_files()
        .into_iter()
        .filter_map(|named| match named {
            NamedFile::File(path) => {
                let text: &[u8] = match path.as_str() {
                    "peers" => b"proxy-2.example.com:1814",
                    _ => b"something that is secret and long enough",
                };
                Some((path, Secret::new(text.to_vec())))
            }
            NamedFile::Folder(_) => None,
        })
        .collect();
    let config = Config::check(&file, &contents).unwrap_or_else(|problems| panic!("{name}: {problems}"));
    Settings::check(config.into()).unwrap_or_else(|problems| panic!("{name}: {problems}"));
}

#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/standalone");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            check(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn the_file_that_the_documentation_explains_is_valid_with_either_provider() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/standalone.md");
    let page = fs::read_to_string(page).unwrap();
    let text = page
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    check("standalone.md", text);
    let duo = text
        .replace("[provider.totp]", "[ignored]")
        .lines()
        .filter(|line| {
            !line.starts_with("[ignored]")
                && !line.starts_with("seed_folders")
                && !line.starts_with("skew_steps")
        })
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|l| !l.starts_with("delimiter") && !l.starts_with("passcode_"))
                .unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n")
        .replace("-----BEGIN CERTIFICATE-----…", "-----BEGIN CERTIFICATE-----");
    check("standalone.md with Duo", &duo);
}

#[test]
fn the_store_that_the_documentation_explains_is_valid() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/standalone.md");
    let page = fs::read_to_string(page).unwrap();
    let store = page
        .split("```toml\n")
        .nth(2)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let text = format!(
        "[server]\ndigest_key_file = \"key\"\n[provider.totp]\nseed_folders = [\"seeds\"]\n{store}\n[[clients]]\n\
         name = \"vpn\"\nnetworks = [\"10.0.0.1\"]\nsecret_files = [\"secret\"]"
    );
    check("standalone.md, the store", &text);
}

#[test]
fn every_reason_and_event_is_in_the_documentation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    let page = fs::read_to_string(page).unwrap();
    let sections: Vec<&str> = page.split("\n## ").collect();
    let [_, logins, drops, events] = sections[..] else {
        panic!("three sections");
    };
    let named = |section: &str, name: &str| {
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        rows.filter_map(|row| row.split(" |").next())
            .any(|cell| cell.contains(&format!("`{name}`")))
    };
    let others = [
        Reason::LateApproval,
        Reason::Superseded,
        Reason::HandedOver,
        Reason::CodeAsked,
    ];
    let of_logins = RefusalReason::ALL.iter().map(|reason| reason.name());
    let of_logins = of_logins.chain(others.iter().map(|reason| reason.name()));
    let of_drops = DropReason::ALL.iter().map(|reason| reason.name());
    let of_events = Event::ALL.iter().map(|event| event.name());
    let missing: Vec<&str> = (of_logins.filter(|name| !named(logins, name)))
        .chain(of_drops.filter(|name| !named(drops, name)))
        .chain(of_events.filter(|name| !named(events, name)))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
