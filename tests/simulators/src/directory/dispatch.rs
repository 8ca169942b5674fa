//! From an HTTP request to an operation and back.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::info;

use super::{
    Simulator, caller,
    exception::{CONTENT_TYPE, Exception},
    operations::{Asked, Operation},
    radius_settings::RadiusSettings,
    settings::EmptyAnswer,
    sts,
    world::{Entry, World},
};
use crate::{
    clock,
    fault::{self, Course, Fault},
    reply::{self, Body, Reply},
    serve::Service,
    sigv4::Signed,
};

/// AWS takes no larger JSON request either.
const BODY: usize = 1 << 20;

/// A request that was read to its end.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) request_id: String,
}

impl Call {
    pub(crate) fn signed(&self) -> Signed<'_> {
        Signed {
            method: self.parts.method.as_str(),
            path: self.parts.uri.path(),
            query: self.parts.uri.query().unwrap_or_default(),
            headers: &self.parts.headers,
            body: &self.body,
        }
    }

    fn header(&self, name: &str) -> &str {
        text(&self.parts.headers, name)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

impl Service for Simulator {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (mut parts, body) = request.into_parts();
        // HTTP/2 has the host in the URI.
        if !parts.headers.contains_key("host")
            && let Some(host) = parts.uri.authority().and_then(|host| host.as_str().parse().ok())
        {
            parts.headers.insert("host", host);
        }
        let Ok(body) = Limited::new(body, BODY).collect().await else {
            return reply::response(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "body too large").into();
        };
        let call = Call {
            parts,
            body: body.to_bytes(),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut reply = match text(&call.parts.headers, "content-type") {
            kind if kind.starts_with("application/x-www-form-urlencoded") => sts::answer(self, &call).await,
            kind if kind.starts_with(CONTENT_TYPE) => self.json(&call).await,
            kind if kind.contains("cbor") || !call.header("smithy-protocol").is_empty() => {
                unsupported("CBOR")
            }
            kind => unsupported(kind),
        };
        if let Reply::Send(response) = &mut reply {
            reply::set_header(response, "x-amzn-requestid", &call.request_id);
        }
        reply
    }
}

fn unsupported(kind: &str) -> Reply {
    let what =
        format!("this simulator speaks {CONTENT_TYPE} only, not '{kind}': configure the client for it\n");
    reply::response(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/plain", what).into()
}

/// What the journal says of a call, beside what its operation knows.
struct Trace<'a> {
    call: &'a Call,
    caller: String,
    access_key_id: String,
    region: String,
}

impl Simulator {
    async fn json(&self, call: &Call) -> Reply {
        let now = Timestamp::now();
        let caller = match self.look(|world| caller::authenticate(world, call.signed(), "ds", now)) {
            Ok(caller) => caller,
            Err(exception) => {
                self.count(call.header("x-amz-target"), Err(&exception));
                info!(exception = exception.name, why = exception.message, "refused");
                return exception.response(None, &call.request_id).into();
            }
        };
        let target = call.header("x-amz-target");
        let operation = target
            .strip_prefix("DirectoryService_20150416.")
            .and_then(Operation::named);
        let Some(operation) = operation.filter(|_| call.parts.method == Method::POST) else {
            let exception = Exception::new(
                "UnknownOperationException",
                format!("Unknown operation: {target}"),
            );
            self.count("UnknownOperation", Err(&exception));
            return exception.response(None, &call.request_id).into();
        };
        let members = match read_members(&call.body) {
            Ok(members) => members,
            Err(exception) => return exception.response(None, &call.request_id).into(),
        };
        let directory = resource(&members);
        let fault = self.faults.take(operation.name(), None, directory.as_deref());
        let trace = Trace {
            call,
            caller: caller.principal.clone(),
            access_key_id: caller.access_key_id.clone(),
            region: caller.region.clone(),
        };
        match fault::before(fault).await {
            Course::Stop(reply) => {
                self.tell(
                    operation,
                    &trace,
                    &members,
                    &Err(Exception::new("FaultRule", "no answer of the service")),
                )
                .await;
                reply
            }
            Course::Refuse(fault) => {
                let name = fault.code.as_deref().unwrap_or("ServiceException");
                let exception = Exception::injected(name, fault.message.as_deref());
                let status = fault.status.and_then(|code| StatusCode::from_u16(code).ok());
                let mut response = exception.response(status, &call.request_id);
                fault::add_retry_after(&mut response, &fault);
                self.tell(operation, &trace, &members, &Err(exception)).await;
                response.into()
            }
            Course::Go(fault) => {
                let result = self.carry_out(operation, &caller, &members, directory.as_deref());
                self.tell(operation, &trace, &members, &result).await;
                self.finish(result, fault.as_ref(), call)
            }
        }
    }

    fn carry_out(
        &self,
        operation: Operation,
        caller: &caller::Caller,
        members: &Map<String, Value>,
        directory: Option<&str>,
    ) -> Result<Option<Value>, Exception> {
        let now = Timestamp::now();
        let resource = directory.filter(|_| operation.has_resource());
        let account = self.look(|world| world.settings.account.clone());
        caller.may(&format!("ds:{}", operation.name()), resource, &account)?;
        if !self.within_rate(operation.writes()) {
            return Err(Exception::throttled());
        }
        let asked = Asked {
            region: &caller.region,
            now,
            members,
        };
        self.change(operation.writes(), |world| operation.run(world, &asked))
    }

    /// Counter, log, journal; returns when what was written is on disk.
    async fn tell(
        &self,
        operation: Operation,
        trace: &Trace<'_>,
        members: &Map<String, Value>,
        result: &Result<Option<Value>, Exception>,
    ) {
        self.count(operation.name(), result.as_ref().map(|_| ()));
        if !operation.writes() {
            return;
        }
        let entry = self.look(|world| entry(world, operation, trace, members, result));
        info!(
            operation = entry.operation,
            directory = entry.directory,
            region = entry.region,
            caller = entry.caller,
            settings = %entry.settings,
            shared_secret_digest = entry.shared_secret_digest,
            result = entry.result,
            why = entry.error_message,
            "write"
        );
        let directory = entry.directory.clone();
        let version = self.change(true, |world| {
            world.journal.add(entry);
            world.version
        });
        if operation.changes_radius() && result.is_ok() {
            self.wake(&directory);
        }
        self.on_disk(version).await;
    }

    fn finish(&self, result: Result<Option<Value>, Exception>, fault: Option<&Fault>, call: &Call) -> Reply {
        let response: Response<Body> = match result {
            Ok(Some(value)) => reply::response(StatusCode::OK, CONTENT_TYPE, value.to_string()),
            Ok(None) => match self.look(|world| world.settings.empty_answer) {
                EmptyAnswer::Empty => reply::response(StatusCode::OK, CONTENT_TYPE, ""),
                EmptyAnswer::Braces => reply::response(StatusCode::OK, CONTENT_TYPE, "{}"),
            },
            Err(exception) => exception.response(None, &call.request_id),
        };
        fault::after(fault, response)
    }
}

fn read_members(body: &[u8]) -> Result<Map<String, Value>, Exception> {
    let unreadable = |what: &str| Exception::new("SerializationException", what);
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(unreadable("The request is not a JSON object.")),
        Err(_) if body.is_empty() => Ok(Map::new()),
        Err(_) => Err(unreadable("The request is not JSON.")),
    }
}

fn resource(members: &Map<String, Value>) -> Option<String> {
    ["DirectoryId", "ResourceId"]
        .iter()
        .find_map(|name| members.get(*name)?.as_str())
        .map(str::to_owned)
}

fn entry(
    world: &World,
    operation: Operation,
    trace: &Trace<'_>,
    members: &Map<String, Value>,
    result: &Result<Option<Value>, Exception>,
) -> Entry {
    // Read as leniently as can be: the journal also tells what was refused.
    let given = members.get("RadiusSettings").and_then(Value::as_object);
    let settings = given.map(|given| match RadiusSettings::of(given, &world.settings) {
        Ok(settings) => settings.without_secret(),
        Err(_) => {
            let mut given = given.clone();
            given.remove("SharedSecret");
            Value::Object(given)
        }
    });
    let secret = given.and_then(|given| given.get("SharedSecret")?.as_str());
    let tags = members.get("Tags").or_else(|| members.get("TagKeys")).cloned();
    let (outcome, message) = match result {
        Ok(_) => ("ok".to_owned(), String::new()),
        Err(exception) => (exception.name.clone(), exception.message.clone()),
    };
    Entry {
        time: clock::rfc3339(Timestamp::now()),
        operation: operation.name().to_owned(),
        directory: resource(members).unwrap_or_default(),
        region: trace.region.clone(),
        caller: trace.caller.clone(),
        access_key_id: trace.access_key_id.clone(),
        request_id: trace.call.request_id.clone(),
        invocation_id: trace.call.header("amz-sdk-invocation-id").to_owned(),
        attempt: trace.call.header("amz-sdk-request").to_owned(),
        settings: settings.unwrap_or(Value::Null),
        shared_secret_digest: secret
            .map(|secret| crate::secret::keyed_digest(world.digest_key.as_bytes(), secret))
            .unwrap_or_default(),
        tags: tags.unwrap_or(Value::Null),
        result: outcome,
        error_message: message,
    }
}
