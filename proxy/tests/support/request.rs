//! A login as a provider sees it.

use std::net::IpAddr;
use std::time::Duration;

use proxy_config::Config;
use proxy_core::factor::{Continues, Credential, FactorRequest, LoginId, UserName};

/// Of a user at the configuration's first client, with a minute of time.
pub fn request(config: &Config, user: &str, credential: Credential) -> FactorRequest {
    FactorRequest {
        login: LoginId(1),
        user: UserName::normalise(user, &config.policy.user_names).unwrap(),
        user_as_sent: user.to_owned(),
        credential,
        client: config.clients[0].name.clone(),
        source: IpAddr::from([10, 0, 0, 7]),
        user_address: None,
        answer_within: Duration::from_secs(60),
        of_use: Duration::from_secs(60),
        proved: true,
        continues: Continues::Untold,
        may_push: true,
        attributes: Vec::new(),
    }
}
