//! Which Secrets a spec refers to.

use std::collections::BTreeSet;

use crate::api::{BasicAuthSecretRef, RadiusProxySpec, SeedsSelector};

/// The label selector for Secrets in the namespace of the RadiusProxy. The caller lists and watches them in addition to
/// [`named_by`].
#[must_use]
pub fn seeds_selector(spec: &RadiusProxySpec) -> Option<&SeedsSelector> {
    spec.provider.totp.as_ref()?.seeds_selector.as_ref()
}

/// Names of the Secrets that a spec refers to, in the namespace of the RadiusProxy. The caller reads and watches them.
#[must_use]
pub fn named_by(spec: &RadiusProxySpec) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    names.extend(spec.shared_secret_ref.iter().map(|r| r.name.clone()));
    names.extend(spec.clients.iter().map(|c| c.secret_ref.name.clone()));
    let provider = &spec.provider;
    names.extend(provider.duo.iter().map(|p| p.credentials_secret_ref.name.clone()));
    names.extend(
        provider
            .okta
            .iter()
            .map(|p| p.credentials_secret_ref.name.clone()),
    );
    names.extend(proxy_secret(spec).map(|(_, secret)| secret.name.clone()));
    if let Some(totp) = &provider.totp {
        names.extend(totp.seeds_secret_ref.iter().map(|r| r.name.clone()));
        let redis = totp.used_codes.redis.as_ref();
        names.extend(
            redis
                .and_then(|r| r.password_secret_ref.as_ref())
                .map(|r| r.name.clone()),
        );
    }
    names.extend(
        provider
            .radius
            .iter()
            .flat_map(|p| p.servers.iter().map(|s| s.secret_ref.name.clone())),
    );
    names
}

/// The Secret for the HTTP proxy, and the provider whose it is.
pub(super) fn proxy_secret(spec: &RadiusProxySpec) -> Option<(&'static str, &BasicAuthSecretRef)> {
    let (duo, okta) = (spec.provider.duo.as_ref(), spec.provider.okta.as_ref());
    let duo = duo.and_then(|duo| Some(("duo", duo.http_proxy_secret_ref.as_ref()?)));
    duo.or_else(|| Some(("okta", okta?.http_proxy_secret_ref.as_ref()?)))
}
