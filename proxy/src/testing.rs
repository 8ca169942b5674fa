//! What several unit tests need.

use proxy_config::{ClientName, Config, Secret, file::ConfigFile};

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
