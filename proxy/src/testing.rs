//! What several unit tests need.

use proxy_config::{ClientName, Config, PeerKey, Secret, file::ConfigFile};

pub(crate) const CONFIG: &str = r#"
[provider.totp]
seed_folders = ["seeds"]

[[clients]]
name = "lab"
networks = ["127.0.0.0/8"]
secret_files = ["secret"]
"#;

pub(crate) fn client_name() -> ClientName {
    let file = ConfigFile::parse(CONFIG).unwrap();
    let contents = [("secret".to_owned(), Secret::new(b"a shared secret".to_vec()))].into();
    let config = Config::check(&file, &contents).unwrap();
    config.clients.into_iter().next().unwrap().name
}

pub(crate) fn peer_key(text: &str) -> PeerKey {
    let peers = "[server.peers]\nlisten = \"[::]:1\"\naddresses = [\"x:1\"]\nkey_file = \"key\"\n";
    let file = ConfigFile::parse(&format!("{peers}{CONFIG}")).unwrap();
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let contents = [
        ("secret".to_owned(), secret("a shared secret")),
        ("key".to_owned(), secret(text)),
    ];
    Config::check(&file, &contents.into()).unwrap().peers.unwrap().key
}
