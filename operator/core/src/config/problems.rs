//! Problems of the configuration file, with the names of the spec's fields.

use proxy_config::Problem;

use super::ConfigProblem;
use crate::api::RadiusProxySpec;
use crate::conditions::Reason;

/// Problems of the file, with the names that the spec has for its fields.
pub(super) fn in_terms_of_the_spec(problems: &[Problem], spec: &RadiusProxySpec) -> ConfigProblem {
    let of_provider = problems.iter().all(|p| p.field.starts_with("provider."));
    let reason = if of_provider {
        Reason::ProviderConfigInvalid
    } else {
        Reason::ConfigInvalid
    };
    let messages = problems.iter().map(|problem| {
        let message = spec_fields_in(&problem.message);
        format!("{}: {message}", spec_field(&problem.field, spec))
    });
    ConfigProblem {
        reason,
        message: messages.collect::<Vec<_>>().join("; "),
    }
}

/// `clients[1].networks` of the file is `spec.clients[0].networks` when there is a directory, whose client is the first.
fn spec_field(field: &str, spec: &RadiusProxySpec) -> String {
    let index_and_rest = field
        .strip_prefix("clients[")
        .and_then(|rest| rest.split_once(']'));
    let Some((index, rest)) = index_and_rest else {
        return format!("spec.{}", camel(field));
    };
    let shift = usize::from(spec.directory.is_some());
    match index.parse::<usize>().ok().map(|index| index.checked_sub(shift)) {
        Some(Some(index)) => format!("spec.clients[{index}]{}", camel(rest)),
        _ => format!("spec.directory{}", camel(rest)),
    }
}

/// A message, with the policy's fields as the spec names them.
pub(super) fn spec_fields_in(message: &str) -> String {
    let word = |word: &str| match word.strip_prefix("policy.") {
        Some(_) => format!("spec.{}", camel(word)),
        None => word.to_owned(),
    };
    message.split_inclusive(' ').map(word).collect()
}

/// `snake_case` to `camelCase`.
fn camel(field: &str) -> String {
    let mut up = false;
    let mut out = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}
