//! `[provider.*]` checked.

use crate::file::{self, ProxyUrl};
use crate::model::{
    ApiHost, Duo, HttpProxy, Okta, OktaCredentials, Provider, ProxyLogin, Upstream, UpstreamServer,
};
use crate::secret::Secret;

use super::{Check, DEFAULT_PROVIDER_HOST_SUFFIXES};

mod totp;

impl Check<'_> {
    /// `keyed` says whether the file names a digest key.
    pub(super) fn provider(
        &mut self,
        raw: &file::Provider,
        suffixes: Option<&[String]>,
        keyed: bool,
    ) -> Option<Provider> {
        let default = DEFAULT_PROVIDER_HOST_SUFFIXES.map(str::to_owned);
        let suffixes = suffixes.unwrap_or(&default);
        match raw {
            file::Provider::Duo(raw) => self.duo(raw, suffixes).map(Provider::Duo),
            file::Provider::Okta(raw) => self.okta(raw, suffixes).map(Provider::Okta),
            file::Provider::Totp(raw) => self.totp(raw, keyed).map(Provider::Totp),
            file::Provider::Radius(raw) => Some(Provider::Radius(self.upstream(raw))),
        }
    }

    fn duo(&mut self, raw: &file::Duo, suffixes: &[String]) -> Option<Duo> {
        let api_host = self.api_host("provider.duo.api_host", &raw.api_host, suffixes);
        let integration_key = self.secret("provider.duo.integration_key_file", &raw.integration_key_file);
        let secret_key = self.secret("provider.duo.secret_key_file", &raw.secret_key_file);
        if raw.factors.is_empty() {
            self.problem(
                "provider.duo.factors",
                "is empty; write [\"auto\"] to let Duo choose",
            );
        }
        Some(Duo {
            api_host: api_host?,
            integration_key: integration_key?,
            secret_key: secret_key?,
            factors: raw.factors.clone(),
            fail_mode: raw.fail_mode,
            signature_version: raw.signature_version,
            http_proxy: self.http_proxy(
                "provider.duo",
                raw.http_proxy.as_ref(),
                raw.http_proxy_username_file.as_deref(),
                raw.http_proxy_password_file.as_deref(),
            ),
            ca_bundle: self.ca_bundle("provider.duo.ca_bundle", raw.ca_bundle.as_deref()),
        })
    }

    fn okta(&mut self, raw: &file::Okta, suffixes: &[String]) -> Option<Okta> {
        let org = match raw.org_url.strip_prefix("https://") {
            Some(host) => self.api_host("provider.okta.org_url", host.trim_end_matches('/'), suffixes),
            None => {
                let message = format!("is {:?}; write https://<your organisation>.okta.com", raw.org_url);
                self.problem("provider.okta.org_url", message);
                None
            }
        };
        let credentials = match &raw.credentials {
            file::OktaCredentials::Token { token_file } => self
                .secret("provider.okta.credentials.token.token_file", token_file)
                .map(OktaCredentials::Token),
            file::OktaCredentials::Oauth {
                client_id,
                private_key_file,
                key_id,
            } => self
                .secret(
                    "provider.okta.credentials.oauth.private_key_file",
                    private_key_file,
                )
                .map(|private_key| OktaCredentials::Oauth {
                    client_id: client_id.clone(),
                    private_key,
                    key_id: key_id.clone(),
                }),
        };
        if raw.factors.is_empty() {
            self.problem(
                "provider.okta.factors",
                "is empty; write [\"push\", \"totp\"] for example",
            );
        }
        Some(Okta {
            org: org?,
            credentials: credentials?,
            factors: raw.factors.clone(),
            login_suffix: raw.login_suffix.clone(),
            fail_mode: raw.fail_mode,
            http_proxy: self.http_proxy(
                "provider.okta",
                raw.http_proxy.as_ref(),
                raw.http_proxy_username_file.as_deref(),
                raw.http_proxy_password_file.as_deref(),
            ),
            ca_bundle: self.ca_bundle("provider.okta.ca_bundle", raw.ca_bundle.as_deref()),
        })
    }

    fn upstream(&mut self, raw: &file::Upstream) -> Upstream {
        if !(1..=8).contains(&raw.servers.len()) {
            let message = format!("names {} servers; it must be 1 to 8", raw.servers.len());
            self.problem("provider.radius.servers", message);
        }
        let servers = raw
            .servers
            .iter()
            .enumerate()
            .filter_map(|(i, s)| self.upstream_server(i, s))
            .collect();
        Upstream {
            servers,
            timeout: self.seconds("provider.radius.timeout_seconds", raw.timeout_seconds, 1..=60),
            tries: self.range("provider.radius.tries", raw.tries, 1..=10),
            require_message_authenticator: raw.require_message_authenticator,
            status_server: raw.status_server,
            forward_attributes: raw.forward_attributes.clone(),
            return_attributes: raw.return_attributes.clone(),
        }
    }

    fn upstream_server(&mut self, i: usize, raw: &file::UpstreamServer) -> Option<UpstreamServer> {
        let at = |field: &str| format!("provider.radius.servers[{i}].{field}");
        let secret = self.shared_secret(at("secret_file"), &raw.secret_file);
        let Some((host, port)) = host_and_port(&raw.address) else {
            self.problem(
                at("address"),
                format!("is {:?}; write host:port, such as 10.0.0.5:1812", raw.address),
            );
            return None;
        };
        if is_link_local(&host) {
            self.problem(
                at("address"),
                format!("is {:?}; a link-local address is refused", raw.address),
            );
        }
        Some(UpstreamServer {
            host,
            port,
            secret: secret?,
        })
    }

    /// A host, with a port or not, that is one of `suffixes` or ends in `.suffix`, and is no link-local address.
    fn api_host(&mut self, field: &str, text: &str, suffixes: &[String]) -> Option<ApiHost> {
        let parsed = url::Url::parse(&format!("https://{text}")).ok().filter(|url| {
            url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
        let Some((host, port)) = parsed
            .as_ref()
            .and_then(|url| Some((url.host_str()?, url.port().unwrap_or(443))))
        else {
            self.problem(
                field,
                format!("is {text:?}; write a host name, such as api-1234abcd.duosecurity.com"),
            );
            return None;
        };
        let allowed = suffixes.iter().any(|suffix| {
            host.strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        if !allowed {
            let message = format!(
                "is {text:?}; the host must be one of, or end in: {}. server.provider_host_suffixes sets others instead of \
                 these (in Kubernetes: proxy.providerHostSuffixes in the chart's values)",
                suffixes.join(", ")
            );
            self.problem(field, message);
        }
        if is_link_local(host) {
            self.problem(field, format!("is {text:?}; a link-local address is refused"));
        }
        Some(ApiHost {
            host: host.to_owned(),
            port,
        })
    }

    fn http_proxy(
        &mut self,
        table: &str,
        written: Option<&ProxyUrl>,
        username: Option<&str>,
        password: Option<&str>,
    ) -> Option<HttpProxy> {
        let login = self.proxy_login(table, username, password);
        let Some(written) = written else {
            if username.or(password).is_some() {
                let message =
                    "is missing, and a file for its user name or password is named; write http://host:port";
                self.problem(format!("{table}.http_proxy"), message);
            }
            return None;
        };
        // The value is not repeated: it may hold a password that was meant for the proxy.
        if let Some(problem) = written.problem() {
            self.problem(format!("{table}.http_proxy"), problem);
        }
        Some(HttpProxy {
            url: written.as_str().to_owned(),
            login,
        })
    }

    fn proxy_login(
        &mut self,
        table: &str,
        username: Option<&str>,
        password: Option<&str>,
    ) -> Option<ProxyLogin> {
        let fields = ["username", "password"].map(|name| format!("{table}.http_proxy_{name}_file"));
        let [name_field, password_field] = &fields;
        match (username, password) {
            (None, None) => return None,
            (Some(_), Some(_)) => {}
            (None, _) => self.problem(
                name_field,
                "is missing; a proxy that wants a password wants a name too",
            ),
            (_, None) => self.problem(
                password_field,
                "is missing; a proxy that wants a name wants a password too",
            ),
        }
        let username = self.text(name_field, username?)?;
        let password = self.text(password_field, password?)?;
        if username.expose().contains(&b':') {
            self.problem(
                name_field,
                "holds a colon, which no user name of an HTTP proxy can have",
            );
        }
        Some(ProxyLogin { username, password })
    }

    /// A secret that goes into a header.
    fn text(&mut self, field: &str, path: &str) -> Option<Secret> {
        let secret = self.secret(field, path)?.trim_end();
        let is_text = secret
            .expose_str()
            .is_ok_and(|text| !text.chars().any(char::is_control));
        if !is_text {
            self.problem(field, format!("the file {path:?} must hold one line of text"));
        }
        Some(secret)
    }

    fn ca_bundle(&mut self, field: &str, text: Option<&str>) -> Option<String> {
        let text = text?;
        if !text.contains("-----BEGIN CERTIFICATE-----") {
            self.problem(
                field,
                "holds no PEM certificate; it must have a BEGIN CERTIFICATE line",
            );
        }
        Some(text.to_owned())
    }
}

/// `host:port`, an IPv6 address in brackets.
fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn is_link_local(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
    literal.is_ok_and(crate::is_link_local)
}
