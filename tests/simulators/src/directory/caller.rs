//! Who calls, and what they may do.

use jiff::Timestamp;

use super::{exception::Exception, world::World};
use crate::{
    secret::Secret,
    sigv4::{Authorization, Refused, Signed},
};

/// A verified caller.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: String,
    pub(crate) access_key_id: String,
    pub(crate) region: String,
    allow: Vec<String>,
    directories: Vec<String>,
}

/// The built-in pair when the config names none.
const BUILT_IN: &str = "simulator";

struct Key {
    secret: Secret,
    token: Secret,
    expires: Option<Timestamp>,
    principal: String,
    allow: Vec<String>,
    directories: Vec<String>,
}

/// Checks a request's signature for a service.
pub(crate) fn authenticate(
    world: &World,
    request: Signed<'_>,
    service: &str,
    now: Timestamp,
) -> Result<Caller, Exception> {
    let authorization = Authorization::of(request.headers)?;
    let key = find(world, &authorization.access_key_id).ok_or(Refused::UnknownKey)?;
    let token = request
        .headers
        .get("x-amz-security-token")
        .and_then(|value| value.to_str().ok());
    if key.token != Secret::new(token.unwrap_or_default()) {
        return Err(Refused::UnknownKey.into());
    }
    authorization.verify(
        request,
        service,
        key.secret.expose(),
        now,
        world.settings.clock_skew_seconds,
    )?;
    if key.expires.is_some_and(|end| end <= now) {
        let what = "The security token included in the request is expired";
        return Err(Exception::new("ExpiredTokenException", what));
    }
    Ok(Caller {
        principal: key.principal,
        access_key_id: authorization.access_key_id,
        region: authorization.region,
        allow: key.allow,
        directories: key.directories,
    })
}

fn find(world: &World, access_key_id: &str) -> Option<Key> {
    if let Some(credential) = world.credentials.get(access_key_id) {
        return Some(Key {
            secret: credential.secret_access_key.clone(),
            token: credential.session_token.clone(),
            expires: credential.expires_at.parse().ok(),
            principal: credential.principal.clone(),
            allow: credential.allow.clone(),
            directories: credential.directories.clone(),
        });
    }
    if let Some(session) = world
        .sessions
        .iter()
        .find(|session| session.access_key_id == access_key_id)
    {
        // A role that was withdrawn ends its sessions.
        let role = world.roles.iter().find(|role| role.arn == session.role)?;
        return Some(Key {
            secret: session.secret_access_key.clone(),
            token: session.session_token.clone(),
            expires: Some(session.expires),
            principal: session.principal.clone(),
            allow: role.allow.clone(),
            directories: role.directories.clone(),
        });
    }
    (world.credentials.is_empty() && access_key_id == BUILT_IN).then(|| Key {
        secret: Secret::new(BUILT_IN),
        token: Secret::default(),
        expires: None,
        principal: format!("arn:aws:iam::{}:user/{BUILT_IN}", world.settings.account),
        allow: vec!["*".to_owned()],
        directories: vec!["*".to_owned()],
    })
}

impl Caller {
    /// Whether a policy lets the caller do this. `directory` is the resource, where the action has one.
    pub(crate) fn may(&self, action: &str, directory: Option<&str>, account: &str) -> Result<(), Exception> {
        let allowed = self.allow.iter().any(|pattern| matches(pattern, action));
        let within = directory.is_none_or(|id| self.directories.iter().any(|pattern| matches(pattern, id)));
        if allowed && within {
            return Ok(());
        }
        let on = match directory {
            Some(id) => format!("arn:aws:ds:{}:{account}:directory/{id}", self.region),
            None => "*".to_owned(),
        };
        let who = &self.principal;
        Err(Exception::new(
            "AccessDeniedException",
            format!(
                "User: {who} is not authorized to perform: {action} on resource: {on} because no identity-based policy \
                 allows the {action} action"
            ),
        ))
    }
}

/// `*` at the end stands for anything.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(allow: &str, directories: &str) -> Caller {
        Caller {
            principal: "arn:aws:iam::123456789012:user/u".into(),
            access_key_id: "AKID".into(),
            region: "eu-central-1".into(),
            allow: vec![allow.into()],
            directories: vec![directories.into()],
        }
    }

    #[test]
    fn an_action_needs_both_its_name_and_its_directory_allowed() {
        let id = Some("d-0123456789");
        assert!(
            caller("ds:*", "d-0123456789")
                .may("ds:EnableRadius", id, "1")
                .is_ok()
        );
        assert!(
            caller("ds:Describe*", "*")
                .may("ds:EnableRadius", id, "1")
                .is_err()
        );
        assert!(
            caller("ds:*", "d-aaaaaaaaaa")
                .may("ds:EnableRadius", id, "1")
                .is_err()
        );
        assert!(
            caller("ds:Describe*", "d-aaaaaaaaaa")
                .may("ds:DescribeDirectories", None, "1")
                .is_ok()
        );
    }
}
