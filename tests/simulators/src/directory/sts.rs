//! The little of STS that assumed roles need (API version 2011-06-15, query protocol).

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use rand::RngExt;
use tracing::info;

use super::{
    Simulator,
    caller::{self, Caller, matches},
    dispatch::Call,
    exception::Exception,
    seeds::Role,
    world::{Session, World},
};
use crate::{
    fault::{self, Course},
    jwt,
    reply::{self, Body, Reply},
    secret::Secret,
};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The front end's ExpiredToken and this operation's own ExpiredTokenException are two things in STS.
const EXPIRED_WEB_IDENTITY: &str = "WebIdentityExpired";

type Parameters = HashMap<String, String>;

pub(super) async fn answer(simulator: &Simulator, call: &Call) -> Reply {
    let parameters = read(&call.body);
    let action = parameters.get("Action").map_or("", String::as_str).to_owned();
    let known = ["AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"].contains(&action.as_str());
    let course = match known {
        true => fault::before(simulator.faults.take(&action, None, None)).await,
        false => Course::Go(None),
    };
    let (result, fault) = match course {
        Course::Stop(reply) => return reply,
        Course::Refuse(fault) => {
            let name = fault.code.as_deref().unwrap_or("ServiceException");
            (Err(Exception::injected(name, fault.message.as_deref())), None)
        }
        Course::Go(fault) => (carry_out(simulator, call, &action, &parameters), fault),
    };
    simulator.count(
        if known { &action } else { "UnknownAction" },
        result.as_ref().map(|_| ()),
    );
    let response = match result {
        Ok(inner) => {
            let id = &call.request_id;
            xml(
                StatusCode::OK,
                &format!(
                    "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{inner}</{action}Result>\
                 <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
                ),
            )
        }
        Err(exception) => {
            info!(
                action,
                exception = exception.name,
                why = exception.message,
                "refused"
            );
            failure(&exception, &call.request_id)
        }
    };
    fault::after(fault.as_ref(), response)
}

fn read(body: &[u8]) -> Parameters {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn xml(status: StatusCode, body: &str) -> Response<Body> {
    reply::response(status, "text/xml", body.to_owned())
}

fn failure(exception: &Exception, request_id: &str) -> Response<Body> {
    // The query protocol has its own names for what the front end refuses.
    let (status, code) = match exception.name.as_str() {
        "AccessDeniedException" => (403, "AccessDenied"),
        "UnrecognizedClientException" => (403, "InvalidClientTokenId"),
        "InvalidSignatureException" => (403, "SignatureDoesNotMatch"),
        "MissingAuthenticationTokenException" => (403, "MissingAuthenticationToken"),
        "IncompleteSignatureException" => (400, "IncompleteSignature"),
        "ExpiredTokenException" => (403, "ExpiredToken"),
        EXPIRED_WEB_IDENTITY => (400, "ExpiredTokenException"),
        "IDPRejectedClaim" => (403, "IDPRejectedClaim"),
        "ThrottlingException" => (400, "Throttling"),
        other => (exception.status().as_u16(), other),
    };
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    xml(
        status,
        &format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{code}</Code><Message>{}</Message></Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
            escape(&exception.message)
        ),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn carry_out(
    simulator: &Simulator,
    call: &Call,
    action: &str,
    parameters: &Parameters,
) -> Result<String, Exception> {
    let now = Timestamp::now();
    let signed = || simulator.look(|world| caller::authenticate(world, call.signed(), "sts", now));
    match action {
        "GetCallerIdentity" => {
            let caller = signed()?;
            let account = simulator.look(|world| world.settings.account.clone());
            let arn = escape(&caller.principal);
            Ok(format!(
                "<Arn>{arn}</Arn><UserId>{}</UserId><Account>{account}</Account>",
                caller.access_key_id
            ))
        }
        "AssumeRole" => {
            let caller = signed()?;
            simulator.change(true, |world| assume(world, &caller, parameters, now))
        }
        "AssumeRoleWithWebIdentity" => {
            simulator.change(true, |world| assume_with_token(world, parameters, now))
        }
        _ => {
            let what = format!("Could not find operation {action} for version 2011-06-15");
            Err(Exception::new("InvalidAction", what))
        }
    }
}

fn assume(
    world: &mut World,
    caller: &Caller,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<String, Exception> {
    let wanted = required(parameters, "RoleArn")?;
    let denied = || {
        let who = &caller.principal;
        let what = format!("User: {who} is not authorized to perform: sts:AssumeRole on resource: {wanted}");
        Exception::new("AccessDeniedException", what)
    };
    caller
        .may("sts:AssumeRole", None, &world.settings.account)
        .map_err(|_| denied())?;
    let external_id = parameters.get("ExternalId").map_or("", String::as_str);
    // STS does not say which of these it was.
    let role = world
        .roles
        .iter()
        .find(|role| role.arn == wanted)
        .filter(|role| {
            role.trusted
                .iter()
                .any(|pattern| matches(pattern, &caller.principal))
        })
        .filter(|role| role.external_id.is_empty() || role.external_id == external_id)
        .cloned()
        .ok_or_else(denied)?;
    session(world, &role, parameters, now)
}

fn assume_with_token(
    world: &mut World,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<String, Exception> {
    let wanted = required(parameters, "RoleArn")?;
    let token = required(parameters, "WebIdentityToken")?;
    let denied = || {
        Exception::new(
            "AccessDeniedException",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        )
    };
    let role = world
        .roles
        .iter()
        .find(|role| role.arn == wanted)
        .cloned()
        .ok_or_else(denied)?;
    let invalid = |what: &str| Exception::new("InvalidIdentityToken", what);
    let parsed = jwt::Jwt::parse(token.trim_end())
        .ok_or_else(|| invalid("The ID Token provided is not a valid JWT"))?;
    if token != token.trim_end() {
        return Err(invalid(
            "The ID Token provided is not a valid JWT (white space at its end)",
        ));
    }
    if !role.web_identity_jwks.as_os_str().is_empty() {
        let keys = std::fs::read_to_string(&role.web_identity_jwks)
            .map_err(|_| invalid("Couldn't retrieve verification key from your identity provider"))?;
        if !jwt::verified_by_any(&parsed, &keys) {
            return Err(invalid("The web identity token's signature is not valid"));
        }
    }
    if parsed.number("exp").is_none_or(|end| end <= now.as_second()) {
        return Err(Exception::new(EXPIRED_WEB_IDENTITY, "Token expired"));
    }
    if !parsed.audience().contains(&role.web_identity_audience) {
        return Err(invalid("Incorrect token audience"));
    }
    let subject = parsed.text("sub").unwrap_or_default();
    if !role
        .web_identity_subjects
        .iter()
        .any(|pattern| matches(pattern, subject))
    {
        return Err(denied());
    }
    let inner = session(world, &role, parameters, now)?;
    Ok(format!(
        "{inner}<SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken>",
        escape(subject)
    ))
}

fn required<'a>(parameters: &'a Parameters, name: &str) -> Result<&'a str, Exception> {
    parameters
        .get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            Exception::new(
                "ValidationError",
                format!("1 validation error detected: Value null at '{name}'"),
            )
        })
}

/// Makes a session's keys and its part of the answer.
fn session(
    world: &mut World,
    role: &Role,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<String, Exception> {
    let name = required(parameters, "RoleSessionName")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter);
    if !(2..=64).contains(&name.len()) || !name.chars().all(plain) {
        let what = format!(
            "1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint"
        );
        return Err(Exception::new("ValidationError", what));
    }
    let seconds: u64 = match parameters.get("DurationSeconds") {
        None => role.session_seconds.min(3600),
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (900..=43_200).contains(seconds))
            .ok_or_else(|| {
                Exception::new(
                    "ValidationError",
                    format!("1 validation error detected: Value '{text}' at 'durationSeconds'"),
                )
            })?,
    };
    if seconds > role.session_seconds {
        let what = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
        return Err(Exception::new("ValidationError", what));
    }
    let letters: Vec<char> = ('A'..='Z').chain('2'..='7').collect();
    let mut random = rand::rng();
    let access_key_id: String = std::iter::repeat_with(|| letters.get(random.random_range(0..letters.len())))
        .flatten()
        .take(16)
        .collect();
    let session = Session {
        access_key_id: format!("ASIA{access_key_id}"),
        secret_access_key: Secret::new(STANDARD.encode(rand::random::<[u8; 30]>())),
        session_token: Secret::new(STANDARD.encode([rand::random::<[u8; 32]>(), rand::random()].concat())),
        role: role.arn.clone(),
        principal: format!(
            "{}/{name}",
            role.arn
                .replace(":iam:", ":sts:")
                .replace(":role/", ":assumed-role/")
        ),
        expires: now + SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(3600)),
    };
    info!(
        role = role.arn,
        session = session.principal,
        seconds,
        "role assumed"
    );
    let answer = format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{}</Expiration></Credentials><AssumedRoleUser><Arn>{}</Arn>\
         <AssumedRoleId>AROASIMULATOR:{name}</AssumedRoleId></AssumedRoleUser>",
        session.access_key_id,
        session.secret_access_key.expose(),
        session.session_token.expose(),
        session.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        session.principal,
    );
    world.add_session(session, now);
    Ok(answer)
}
