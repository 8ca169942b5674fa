//! A name server with a handful of names, changed while it runs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use hickory_resolver::proto::{
    op::{Message, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{net::UdpSocket, sync::watch, task::JoinSet};
use tracing::{debug, info, warn};

use crate::{
    admin::{self, Answer, Refusal, healthy, read, shown},
    error::Error,
    serve::{self, Running, until_told},
};

/// Names of one server, and addresses of one name.
const NAMES: usize = 1_000;
const ADDRESSES: usize = 64;
/// How long an answer may be kept, in seconds.
const TTL: u32 = 1;

/// How a name server is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it answers, over UDP.
    pub listen: SocketAddr,
    /// Where the admin API answers.
    pub admin: SocketAddr,
}

/// A name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A and AAAA records, in the order of the answer.
    #[serde(default)]
    addresses: Vec<IpAddr>,
    /// What is answered in place of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
}

/// No answer, or one without records.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trouble {
    Servfail,
    Nxdomain,
    Silent,
}

#[derive(Debug, Default)]
struct Server {
    names: Mutex<BTreeMap<String, Entry>>,
    queries: Mutex<BTreeMap<String, u64>>,
}

/// Starts it.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn start(options: Options) -> Result<Running, Error> {
    let failed = |source| Error::Listen {
        address: options.listen,
        source,
    };
    let socket = UdpSocket::bind(options.listen).await.map_err(failed)?;
    let listen = socket.local_addr().map_err(failed)?;
    let (admin_listener, admin) = serve::bind(options.admin).await?;
    let server = Arc::new(Server::default());
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve::admin(
        admin_listener,
        router(Arc::clone(&server)),
        stopped.clone(),
    ));
    tasks.spawn(answer_all(socket, server, stopped));
    info!(%listen, %admin, "name server");
    Ok(Running {
        listen,
        admin,
        ca_pem: String::new(),
        stop,
        tasks,
    })
}

async fn answer_all(socket: UdpSocket, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            () = until_told(&mut stop) => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            // The answer before found nobody.
            Err(error) => {
                debug!(%error, "receive");
                continue;
            }
        };
        let reply = buffer.get(..length).and_then(|packet| server.reply(packet));
        if let Some(reply) = reply
            && let Err(error) = socket.send_to(&reply, from).await
        {
            warn!(%error, "send");
        }
    }
}

impl Server {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queries(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a packet; none to what is no question, and by a trouble.
    fn reply(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let request = Message::from_vec(packet).ok()?;
        let [query] = request.queries.as_slice() else {
            return None;
        };
        let mut reply = Message::response(request.metadata.id, OpCode::Query);
        reply.metadata = Metadata::response_from_request(&request.metadata);
        reply.metadata.authoritative = true;
        reply.metadata.recursion_available = true;
        reply.queries.push(query.clone());
        match self.records(query) {
            Ok(records) => reply.answers = records,
            Err(Trouble::Silent) => return None,
            Err(Trouble::Servfail) => reply.metadata.response_code = ResponseCode::ServFail,
            Err(Trouble::Nxdomain) => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        reply.to_vec().ok()
    }

    fn records(&self, query: &Query) -> Result<Vec<Record>, Trouble> {
        let name = canonical(&query.name().to_utf8());
        let entry = self.names().get(&name).cloned();
        if entry.is_some() {
            *self.queries().entry(name).or_default() += 1;
        }
        let entry = entry.ok_or(Trouble::Nxdomain)?;
        if let Some(trouble) = entry.trouble {
            return Err(trouble);
        }
        if query.query_class() != DNSClass::IN {
            return Ok(Vec::new());
        }
        let asked = |address: &IpAddr| match query.query_type() {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        let addresses = entry.addresses.into_iter().filter(asked);
        Ok(addresses
            .map(|address| {
                let data = match address {
                    IpAddr::V4(address) => RData::A(address.into()),
                    IpAddr::V6(address) => RData::AAAA(address.into()),
                };
                Record::from_rdata(query.name().clone(), TTL, data)
            })
            .collect())
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

type Shared = State<Arc<Server>>;

fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/names", get(list))
        .route("/names/{name}", put(change).delete(remove))
        .layer(axum::middleware::map_request(admin::assume_json))
        .with_state(server)
}

async fn list(State(server): Shared) -> Json<Value> {
    let queries = server.queries().clone();
    Json(json!({"names": shown(&*server.names()), "queries": queries}))
}

async fn change(State(server): Shared, Path(name): Path<String>, Json(body): Json<Value>) -> Answer {
    let entry: Entry = read(body)?;
    if entry.addresses.len() > ADDRESSES {
        return Err(Refusal::bad(format!("more than {ADDRESSES} addresses")));
    }
    let name = canonical(&name);
    let mut names = server.names();
    if names.len() >= NAMES && !names.contains_key(&name) {
        return Err(Refusal::bad(format!("more than {NAMES} names")));
    }
    names.insert(name, entry);
    Ok(Json(json!({})))
}

async fn remove(State(server): Shared, Path(name): Path<String>) -> Answer {
    let name = canonical(&name);
    server.queries().remove(&name);
    let found = server.names().remove(&name);
    found.map_or_else(
        || Err(Refusal::not_found(format!("no name {name}"))),
        |entry| Ok(Json(shown(&entry))),
    )
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn ask(server: &Server, kind: RecordType) -> Option<Message> {
        let mut request = Message::query();
        request
            .queries
            .push(Query::query(Name::from_utf8("LB.example.com.").unwrap(), kind));
        let reply = server.reply(&request.to_vec().unwrap())?;
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.id, request.metadata.id);
        Some(reply)
    }

    fn set(server: &Server, entry: Value) {
        let entry = serde_json::from_value(entry).unwrap();
        server.names().insert("lb.example.com".to_owned(), entry);
    }

    #[test]
    fn a_name_has_the_addresses_of_the_asked_family_until_it_has_others_or_a_trouble() {
        let server = Server::default();
        let code = |kind| ask(&server, kind).map(|reply| reply.metadata.response_code);
        assert_eq!(code(RecordType::A), Some(ResponseCode::NXDomain));
        set(&server, json!({"addresses": ["10.0.0.2", "fd00::1", "10.0.0.1"]}));
        let addresses = |kind| -> Vec<String> {
            let reply = ask(&server, kind).unwrap();
            let all = reply.answers.iter().filter_map(|record| record.data.ip_addr());
            all.map(|address| address.to_string()).collect()
        };
        assert_eq!(addresses(RecordType::A), ["10.0.0.2", "10.0.0.1"]);
        assert_eq!(addresses(RecordType::AAAA), ["fd00::1"]);
        assert!(addresses(RecordType::TXT).is_empty());
        set(&server, json!({"trouble": "servfail"}));
        assert_eq!(code(RecordType::A), Some(ResponseCode::ServFail));
        set(&server, json!({"trouble": "silent"}));
        assert_eq!(code(RecordType::A), None);
        assert_eq!(server.queries()["lb.example.com"], 5);
        assert!(server.reply(b"no packet").is_none());
    }
}
