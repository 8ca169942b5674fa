//! The provider of the configuration file.

use proxy_config::file;

use super::{ConfigInput, PROVIDER_FOLDER, SEEDS_BY_LABEL_FOLDER, SEEDS_FOLDER};
use crate::api::{
    BasicAuthSecretRef, DuoFactor, DuoSignatureVersion, DuoSpec, FailMode, OktaFactor, OktaSpec,
    OktaTokenKind, StoreOutage, TotpSpec,
};
use crate::names::{ObjectNames, USED_CODES_MAPS};
use crate::secrets::{PROXY_PASSWORD, PROXY_USERNAME, REDIS_PASSWORD_FILE, upstream_file};

/// The schema lets exactly one provider through; of several, the first would count.
/// The provider of the spec.
pub(super) fn provider(from: &ConfigInput<'_>) -> file::Provider {
    let provider = &from.spec.provider;
    if let Some(raw) = &provider.duo {
        return file::Provider::Duo(duo(raw));
    }
    if let Some(raw) = &provider.okta {
        return file::Provider::Okta(okta(raw));
    }
    if let Some(raw) = &provider.radius {
        return file::Provider::Radius(file::Upstream {
            servers: raw
                .servers
                .iter()
                .map(|server| file::UpstreamServer {
                    address: server.address.clone(),
                    secret_file: format!("{PROVIDER_FOLDER}/{}", upstream_file(&server.address)),
                })
                .collect(),
            timeout_seconds: raw.timeout_seconds,
            tries: raw.tries,
            require_message_authenticator: raw.require_message_authenticator,
            status_server: raw.status_server,
            forward_attributes: raw.forward_attributes.clone(),
            return_attributes: raw.return_attributes.clone(),
        });
    }
    file::Provider::Totp(totp(provider.totp.as_ref(), from.name))
}

fn totp(raw: Option<&TotpSpec>, name: &str) -> file::Totp {
    let by_label = raw.is_some_and(|totp| totp.seeds_selector.is_some());
    let used = raw.map(|totp| totp.used_codes.clone()).unwrap_or_default();
    let names = ObjectNames::new(name);
    let kubernetes = used.redis.is_none().then(|| file::KubernetesStore {
        config_maps: (0..USED_CODES_MAPS).map(|map| names.used_codes(map)).collect(),
    });
    file::Totp {
        seed_folders: [SEEDS_FOLDER]
            .into_iter()
            .chain(by_label.then_some(SEEDS_BY_LABEL_FOLDER))
            .map(str::to_owned)
            .collect(),
        skew_steps: raw.map_or(1, |totp| totp.skew_steps),
        used_codes: file::UsedCodes {
            when_unavailable: match used.when_unavailable {
                StoreOutage::AcceptOncePerPod => file::StoreOutage::AcceptOncePerPod,
                StoreOutage::Deny => file::StoreOutage::Deny,
            },
            kubernetes,
            redis: used.redis.map(|redis| file::RedisStore {
                address: redis.address,
                tls: redis.tls,
                ca_bundle: redis.ca_bundle,
                username: redis.username,
                password_file: redis
                    .password_secret_ref
                    .map(|_| format!("{PROVIDER_FOLDER}/{REDIS_PASSWORD_FILE}")),
                database: redis.database,
            }),
        },
    }
}

const fn fail_mode(mode: FailMode) -> file::FailMode {
    match mode {
        FailMode::Secure => file::FailMode::Secure,
        FailMode::Safe => file::FailMode::Safe,
    }
}

/// The path of a file with the HTTP proxy's credentials, if the spec names a Secret with them.
fn proxy_file(secret: Option<&BasicAuthSecretRef>, name: &str) -> Option<String> {
    secret.map(|_| format!("{PROVIDER_FOLDER}/{name}"))
}

fn duo(raw: &DuoSpec) -> file::Duo {
    let factor = |factor: &DuoFactor| match factor {
        DuoFactor::Auto => file::DuoFactor::Auto,
        DuoFactor::Push => file::DuoFactor::Push,
        DuoFactor::Phone => file::DuoFactor::Phone,
        DuoFactor::Passcode => file::DuoFactor::Passcode,
        DuoFactor::Sms => file::DuoFactor::Sms,
    };
    file::Duo {
        api_host: raw.api_host.clone(),
        integration_key_file: format!("{PROVIDER_FOLDER}/ikey"),
        secret_key_file: format!("{PROVIDER_FOLDER}/skey"),
        factors: raw.factors.iter().map(factor).collect(),
        fail_mode: fail_mode(raw.fail_mode),
        signature_version: match raw.signature_version {
            DuoSignatureVersion::V2 => file::SignatureVersion::V2,
            DuoSignatureVersion::V5 => file::SignatureVersion::V5,
        },
        http_proxy: raw.http_proxy.clone().map(Into::into),
        http_proxy_username_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_USERNAME),
        http_proxy_password_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_PASSWORD),
        ca_bundle: raw.ca_bundle.clone(),
    }
}

fn okta(raw: &OktaSpec) -> file::Okta {
    let factor = |factor: &OktaFactor| match factor {
        OktaFactor::Push => file::OktaFactor::Push,
        OktaFactor::Totp => file::OktaFactor::Totp,
        OktaFactor::Hardware => file::OktaFactor::Hardware,
        OktaFactor::Sms => file::OktaFactor::Sms,
        OktaFactor::Call => file::OktaFactor::Call,
    };
    let path = format!("{PROVIDER_FOLDER}/{}", raw.credentials.default_key());
    file::Okta {
        org_url: raw.org_url.clone(),
        credentials: match raw.credentials {
            OktaTokenKind::Token => file::OktaCredentials::Token { token_file: path },
            OktaTokenKind::Oauth => file::OktaCredentials::Oauth {
                client_id: raw.client_id.clone().unwrap_or_default(),
                private_key_file: path,
                key_id: raw.key_id.clone(),
            },
        },
        factors: raw.factors.iter().map(factor).collect(),
        login_suffix: raw.login_suffix.clone(),
        fail_mode: fail_mode(raw.fail_mode),
        http_proxy: raw.http_proxy.clone().map(Into::into),
        http_proxy_username_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_USERNAME),
        http_proxy_password_file: proxy_file(raw.http_proxy_secret_ref.as_ref(), PROXY_PASSWORD),
        ca_bundle: raw.ca_bundle.clone(),
    }
}
