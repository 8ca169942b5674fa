//! The configuration as the engine works with it: names looked up, networks sorted, keys made.

use std::collections::BTreeSet;
use std::sync::Arc;

use proxy_config::{Config, Problem, Problems, Provider};

use crate::clients::{Client, Clients};
use crate::dictionary::{self, Attribute, NameError};
use crate::factor::UserName;
use crate::message_authenticator::SecretKey;

/// A configuration whose every name of an attribute is in the dictionary. Cheap to clone.
#[derive(Clone)]
pub struct Settings(Arc<Checked>);

pub(crate) struct Checked {
    pub(crate) config: Arc<Config>,
    pub(crate) clients: Clients,
    pub(crate) exempt: BTreeSet<UserName>,
    pub(crate) provider: ProviderKind,
    /// Types of the attributes passed to an upstream server; sorted. Of a vendor's attribute the whole of
    /// Vendor-Specific with that vendor and type.
    pub(crate) forwarded: Vec<Attribute>,
}

/// What the engine must know of a provider: whether a credential can start a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// Duo, Okta: everything but a passcode can.
    Pushing,
    /// TOTP: nothing can.
    Local,
    /// An upstream server that decides about the password itself, and may well be another push proxy.
    Upstream,
}

impl Settings {
    /// Checks what [`Config::check`] cannot know: names of attributes and their values. `radius-proxy check` and a
    /// reload call it too.
    ///
    /// # Errors
    /// Every attribute that is not in the dictionary or whose value does not fit its type, with the field.
    pub fn check(config: Arc<Config>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let clients: Vec<_> = config
            .clients
            .iter()
            .enumerate()
            .map(|(i, client)| Arc::new(check_client(i, client, &mut problems)))
            .collect();
        let mut forwarded = Vec::new();
        let provider = match &config.provider {
            Provider::Duo(_) | Provider::Okta(_) => ProviderKind::Pushing,
            Provider::Totp(_) => ProviderKind::Local,
            Provider::Radius(upstream) => {
                forwarded = check_names("forward_attributes", &upstream.forward_attributes, &mut problems);
                check_names("return_attributes", &upstream.return_attributes, &mut problems);
                ProviderKind::Upstream
            }
        };
        let exempt = config.policy.exempt.iter().cloned().map(UserName).collect();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self(Arc::new(Checked {
            clients: Clients::new(&clients),
            config,
            exempt,
            provider,
            forwarded,
        })))
    }

    /// Whether both are the same, and not merely alike.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn checked(&self) -> &Checked {
        &self.0
    }
}

fn check_client(i: usize, client: &proxy_config::Client, problems: &mut Vec<Problem>) -> Client {
    let mut problem = |field: String, message: String| problems.push(Problem { field, message });
    let mut accept_attributes = Vec::with_capacity(client.accept_attributes.len());
    for (j, (name, value)) in client.accept_attributes.iter().enumerate() {
        let at = format!("clients[{i}].accept_attributes[{j}]");
        match dictionary::lookup(name).map(|attribute| attribute.encode(value)) {
            Ok(Ok(avp)) => accept_attributes.push(avp),
            Ok(Err(error)) => problem(format!("{at}.value"), error.to_string()),
            Err(error) => problem(format!("{at}.name"), no_attribute(name, error)),
        }
    }
    let user_address = client.user_address_attribute.as_deref().and_then(|name| {
        dictionary::lookup(name)
            .inspect_err(|error| {
                let at = format!("clients[{i}].user_address_attribute");
                problem(at, no_attribute(name, *error));
            })
            .ok()
    });
    let secrets = [Some(&client.secret), client.previous_secret.as_ref()];
    Client {
        name: client.name.as_str().into(),
        secrets: secrets
            .into_iter()
            .flatten()
            .filter_map(|secret| SecretKey::new(secret.clone()).map(Arc::new))
            .collect(),
        accept_attributes,
        user_address,
        config: client.clone(),
    }
}

fn check_names(field: &str, names: &[String], problems: &mut Vec<Problem>) -> Vec<Attribute> {
    let mut found = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        match dictionary::lookup(name) {
            Ok(attribute) => found.push(attribute),
            Err(error) => problems.push(Problem {
                field: format!("provider.radius.{field}[{i}]"),
                message: no_attribute(name, error),
            }),
        }
    }
    found
}

fn no_attribute(name: &str, error: NameError) -> String {
    format!("is {name:?}, which {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_attribute_that_is_not_in_the_dictionary_is_a_problem_with_its_field() {
        let mut config = testing::config("");
        config.clients[0].accept_attributes = vec![
            ("Class".to_owned(), "staff".to_owned()),
            ("Clas".to_owned(), "staff".to_owned()),
            ("Session-Timeout".to_owned(), "long".to_owned()),
            ("26.2636.1".to_owned(), "super-user".to_owned()),
            ("26.2636".to_owned(), "super-user".to_owned()),
            ("Attr-26.2636.2".to_owned(), "0x0".to_owned()),
            ("80".to_owned(), "x".to_owned()),
        ];
        config.clients[0].user_address_attribute = Some("Proxy-State".to_owned());
        let problems = Settings::check(Arc::new(config)).err().unwrap();
        let fields: Vec<_> = problems.0.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "clients[0].accept_attributes[1].name",
                "clients[0].accept_attributes[2].value",
                "clients[0].accept_attributes[4].name",
                "clients[0].accept_attributes[5].value",
                "clients[0].accept_attributes[6].name",
                "clients[0].user_address_attribute",
            ]
        );
    }
}
